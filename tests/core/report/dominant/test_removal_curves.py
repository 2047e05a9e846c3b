"""Removal curves: what is drawn is what was measured, and the verdict says the smallest share that dissolves."""

import numpy as np
import pytest

from outcrop.report import Run
from outcrop.report.dominant.removal_curves import draw_removal


def draw(dataset):
    return draw_removal(dataset, Run("dominant", "r1", {"removal": dataset}))


def curves(plot):
    return [r.data_source.data for r in plot.renderers if type(r.glyph).__name__ == "Scatter"]


def test_curves_are_the_measures_of_every_selection(make_dominant):
    found = make_dominant()["removal"]
    (drawing,) = draw(found)
    for plot, name in zip(drawing.plots, ("similarity", "contrast", "pc_support"), strict=True):
        for curve, selection in zip(curves(plot), ("dominant", "random", "input_norm"), strict=True):
            own = found.sel(selection=selection).isel(block=0)
            np.testing.assert_allclose(curve["y"], own[name].values)
            np.testing.assert_allclose(curve["high"] - curve["y"], own[f"{name}_error"].values)
            assert curve["fill"].astype(bool).tolist() == own["is_block"].values.tolist()
            assert curve["share"] == ["0 %", "1 %", "10 %", "50 %"]
            assert curve["kept"].tolist() == [120, 119, 108, 60]
        (band,) = [r.data_source.data for r in plot.renderers if type(r.glyph).__name__ == "VArea"]
        np.testing.assert_allclose(band["y2"] - band["y1"], 0.02)


def test_the_verdict_is_the_smallest_share_that_dissolves(make_dominant):
    (drawing,) = draw(make_dominant()["removal"])
    assert drawing.title == "net: block stage1.1 to stage2.4"
    assert drawing.caption.startswith(
        "Without the 10 % most dominant samples, the block stage1.1 to stage2.4 dissolves: this is the smallest share "
        "tried from which on no block is found, and without 1 % there still is one; without as many others it stays. "
        "When 10 % of the samples are left out: the dominant ones, similarity from 0.95 to 0.55, contrast 0.45 to "
        "0.05, PC1 share 0.60 to 0.20; random ones, similarity from 0.95 to 0.94,"
    )
    assert "Random: mean of 5 draws" in drawing.caption
    rules = [model for plot in drawing.plots for model in plot.center if type(model).__name__ == "Span"]
    assert [rule.location for rule in rules] == [2, 2, 2]


def test_where_nothing_dissolves_the_block_it_is_said(make_dominant):
    (drawing,) = draw(make_dominant(dissolves=False)["removal"])
    assert drawing.caption.startswith(
        "No removal of up to 50 % of the samples dissolves the block stage1.1 to stage2.4."
    )
    assert "When 50 % of the samples are left out: the dominant ones, similarity from 0.95 to 0.45" in drawing.caption


def test_shares_that_leave_no_sample_out_say_nothing_of_the_block(make_dominant):
    found = make_dominant(dissolves=False)["removal"]
    found = found.isel(fraction=[0, 0]).assign_coords(fraction=[0.0, 0.001])
    assert draw(found)[0].caption.startswith(
        "Shares of up to 0.1 % leave no sample out, so that nothing can be said of the block stage1.1 to stage2.4."
    )


def test_controls_that_lose_the_block_too_are_named(make_dominant):
    found = make_dominant()["removal"]
    found["is_block"].loc[{"selection": "input_norm", "fraction": 0.1}] = False
    found["controls_keep_block"][:] = False
    (drawing,) = draw(found)
    assert "but without as many samples of the longest input it does not stay either." in drawing.caption


@pytest.mark.parametrize(
    ("was", "said"), [(False, "There is no block to dissolve."), (True, "With all samples, these")]
)
def test_without_a_block_nothing_can_dissolve(make_dominant, was, said):
    found = make_dominant(dissolves=False)["removal"]
    found["was_block"][:] = was
    found["is_block"][:] = False
    (drawing,) = draw(found)
    assert drawing.caption.startswith(said)
    assert len(drawing.plots) == 3


def test_without_an_interval_only_the_verdict_is_given(make_dominant):
    found = make_dominant(dissolves=False)["removal"]
    found["was_block"][:] = found["is_block"][:] = False
    for name in ("similarity", "contrast", "pc_support"):
        found[name][:] = np.nan
    (drawing,) = draw(found)
    assert drawing.plots == ()
    assert drawing.caption.endswith("There are no similar layers whose fate could be followed.")


def test_unknown_lengths_of_inputs_are_said_to_be(make_dominant):
    found = make_dominant()["removal"].sel(selection=["dominant", "random"])
    found.attrs["input_norm"] = "not known of stored activations"
    (drawing,) = draw(found)
    assert "Lengths of inputs: not known of stored activations." in drawing.caption
    assert [sign.text for sign in drawing.key][:2] == ["without the dominant samples", "without random samples"]


def test_many_blocks_are_thinned_and_none_draws_nothing(make_dominant):
    found = make_dominant([f"step{index}" for index in range(12)])["removal"]
    drawings = draw(found)
    assert len(drawings) == 8
    assert drawings[0].caption.endswith("8 of 12 blocks are drawn.")
    assert draw(found.isel(block=[])) == []


def test_a_single_fraction_is_drawn(make_dominant):
    (drawing,) = draw(make_dominant(dissolves=False)["removal"].isel(fraction=[0]))
    assert drawing.caption.startswith("Shares of up to 0 % leave no sample out")
    assert "When" not in drawing.caption
