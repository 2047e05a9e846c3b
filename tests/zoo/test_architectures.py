import math

import pytest
import torch
from torch import nn

from outcrop.errors import ZooError
from outcrop_zoo.architectures import CifarResNet, build_architecture
from outcrop_zoo.recipes import Architecture


def _operations(network: nn.Module) -> list[nn.Module]:
    return [m for m in network.modules() if not any(m.children()) and not isinstance(m, nn.Identity)]


@pytest.mark.parametrize(("depth", "blocks"), [(8, 1), (14, 2), (110, 18)])
def test_every_operation_of_a_cifar_resnet_is_a_module(depth: int, blocks: int) -> None:
    network = CifarResNet(depth)
    # Conv, norm, ReLU; seven a block and a projection in two of them; pool, flatten, classifier.
    assert len(_operations(network)) == 3 + 7 * 3 * blocks + 2 + 3 == 7 * 3 * blocks + 8
    called: list[nn.Module] = []
    for module in _operations(network):
        module.register_forward_hook(lambda module, *_: called.append(module))
    network.eval()(torch.zeros(1, 3, 32, 32))
    assert len(called) == len(set(called)) == 7 * 3 * blocks + 8


def test_depth_counts_the_weighted_layers() -> None:
    network = CifarResNet(14)
    weighted = [m for m in _operations(network) if isinstance(m, nn.Conv2d | nn.Linear)]
    projections = [m for m in weighted if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)]
    assert len(weighted) - len(projections) == 14
    assert [m.stride for m in projections] == [(2, 2), (2, 2)]


@pytest.mark.parametrize("width", [1, 2])
def test_parameters_are_as_many_as_the_published_shapes_have(width: int) -> None:
    stages = [16 * width, 32 * width, 64 * width]

    def conv(channels_in: int, channels: int, kernel: int = 3) -> int:
        return channels_in * channels * kernel**2 + channels

    expected = conv(3, stages[0]) + 2 * stages[0] + (stages[2] + 1) * 10
    previous = stages[0]
    for channels in stages:
        expected += conv(previous, channels) + 3 * conv(channels, channels) + 4 * 2 * channels
        expected += conv(previous, channels, 1) if previous != channels else 0
        previous = channels
    network = build_architecture(Architecture(depth=14, width=width))
    assert sum(parameter.numel() for parameter in network.parameters()) == expected


def test_batch_norm_has_the_defaults_of_keras() -> None:
    norms = [m for m in CifarResNet(8).modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(m.eps, m.momentum) for m in norms} == {(1e-3, 0.01)}


def test_kernels_start_he_normal_and_biases_at_zero() -> None:
    torch.manual_seed(0)
    for name, parameter in CifarResNet(14, width=4).named_parameters():
        if parameter.ndim > 1 and parameter.numel() > 5000:
            fan_in = parameter[0].numel()
            assert float(parameter.detach().std()) == pytest.approx(math.sqrt(2 / fan_in), rel=0.05), name
        elif name.endswith("bias"):
            assert not parameter.any(), name


@pytest.mark.parametrize("depth", [2, 9, 16, -4])
def test_a_depth_that_is_not_of_the_form_6n_plus_2_is_refused(depth: int) -> None:
    with pytest.raises(ZooError, match=rf"has depth 6n \+ 2 \(8, 14, 20, ...\); got depth {depth}"):
        CifarResNet(depth)
