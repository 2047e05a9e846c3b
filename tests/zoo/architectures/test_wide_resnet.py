import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from outcrop.errors import ZooError
from outcrop_zoo.architectures import WideResNet


def parameters_of(depth: int, width: int) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in WideResNet(depth, width=width).parameters())


PUBLISHED = [
    *((40, 1, 0.6), (40, 2, 2.2), (40, 4, 8.9), (40, 8, 35.7), (28, 10, 36.5), (28, 12, 52.5)),
    *((22, 8, 17.2), (22, 10, 26.8), (16, 8, 11.0), (16, 10, 17.1), (16, 4, 2.7)),
]
"""Depth, widening factor, and parameters in millions: arXiv 1605.07146, table 4, and the authors' WRN-16-4."""


@pytest.mark.parametrize(("depth", "width", "millions"), PUBLISHED)
def test_parameters_are_as_many_as_published(depth: int, width: int, millions: float) -> None:
    assert round(parameters_of(depth, width) / 1e6, 1) == millions


def test_it_computes_what_the_paper_writes_down() -> None:
    torch.manual_seed(0)
    network = WideResNet(16, width=2).double().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight, module.bias, module.running_mean):
                nn.init.normal_(values)
            module.running_var.uniform_(0.5, 2)
    state = network.state_dict()

    def activated(x: Tensor, path: str) -> Tensor:
        mean, variance, scale, shift = (
            state[f"{path}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return ((x - mean) / torch.sqrt(variance + 1e-5) * scale + shift).clamp(min=0)

    images = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    x = functional.conv2d(images, state["conv.weight"], padding=1)
    for stage in (1, 2, 3):
        for block in (0, 1):
            path = f"stage{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            active = activated(x, f"{path}.norm1")
            branch = functional.conv2d(active, state[f"{path}.conv1.weight"], stride=stride, padding=1)
            branch = functional.conv2d(activated(branch, f"{path}.norm2"), state[f"{path}.conv2.weight"], padding=1)
            shortcut = x if block else functional.conv2d(active, state[f"{path}.shortcut.weight"], stride=stride)
            x = branch + shortcut
    expected = activated(x, "norm").mean((2, 3)) @ state["classifier.weight"].T + state["classifier.bias"]
    torch.testing.assert_close(network(images), expected)


def test_depth_counts_the_convolutions() -> None:
    network = WideResNet(28, width=2)
    assert sum(1 for module in network.modules() if isinstance(module, nn.Conv2d)) == 28
    assert all(module.bias is None for module in network.modules() if isinstance(module, nn.Conv2d))


def test_without_widening_the_first_block_keeps_its_input_as_the_shortcut() -> None:
    network = WideResNet(10)
    assert isinstance(network.stage1[0].shortcut, nn.Identity)
    assert isinstance(network.stage2[0].shortcut, nn.Conv2d)
    x = torch.randn(1, 16, 32, 32)
    nn.init.zeros_(network.stage1[0].conv2.weight)
    assert torch.equal(network.stage1[0](x), x)


@pytest.mark.parametrize("depth", [4, 14, 27])
def test_a_depth_that_is_not_of_the_form_6n_plus_4_is_refused(depth: int) -> None:
    with pytest.raises(ZooError, match=rf"A WideResNet has depth 6n \+ 4 \(10, 16, 22, ...\); got depth {depth}"):
        WideResNet(depth)
