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
    (drawing,) = draw(make_probes())
    assert drawing.title == "Yes, they do"
    assert drawing.caption == (
        "Synthetic samples excite the block stage.2 to stage.4 at least as much as its most dominant real sample does, "
        "on the first principal component of stage.3. The most dominant sample has 4.01 times the median norm; the "
        "strongest synthetic one, solid 0.00 0.00 1.00, lies 2.5 times as far out, with 10 times the median norm. The "
        "solid colour that a search found lies 2.5 times as far out, with 10 times the median norm; the nearest colour "
        "of a dominant image differs by 0.20 of 1 in a channel. The best statistic, border, level 0.90, lies 0.72 "
        "times as far out, with 2.89 times the median norm. Searches tried 464 points."
    )


def test_a_block_that_nothing_excites_is_said_to_be(make_probes):
    leaves = change(make_probes(), verdict="not excited", excited=False, strongest_excitation=-0.4)
    (drawing,) = draw(leaves)
    assert drawing.title == "No, they do not"
    assert drawing.caption.startswith("No synthetic sample excites the block stage.2 to stage.4 at least as much as")
    assert "lies 0.4 times as far out to the other side, with" in drawing.caption


def test_without_a_block_the_evidence_is_given(make_probes):
    (drawing,) = draw(make_probes(block=False))
    assert drawing.title == "No block to excite"
    assert drawing.caption.startswith(
        "No block was found: 3 similar layers, contrast 0.10. On the first principal component of stage.3, synthetic "
        "samples reach as far as the most dominant real sample. The most dominant sample has 4.01 times"
    )
    (drawing,) = draw(change(make_probes(block=False), excited=False))
    assert "of stage.3, no synthetic sample reaches as far as the most dominant" in drawing.caption


def test_the_table_holds_the_numbers_of_the_result(make_probes):
    (drawing,) = draw(make_probes())
    assert drawing.table.columns[1:] == ("sample", "distance\ndominant = 1", "norm\nmedian = 1", "norm\ndominant = 1")
    rows = {row[1]: row[2:] for row in drawing.table.rows}
    assert list(rows) == [
        "most dominant sample\nnumber 7",
        "strongest synthetic sample\nsolid 0.00 0.00 1.00",
        "one value of a dominant sample\nborder of dominant image 1",
        "strongest solid colour\nsolid 0.00 0.00 1.00",
        "best statistic\nborder, level 0.90",
    ]
    expected = [(1, 4.01), (2.5, 10.01), (1.2, 4.81), (2.5, 10.01), (0.72, 2.89)]
    for row, (distance, norm) in zip(rows.values(), expected, strict=True):
        assert row == pytest.approx((distance, norm, norm / 4.01))
    # The statistic's is that of the stimulus that its search ended at; the own colour is no stimulus of the result.
    assert [row[0].text for row in drawing.table.rows] == [
        "dominant image 1",
        "solid 0.00 0.00 1.00",
        "border of dominant image 1",
        "solid 0.00 0.00 1.00",
        "border 0.9 of typical image 1",
    ]


def test_the_dominant_sample_is_that_of_the_study(make_probes, data):
    study = data["patches-5ee1"].to_dataset()
    (drawing,) = draw(make_probes(), study)
    picture, name = drawing.table.rows[0][:2]
    assert name == f"most dominant sample\n{study['sample'].values[7]}"
    assert picture.text == str(study["sample"].values[7])
    (drawing,) = draw(make_probes(), study.drop_vars("thumbnail"))
    assert drawing.table.rows[0][0].text == "dominant image 1"
    (drawing,) = draw(make_probes(), study.isel(sample=slice(3)))
    assert drawing.table.rows[0][1] == "most dominant sample\nnumber 7"


def test_without_a_search_the_strongest_colour_of_the_grid_is_shown(make_probes):
    leaves = change(
        make_probes(), colour="", colour_excitation=np.nan, colour_norm_ratio=np.nan, colour_distance=np.nan,
        statistic="", statistic_excitation=np.nan, statistic_norm_ratio=np.nan, statistic_level=np.nan, evaluations=0,
    )  # fmt: skip
    keep = leaves["response"]["family"] != "found"
    leaves["response"] = leaves["response"].isel(stimulus=np.flatnonzero(keep))
    (drawing,) = draw(leaves)
    assert "earch" not in drawing.caption
    assert drawing.table.rows[-1][1] == "strongest solid colour, without search\nsolid 0.00 0.00 1.00"
    assert drawing.table.rows[-1][2:] == pytest.approx((2.5, 10.01, 10.01 / 4.01))


def test_nothing_known_is_said_to_be(make_probes):
    nothing = {
        f"{name}{what}": np.nan
        for name in ("strongest", "own", "colour", "statistic")
        for what in ("_excitation", "_norm_ratio")
    }
    leaves = change(
        make_probes(), **nothing, strongest="", own="", colour="", statistic="", verdict="not excited", excited=False,
        evaluations=0, dominant_norm_ratio=np.nan,
    )  # fmt: skip
    del leaves["response"]
    (drawing,) = draw(leaves)
    assert drawing.caption.endswith(
        "The most dominant sample has an unknown number of times the median norm; no stimulus has a known response."
    )
    assert len(drawing.table.rows) == 1
    assert np.isnan(drawing.table.rows[0][-1])


def test_without_responses_colours_are_shown_as_the_verdict_has_them(make_probes):
    leaves = make_probes()
    del leaves["response"]
    rows = draw(leaves)[0].table.rows
    assert [isinstance(row[0], Picture) for row in rows] == [False, False, True, True, False]


def test_every_model_has_an_answer_of_its_own(make_probes):
    leaves = make_probes(("first", "second"))
    assert [drawing.title for drawing in draw(leaves)] == ["first: yes, they do", "second: yes, they do"]
    assert draw({"verdict": leaves["verdict"].isel(block=[])}) == []
