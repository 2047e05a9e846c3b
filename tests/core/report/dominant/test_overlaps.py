"""Maps of the overlap of dominant samples, within and between models."""

import base64

import numpy as np
import pytest

from outcrop.report import Run
from outcrop.report.dominant.overlaps import draw_overlap


def draw(leaves):
    return draw_overlap(leaves["overlap"], Run("dominant", "r1", leaves))


def unpack(asset):
    codes = np.frombuffer(base64.b64decode(asset["codes"]), dtype="<u2")
    return asset["low"] + asset["step"] * codes


def test_the_page_holds_what_was_measured(make_dominant):
    leaves = make_dominant(("first", "second"))
    between, _ = draw(leaves)
    upper = np.triu_indices(12)
    for name in ("jaccard", "shared"):
        np.testing.assert_allclose(
            unpack(between.assets[f"dominant/r1/overlap/{name}"]), leaves["overlap"][name].values[upper], atol=2e-4
        )
    chance = unpack(between.assets["dominant/r1/overlap/log_p"])
    np.testing.assert_allclose(chance, np.log10(leaves["overlap"]["p_value"].values[upper]), atol=2e-4)
    assert between.assets["dominant/r1/overlap/shared"]["whole"] is True


def test_models_are_compared_where_they_are_judged(make_dominant):
    between, within = draw(make_dominant(("first", "second")))
    (row,) = between.table.rows
    assert row[:5] == ("first", "stage1.2", "second", "stage1.2", 5)
    assert row[5:] == pytest.approx((5 / 15, 1e-9))
    assert (
        "Where they are judged, first (stage1.2) and second (stage1.2) have 5 dominant samples in common, a Jaccard "
        "index of 0.33; random sets of their sizes share as many or more with a probability of 1e-09."
    ) in between.caption
    assert [plot.tags[0]["title"] for plot in within.plots] == ["first", "second"]


def test_of_three_models_the_most_alike_come_first(make_dominant):
    between, _ = draw(make_dominant(("a", "b", "c")))
    assert [row[5] for row in between.table.rows] == pytest.approx([5 / 15, 5 / 15, 0])
    assert "the most of 3 pairs" in between.caption


def test_a_single_model_has_one_map_and_its_means(make_dominant):
    leaves = make_dominant()
    (drawing,) = draw(leaves)
    values = leaves["overlap"]["jaccard"].values
    mean, neighbours = values[np.triu_indices(6, 1)].mean(), values.diagonal(1).mean()
    assert drawing.caption.startswith(
        f"{mean:.2f} on average over all pairs of layers, {neighbours:.2f} of neighbours."
    )


def test_layers_without_dominant_samples_are_left_blank(make_dominant):
    leaves = make_dominant(("first", "second"))
    leaves["overlap"]["jaccard"][2] = leaves["overlap"]["jaccard"][:, 2] = np.nan
    between, _ = draw(leaves)
    assert between.table is None
    leaves["overlap"]["jaccard"][:] = np.nan
    assert draw(leaves) == []


def test_of_very_many_layers_only_the_map_is_kept(make_dominant):
    (drawing,) = draw(make_dominant(layers=610, samples=40))
    assert {key.rpartition("/")[2] for key in drawing.assets} == {"rows", "columns", "jaccard"}
