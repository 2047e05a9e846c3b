"""The colour response surface: every cell has its response and its colour, and the ring lies at the optimum."""

import numpy as np
import pytest

from outcrop.report import Run
from outcrop.report.probes.colour_surface import SLICES, draw_surface, read_surface
from outcrop.report.probes.probed import read_probed


def read(leaves):
    return read_probed(leaves["response"], Run("probes", "r1", leaves))


def parts(drawing):
    (plot,) = drawing.plots
    return plot, {renderer.name: renderer for renderer in plot.renderers if renderer.name}


def test_the_surface_is_what_the_result_says_of_every_colour(make_probes):
    leaves = make_probes()
    surface = read_surface(read(leaves)[0])
    red, green, blue = np.meshgrid(*surface.levels, indexing="ij")
    expected = 2.5 - 3 * np.maximum(np.maximum(red, green), 1 - blue)
    np.testing.assert_allclose(surface.values, expected)
    assert surface.best.tolist() == [0, 0, 1]


def test_cells_show_the_colour_and_its_response(make_probes):
    (drawing,) = draw_surface(read(make_probes())[0], "")
    plot, found = parts(drawing)
    cells = found["outcrop-response"].data_source.data
    assert len(cells["value"]) == 27
    values = dict(zip(cells["colour"], cells["value"], strict=True))
    assert values["#0000ff"] == pytest.approx(2.5)
    assert values["#ffffff"] == pytest.approx(-0.5)
    assert values["#000080"] == pytest.approx(1)
    assert found["outcrop-colour"].glyph.fill_color == "colour"
    mapper = found["outcrop-response"].glyph.fill_color.transform
    assert (mapper.low, mapper.high) == pytest.approx((-0.5, 2.5))
    # Neighbours in a slice lie side by side, and no two cells in one place.
    places = np.stack([cells["x"], cells["y"]], axis=1)
    width, height = found["outcrop-response"].glyph.width, found["outcrop-response"].glyph.height
    apart = np.abs(places[:, None] - places[None]) + 10 * np.eye(27)[..., None]
    assert ((apart[..., 0] > width - 1e-9) | (apart[..., 1] > height - 1e-9)).all()
    assert places[:, 0].max() < plot.x_range.end
    assert places[:, 1].max() < plot.y_range.end


def test_the_ring_lies_on_the_colour_that_was_found(make_probes):
    leaves = make_probes(("net", "other"), steps=3)
    for probed, corner, place in zip(
        read(leaves), ("#0000ff", "#ff8000"), ("0.00 0.00 1.00", "1.00 0.50 0.00"), strict=True
    ):
        (drawing,) = draw_surface(probed, "")
        _, found = parts(drawing)
        cells, ring = found["outcrop-response"].data_source.data, found["outcrop-optimum"]
        at = cells["colour"].index(corner)
        assert (ring.data_source.data["x"][0], ring.data_source.data["y"][0]) == pytest.approx(
            (cells["x"][at], cells["y"][at])
        )
        assert (
            f"strongest colour that a search found, {place} (red, green, blue), 2.5 times as far out" in drawing.caption
        )


def test_between_colours_of_the_grid_the_ring_lies_between_their_cells(make_probes):
    leaves = make_probes()
    place = leaves["response"]["stimulus"].values.tolist().index("found colour: solid 0.00 0.00 1.00 (net)")
    for name, part in (("red", 0.25), ("green", 0.75), ("blue", 0.9)):
        leaves["response"][name][place] = part
    _, found = parts(draw_surface(read(leaves)[0], "")[0])
    cells, ring = found["outcrop-response"].data_source.data, found["outcrop-optimum"].data_source.data
    at = dict(zip(cells["colour"], zip(cells["x"], cells["y"], strict=True), strict=True))
    assert ring["x"][0] == pytest.approx((at["#0080ff"][0] + at["#8080ff"][0]) / 2)
    assert ring["y"][0] == pytest.approx((at["#0080ff"][1] + at["#00ffff"][1]) / 2)


def test_without_a_search_the_best_of_the_grid_is_marked(make_probes):
    leaves = make_probes()
    leaves["response"] = leaves["response"].isel(stimulus=np.flatnonzero(leaves["response"]["family"] != "found"))
    (drawing,) = draw_surface(read(leaves)[0], "")
    assert (
        "The ring is the strongest colour that the grid has, 0.00 0.00 1.00 (red, green, blue), 2.5" in drawing.caption
    )


def test_fine_grids_are_thinned_over_blue(make_probes):
    surface = read_surface(read(make_probes(steps=11))[0])
    assert surface.values.shape == (11, 11, SLICES)
    assert (surface.levels[2][0], surface.levels[2][-1]) == (0, 1)
    np.testing.assert_allclose(surface.values[0, 0], 2.5 - 3 * (1 - surface.levels[2]))


def test_norms_stand_in_where_no_projection_is_known(make_probes):
    leaves = make_probes()
    leaves["response"]["projection"][:] = np.nan
    (drawing,) = draw_surface(read(leaves)[0], "net: ")
    assert drawing.title == "net: Response to solid colours"
    assert "says its norm over the median, at stage.3, from 2.01 to 10 over 27 colours" in drawing.caption
    assert "10 times the median norm" in drawing.caption


def test_colours_without_a_response_have_no_cell(make_probes):
    leaves = make_probes()
    leaves["response"]["projection"][3, 0] = np.nan
    _, found = parts(draw_surface(read(leaves)[0], "")[0])
    assert len(found["outcrop-response"].data_source.data["value"]) == 26


def test_without_solid_images_nothing_is_drawn(make_probes):
    leaves = make_probes()
    others = leaves["response"].isel(stimulus=np.flatnonzero(leaves["response"]["family"] != "solid"))
    assert draw_surface(read({**leaves, "response": others})[0], "") == []
    for name in ("projection", "norm_ratio"):
        leaves["response"][name][:] = np.nan
    assert draw_surface(read(leaves)[0], "") == []


def test_a_line_of_greys_is_no_surface(make_probes):
    leaves = make_probes()
    response = leaves["response"]
    grey = (response["red"] == response["green"]) & (response["green"] == response["blue"])
    leaves["response"] = response.isel(stimulus=np.flatnonzero(grey | (response["family"] != "solid")))
    (probed,) = read_probed(leaves["response"], Run("probes", "r1", leaves))
    assert draw_surface(probed, "") == []
