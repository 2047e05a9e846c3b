"""Traces of norms: medians, bands and traces are those of the dataset."""

import numpy as np
import pytest

from outcrop.report import Run
from outcrop.report.dominant.dominance import draw_dominance
from outcrop.report.dominant.norms import MOST_LAYERS, MOST_TRACES, depth_ticks


def norms(leaves):
    found = draw_dominance(leaves["dominance"], Run("dominant", "r1", leaves))
    return next((drawing for drawing in found if drawing.title.lower().endswith("norms along the depth")), None)


def glyphs(drawing, name):
    return [r.data_source.data for r in drawing.plots[0].renderers if type(r.glyph).__name__ == name]


def test_lines_are_the_medians_and_the_band_holds_nine_tenths_of_the_others(make_dominant):
    leaves = make_dominant()
    values = leaves["dominance"]["norm"].values
    drawing = norms(leaves)
    of_all, of_dominant = glyphs(drawing, "Line")
    np.testing.assert_allclose(of_all["y"], np.median(values, axis=1))
    np.testing.assert_allclose(of_dominant["y"], np.median(values[:, :10], axis=1))
    (band,) = glyphs(drawing, "VArea")
    np.testing.assert_allclose(band["y1"], np.percentile(values[:, 10:], 5, axis=1))
    np.testing.assert_allclose(band["y2"], np.percentile(values[:, 10:], 95, axis=1))
    (traces,) = glyphs(drawing, "MultiLine")
    np.testing.assert_allclose(np.array(traces["y"]), values[:, :10].T)


def test_the_caption_says_how_many_times_longer_they_are_inside_and_outside(make_dominant):
    leaves = make_dominant()
    values = leaves["dominance"]["norm"].values
    ratio = np.median(values[:, :10], axis=1) / np.median(values, axis=1)
    said = norms(leaves).caption
    assert said.startswith("Norms of the 10 dominant samples (thin lines: all of them) against all 120.")
    assert f"In the block stage1.1 to stage2.4, their median is {np.median(ratio[1:5]):.2g} times that of all" in said
    assert f"outside {np.median(ratio[[0, 5]]):.2g} times" in said


def test_without_an_interval_the_caption_speaks_of_all_layers(make_dominant):
    leaves = make_dominant()
    del leaves["references"]
    said = norms(leaves).caption
    assert "in the median over the layers" in said
    assert "Shaded" not in said


def test_norms_of_zero_and_unknown_ones_leave_gaps(make_dominant):
    leaves = make_dominant()
    leaves["dominance"]["norm"][1] = 0
    leaves["dominance"]["norm"][4] = np.nan
    of_all, _ = glyphs(norms(leaves), "Line")
    assert np.isnan(of_all["y"]).tolist() == [False, True, False, False, True, False]


def test_without_a_norm_of_a_dominant_sample_there_is_no_trace(make_dominant):
    leaves = make_dominant()
    leaves["dominance"]["norm"][:, :10] = np.nan
    assert norms(leaves) is None


def test_many_layers_and_traces_are_thinned_and_it_is_said(make_dominant):
    leaves = make_dominant(layers=400)
    leaves["references"]["dominant"][:, :60] = True
    drawing = norms(leaves)
    (traces,) = glyphs(drawing, "MultiLine")
    assert len(traces["y"]) == MOST_TRACES
    assert len(traces["y"][0]) == MOST_LAYERS
    assert f"{MOST_LAYERS} of 400 layers are drawn." in drawing.caption
    assert f"thin lines: {MOST_TRACES} of them" in drawing.caption


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("stage1.0", "stage1.1", "stage2.0", "stage2.1"), {0.5: "stage1", 2.5: "stage2"}),
        (tuple(f"layer{index}" for index in range(11)), {0.0: "1", 2.0: "3", 4.0: "5", 6.0: "7", 8.0: "9", 10.0: "11"}),
        (("only",), {0.0: "1"}),
    ],
)
def test_depth_is_told_by_modules_or_else_counted(names, expected):
    assert depth_ticks(names) == expected
