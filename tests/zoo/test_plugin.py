import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import outcrop
from outcrop.errors import DataNotFoundError, ModelNotFoundError, ParameterError, ZooError
from outcrop_zoo.cards import Card
from outcrop_zoo.catalogue import user_folder
from outcrop_zoo.patches import load_patches
from outcrop_zoo.plugin import load_zoo_data, outcrop_commands, outcrop_data_sources, outcrop_model_sources


@pytest.fixture
def users_own(built: tuple[Card, Path]) -> Path:
    return Path(shutil.copytree(built[1], user_folder()))


def test_a_zoo_model_loads_by_name(users_own: Path, built: tuple[Card, Path]) -> None:
    model = outcrop.load_model("zoo:tiny")
    assert (model.name, model.source, model.classes) == ("tiny", "zoo:tiny", built[0].classes)
    # The papers count the input as one more than the operations.
    assert len(model.layers) == built[0].layers + 1
    assert [layer.name for layer in model.layers if layer.kind == "block"] == ["stage1.0", "stage2.0", "stage3.0"]


def test_a_zoo_model_computes_what_torch_computes_with_its_weights(users_own: Path) -> None:
    import onnx
    from onnx import numpy_helper

    from outcrop_zoo.architectures import CifarResNet

    stored = onnx.load(users_own / "tiny.onnx").graph.initializer
    network = CifarResNet(8).eval()
    network.load_state_dict({e.name: torch.tensor(numpy_helper.to_array(e)).float() for e in stored}, strict=False)
    images = torch.from_numpy(load_patches("test", per_class=1).images).permute(0, 3, 1, 2).float() / 255
    values: dict[str, torch.Tensor] = {}
    model = outcrop.load_model("zoo:tiny")
    model.visit({"image": images}, ["stage2.0", "classifier"], lambda layer, found: values.update({layer.name: found}))
    with torch.no_grad():
        expected = network.stage2(network.stage1(network.relu(network.norm(network.conv(images)))))
        torch.testing.assert_close(values["classifier"], network(images), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(values["stage2.0"], expected, rtol=1e-4, atol=1e-4)


def test_an_unknown_zoo_model_is_refused() -> None:
    with pytest.raises(ModelNotFoundError, match=r"no model 'resnet14-seed9'. Did you mean .*'outcrop zoo list'"):
        outcrop.load_model("zoo:resnet14-seed9")


def test_a_zoo_model_whose_file_was_changed_is_refused(users_own: Path) -> None:
    with (users_own / "tiny.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ZooError, match="is not the one on its card: sha256"):
        outcrop.load_model("zoo:tiny")


def test_the_test_patches_load_as_data() -> None:
    data, patches = outcrop.load_data("zoo:patches"), load_patches("test")
    assert (data.name, data.source, len(data)) == ("patches", "zoo:patches", 3000)
    assert (data.classes, list(data.sample_ids)) == (patches.classes, patches.ids)
    np.testing.assert_array_equal(data.labels, patches.labels)
    np.testing.assert_array_equal(np.asarray(data.read(17)), patches.images[17])


def test_the_training_patches_load_as_data_of_another_name() -> None:
    data = load_zoo_data("patches/train?per_class=3")
    assert (data.name, data.source, len(data)) == ("patches-train", "zoo:patches/train?per_class=3", 30)
    assert list(data.sample_ids) == load_patches("train", per_class=3).ids


def test_unknown_zoo_data_are_refused() -> None:
    with pytest.raises(DataNotFoundError, match=r"no data 'patchez'. Did you mean 'patches'.* It offers patches, "):
        load_zoo_data("patchez")


@pytest.mark.parametrize("query", ["per_class=many", "per_class=-1", "size=3", "per_class"])
def test_an_unknown_query_is_refused(query: str) -> None:
    with pytest.raises(ParameterError, match=rf"takes \?per_class=N with a positive whole number; got '{query}'"):
        load_zoo_data(f"patches?{query}")


def test_no_patches_per_class_are_refused() -> None:
    with pytest.raises(ParameterError, match="Patches per class must be at least 1"):
        load_zoo_data("patches?per_class=0")


def test_the_hooks_offer_models_data_and_commands() -> None:
    assert list(outcrop_model_sources()) == list(outcrop_data_sources()) == ["zoo"]
    assert {"zoo", "demo"} == {command.name for command in outcrop_commands()}


def test_registering_the_plugin_imports_nothing_heavy() -> None:
    code = (
        "import sys, outcrop_zoo.plugin as p; p.outcrop_model_sources(); p.outcrop_data_sources();"
        "p.outcrop_commands(); print(*{'torch', 'onnx', 'onnxruntime', 'pydantic', 'numpy'} & sys.modules.keys())"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == ""
