"""One network as a torch module and as exported graphs: the same layers, kinds, blocks and values."""

import warnings
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from outcrop.errors import LayerNotFoundError
from outcrop.models import load_model
from outcrop.models.model import Model
from outcrop.models.onnx_ import load_onnx
from outcrop.models.torch_ import TorchModel


def cifar_resnet() -> nn.Module:
    from outcrop_zoo.architectures import CifarResNet

    return CifarResNet(14)


def of_torchvision(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import torchvision

        options = {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}
        network: nn.Module = torchvision.models.get_model(name, weights=None, **options)
        return network

    return build


def of_timm(name: str, **options: int) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import timm

        network: nn.Module = timm.create_model(name, **options)
        return network

    return build


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    "cifar_resnet14": (cifar_resnet, 32, 6),
    "resnet18": (of_torchvision("resnet18"), 32, 8),
    "mobilenet_v2": (of_torchvision("mobilenet_v2"), 32, 17),
    "shufflenet_v2_x0_5": (of_torchvision("shufflenet_v2_x0_5"), 32, 16),
    "densenet121": (of_torchvision("densenet121"), 32, 4),
    "googlenet": (of_torchvision("googlenet"), 64, 9),
    "test_vit": (of_timm("test_vit", img_size=32, depth=3), 32, 3),
    "test_convnext": (of_timm("test_convnext"), 32, 9),
}
"""How each is built, the side of its images, and how many blocks its paper draws."""


def prepared(name: str) -> tuple[nn.Module, Tensor]:
    """Return a network with random weights and running statistics, and two images."""
    build, side, _ = NETWORKS[name]
    torch.manual_seed(0)
    network = build().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 2)
    return network, torch.randn(2, 3, side, side)


def exported(network: nn.Module, images: Tensor, *, optimize: bool) -> onnx.ModelProto:
    program = torch.onnx.export(
        network, (images,), dynamo=True, optimize=optimize, verbose=False,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )  # fmt: skip
    assert program is not None
    return program.model_proto


def exported_by_torchscript(network: nn.Module, images: Tensor, folder: Path) -> onnx.ModelProto:
    path = folder / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls this exporter outdated, and shapes it writes down constants
        torch.onnx.export(
            network, (images,), path, dynamo=False, input_names=["input"], dynamic_axes={"input": {0: "batch"}}
        )
    return onnx.load(path)


def captured(model: Model, images: Tensor) -> dict[str, Tensor]:
    seen: dict[str, Tensor] = {}
    model.visit(
        {model.inputs[0].name: images},
        [layer.name for layer in model.layers],
        lambda layer, values: seen.update({layer.name: values.clone()}),
    )
    return seen


def blocks_of(model: Model) -> list[str]:
    return [layer.name for layer in model.layers if layer.kind == "block"]


def assert_alike(network: nn.Module, images: Tensor, proto: onnx.ModelProto) -> tuple[Model, Model]:
    """Compare blocks, kinds, order and values; return the torch model and the graph."""
    ours = TorchModel(network, input_shape=tuple(images.shape[1:]), device="cpu")
    theirs = load_onnx(proto, device="cpu")
    assert blocks_of(theirs) == blocks_of(ours)
    kinds = {layer.name: layer.kind for layer in ours.layers}
    other_kinds = {layer.name: layer.kind for layer in theirs.layers}
    common = [name for name in kinds if name in other_kinds]
    assert [name for name in other_kinds if name in kinds] == common
    assert {name: other_kinds[name] for name in common} == {name: kinds[name] for name in common}
    expected, found = captured(ours, images), captured(theirs, images)
    for name in common:
        scale = expected[name].abs().max() + 1e-30
        torch.testing.assert_close(
            found[name].reshape(expected[name].shape) / scale, expected[name] / scale, rtol=0, atol=1e-4, msg=name
        )
    return ours, theirs


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_an_export_has_the_layers_kinds_blocks_and_values_of_the_module(name: str) -> None:
    network, images = prepared(name)
    ours, theirs = assert_alike(network, images, exported(network, images, optimize=False))
    assert len(blocks_of(ours)) == NETWORKS[name][2]
    names = {layer.name for layer in theirs.layers}
    # Mean over the image is all that remains of an adaptive pooling to one pixel.
    assert [layer.name for layer in ours.layers if layer.name not in names] in ([], ["adaptive_avg_pool2d"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "test_vit"])
def test_an_export_by_torchscript_has_the_same_blocks_and_equal_common_layers(name: str, tmp_path: Path) -> None:
    network, images = prepared(name)
    ours, theirs = assert_alike(network, images, exported_by_torchscript(network, images, tmp_path))
    lost = {layer.name for layer in ours.layers} - {layer.name for layer in theirs.layers}
    if name == "test_vit":
        # The older exporter writes the function out and keeps no name of it.
        assert lost == {f"blocks.{block}.attn.scaled_dot_product_attention" for block in range(3)}
    else:
        assert {ours.layer(layer).kind for layer in lost} == {"conv", "norm"}
        folded = theirs.layer("layer1.0.conv1+norm")
        assert (folded.kind, folded.operation) == ("norm", "Conv+BatchNormalization")
        with pytest.raises(LayerNotFoundError, match=r"no layer 'layer1\.0\.conv1'\. Did you mean 'layer1\.0\.conv1\+"):
            theirs.layer("layer1.0.conv1")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "densenet121", "googlenet"])
def test_an_export_by_torchscript_names_no_classes_and_has_the_same_blocks(name: str, tmp_path: Path) -> None:
    network, images = prepared(name)
    ours, _ = assert_alike(network, images, exported_by_torchscript(network, images, tmp_path))
    assert len(blocks_of(ours)) == NETWORKS[name][2]


def test_a_batch_norm_folded_into_its_convolution_is_a_norm() -> None:
    network, images = prepared("cifar_resnet14")
    ours, theirs = assert_alike(network, images, exported(network, images, optimize=True))
    folded = theirs.layer("stage1.0.norm1")
    assert (folded.kind, folded.operation) == ("norm", "Conv+BatchNormalization")
    assert ours.layer("stage1.0.norm1").kind == "norm"
    with pytest.raises(LayerNotFoundError, match=r"no layer 'stage1\.0\.conv1'\. Did you mean"):
        theirs.layer("stage1.0.conv1")


@pytest.mark.parametrize(("reference", "count", "per_stage"), [("resnet14", 51, 2), ("resnet110", 387, 18)])
def test_the_bundled_networks_have_the_layers_of_their_module(reference: str, count: int, per_stage: int) -> None:
    from outcrop_zoo.architectures import CifarResNet

    bundled = load_model(f"zoo:{reference}-patches-seed0", device="cpu")
    depth = int(reference.removeprefix("resnet"))
    module = TorchModel(CifarResNet(depth), input_shape=(3, 32, 32), device="cpu")
    assert len(bundled.layers) == count
    assert blocks_of(bundled) == [f"stage{stage}.{block}" for stage in (1, 2, 3) for block in range(per_stage)]
    # The module's last layer is the output, under the name of its module in both.
    assert [(layer.name, layer.kind, layer.shape) for layer in bundled.layers] == [
        (layer.name, layer.kind, layer.shape) for layer in module.layers
    ]
    assert [layer.name for layer in bundled.layers][:11] == [
        "input", "conv", "norm", "relu", "stage1.0.conv1", "stage1.0.norm1", "stage1.0.relu1", "stage1.0.conv2",
        "stage1.0.norm2", "stage1.0.add", "stage1.0",
    ]  # fmt: skip
    assert [layer.kind for layer in bundled.layers][:11] == [
        "input", "conv", "norm", "act", "conv", "norm", "act", "conv", "norm", "add", "block",
    ]  # fmt: skip
