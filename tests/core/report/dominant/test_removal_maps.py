"""Maps and shares of the first component without dominant samples."""

import base64

import numpy as np

from outcrop.report import Run
from outcrop.report.dominant.removal_maps import draw_removal_layers, draw_removal_maps


def maps(leaves):
    return draw_removal_maps(leaves["removal_maps"], Run("dominant", "r1", leaves))


def layers(leaves):
    return draw_removal_layers(leaves["removal_layers"], Run("dominant", "r1", leaves))


def unpack(asset):
    codes = np.frombuffer(base64.b64decode(asset["codes"]), dtype="<u2")
    values = np.zeros((asset["rows"], asset["columns"]))
    values[np.triu_indices(asset["rows"])] = asset["low"] + asset["step"] * codes
    return np.maximum(values, values.T)


def test_every_model_has_its_maps_in_the_page(make_dominant):
    leaves = make_dominant(("first", "second"))
    leaves["removal_maps"]["similarity"][1, 7, 8] = leaves["removal_maps"]["similarity"][1, 8, 7] = 0.25
    first, second = maps(leaves)
    assert second.title == "second: maps without dominant samples"
    assert [plot.tags[0]["title"] for plot in second.plots] == ["All samples", "Without 1 %", "Without 10 %"]
    held = unpack(second.assets["dominant/r1/removal/second/1/similarity"])
    np.testing.assert_allclose(held, leaves["removal_maps"]["similarity"].values[1, 6:, 6:], atol=1e-4)
    assert second.assets["dominant/r1/removal/second/1/rows"]["models"] == ("second",) * 6
    assert not set(first.assets) & set(second.assets)


def test_the_caption_says_the_mean_inside_the_outline(make_dominant):
    leaves = make_dominant()
    leaves["removal_maps"]["similarity"][2, 0, 1:] = leaves["removal_maps"]["similarity"][2, 1:, 0] = 0.1
    (drawing,) = maps(leaves)
    assert "inside the outline" in drawing.caption
    assert drawing.caption.endswith("0.90 with all samples, 0.88 without 1 %, 0.50 without 10 %.")
    del leaves["references"]
    assert "over all pairs of layers: 0.90 with all samples, 0.88 without 1 %, 0.37 without" in maps(leaves)[0].caption


def test_unknown_maps_and_shares_draw_nothing(make_dominant):
    leaves = make_dominant()
    leaves["removal_maps"]["similarity"][:] = np.nan
    leaves["removal_layers"]["pc_share"][:] = np.nan
    assert (maps(leaves), layers(leaves)) == ([], [])
    leaves["removal_maps"] = leaves["removal_maps"].isel(layer_a=[], layer_b=[])
    leaves["removal_layers"] = leaves["removal_layers"].isel(layer=[])
    assert (maps(leaves), layers(leaves)) == ([], [])


def test_shares_of_the_component_are_drawn_for_every_selection(make_dominant):
    leaves = make_dominant()
    (drawing,) = layers(leaves)
    assert [plot.tags[0]["title"] for plot in drawing.plots] == [
        "Without dominant samples", "Without random samples", "Without samples of the longest input",
    ]  # fmt: skip
    for plot, selection in zip(drawing.plots, ("dominant", "random", "input_norm"), strict=True):
        drawn = np.array([renderer.data_source.data["y"] for renderer in plot.renderers])
        np.testing.assert_allclose(drawn.T, leaves["removal_layers"]["pc_share"].sel(selection=selection).values)
    assert [sign.text for sign in drawing.key] == ["all samples", "without 1 %", "without 10 %", "without 50 %"]
    assert drawing.caption.startswith(
        "Mean over the layers: 0.60 with all samples; when 50 % are left out, 0.10 without dominant samples, 0.58 "
        "without random samples, 0.50 without samples of the longest input. Taken within batches"
    )


def test_of_many_fractions_and_layers_some_are_drawn(make_dominant):
    leaves = make_dominant(layers=400)
    (drawing,) = layers(leaves)
    assert len(drawing.plots[0].renderers[0].data_source.data["x"]) == 300
    assert drawing.caption.endswith("300 of 400 layers are drawn.")
