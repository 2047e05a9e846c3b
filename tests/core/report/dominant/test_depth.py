"""Numbers of dominant samples along the depth."""

import numpy as np

from outcrop.report import Run
from outcrop.report.dominant.dominance import draw_dominance


def depth(leaves):
    found = [
        drawing
        for drawing in draw_dominance(leaves["dominance"], Run("dominant", "r1", leaves))
        if drawing.title == "Along the depth"
    ]
    return found[0] if found else None


def panel(drawing, title):
    (plot,) = [plot for plot in drawing.plots if plot.tags[0]["title"] == title]
    return plot


def dots(plot):
    return [r.data_source.data for r in plot.renderers if type(r.glyph).__name__ == "Scatter"]


def test_panels_show_the_numbers_of_the_layers(make_dominant):
    found = make_dominant()
    one = found["dominance"]
    drawing = depth(found)
    (share,) = dots(panel(drawing, "Share of the samples that dominate"))
    np.testing.assert_allclose(share["y"], one["dominant_count"].values / 120)
    assert share["fill"].tolist() == [0, 1, 1, 1, 1, 0]
    (ratio,) = dots(panel(drawing, "Their norm over the median of all"))
    np.testing.assert_allclose(ratio["y"], one["dominant_norm_ratio"].values)
    (carriers,) = dots(panel(drawing, "Effective share of the samples"))
    np.testing.assert_allclose(carriers["y"], one["effective_samples"].values / 120)


def test_the_caption_says_where_two_modes_tell_them(make_dominant):
    said = depth(make_dominant()).caption
    assert "two modes tell them in 4 of 6 layers. They are 5 % to 8.33 % of the samples, 8.33 % in the median." in said


def test_models_are_told_apart_in_the_key(make_dominant):
    drawing = depth(make_dominant(("first", "second")))
    assert [sign.text for sign in drawing.key[:2]] == ["first", "second"]
    assert len({sign.colour for sign in drawing.key[:2]}) == 2
    assert "Depth is relative" in drawing.caption
    assert [one["x"][-1] for one in dots(drawing.plots[0])] == [1.0, 1.0]


def test_what_no_layer_knows_has_no_panel(make_dominant):
    leaves = make_dominant()
    leaves["dominance"]["ashman_d"][:] = np.nan
    assert len(depth(leaves).plots) == 5


def test_shares_alike_in_all_layers_start_at_nothing(make_dominant):
    leaves = make_dominant()
    leaves["dominance"]["dominant_count"][:] = 6
    drawing = depth(leaves)
    assert "They are 5 % of the samples." in drawing.caption
    assert drawing.plots[0].y_range.start == 0


def test_without_any_dominant_sample_nothing_is_drawn(make_dominant):
    leaves = make_dominant()
    leaves["dominance"]["dominant_count"][:] = 0
    assert depth(leaves) is None
