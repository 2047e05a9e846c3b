import json
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from PIL import Image
from torch import Tensor, nn

from outcrop.errors import ModelNotFoundError, ZooError
from outcrop.models import load_model
from outcrop.models.torch_ import TorchModel
from outcrop_zoo.architectures import CifarResNet
from outcrop_zoo.exporting import PARITY_TOLERANCE, PreprocessingLeftOutWarning, export_model

FAMILIES = ["test_resnet", "test_vit", "test_convnext", "test_efficientnet", "test_vit_relpos"]


@pytest.mark.parametrize("name", FAMILIES)
def test_networks_of_timm_keep_their_weights_and_agree_with_torch(name: str) -> None:
    reference = f"timm:{name}?pretrained=false"
    export = export_model(reference)
    model = load_model(reference, device="cpu")
    assert isinstance(model, TorchModel)
    state = {key: value for key, value in model.network.state_dict().items() if value.is_floating_point()}
    stored = {entry.name: numpy_helper.to_array(entry) for entry in export.model.graph.initializer}
    for key, value in state.items():
        np.testing.assert_array_equal(stored[key], value.numpy(), err_msg=key)
    assert export.unused == ()
    assert export.parity.largest_relative_error <= PARITY_TOLERANCE
    assert export.parity.modules >= export.layers > 30
    assert export.parity.samples == 3


def test_a_network_of_torchvision_runs_from_its_file_as_it_ran_in_torch(tmp_path: Path) -> None:
    reference = "torchvision:resnet18?weights=none&input_shape=3x64x64"
    with pytest.warns(PreprocessingLeftOutWarning, match="'small' is left out of the file.*resized to 64x64"):
        export = export_model(reference, name="small")
    path = tmp_path / "small.onnx"
    path.write_bytes(export.content)
    loaded, model = load_model(path), load_model(reference, device="cpu")
    images = torch.rand(5, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    found, expected = loaded.forward({"input": images}), model.forward({"input": images})
    torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert loaded.classes == model.classes
    properties = {entry.key: entry.value for entry in export.model.metadata_props}
    assert (properties["outcrop.card"], properties["outcrop.source"]) == ("small", reference)
    assert json.loads(properties["outcrop.classes"])[0] == "tench"
    assert export.outputs == ("logits",)


@pytest.mark.parametrize("reference", ["timm:test_vit?pretrained=false", "torchvision:mobilenet_v3_small?weights=none"])
def test_preprocessing_in_the_file_makes_the_same_pixels(reference: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", PreprocessingLeftOutWarning)
        export = export_model(reference)
    path = tmp_path / "net.onnx"
    path.write_bytes(export.content)
    loaded, model = load_model(path), load_model(reference, device="cpu")
    pixels = np.random.default_rng(1).integers(0, 256, (301, 413, 3), dtype=np.uint8)
    assert loaded.preprocessing is not None
    assert model.preprocessing is not None
    assert not loaded.preprocessing.assumed
    found, expected = (one.preprocessing.transform(Image.fromarray(pixels)) for one in (loaded, model))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_preprocessing_that_is_only_assumed_is_not_stated(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", PreprocessingLeftOutWarning)
        export = export_model(CifarResNet(8), name="net")
    assert export.preprocessing is None
    path = tmp_path / "net.onnx"
    path.write_bytes(export.content)
    loaded = load_model(path).preprocessing
    assert loaded is not None
    assert loaded.assumed


def test_a_module_and_a_model_with_a_stated_input_can_be_exported() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    export = export_model(load_model(network, input_shape=(3, 20, 24), name="plain"))
    assert [(given.name, given.shape) for given in export.inputs] == [("input", (3, 20, 24))]
    assert (export.name, export.outputs, export.classes) == ("plain", ("output",), None)


def test_float16_halves_the_file_and_folding_removes_batch_norm() -> None:
    network = CifarResNet(8)
    full, half = export_model(network), export_model(network, half=True)
    assert len(half.content) < 0.6 * len(full.content)
    assert export_model(network, folded=True).batch_norms == 0 < full.batch_norms


def test_a_network_with_inputs_by_keyword_is_exported(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is an optional dependency")
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    torch.manual_seed(0)
    transformers.BertModel(config, add_pooling_layer=False).save_pretrained(tmp_path / "bert")
    export = export_model(f"hf:{tmp_path / 'bert'}?length=6", name="bert")
    assert [given.name for given in export.inputs] == ["input_ids", "attention_mask"]
    assert "last_hidden_state" in export.outputs
    assert export.parity.largest_relative_error <= PARITY_TOLERANCE


def test_an_onnx_graph_is_not_exported_again(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(export_model(nn.Linear(3, 2), name="net").model, path)
    with pytest.raises(ZooError, match="is no torch network but an ONNX graph already; copy or add its file instead"):
        export_model(str(path))


def test_batch_statistics_are_refused() -> None:
    model = load_model(CifarResNet(8), batch_norm="batch")
    with pytest.raises(ZooError, match="takes batch norm from the batch at hand; .* Load it without batch_norm=batch"):
        export_model(model)


def test_an_unknown_network_is_not_found() -> None:
    with pytest.raises(ModelNotFoundError, match="timm has no network 'test_resnett'.* Did you mean 'test_resnet'"):
        export_model("timm:test_resnett")


def test_the_model_is_left_where_it_was() -> None:
    network = CifarResNet(8).train()
    before: dict[str, Tensor] = {key: value.clone() for key, value in network.state_dict().items()}
    export_model(network)
    assert network.training
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
