"""Norms by layer: what lines and table hold is what the result says."""

import numpy as np
import pytest

from outcrop.report import Run
from outcrop.report.probes.probe_layers import SHOWN_FAMILIES, draw_layers, strongest_of_families
from outcrop.report.probes.probed import read_probed


def read(leaves):
    return read_probed(leaves["response"], Run("probes", "r1", leaves))[0]


def lines(plot):
    found = [renderer for renderer in plot.renderers if renderer.name == "outcrop-line"]
    return {line.data_source.data["name"][0]: np.asarray(line.data_source.data["value"]) for line in found}


def test_lines_are_the_norms_of_the_strongest_of_each_family_and_of_the_dominant_sample(make_probes):
    leaves = make_probes()
    probed = read(leaves)
    (drawing,) = draw_layers(probed, "")
    above, below = drawing.plots
    names = ["solid: solid 0.00 0.00 1.00", "border: border 1 of typical image 1", "most dominant sample"]
    assert list(lines(above)) == list(lines(below)) == names
    response = leaves["response"].isel(layer=slice(6))
    best = response.sel(stimulus="solid: solid 0.00 0.00 1.00")
    np.testing.assert_allclose(lines(above)[names[0]], best["norm_ratio"])
    np.testing.assert_allclose(lines(below)[names[0]], best["norm_without_pc1"] / response["median_norm"])
    np.testing.assert_allclose(lines(above)[names[2]], response["dominant_norm"] / response["median_norm"])
    # The most dominant sample is among the stimuli, which know its norm without the component.
    own = response.sel(stimulus="real: dominant image 1 (net)")
    np.testing.assert_allclose(lines(below)[names[2]], own["norm_without_pc1"] / response["median_norm"])
    assert above.x_range is below.x_range
    assert type(above.y_scale).__name__ == "LogScale"


def test_the_key_holds_line_picture_and_numbers(make_probes):
    (drawing,) = draw_layers(read(make_probes()), "net: ")
    assert drawing.title == "net: Norm of the features by layer"
    keys, pictures, stimuli, *numbers = zip(*drawing.table.rows, strict=True)
    assert len({key.source for key in keys}) == 3
    assert not any(key.framed for key in keys)
    assert all(picture.framed for picture in pictures)
    assert stimuli == (
        "solid 0.00 0.00 1.00\nsolid",
        "border 1 of typical image 1\nborder",
        "most dominant sample\nreal",
    )
    np.testing.assert_allclose(numbers[:3], [[10.01, 3.21, 4.01], [1.75, 0.9, 1], [10.01, 3.21, 4.01]])
    assert numbers[3] == ("stage.2", "stage.2", "stage.2")


def test_the_caption_says_how_far_the_norms_reach(make_probes):
    (drawing,) = draw_layers(read(make_probes()), "")
    assert drawing.caption.endswith(
        "The dotted line is stage.3, where stimuli are ranked, the shade the block. There solid 0.00 0.00 1.00 reaches "
        "10 times the median, the most dominant sample 4.01 times. Below, without the mean and each layer's first "
        "principal component, 1.75 is left, and 1 of the most dominant sample."
    )
    (drawing,) = draw_layers(read(make_probes(block=False)), "")
    assert "where stimuli are ranked. There" in drawing.caption


def test_the_block_is_shaded(make_probes):
    def shades(leaves):
        found = draw_layers(read(leaves), "")[0].plots[0].center
        return [(one.left, one.right) for one in found if type(one).__name__ == "BoxAnnotation"]

    assert shades(make_probes()) == [(1.5, 4.5)]
    assert shades(make_probes(block=False)) == []


def test_only_leading_families_have_lines(make_probes):
    leaves = make_probes()
    families = [f"family{place}" for place in range(33)]
    leaves["response"] = leaves["response"].assign_coords(family=("stimulus", np.array(families)))
    probed = read(leaves)
    chosen = strongest_of_families(probed)
    assert len(chosen) == SHOWN_FAMILIES
    assert (np.diff(probed.strength[chosen]) <= 0).all()
    assert not probed.keeps_content[chosen].any()


def test_what_is_not_known_has_no_line(make_probes):
    leaves = make_probes()
    leaves["response"]["norm_without_pc1"][:] = np.nan
    (drawing,) = draw_layers(read(leaves), "")
    assert len(drawing.plots) == 1
    assert "Below" not in drawing.caption
    leaves["response"]["dominant_norm"][:] = np.nan
    (drawing,) = draw_layers(read(leaves), "")
    assert "most dominant sample" not in lines(drawing.plots[0])
    leaves["response"]["norm_ratio"][:] = np.nan
    assert draw_layers(read(leaves), "") == []


def test_a_layer_of_no_median_leaves_a_gap(make_probes):
    leaves = make_probes()
    leaves["response"]["median_norm"][1] = 0
    leaves["response"]["norm_ratio"][1] = np.nan
    (drawing,) = draw_layers(read(leaves), "")
    for plot in drawing.plots:
        for values in lines(plot).values():
            assert np.flatnonzero(np.isnan(values)).tolist() == [1]


@pytest.mark.parametrize(("factor", "expected"), [(1, [1, 2, 5, 10]), (1e5, [1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6])])
def test_ticks_are_round_numbers(make_probes, factor, expected):
    leaves = make_probes()
    leaves["response"]["norm_ratio"][3] *= factor
    ticks = draw_layers(read(leaves), "")[0].plots[0].yaxis[0].ticker.ticks
    assert set(expected) <= set(ticks)
    assert len(ticks) < 12
