"""Loading a model from a reference, a path or an object."""

import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from outcrop.errors import ModelLoadError, ModelNotFoundError
from outcrop.models import TorchModel, load_model, model_schemes
from outcrop.models.sources import _of_plugin


def relu_graph() -> onnx.ModelProto:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"], name="relu")], "small", value[:1], value[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_a_module_stays_where_it_is_and_is_not_copied():
    network = nn.Linear(4, 2)
    model = load_model(network, name="mine")
    assert isinstance(model, TorchModel)
    assert model.network is network
    assert (model.name, model.device) == ("mine", "cpu")
    assert load_model(nn.Conv2d(3, 2, 3), input_shape=(3, 8, 8)).inputs[0].shape == (3, 8, 8)


def test_a_loaded_model_is_returned_as_it_is_and_renamed_in_a_copy():
    model = load_model(nn.Linear(4, 2), name="first")
    assert load_model(model) is model
    assert load_model(model, name="first") is model
    renamed = load_model(model, name="other")
    assert (renamed.name, model.name) == ("other", "first")
    assert renamed.network is model.network
    assert renamed.fingerprint == model.fingerprint
    assert renamed.layers == model.layers


def test_a_plugin_that_hands_out_one_model_many_times_keeps_its_name():
    shared = TorchModel(nn.Linear(2, 2), name="shared")
    assert _of_plugin("their", lambda _: shared)("net", "mine", "auto").name == "mine"
    assert shared.name == "shared"


def test_an_onnx_model_loads_from_an_object_a_path_and_a_reference(tmp_path):
    path = tmp_path / "small.onnx"
    onnx.save(relu_graph(), path)
    x = torch.tensor([[-1.0, 2.0, -3.0, 4.0]])
    for reference in (relu_graph(), path, str(path), f"onnx:{path}"):
        model = load_model(reference, name="graph")
        assert model.name == "graph"
        torch.testing.assert_close(model.forward({"x": x}), x.clamp(min=0))


def test_schemes_of_plugins_are_offered_beside_outcrops_own():
    assert {"hf", "onnx", "python", "timm", "torchvision", "zoo"} <= set(model_schemes())


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("tim:resnet18", r"No model source 'tim:' in 'tim:resnet18'. Did you mean 'timm'.* There are: hf:, onnx:"),
        ("timm:", "'timm:' names no model; write timm:NAME"),
        ("resnet18", "'resnet18' is neither a reference nor a file. Write SCHEME:NAME with one of hf:, onnx:"),
        ("", "'' is no"),
        (Path(__file__), "is no ONNX file"),
    ],
)
def test_a_reference_that_nothing_answers_to_says_what_does(reference, message):
    with pytest.raises(ModelNotFoundError, match=message) as caught:
        load_model(reference)
    assert "\n" not in str(caught.value)


def test_objects_that_are_no_models_are_refused():
    with pytest.raises(
        ModelLoadError, match="Cannot load a model from a int; give a reference such as 'timm:resnet18'"
    ):
        load_model(3)
    with pytest.raises(ModelLoadError, match="input_shape belongs to torch modules"):
        load_model("timm:test_resnet", input_shape=(3, 8, 8))


def test_the_device_of_a_plugins_model_is_the_plugins_choice():
    load = _of_plugin("their", lambda rest: TorchModel(nn.Linear(2, 2), name=rest))
    assert load("net", None, "auto").name == "net"
    assert load("net", "mine", "cpu").name == "mine"
    with pytest.raises(
        ModelLoadError, match=r"their:net runs on cpu; its source chooses the device, and 'cuda' is refused"
    ):
        load("net", None, "cuda")


def test_importing_the_models_imports_no_torch():
    code = (
        "import sys, outcrop.models.sources, outcrop.models.selection; from outcrop.models import Layer;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'timm', 'onnx', 'transformers', 'torchvision')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_attribute_of_the_package_is_an_attribute_error():
    import outcrop.models

    with pytest.raises(AttributeError, match=r"'outcrop.models' has no attribute 'load_modle'"):
        _ = outcrop.models.load_modle
    assert "load_model" in dir(outcrop.models)
