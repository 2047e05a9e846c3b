import hashlib
import math

import pytest
import torch
from torch import nn

from outcrop.errors import ZooError
from outcrop_zoo.architectures import Architecture, CifarResNet, build_architecture


def _operations(network: nn.Module) -> list[nn.Module]:
    return [m for m in network.modules() if not any(m.children()) and not isinstance(m, nn.Identity)]


def _digest(network: nn.Module, *, values: bool) -> str:
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(f"{name} {tuple(value.shape)} ".encode())
        if values:
            digest.update(value.numpy().tobytes())
    return digest.hexdigest()[:16]


RECORDED = {
    # Depth, width: names and shapes, state of the generator behind it, sum of squares, bits by instruction set.
    (8, 1): (
        *("83a94eb7d6966459", "ec382314bc1f878f", 1168.8904902829947),
        {"AVX2": "fbd4c2f7a3bd3868", "DEFAULT": "2708f79ebe75bb0d"},
    ),
    (14, 2): (
        *("16df8bc333f8ef89", "17f8ef6480442afc", 4101.769075862317),
        {"AVX2": "f4572da5bccbbf2d", "DEFAULT": "7b30d623d6c6fad6"},
    ),
    (110, 1): (
        *("aa7588c7e98aba22", "809d5c755fe490fd", 16427.455669861516),
        {"AVX2": "166e7853a363bc3e", "DEFAULT": "f49a22c9ebbdc898"},
    ),
}
"""Of the networks seeded with 0 that were trained and bundled first: their checkpoints must go on to fit."""


@pytest.mark.parametrize(("depth", "width"), list(RECORDED))
def test_a_seed_gives_the_weights_that_it_always_gave(depth: int, width: int) -> None:
    names, generator, squares, bits = RECORDED[depth, width]
    torch.manual_seed(0)
    network = build_architecture(Architecture(depth=depth, width=width))
    assert _digest(network, values=False) == names
    assert hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest()[:16] == generator
    found = sum(float(value.double().square().sum()) for value in network.state_dict().values())
    assert found == pytest.approx(squares, rel=1e-8)
    # Normal numbers have other last bits where they are computed without vector instructions.
    capability = torch.backends.cpu.get_cpu_capability().replace("AVX512", "AVX2")
    assert _digest(network, values=True) == bits.get(capability, _digest(network, values=True))


@pytest.mark.parametrize(("depth", "blocks"), [(8, 1), (14, 2), (110, 18)])
def test_every_operation_of_a_cifar_resnet_is_a_module(depth: int, blocks: int) -> None:
    # Conv, norm, ReLU; seven a block and a projection in two of them; pool, flatten, classifier.
    assert len(_operations(CifarResNet(depth))) == 3 + 7 * 3 * blocks + 2 + 3 == 7 * 3 * blocks + 8


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


@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.47), (44, 0.66), (56, 0.86), (110, 1.73)])
def test_parameters_are_as_many_as_published(depth: int, millions: float) -> None:
    # arXiv 1512.03385, table 6, whose shortcuts and convolutions carry no parameters of their own: within 0.01 million.
    count = sum(parameter.numel() for parameter in CifarResNet(depth).parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.01)


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
