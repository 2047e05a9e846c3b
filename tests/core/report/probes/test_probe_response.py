"""The figure of responses: stimuli by family, the ranking, several models, and stimuli without pictures."""

import numpy as np
import pytest

from outcrop.report import Run, write_report
from outcrop.report.probes.probe_response import PER_FAMILY, draw_probe_response


def draw(leaves):
    return draw_probe_response(leaves["response"], Run("probes", "r1", leaves))


def dots(drawing):
    (plot,) = drawing.plots
    (renderer,) = plot.renderers
    return plot, {name: np.asarray(values) for name, values in renderer.data_source.data.items()}


def test_every_model_has_four_drawings(make_probes):
    drawings = draw(make_probes(("first", "second")))
    titles = [
        "Stimuli by family",
        "Response to solid colours",
        "Norm of the features by layer",
        "The strongest stimuli",
    ]
    assert [drawing.title for drawing in drawings] == [
        f"{model}: {each}" for model in ("first", "second") for each in titles
    ]
    assert [drawing.title for drawing in draw(make_probes())] == titles


def test_every_dot_lies_where_the_result_says(make_probes):
    leaves = make_probes()
    plot, found = dots(draw(leaves)[0])
    row = leaves["response"].isel(layer=3)
    assert len(found["x"]) == 33
    expected = np.sort((row["projection"] / row["dominant_projection"]).values)
    np.testing.assert_allclose(np.sort(found["x"]), expected)
    favourite = found["name"].tolist().index("solid 0.00 0.00 1.00")
    assert found["colour"][favourite] == "#0000ff"
    assert (found["x"][favourite], found["norm"][favourite], found["cosine"][favourite]) == pytest.approx(
        (2.5, 10.01, 1)
    )
    assert found["colour"][found["family"].tolist().index("border")] is None
    # Every dot lies in the row of its family.
    rows = plot.yaxis[0].major_label_overrides
    assert list(rows.values()) == ["solid", "found", "real *", "border"]
    middles = {name.removesuffix(" *"): middle for middle, name in rows.items()}
    for family, y in zip(found["family"], found["y"], strict=True):
        assert abs(middles[family.split(" ")[0]] - y) < 0.5


def test_the_caption_counts_what_reaches_the_dominant_sample(make_probes):
    caption = draw(make_probes())[0].caption
    # Of the 27 colours, those less than half of the range away from the favourite or just half: 8, and the found one.
    assert "Every dot is a stimulus, 33 in 4 families, at stage.3" in caption
    assert "1 is the most dominant sample. 9 stimuli that show none of the dominant samples reach it." in caption
    assert "Farthest out is solid 0.00 0.00 1.00 (solid), at 2.5." in caption
    assert "Families with a star still show a dominant sample" in caption
    leaves = make_probes()
    leaves["response"]["keeps_content"][:] = False
    assert "star" not in draw(leaves)[0].caption


def test_large_families_are_thinned_and_said_to_be(make_probes):
    leaves = make_probes(steps=9)
    drawing = draw(leaves)[0]
    plot, found = dots(drawing)
    assert (found["family"] == "solid").sum() == 300
    assert "Of solid, 300 at even ranks are drawn." in drawing.caption
    solid = leaves["response"]["projection"].values[3, :729] / 11
    of_solid = found["x"][found["family"] == "solid"]
    assert (of_solid.max(), of_solid.min()) == pytest.approx((solid.max(), solid.min()))
    # Its row is three high.
    middles = np.array(list(plot.yaxis[0].major_label_overrides))
    np.testing.assert_allclose(np.diff(middles), [2, 1, 1])


def test_the_ranking_holds_what_the_result_says(make_probes):
    leaves = make_probes()
    drawing = draw(leaves)[3]
    rows = drawing.table.rows
    ranks = [row[0] for row in rows]
    assert ranks == sorted(ranks)
    # The found colour ranks second and is the same as the first.
    assert ranks[:2] == [1, 3]
    families = [row[2].split("\n")[1] for row in rows]
    assert families.count("solid") == PER_FAMILY
    assert families.count("real *") == 1
    names = {
        str(name).partition(": ")[2].removesuffix(" (net)"): name for name in leaves["response"]["stimulus"].values[:31]
    }
    for row in rows[:4]:
        one = leaves["response"].isel(layer=3).sel(stimulus=names[row[2].split("\n")[0]])
        measures = ("projection_percentile", "norm_ratio", "norm_percentile", "cosine")
        assert row[3:] == pytest.approx((float(one["projection"] / 11), *(float(one[name]) for name in measures)))
    assert "Percentiles are among the 120 real samples." in drawing.caption
    assert "solid 0.00 0.00 1.00, has 10 times the median." in drawing.caption


def test_norms_stand_in_where_no_projection_is_known(make_probes):
    leaves = make_probes()
    leaves["response"]["projection"][:] = np.nan
    drawing = draw(leaves)[0]
    assert "To the right, its features are longer; 1 is the median of real samples." in drawing.caption
    np.testing.assert_allclose(np.sort(dots(drawing)[1]["x"]), np.sort(leaves["response"]["norm_ratio"].values[3]))
    assert np.isnan(draw(leaves)[3].table.rows[0][3])


def test_stimuli_without_pictures_or_colours_are_drawn(make_probes):
    leaves = make_probes()
    kept = np.flatnonzero(leaves["response"]["family"] == "border")
    leaves["response"] = leaves["response"].drop_vars("thumbnail").isel(stimulus=kept)
    drawings = draw(leaves)
    assert [drawing.title for drawing in drawings] == [
        "Stimuli by family", "Norm of the features by layer", "The strongest stimuli",
    ]  # fmt: skip
    assert drawings[2].table.columns[:2] == ("rank", "stimulus")
    assert set(dots(drawings[0])[1]["colour"].tolist()) == {None}


def test_nothing_known_draws_nothing(make_probes):
    leaves = make_probes()
    for name in ("projection", "norm_ratio", "norm", "dominant_norm"):
        leaves["response"][name][:] = np.nan
    assert draw(leaves) == []
    assert draw({**leaves, "response": leaves["response"].isel(stimulus=[])}) == []


def test_the_report_shows_verdict_and_responses(make_probes, make_results, make_data, tmp_path):
    results = make_results([("probes", "p1", make_probes(), "2026-03-04T12:30:00")])
    text = write_report(results, make_data(), tmp_path / "r.html", title="t").read_text("utf-8")
    assert "could not be drawn" not in text
    verdict, response = text.index("Do synthetic samples excite"), text.index("What stimuli provoke")
    assert verdict < text.index("as dominant samples have, excite the block stage.2 to stage.4", verdict) < response
    assert '<td class="picture"><img class="framed" src="data:image/png;base64,' in text
    assert 'alt="solid 0.00 0.00 1.00" title="solid 0.00 0.00 1.00">' in text


def test_names_are_escaped(make_probes, make_results, make_data, tmp_path):
    leaves = make_probes()
    names = leaves["response"]["stimulus"].values.astype(object)
    names[0] = 'solid: "></script><b>$$x$$'
    leaves["response"] = leaves["response"].assign_coords(stimulus=names.astype(str))
    leaves["response"]["projection"][3, 0] = 99
    results = make_results([("probes", "p1", leaves, "2026-03-04T12:30:00")])
    text = write_report(results, make_data(), tmp_path / "r.html", title="t").read_text("utf-8")
    assert "</script><b>$$" not in text
    assert "&#34;&gt;&lt;/script&gt;&lt;b&gt;$$x$$" in text


def test_stimuli_with_what_dominant_samples_share_stand_out(make_probes):
    leaves = make_probes()
    drawing = draw_probe_response(leaves["response"], Run("probes", "r1", leaves))[0]
    assert [sign.text for sign in drawing.key] == [
        "most dominant sample", "has mean blue of 0.6 or more, as dominant samples have", "the others",
    ]  # fmt: skip
    (dots,) = (one for one in drawing.plots[0].renderers if "alpha" in one.data_source.data)
    names, alpha = dots.data_source.data["name"], np.array(dots.data_source.data["alpha"])
    blue = np.array([name.startswith("solid") and name.endswith("1.00") for name in names])
    assert (alpha[blue] == 1).all()
    assert (alpha[~blue] < 1).all()
    leaves["response"] = leaves["response"].drop_vars(["carries", "lacks"])
    drawing = draw_probe_response(leaves["response"], Run("probes", "r1", leaves))[0]
    assert len(drawing.key) == 1
