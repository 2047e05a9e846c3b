import json
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from outcrop.errors import ZooError
from outcrop_zoo.architectures import CifarResNet
from outcrop_zoo.exporting import Export, export_network


def with_statistics(network: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(5)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.uniform_(-1, 1, generator=generator)
            module.running_var.uniform_(0.2, 3, generator=generator)
            if module.affine:
                nn.init.uniform_(module.weight, -2, 2, generator=generator)
                nn.init.uniform_(module.bias, -1, 1, generator=generator)
    return network.eval()


def operations(export: Export) -> Counter[str]:
    return Counter(node.op_type for node in export.model.graph.node)


def test_no_batch_norm_is_left_of_a_residual_network(network: CifarResNet, images: Tensor) -> None:
    export = export_network(network, images, name="net", half=False, folded=True)
    kept = export_network(network, images, name="net", half=False)
    assert operations(kept)["BatchNormalization"] == kept.batch_norms == len(export.folded) == 7
    assert operations(export)["BatchNormalization"] == export.batch_norms == 0
    assert operations(export)["Conv"] == operations(kept)["Conv"]
    assert not any("norm" in entry.name or "running" in entry.name for entry in export.model.graph.initializer)
    properties = {entry.key: entry.value for entry in export.model.metadata_props}
    assert json.loads(properties["outcrop.folded"]) == list(export.folded)
    assert kept.folded == ()


def test_folding_changes_no_module_behind_a_batch_norm(network: CifarResNet, images: Tensor) -> None:
    export = export_network(network, images, name="net", half=False, folded=True)
    kept = export_network(network, images, name="net", half=False)
    # Only the seven convolutions themselves have no value of their own any more.
    assert export.parity.modules == kept.parity.modules - 7
    assert export.parity.largest_relative_error < 1e-5
    session = onnxruntime.InferenceSession(export.content, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"image": images.numpy()})
    with torch.no_grad():
        expected = network.eval()(images).numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("bias", [True, False])
def test_the_folded_kernel_is_that_of_torchs_own_fusion(bias: bool) -> None:
    network = with_statistics(nn.Sequential(nn.Conv2d(4, 6, 3, groups=2, bias=bias), nn.BatchNorm2d(6), nn.ReLU()))
    export = export_network(network, torch.rand(3, 4, 8, 8), name="net", half=False, folded=True)
    weights = {entry.name: numpy_helper.to_array(entry) for entry in export.model.graph.initializer}
    fused = fuse_conv_bn_eval(network[0].double(), network[1].double())
    assert weights.keys() == {"0.weight", "0.bias"}
    np.testing.assert_allclose(weights["0.weight"], fused.weight.detach().numpy(), rtol=1e-6)
    assert fused.bias is not None
    np.testing.assert_allclose(weights["0.bias"], fused.bias.detach().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6)), (4, 5, 5)),
        (nn.Sequential(nn.ConvTranspose2d(4, 6, 3, stride=2, bias=False), nn.BatchNorm2d(6)), (4, 5, 5)),
        (nn.Sequential(nn.Conv1d(4, 6, 3), nn.BatchNorm1d(6, eps=0.1)), (4, 9)),
        (nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6)), (4,)),
        (nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, affine=False), nn.Flatten()), (4, 5, 5)),
    ],
    ids=["transposed groups", "transposed", "one dimension", "linear", "without weights"],
)
def test_batch_norm_folds_into_every_kind_of_layer(network: nn.Module, shape: tuple[int, ...]) -> None:
    # Parity, which refuses more than 1e-4, compares with the unfolded network.
    export = export_network(with_statistics(network), torch.rand(3, *shape), name="net", half=False, folded=True)
    assert export.folded == ("1",)
    assert export.batch_norms == 0
    assert export.parity.largest_relative_error < 1e-5


class Awkward(nn.Module):
    """Batch norms of which none may be folded, and one that may."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(3)
        self.twice = nn.Conv2d(3, 3, 1)
        self.first = nn.BatchNorm2d(3)
        self.second = nn.BatchNorm2d(3)
        self.pool = nn.AvgPool2d(2)
        self.pooled = nn.BatchNorm2d(3)
        self.last = nn.Conv2d(3, 3, 1)
        self.foldable = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        values = self.conv(x)
        values = self.norm(values) + values  # read twice
        values = self.second(self.twice(self.first(self.twice(values))))  # one kernel, two places
        values = self.pooled(self.pool(values))  # behind something else
        result: Tensor = self.foldable(self.last(values))
        return result


def test_batch_norms_that_cannot_be_folded_stay_and_are_counted() -> None:
    network = with_statistics(Awkward())
    export = export_network(network, torch.rand(3, 3, 8, 8), name="net", half=False, folded=True)
    assert export.folded == ("foldable",)
    assert export.batch_norms == 4


def test_the_exporters_own_optimisation_is_what_would_fold_batch_norm_unasked(
    network: CifarResNet, images: Tensor
) -> None:
    """The control of all counts of batch norms above: with it they would be none."""
    program = torch.onnx.export(network.eval(), (images,), dynamo=True, optimize=True, verbose=False)
    assert program is not None
    counts = Counter(node.op_type for node in program.model_proto.graph.node)
    assert counts["BatchNormalization"] == 0


def test_a_network_without_batch_norm_to_fold_is_refused() -> None:
    with pytest.raises(ZooError, match=r"'net' has no batch norm behind a convolution or a linear layer \(1 elsewhere"):
        export_network(
            with_statistics(nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3))),
            torch.rand(2, 3, 4, 4),
            name="net",
            half=False,
            folded=True,
        )


def test_folding_and_float16_together_are_refused(network: CifarResNet, images: Tensor) -> None:
    with pytest.raises(ZooError, match="'net' was asked for folded and in float16: .* Choose one of the two"):
        export_network(network, images, name="net", folded=True, half=True)


def test_the_folded_file_is_sound_on_disk(network: CifarResNet, images: Tensor) -> None:
    export = export_network(network, images, name="net", half=False, folded=True)
    onnx.checker.check_model(onnx.load_from_string(export.content), full_check=True)
