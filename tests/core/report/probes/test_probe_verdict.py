"""The figure of verdicts on probes: the answer in words, and the strongest stimuli beside the dominant sample."""

import numpy as np
import pytest

from outcrop.report import Picture, Run
from outcrop.report.probes.probe_verdict import draw_probe_verdict


def draw(leaves, data=None):
    return draw_probe_verdict(leaves["verdict"], Run("probes", "r1", leaves, data=data))


def change(leaves, **values):
    for name, value in values.items():
        leaves["verdict"][name] = ("block", np.array([value]))
    return leaves


def test_an_excited_block_is_said_to_be_with_its_numbers(make_probes):
    drawing, *_ = draw(make_probes())
    assert drawing.title == "Yes, those with what dominant samples share"
    assert drawing.caption == (
        "Synthetic samples with a mean blue of 0.6 or more, as dominant samples have, excite the block stage.2 to "
        "stage.4 at least as much as the most dominant real sample does: solid 0.00 0.00 1.00 lies 2.5 times as far "
        "out. As many without it do not: of 9, the farthest is expected at 0.85 times. Searches tried 464 points; what "
        "they chose takes no part in the comparison. That for the colour ended at the edge of the RGB cube, 0.20 of 1 "
        "in a channel from the nearest colour of a dominant image: farther out there is no colour to try."
    )


def test_equally_many_are_compared(make_probes):
    _, compared = draw(make_probes())
    assert compared.title == "Equally many compared"
    assert compared.caption == (
        "A mean blue of 0.6 or more tells dominant samples from the rest with an AUROC of 0.980 (p 0.001, corrected "
        "for all statistics that were tried); without it are stimuli that have no more of it than the median of the "
        "other samples. The more stimuli are tried, the farther the farthest of them reaches, so groups are compared "
        "by the farthest that is expected of 9 drawn from each. solid 0.00 0.00 1.00 lies farther out than the most "
        "dominant sample in 100 % of the block's layers."
    )
    assert compared.table.columns[3] == "expected farthest\nof 9"
    assert compared.table.rows == (
        ("stimuli with a mean blue of 0.6 or more", 9, 2.5, 2.5, 2),
        ("stimuli without it", 18, 0.9, 0.85, 0),
        ("real samples", 120, 1.0, 0.7, 1),
    )
    one_layer = change(make_probes(), last_layer="stage.2")
    assert "layers" not in draw(one_layer)[1].caption


def test_a_block_that_nothing_excites_is_said_to_be(make_probes):
    leaves = change(
        make_probes(), verdict="not excited", excited=False, carrying_reach=0.4, carrying_excitation=0.4,
        colour_at_edge=False,
    )  # fmt: skip
    drawing, *_ = draw(leaves)
    assert drawing.title == "No, not those with what dominant samples share"
    assert "excite the block stage.2 to stage.4 less than the most dominant real sample does: solid" in drawing.caption
    assert "lies 0.4 times as far out. Searches tried" in drawing.caption
    assert "RGB cube" not in drawing.caption


def test_a_block_that_as_many_other_stimuli_excite_is_said_to_be(make_probes):
    drawing, *_ = draw(change(make_probes(), verdict="unspecific", excited=False, control_expected=1.4))
    assert drawing.title == "Yes, but not only those with what dominant samples share"
    assert (
        "But as many without it do so too, so it is not this alone that excites: of 9, the farthest is expected at 1.40"
    ) in drawing.caption


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"shared": ""},
            "No statistic tells the dominant samples from the rest: stimuli with it and without it cannot",
        ),
        (
            {"carrying_count": 0},
            "share a mean blue of 0.6 or more, but no stimulus has it: stimuli with it and without",
        ),
        ({"control_count": 0}, "share a mean blue of 0.6 or more, but no stimulus is without it: stimuli with it and"),
    ],
)
def test_what_cannot_be_compared_is_said_to_be(make_probes, values, words):
    leaves = change(make_probes(), verdict="not comparable", excited=False, compared_count=0, **values)
    drawing, *_ = draw(leaves)
    assert drawing.title == "Not known"
    assert words in drawing.caption
    assert len(draw(leaves)) == 1


def test_without_a_block_the_evidence_is_given(make_probes):
    drawing, compared = draw(make_probes(block=False))
    assert drawing.title == "No block to excite"
    assert drawing.caption.startswith(
        "No block was found, so this is said of one layer (3 similar layers, contrast 0.10). Synthetic samples with a "
        "mean blue of 0.6 or more, as dominant samples have, excite stage.3 at least as much as"
    )
    assert "in 100 % of the similar layers around it." in compared.caption


def test_the_table_holds_the_numbers_of_the_result(make_probes):
    drawing, *_ = draw(make_probes())
    assert drawing.table.columns[1:] == (
        "sample", "distance\ndominant = 1", "percentile\nof distance", "norm\nmedian = 1", "norm\ndominant = 1",
    )  # fmt: skip
    rows = {row[1]: row[2:] for row in drawing.table.rows}
    assert list(rows) == [
        "most dominant sample\nnumber 7",
        "strongest stimulus with what dominant samples share\nsolid 0.00 0.00 1.00",
        "strongest stimulus without it\nsolid 0.50 0.50 0.50",
        "one value of a dominant sample, alone\nborder of dominant image 1",
        "solid colour that a search found\nsolid 0.00 0.00 1.00, at the edge of the RGB cube",
        "family of one parameter, searched\nborder, level 0.90",
    ]
    expected = [
        (1, np.nan, 4.01), (2.5, 100, 10.01), (0.9, 90, 3.61), (1.2, 100, 4.81), (2.5, 100, 10.01), (0.72, 90, 2.89)
    ]  # fmt: skip
    for row, (distance, percentile, norm) in zip(rows.values(), expected, strict=True):
        assert row == pytest.approx((distance, percentile, norm, norm / 4.01), nan_ok=True)
    # The statistic's is that of the stimulus that its search ended at; the own colour is no stimulus of the result.
    assert [row[0].text for row in drawing.table.rows] == [
        "dominant image 1",
        "solid 0.00 0.00 1.00",
        "solid 0.50 0.50 0.50",
        "border of dominant image 1",
        "solid 0.00 0.00 1.00",
        "border 0.9 of typical image 1",
    ]


def test_the_end_of_a_familys_range_is_said_to_be(make_probes):
    drawing, *_ = draw(change(make_probes(), statistic_level=1.0, statistic_at_edge=True))
    assert drawing.table.rows[-1][1].endswith("border, level 1.00, the end of its range")


def test_the_dominant_sample_is_that_of_the_study(make_probes, data):
    study = data["patches-5ee1"].to_dataset()
    drawing, *_ = draw(make_probes(), study)
    picture, name = drawing.table.rows[0][:2]
    assert name == f"most dominant sample\n{study['sample'].values[7]}"
    assert picture.text == str(study["sample"].values[7])
    drawing, *_ = draw(make_probes(), study.drop_vars("thumbnail"))
    assert drawing.table.rows[0][0].text == "dominant image 1"
    drawing, *_ = draw(make_probes(), study.isel(sample=slice(3)))
    assert drawing.table.rows[0][1] == "most dominant sample\nnumber 7"


def test_without_a_search_the_strongest_colour_of_the_grid_is_shown(make_probes):
    leaves = change(
        make_probes(), colour="", colour_excitation=np.nan, colour_norm_ratio=np.nan, colour_distance=np.nan,
        statistic="", statistic_excitation=np.nan, statistic_norm_ratio=np.nan, statistic_level=np.nan, evaluations=0,
        colour_at_edge=False,
    )  # fmt: skip
    keep = leaves["response"]["family"] != "found"
    leaves["response"] = leaves["response"].isel(stimulus=np.flatnonzero(keep))
    drawing, *_ = draw(leaves)
    assert "earch" not in drawing.caption
    assert drawing.table.rows[-1][1] == "strongest solid colour, without search\nsolid 0.00 0.00 1.00"
    assert drawing.table.rows[-1][2:] == pytest.approx((2.5, 50, 10.01, 10.01 / 4.01))


def test_nothing_known_is_said_to_be(make_probes):
    names = ("strongest", "carrying", "control", "own", "colour", "statistic")
    nothing = {f"{name}{what}": np.nan for name in names for what in ("_excitation", "_norm_ratio", "_percentile")}
    leaves = change(
        make_probes(), **nothing, **dict.fromkeys(names, ""), shared="", verdict="not comparable", excited=False,
        compared_count=0, evaluations=0, dominant_norm_ratio=np.nan,
    )  # fmt: skip
    del leaves["response"]
    drawing, *_ = draw(leaves)
    assert drawing.caption == (
        "No statistic tells the dominant samples from the rest: stimuli with it and without it cannot be compared at "
        "stage.3."
    )
    assert len(drawing.table.rows) == 1
    assert np.isnan(drawing.table.rows[0][-1])


def test_without_responses_colours_are_shown_as_the_verdict_has_them(make_probes):
    leaves = make_probes()
    del leaves["response"]
    rows = draw(leaves)[0].table.rows
    assert [isinstance(row[0], Picture) for row in rows] == [False, False, False, True, True, False]


def test_every_model_has_an_answer_of_its_own(make_probes):
    leaves = make_probes(("first", "second"))
    assert [drawing.title for drawing in draw(leaves)][::2] == [
        f"{model}: yes, those with what dominant samples share" for model in ("first", "second")
    ]
    assert draw({"verdict": leaves["verdict"].isel(block=[])}) == []
