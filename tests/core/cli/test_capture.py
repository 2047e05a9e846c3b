import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import xarray as xr
from onnx import TensorProto, helper

from outcrop.cli.capture import command
from outcrop.store.writing.codec import COMPRESSIONS

Command = Callable[..., "object"]


def values_of(study: Path, layer: str) -> xr.DataArray:
    tree = xr.open_datatree(study, engine="zarr")
    (found,) = [node["values"] for node in tree["activations"].subtree if node.name == layer]
    return found.load()


def test_a_reduction_is_stored_as_asked_and_recorded(
    outcrop_command: Command, photos: Path, onnx_file: Path, tmp_path: Path
) -> None:
    arguments = ("capture", "--model", onnx_file, "--data", photos)
    whole, mean = tmp_path / "whole.zarr", tmp_path / "mean.zarr"
    assert outcrop_command(*arguments, "--study", whole).code == 0
    answer = outcrop_command(
        *arguments, "--study", mean, "--reduction", "spatial_mean+float16", "--compression", "zstd", "--json"
    )
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["captures"][0]["size"] == "480 B"  # 12 samples, 5 layers, 4 channels, 2 bytes
    found = values_of(mean, "block0_relu")
    assert found.dims == ("sample", "channel")
    assert found.dtype == np.float16
    assert found.attrs["reduction"] == "spatial_mean+float16"
    assert found.attrs["unreduced_shape"] == [4, 16, 16]
    expected = values_of(whole, "block0_relu").mean(["y", "x"])
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_captures_of_two_reductions_stand_beside_each_other(
    outcrop_command: Command, photos: Path, onnx_file: Path, tmp_path: Path
) -> None:
    study = tmp_path / "s.zarr"
    for reduction in ("none", "projection:16", "projection:16,seed=1", "projection:16,seed=0"):
        answer = outcrop_command(
            *("capture", "--model", onnx_file, "--data", photos, "--study", study, "--reduction", reduction)
        )
        assert answer.code == 0, answer.err
    assert len(xr.open_datatree(study, engine="zarr")["activations"].children) == 3


def test_an_unknown_reduction_is_refused_before_anything_is_loaded(
    outcrop_command: Command, photos: Path, tmp_path: Path
) -> None:
    study = tmp_path / "s.zarr"
    answer = outcrop_command(
        *("capture", "--model", "no-such.onnx", "--data", photos, "--study", study, "--reduction", "mean")
    )
    assert answer.code == 1
    assert "Error: Unknown reduction 'mean' in 'mean'. Did you mean 'spatial_mean'?" in answer.err
    assert not study.exists()


def test_the_compressions_offered_are_those_there_are() -> None:
    (option,) = [parameter for parameter in command.params if parameter.name == "compression"]
    assert tuple(option.type.choices) == COMPRESSIONS  # type: ignore[attr-defined] # a choice


@pytest.mark.parametrize("as_json", [False, True])
def test_values_that_are_not_finite_are_told_by_layer(outcrop_command: Command, tmp_path: Path, as_json: bool) -> None:
    graph = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["negative"]), helper.make_node("Sqrt", ["negative"], ["root"])],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("root", TensorProto.FLOAT, ["n", 3])],
    )
    file, data = tmp_path / "net.onnx", tmp_path / "x.npy"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), file)
    np.save(data, np.array([[1, -1, -4], [-9, 4, -1]], dtype=np.float32))
    arguments = ("capture", "--model", file, "--data", data, "--study", tmp_path / "s.zarr", "--layers", "all")
    answer = outcrop_command(*arguments, *(["--json"] if as_json else []))
    assert answer.code == 0, answer.err
    if as_json:
        assert json.loads(answer.out)["captures"][0]["non_finite"] == {"root": 2}
    else:
        assert "Not finite: 2 values of root of net are NaN or infinite." in answer.out
