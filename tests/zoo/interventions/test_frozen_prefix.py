import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from outcrop.errors import ParameterError, ZooError
from outcrop_zoo.architectures import CifarResNet
from outcrop_zoo.interventions import FrozenPrefix
from outcrop_zoo.interventions.network_parts import layers

PREFIXES = [(), ("conv.", "norm."), ("conv.", "norm.", "stage1."), ("conv.", "norm.", "stage1.", "stage2.")]


def _network(seed: int, *, width: int = 1) -> CifarResNet:
    torch.manual_seed(seed)
    network = CifarResNet(8, width=width)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
    return network


def _train(network: nn.Module, steps: int = 2) -> None:
    images = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    for _ in range(steps):
        network.train()
        optimizer.zero_grad()
        F.cross_entropy(network(images), torch.arange(8)).backward()
        optimizer.step()


def _state(network: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in network.state_dict().items()}


def test_a_layer_is_a_block_or_a_convolution_with_what_follows() -> None:
    assert layers(CifarResNet(14)) == [
        ["conv", "norm", "relu"],
        ["stage1.0"],
        ["stage1.1"],
        ["stage2.0"],
        ["stage2.1"],
        ["stage3.0"],
        ["stage3.1", "pool", "flatten"],
        ["classifier"],
    ]
    plain = nn.Sequential(nn.Flatten(), nn.Linear(3, 3), nn.ReLU(), nn.Sequential(nn.Linear(3, 3)), nn.Linear(3, 3))
    assert layers(plain) == [["0", "1", "2"], ["3.0"], ["4"]]


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_the_prefix_is_taken_and_training_leaves_no_trace_in_it(count: int) -> None:
    source, network = _network(0), _network(1)
    taken, own = _state(source), _state(network)
    prefix = PREFIXES[count]
    intervention = FrozenPrefix(source, layers=count)
    assert intervention.prepare(network) is network
    for name, value in network.state_dict().items():
        assert torch.equal(value, (taken if prefix and name.startswith(prefix) else own)[name]), name
    before = _state(network)
    _train(network)
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if not (prefix and name.startswith(prefix))}
    intervention.finish(network)
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert not any(module._forward_pre_hooks for module in network.modules())
    assert all(torch.equal(value, taken[name]) for name, value in source.state_dict().items())


def test_frozen_batch_norm_normalises_with_the_statistics_it_was_given() -> None:
    source, network = _network(0), _network(1)
    FrozenPrefix(source, layers=2).prepare(network)
    images = torch.rand(4, 3, 32, 32)
    kept: list[Tensor] = []
    network.stage1.register_forward_hook(lambda *call: kept.append(call[-1].detach()))
    network.train()(images)
    source.eval()
    with torch.no_grad():
        torch.testing.assert_close(kept[0], source.stage1(source.relu(source.norm(source.conv(images)))))


def test_a_random_prefix_is_shared_by_networks_of_any_seed_and_frozen() -> None:
    networks = [_network(seed) for seed in (0, 1, 2)]
    for network, seed in zip(networks, (5, 5, 6), strict=True):
        FrozenPrefix(None, layers=2, seed=seed).prepare(network)
        _train(network, steps=1)
    states = [
        {name: value for name, value in network.state_dict().items() if name.startswith(PREFIXES[2])}
        for network in networks
    ]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert not torch.equal(states[0]["conv.weight"], states[2]["conv.weight"])
    assert float(states[0]["stage1.0.conv1.weight"].std()) == pytest.approx((2 / (9 * 16)) ** 0.5, rel=0.1)
    assert float(states[0]["norm.running_mean"].abs().max()) == 0
    assert set(states[0]["norm.running_var"].tolist()) == set(states[0]["norm.weight"].tolist()) == {1.0}
    assert not torch.equal(networks[0].stage3[0].conv1.weight, networks[1].stage3[0].conv1.weight)


def test_a_random_prefix_draws_tokens_too_and_leaves_the_global_generator_alone() -> None:
    class WithToken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Parameter(torch.ones(500))
            self.body, self.head = nn.Linear(500, 4), nn.Linear(4, 2)

    network = WithToken()
    state = torch.random.get_rng_state()
    FrozenPrefix(None, layers=1).prepare(network)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert float(network.token.detach().std()) == pytest.approx(0.02, rel=0.2)
    assert not network.token.requires_grad
    assert network.head.weight.requires_grad
    source = WithToken()
    other = WithToken()
    other.token.data.zero_()
    FrozenPrefix(source, layers=1, trainable=True).prepare(other)
    assert torch.equal(other.token, source.token)


def test_a_trainable_prefix_shares_the_start_only() -> None:
    source, network = _network(0), _network(1)
    FrozenPrefix(lambda: source, layers=2, trainable=True).prepare(network)
    assert torch.equal(network.conv.weight, source.conv.weight)
    _train(network)
    assert not torch.equal(network.conv.weight, source.conv.weight)
    assert not torch.equal(network.norm.running_mean, source.norm.running_mean)


def test_prefixes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ParameterError, match="layers=-1 cannot be shared; give a number of at least 0"):
        FrozenPrefix(None, layers=-1)
    with pytest.raises(
        ParameterError, match="layers=5 of CifarResNet leave nothing to train: it has 5 layers. Share at"
    ):
        FrozenPrefix(None, layers=5).prepare(_network(0))
    with pytest.raises(ParameterError, match="Sequential has no layers: no convolution and no dense layer"):
        FrozenPrefix(None, layers=1).prepare(nn.Sequential(nn.ReLU()))
    with pytest.raises(
        ZooError, match=r"The first 2 layers cannot be taken from the CifarResNet: conv.weight is \(32,"
    ):
        FrozenPrefix(_network(0, width=2), layers=2).prepare(_network(1))
