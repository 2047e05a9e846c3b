"""A small network of each architecture as an exported graph: the same values, under the same names."""

import pytest
import torch
from torch import nn

from outcrop.models.onnx_ import load_onnx
from outcrop.models.torch_ import TorchModel
from outcrop_zoo.architectures import Architecture, build_architecture
from outcrop_zoo.exporting import export_network

STAGES = ["stage1.0", "stage2.0", "stage3.0"]
SMALL = {
    "cifar_resnet": (Architecture(depth=8, image=(1, 12, 8)), STAGES),
    "plain_cnn": (Architecture(name="plain_cnn", depth=8, image=(3, 8, 8)), STAGES),
    "shake_shake": (Architecture(name="shake_shake", depth=8, width=2, image=(3, 8, 8)), STAGES),
    "wide_resnet": (Architecture(name="wide_resnet", depth=10, image=(3, 8, 8)), STAGES),
    "vgg": (Architecture(name="vgg", depth=11), []),
    "mlp": (Architecture(name="mlp", depth=3, width=24), []),
    "mlp of vectors": (Architecture(name="mlp", depth=2, width=24, features=7), []),
    "vit": (Architecture(name="vit", depth=2, width=24, heads=3, patch=8), ["blocks.0", "blocks.1"]),
}
"""What is built, and its blocks."""


@pytest.mark.parametrize("name", SMALL)
def test_the_module_and_its_export_have_the_same_values_under_the_same_names(name: str) -> None:
    architecture, blocks = SMALL[name]
    torch.manual_seed(0)
    network = build_architecture(architecture).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 2)
            nn.init.normal_(module.bias, std=0.1)
    operations = [
        path
        for path, module in network.named_modules()
        if not any(module.children()) and not isinstance(module, nn.Identity)
    ]
    shape = architecture.image if architecture.features is None else (architecture.features,)
    # Raises where a parameter is lost, or where a module's value differs by more than 1e-4.
    export = export_network(network, torch.rand(3, *shape), name="network", half=False)
    assert export.layers == len(operations)
    assert export.parity.largest_relative_error <= 1e-4

    ours = TorchModel(network, input_shape=shape, device="cpu")
    theirs = load_onnx(export.model, device="cpu")
    expected = [(layer.name, layer.kind, layer.shape) for layer in ours.layers]
    found = [(layer.name, layer.kind, layer.shape) for layer in theirs.layers]
    if name == "vit":
        # A graph also lists what moves values within an attention, and the products of dense layers.
        names = {layer.name for layer in ours.layers}
        found = [entry for entry in found if entry[0] in names]
    assert found == expected
    # The last operation of a block is the block.
    assert [ours.layer(path).name for path in operations] == [theirs.layer(path).name for path in operations]
    assert [layer.name for layer in ours.layers if layer.kind == "block"] == blocks
