import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from outcrop.errors import InputError, ParameterError, ZooError
from outcrop_zoo.architectures import CifarResNet
from outcrop_zoo.interventions import BatchNormRecalibration, freeze, is_frozen, recalibrate_batch_norm


def _values(sizes: list[int], seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [3 + 2 * torch.randn(size, 4, generator=generator, dtype=torch.float64) for size in sizes]


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(2, 9), min_size=1, max_size=5), seed=st.integers(0, 2**31))
def test_the_mean_is_that_of_all_samples_and_the_variance_the_mean_of_the_batches(sizes: list[int], seed: int) -> None:
    norm = nn.BatchNorm1d(4).double()
    batches = _values(sizes, seed)
    assert recalibrate_batch_norm(nn.Sequential(norm), batches) == len(sizes)
    everything = torch.cat(batches)
    torch.testing.assert_close(norm.running_mean, everything.mean(0), rtol=1e-10, atol=1e-10)
    expected = sum(len(batch) * batch.var(0) for batch in batches) / len(everything)
    torch.testing.assert_close(norm.running_var, torch.as_tensor(expected), rtol=1e-10, atol=1e-10)
    assert int(norm.num_batches_tracked) == len(sizes)


def test_one_batch_gives_the_exact_mean_and_variance_of_every_layer() -> None:
    torch.manual_seed(0)
    network = CifarResNet(8)
    images = torch.rand(16, 3, 32, 32)
    kept: dict[str, Tensor] = {}
    for path, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_pre_hook(lambda *call, path=path: kept.update({path: call[1][0]}))
    recalibrate_batch_norm(network, [images])
    for path, inputs in kept.items():
        norm = network.get_submodule(path)
        torch.testing.assert_close(norm.running_mean, inputs.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(norm.running_var, inputs.var((0, 2, 3)), rtol=1e-4, atol=1e-5)
    with torch.no_grad():  # so that evaluation and training mode agree on that batch
        torch.testing.assert_close(network.eval()(images), network.train()(images), rtol=1e-2, atol=1e-2)


def test_forgotten_statistics_do_not_matter_and_nothing_else_changes() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(4, 5), nn.BatchNorm1d(5, momentum=0.3), nn.Dropout(0.5), nn.BatchNorm1d(5)
    ).double()
    network[3].eval()
    batches = _values([6, 6])
    recalibrate_batch_norm(network, batches)
    expected = {key: value.clone() for key, value in network.state_dict().items()}
    network[1].running_mean.fill_(100)
    state = torch.random.get_rng_state()
    recalibrate_batch_norm(network, batches)
    assert all(torch.equal(value, expected[key]) for key, value in network.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)  # dropout stayed off
    assert [module.training for module in network] == [True, True, True, False]
    assert [network[1].momentum, network[3].momentum] == [0.3, 0.1]


def test_modes_are_restored_after_a_failure() -> None:
    network = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2)).double().eval()
    with pytest.raises(RuntimeError):
        recalibrate_batch_norm(network, [torch.ones(3, 5).double()])
    assert not any(module.training for module in network.modules())
    assert network[0].momentum == 0.1


def test_as_an_intervention_it_takes_the_first_batches_of_an_epoch() -> None:
    network = nn.Sequential(nn.BatchNorm1d(4)).double()
    batches = _values([5, 5, 5])
    intervention = BatchNormRecalibration(batches=2)
    intervention.calibrate(network, lambda: iter(batches))
    assert intervention.finish(network) is network
    torch.testing.assert_close(network[0].running_mean, torch.cat(batches[:2]).mean(0))
    BatchNormRecalibration(batches=4).calibrate(network, lambda: itertools.chain(batches))
    torch.testing.assert_close(network[0].running_mean, torch.cat(batches).mean(0))


@pytest.mark.parametrize("seed", [0, 1])
def test_frozen_statistics_stay_and_all_others_are_those_of_what_comes_in(seed: int) -> None:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3), nn.BatchNorm1d(3)).double()
    network[0].running_mean.fill_(3)
    network[0].running_var.fill_(4)
    frozen = freeze(network, [network[0]])
    assert [is_frozen(module) for module in network] == [True, False, False]
    batch = _values([12], seed)[0]
    recalibrate_batch_norm(network, [batch])
    assert set(network[0].running_mean.tolist()) == {3.0}
    assert set(network[0].running_var.tolist()) == {4.0}
    hidden = network[1]((batch - 3) / (4 + 1e-5) ** 0.5)
    torch.testing.assert_close(network[2].running_mean, hidden.mean(0).detach())
    torch.testing.assert_close(network[2].running_var, hidden.var(0).detach())
    with pytest.raises(ZooError, match="has no batch norm with running statistics that is not frozen; there is noth"):
        recalibrate_batch_norm(nn.Sequential(network[0]), [batch])
    frozen.release()
    assert not is_frozen(network[0])
    recalibrate_batch_norm(network, [batch])
    torch.testing.assert_close(network[0].running_mean, batch.mean(0))


def test_what_cannot_be_recalibrated_is_refused() -> None:
    without = nn.Sequential(nn.BatchNorm1d(4, track_running_stats=False))
    with pytest.raises(
        ZooError, match="Sequential has no batch norm with running statistics; there is nothing to recal"
    ):
        recalibrate_batch_norm(without, [torch.ones(2, 4)])
    network = nn.Sequential(nn.BatchNorm1d(4))
    network[0].running_mean.fill_(3)
    with pytest.raises(InputError, match="There is no batch to recalibrate batch norm with; give at least one"):
        recalibrate_batch_norm(network, [])
    assert set(network[0].running_mean.tolist()) == {3}
    with pytest.raises(ParameterError, match="batches=0 cannot be averaged; give at least 1, or None for all"):
        BatchNormRecalibration(batches=0)
