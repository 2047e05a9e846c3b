"""The figure of dominance: every sample counted once, dots where their numbers say, captions with the numbers."""

import json

import numpy as np
import pytest

from outcrop.report import Run, write_report
from outcrop.report.dominant.dominance import MOST_DOMINANT, MOST_OTHERS, draw_dominance


def draw(leaves, data=None):
    return draw_dominance(leaves["dominance"], Run("dominant", "r1", leaves, data=data))


def quads(plot):
    return plot.renderers[0].data_source.data


def dots(plot):
    return [renderer.data_source.data for renderer in plot.renderers]


def test_bars_count_every_sample_once_and_dominant_ones_apart(make_dominant):
    plot, _ = draw(make_dominant())[0].plots
    bars = quads(plot)
    assert (bars["others"].sum(), bars["dominant"].sum()) == (110, 10)
    assert (bars["all"] == bars["others"] + bars["dominant"]).all()
    assert bars["left"][bars["dominant"] > 0].min() > 1
    (rule,) = [model for model in plot.center if type(model).__name__ == "Span"]
    assert rule.location == pytest.approx(1)  # log10 of the threshold


def test_a_dot_lies_where_its_sample_does(make_dominant):
    leaves = make_dominant()
    _, plot = draw(leaves)[0].plots
    others, dominant = dots(plot)
    one = leaves["dominance"].isel(layer=2)
    chosen = one["dominant"].values
    np.testing.assert_allclose(dominant["size"], np.abs(one["projection"].values[chosen]))
    np.testing.assert_allclose(dominant["norm"], one["norm"].values[chosen])
    np.testing.assert_allclose(others["norm"], one["norm"].values[~chosen])
    assert dominant["sample"][3] == "sample 3"


def test_the_caption_says_the_numbers_of_the_layer(make_dominant):
    drawing = draw(make_dominant())[0]
    assert drawing.title == "Samples at stage1.2"
    assert drawing.caption.startswith(
        "10 of 120 samples (8.33 %) are dominant, by the two modes of |projection|: two modes gain a BIC of 420 over "
        "one and lie 9.5 spreads apart (Ashman's D). The component is as uneven as if 11 samples carried it alike. "
    )
    assert "rank correlation of 0.91" in drawing.caption
    assert "mean cosine of 0.97, two others of 0.04" in drawing.caption
    assert drawing.caption.endswith("Point at a dot for the name of its sample.")


@pytest.mark.parametrize(
    ("rule", "said"),
    [("top fraction", "dominant, the largest, as there are no two modes"), ("none", "dominant, none could be told")],
)
def test_the_caption_says_how_they_were_told(make_dominant, rule, said):
    leaves = make_dominant()
    leaves["dominance"]["rule"] = ("layer", [rule] * 6)
    assert said in draw(leaves)[0].caption


def test_the_caption_says_why_a_gain_alone_makes_no_second_mode(make_dominant):
    leaves = make_dominant()
    leaves["dominance"]["rule"] = ("layer", ["top fraction"] * 6)
    leaves["dominance"]["rise_p_value"] = ("layer", [0.75] * 6)
    assert (
        "spreads apart (Ashman's D); sizes that only fall beyond one mode look so with a probability of 0.75."
        in draw(leaves)[0].caption
    )


def test_with_pictures_they_are_in_the_page_once(make_dominant, data):
    study = data["patches-5ee1"].to_dataset()
    drawings = draw(make_dominant(("first", "second")), study)
    keys = {key for drawing in drawings for key in drawing.assets}
    assert keys == {"dominant/r1/dominance"}
    assert "picture of its sample" in drawings[0].caption
    assert dots(drawings[0].plots[1])[1]["sample"][0] == "cat/0000.png, cat"


def test_every_model_has_its_own_samples(make_dominant):
    drawings = draw(make_dominant(("first", "second")))
    assert [drawing.title for drawing in drawings] == [
        "first: samples at stage1.2",
        "first: norms along the depth",
        "second: samples at stage1.2",
        "second: norms along the depth",
        "Along the depth",
    ]
    assert dots(drawings[2].plots[1])[1]["sample"] == [f"sample {place}" for place in range(5, 15)]


def test_many_samples_are_thinned_but_counted(make_dominant):
    leaves = make_dominant(samples=9000)
    drawing = draw(leaves)[0]
    bars, scatter = drawing.plots
    assert quads(bars)["all"].sum() == 9000
    others, dominant = dots(scatter)
    assert len(dominant["size"]) == 10
    assert MOST_OTHERS - 10 <= len(others["size"]) <= MOST_OTHERS
    assert f"Dots: {len(others['size']) + 10:,} of the samples" in drawing.caption
    leaves["dominance"]["dominant"][:, :5000] = True
    leaves["dominance"]["rule"][:] = "mixture"
    del leaves["references"]
    assert len(dots(draw(leaves)[0].plots[1])[1]["size"]) == MOST_DOMINANT


def test_many_models_are_thinned_and_it_is_said(make_dominant):
    drawings = draw(make_dominant([f"step{index}" for index in range(12)], layers=4))
    assert len(drawings) == 2 * 8 + 1
    assert drawings[0].caption.endswith("8 of 12 models are drawn.")
    assert "8 of 12 models are drawn." in drawings[-1].caption


def test_without_references_the_layer_of_the_clearest_modes_is_shown(make_dominant):
    leaves = make_dominant()
    del leaves["references"]
    leaves["dominance"]["ashman_d"][3] = 20
    assert draw(leaves)[0].title == "Samples at stage2.3"


def test_layers_left_out_draw_nothing(make_dominant):
    leaves = make_dominant(("first", "second"))
    found = leaves["dominance"]
    found["projection"][:6] = np.nan
    found["norm"][:6] = np.nan
    assert not any(drawing.title.startswith("first") for drawing in draw(leaves))
    found["projection"][:] = found["norm"][:] = np.nan
    found["dominant_count"][:] = 0
    assert draw(leaves) == []


def test_projections_of_zero_are_left_out_and_it_is_said(make_dominant):
    leaves = make_dominant()
    leaves["dominance"]["projection"][2, 100:] = 0
    drawing = draw(leaves)[0]
    assert "20 projections of exactly 0 are not shown." in drawing.caption
    assert quads(drawing.plots[0])["all"].sum() == 100


def test_equal_projections_are_drawn(make_dominant):
    leaves = make_dominant()
    leaves["dominance"]["projection"][2] = 3.0
    assert quads(draw(leaves)[0].plots[0])["all"].sum() == 120


def test_the_report_holds_the_figures_in_the_order_of_their_argument(make_dominant, make_results, data, tmp_path):
    leaves = make_dominant(("first", "second"))
    leaves["dominance"]["name"] = ("layer", ["</script><b>0", "stage1.1", "stage1.2", "3", "stage2.4", "5"] * 2)
    tree = make_results([("dominant", "r1", leaves, "2026-03-04T12:30:00")])
    text = write_report(tree, data, tmp_path / "r.html", title="t").read_text("utf-8")
    assert "could not be drawn" not in text
    headings = [
        "Dominant samples",
        "Samples that dominate",
        "What the dominant samples share",
        "Without the dominant samples",
        "Maps without the dominant samples",
        "First components without the dominant samples",
        "Dominant samples in common",
    ]
    places = [text.index(f"<h3>{heading}</h3>") for heading in headings]
    assert places == sorted(places)
    assert "</script><b>0" not in text
    assert "<b>12</b> layers" in text
    assets = text[text.index('id="assets">') + 12 :]
    assert json.loads(assets[: assets.index("</script>")])["dominant/r1/dominance"]["side"] == 48
