import random
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import outcrop
from outcrop.tracking import undisturbed


class Residual(nn.Module):
    """A block with all that a forward pass may leave behind: dropout, running statistics, a counter of its own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.dropout = nn.Dropout(0.3)
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1  # type: ignore[operator, unused-ignore] # a buffer
        return torch.relu(x + self.dropout(self.norm(self.conv(x))))


def network() -> nn.Module:
    torch.manual_seed(0)
    body = [Residual(6) for _ in range(3)]
    return nn.Sequential(nn.Conv2d(3, 6, 3), *body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))


def train(
    look: Callable[[nn.Module, int], None], *, autocast: bool = False, between: bool = False, steps: int = 12
) -> dict[str, Tensor]:
    """Return the weights, momenta and random numbers that a training ends with; ``look`` is called in every step."""
    net = network()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    images = torch.randn(40, 3, 10, 10, generator=torch.Generator().manual_seed(1))
    labels = torch.randint(0, 4, (40,), generator=torch.Generator().manual_seed(2))
    torch.manual_seed(3)
    random.seed(4)
    np.random.seed(5)
    for step in range(steps):
        chosen = torch.randperm(40)[:10]
        flipped = images[chosen].flip(3) if random.random() + np.random.rand() < 1 else images[chosen]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            if not between:
                look(net, step)
            loss = nn.functional.cross_entropy(net(flipped), labels[chosen])
            if between:
                look(net, step)
        optimiser.zero_grad()
        loss.backward()
        if step % 2:
            look(net, step)
        optimiser.step()
    ends = {f"weight {name}": value.clone() for name, value in net.state_dict().items()}
    ends |= {f"gradient {name}": parameter.grad.clone() for name, parameter in net.named_parameters()}
    ends |= {f"momentum {i}": state["momentum_buffer"] for i, state in enumerate(optimiser.state.values())}
    return ends | {"drawn": torch.tensor([torch.rand(()).item(), random.random(), np.random.rand()])}


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


@pytest.mark.parametrize("mode", ["evaluation", "training"])
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("between", [False, True])
def test_training_with_a_tracker_ends_with_the_same_bits(mode: str, autocast: bool, between: bool) -> None:
    trackers: list[outcrop.Tracker] = []
    images = torch.randn(16, 3, 10, 10, generator=torch.Generator().manual_seed(6))

    def look(net: nn.Module, step: int) -> None:
        if not trackers:
            # Made in the middle of the training, too, it draws nothing and changes nothing.
            trackers.append(outcrop.Tracker(net, images, layers="all", mode=mode, compare=["first"]))  # type: ignore[arg-type]
        if step not in trackers[0].steps:
            trackers[0].update(step)

    plain = train(lambda *_: None, autocast=autocast, between=between)
    assert_same(plain, train(look, autocast=autocast, between=between))
    assert trackers[0].steps == tuple(range(12))


def test_a_forward_pass_without_the_guard_does_change_the_training() -> None:
    plain = train(lambda *_: None)

    def look(net: nn.Module, _: int) -> None:
        net(torch.ones(4, 3, 10, 10))

    disturbed = train(look)
    assert any(not torch.equal(plain[name], disturbed[name]) for name in plain)


def test_everything_is_as_it_was_also_after_an_error() -> None:
    net = network()
    net[1].eval()  # one part in another mode than the rest
    net(torch.ones(4, 3, 10, 10)).sum().backward()
    hooked = net[2].register_forward_hook(lambda *_: None)
    modes = [module.training for module in net.modules()]
    buffers = {name: (buffer, buffer.clone(), buffer._version) for name, buffer in net.named_buffers()}
    gradients = {name: (parameter.grad, parameter.grad.clone()) for name, parameter in net.named_parameters()}
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()

    def run_and_fail() -> None:
        with undisturbed(net, training=True):
            net(torch.ones(4, 3, 10, 10)).sum().backward()
            net.eval()
            torch.rand(3), random.random(), np.random.rand()
            raise KeyError

    with pytest.raises(KeyError):
        run_and_fail()
    assert [module.training for module in net.modules()] == modes
    for name, buffer in net.named_buffers():
        own, values, version = buffers[name]
        assert buffer is own
        assert buffer._version == version
        assert torch.equal(buffer, values)
    for name, parameter in net.named_parameters():
        assert parameter.grad is gradients[name][0]
        assert torch.equal(parameter.grad, gradients[name][1])
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert (np.random.get_state()[1] == states[2]).all()
    assert list(net[2]._forward_hooks) == [hooked.id]
    assert not net._forward_pre_hooks


def test_buffers_that_two_modules_share_stay_shared() -> None:
    class Counter(nn.Module):
        def __init__(self, count: Tensor) -> None:
            super().__init__()
            self.register_buffer("count", count)

    one = Counter(torch.zeros(()))
    net = nn.Sequential(one, Counter(one.count))  # type: ignore[arg-type]
    with undisturbed(net):
        net[0].count += 1
        assert net[1].count == 1
        assert net[0].count is net[1].count
    assert net[0].count is net[1].count is one.count
    assert one.count == 0


def test_random_numbers_inside_are_the_same_each_time() -> None:
    net = network()
    drawn = []
    for _ in range(2):
        with undisturbed(net, training=True):
            drawn.append(net(torch.ones(4, 3, 10, 10)))
        torch.rand(1)
    assert torch.equal(*drawn)


def test_weights_that_hooks_compute_are_computed() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the old form is the one with hooks
        net = nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 4)), nn.Linear(4, 2))
    images = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    tracker = outcrop.Tracker(net, images, layers="all")
    tracker.update(0)
    with torch.no_grad():
        net[0].weight_v.mul_(-1)
    tracker.update(1)
    loss = net(images).sum()
    loss.backward()
    assert net[0].weight_v.grad.abs().sum() > 0
