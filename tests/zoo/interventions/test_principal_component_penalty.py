import zlib
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from outcrop.errors import LayerNotFoundError, ParameterError, ZooError
from outcrop_zoo.architectures import CifarResNet
from outcrop_zoo.interventions import PrincipalComponentPenalty, principal_component_share

RELUS = ["stage2.0.relu1", "stage2.0.relu2", "stage3.0.relu1", "stage3.0.relu2"]


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _exact_share(values: Tensor) -> Tensor:
    """The largest eigenvalue of the covariance over the sum of all, by another route: the small Gram matrix."""
    centred = values - values.mean(0)
    gram = centred @ centred.T
    return torch.linalg.eigvalsh(gram)[-1] / gram.trace()


def _converged(values: Tensor, seed: int = 0, steps: int = 500) -> Tensor:
    vector = torch.randn(values.shape[1], generator=_generator(seed), dtype=values.dtype)
    vector = vector / vector.norm()
    for _ in range(steps):
        _, vector = principal_component_share(values, vector)
    return vector


def _planted(share: float, *, samples: int, units: int, seed: int) -> Tensor:
    """Noise, and one direction with the given share of the variance, about."""
    generator = _generator(seed)
    noise = torch.randn(samples, units, generator=generator, dtype=torch.float64)
    direction = torch.randn(units, generator=generator, dtype=torch.float64)
    along = torch.randn(samples, generator=generator, dtype=torch.float64) * (share / (1 - share) * units) ** 0.5
    return 3 + noise + along[:, None] * direction / direction.norm()


@pytest.fixture
def network() -> CifarResNet:
    torch.manual_seed(0)
    return CifarResNet(8)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(6, 3, 32, 32, generator=_generator(1))


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("units", [64, 4096])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_after_five_steps_the_share_is_within_a_tenth_of_the_exact_one(share: float, units: int, seed: int) -> None:
    values = _planted(share, samples=128, units=units, seed=seed)
    exact = float(_exact_share(values))
    assert exact > 0.09
    vector = _converged(values, seed=seed + 10, steps=5)
    estimate, _ = principal_component_share(values, vector)
    assert float(estimate) == pytest.approx(exact, rel=0.1)


def test_the_estimate_follows_other_samples_of_the_same_distribution() -> None:
    batches = _planted(0.3, samples=6 * 128, units=512, seed=0).split(128)
    vector = _converged(batches[0], steps=1)
    for batch in batches[1:]:
        estimate, vector = principal_component_share(batch, vector)
    assert float(estimate) == pytest.approx(float(_exact_share(batches[-1])), rel=0.1)


@settings(max_examples=40, deadline=None)
@given(samples=st.integers(2, 12), units=st.integers(1, 12), seed=st.integers(0, 2**31), steps=st.integers(0, 20))
def test_the_estimate_never_exceeds_the_exact_share(samples: int, units: int, seed: int, steps: int) -> None:
    values = torch.randn(samples, units, generator=_generator(seed), dtype=torch.float64)
    estimate, following = principal_component_share(values, _converged(values, seed=seed + 1, steps=steps))
    assert 0 < float(estimate) <= float(_exact_share(values)) * (1 + 1e-9)
    assert float(following.norm()) == pytest.approx(1)
    assert not following.requires_grad


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), scale=st.floats(1e-3, 1e3), offset=st.floats(-100, 100))
def test_the_share_is_the_same_after_shift_scale_and_rotation(seed: int, scale: float, offset: float) -> None:
    generator = _generator(seed)
    values = torch.randn(9, 7, generator=generator, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(7, 7, generator=generator, dtype=torch.float64)).Q
    vector = torch.randn(7, generator=generator, dtype=torch.float64)
    vector /= vector.norm()
    share, _ = principal_component_share(values, vector)
    other, _ = principal_component_share(scale * values @ rotation + offset, vector @ rotation)
    assert float(other) == pytest.approx(float(share), rel=1e-6)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_at_the_converged_vector_the_gradient_is_that_of_the_exact_share(seed: int) -> None:
    values = _planted(0.3, samples=16, units=40, seed=seed).requires_grad_()
    centred = (values - values.mean(0)).detach()
    vector = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -1]
    estimate, _ = principal_component_share(values, vector)
    (found,) = torch.autograd.grad(estimate, values)
    exact = _exact_share(values)
    (expected,) = torch.autograd.grad(exact, values)
    assert float(estimate.detach()) == pytest.approx(float(exact.detach()), rel=1e-12)
    assert float((found - expected).norm() / expected.norm()) < 1e-12


def test_the_gradient_flows_through_the_product_and_the_norm_but_not_through_the_vector() -> None:
    values = _planted(0.2, samples=8, units=5, seed=0).requires_grad_()
    vector = _converged(values.detach(), steps=1).requires_grad_()
    share, _ = principal_component_share(values, vector)
    (found,) = torch.autograd.grad(share, values, retain_graph=True)
    assert torch.autograd.grad(share, vector, allow_unused=True) == (None,)
    step = 1e-6
    expected = torch.zeros_like(found)
    for row in range(8):
        for column in range(5):
            moved = torch.zeros_like(found)
            moved[row, column] = step
            above, _ = principal_component_share((values + moved).detach(), vector.detach())
            below, _ = principal_component_share((values - moved).detach(), vector.detach())
            expected[row, column] = (above - below) / (2 * step)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("units", "floor"), [(256, 0.022), (4096, 0.011), (16384, 0.009)])
def test_pure_noise_has_a_floor_far_below_the_threshold_and_is_not_penalised(units: int, floor: float) -> None:
    values = torch.randn(128, units, generator=_generator(units)).requires_grad_()
    assert float(_exact_share(values.detach())) == pytest.approx(floor, abs=2e-3)
    network = nn.Sequential(nn.Identity())
    with PrincipalComponentPenalty(modules=["0"], delta=0.1).attach(network) as penalty:
        for _ in range(10):
            network(values)
            assert _value(penalty.penalty()) == 0
        assert 0 < float(penalty.shares["0:0"]) < floor + 2e-3


def test_the_first_step_underestimates_and_stays_below_the_threshold_without_features() -> None:
    values = torch.randn(128, 4096, generator=_generator(0))
    vector = torch.randn(4096, generator=_generator(1))
    first, _ = principal_component_share(values, vector / vector.norm())
    assert float(first) < 0.25 * float(_exact_share(values))


def test_constant_features_have_no_share_no_gradient_and_leave_the_vector() -> None:
    values = torch.full((4, 3), 7.0, requires_grad=True)
    vector = torch.tensor([0.6, 0.8, 0.0])
    share, following = principal_component_share(values, vector)
    share.backward()
    assert float(share.detach()) == 0
    assert torch.equal(following, vector)
    assert values.grad is not None
    assert not values.grad.any()


def test_the_relus_from_the_second_stage_on_are_penalised_by_default(network: CifarResNet, images: Tensor) -> None:
    penalty = PrincipalComponentPenalty().attach(network)
    assert list(penalty.paths) == RELUS
    network(images)
    assert list(penalty.shares) == [f"{path}:0" for path in RELUS]


@pytest.mark.parametrize(
    ("modules", "expected"),
    [
        (["stage?.0.relu2"], ["stage1.0.relu2", "stage2.0.relu2", "stage3.0.relu2"]),
        ("stage3.0.add", ["stage3.0.add"]),
        (lambda path, module: isinstance(module, nn.Conv2d) and path.startswith("stage3"), None),
    ],
)
def test_modules_are_chosen_by_pattern_or_predicate(
    network: CifarResNet, modules: list[str] | Callable[[str, nn.Module], bool], expected: list[str] | None
) -> None:
    penalty = PrincipalComponentPenalty(modules=modules).attach(network)
    assert list(penalty.paths) == (expected or ["stage3.0.conv1", "stage3.0.conv2", "stage3.0.shortcut"])


def test_from_the_third_stage_on_are_fewer_and_from_a_fourth_none(network: CifarResNet) -> None:
    assert list(PrincipalComponentPenalty(from_stage=3).attach(network).paths) == RELUS[2:]
    with pytest.raises(LayerNotFoundError, match="CifarResNet has no ReLU from stage 4 on, in its 3 stages; name the"):
        PrincipalComponentPenalty(from_stage=4).attach(network)


def test_the_penalty_is_alpha_times_what_exceeds_delta_summed_over_layers(network: CifarResNet, images: Tensor) -> None:
    kept: dict[str, Tensor] = {}
    penalty = PrincipalComponentPenalty(alpha=3, delta=0.05, seed=5).attach(network)
    for path in RELUS:
        network.get_submodule(path).register_forward_hook(lambda *call, path=path: kept.update({path: call[-1]}))
    expected = torch.tensor(0.0)
    for step in range(3):
        network(images)
        found = penalty.penalty()
        expected = torch.tensor(0.0)
        for path in RELUS:
            values = kept[path].detach().flatten(1).double()
            draws = _generator(5 * 1_000_003 + zlib.crc32(path.encode()))
            vector = torch.randn(values.shape[1], generator=draws, dtype=torch.float64)
            for _ in range(step + 1):  # the same batch every time, so the iterations are of one matrix
                vector = (values - values.mean(0)).T @ ((values - values.mean(0)) @ (vector / vector.norm()))
            share = vector.norm() / (values - values.mean(0)).square().sum()
            expected = expected + 3 * (share - 0.05).clamp_min(0)
        assert _value(found) == pytest.approx(float(expected), rel=1e-3)
    assert expected > 0


def test_descent_on_the_penalty_lowers_it() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(24, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU())
    planted = _planted(0.6, samples=64, units=24, seed=0).float()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.005)
    with PrincipalComponentPenalty(delta=0.05, modules=["1", "3"]).attach(network) as penalty:
        values = []
        for _ in range(40):
            network(planted)
            loss = _some(penalty.penalty())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            values.append(float(loss.detach()))
    assert values[-1] < 0.6 * max(values)


def test_evaluation_mode_and_passes_without_gradients_change_nothing(network: CifarResNet, images: Tensor) -> None:
    penalty = PrincipalComponentPenalty(delta=0).attach(network)
    network(images)
    assert penalty.penalty() is not None
    before = penalty.state_dict()["vectors"]
    network.eval()
    network(images)
    assert penalty.penalty() is None
    with torch.no_grad():
        network.train()(images)
    assert penalty.penalty() is None
    assert all(torch.equal(vector, before[key]) for key, vector in penalty.state_dict()["vectors"].items())


def test_an_evaluation_between_forward_and_penalty_does_not_lose_it(network: CifarResNet, images: Tensor) -> None:
    penalty = PrincipalComponentPenalty(delta=0).attach(network)
    network(images)
    network.eval()(images)
    assert _value(penalty.penalty()) > 0


def test_only_the_last_forward_pass_counts_and_only_once(network: CifarResNet, images: Tensor) -> None:
    penalty = PrincipalComponentPenalty(delta=0).attach(network)
    network(images)
    network(images)
    assert len(penalty.shares) == 4
    assert penalty.penalty() is not None
    assert penalty.penalty() is None
    assert len(penalty.shares) == 4


def test_attaching_does_not_change_what_the_network_computes(network: CifarResNet, images: Tensor) -> None:
    network.eval()
    expected = network(images)
    with PrincipalComponentPenalty().attach(network):
        assert torch.equal(network(images), expected)
    hooks = [module for module in network.modules() if module._forward_hooks or module._forward_pre_hooks]
    assert hooks == []


def test_a_frozen_layer_is_not_penalised(network: CifarResNet, images: Tensor) -> None:
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    network.classifier.requires_grad_(True)
    penalty = PrincipalComponentPenalty(delta=0).attach(network)
    network(images)
    assert penalty.penalty() is None


def test_a_module_that_is_called_twice_has_two_vectors() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.narrow, self.wide, self.relu = nn.Linear(5, 3), nn.Linear(3, 8), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.relu(self.wide(self.relu(self.narrow(x))))  # type: ignore[no-any-return] # of a test

    network = Twice()
    penalty = PrincipalComponentPenalty(modules=["relu"]).attach(network)
    for _ in range(2):
        network(torch.randn(6, 5))
        penalty.penalty()
    assert {key: len(vector) for key, vector in penalty.state_dict()["vectors"].items()} == {"relu:0": 3, "relu:1": 8}


def test_a_resumed_penalty_continues_bit_for_bit(network: CifarResNet, images: Tensor) -> None:
    penalty = PrincipalComponentPenalty(delta=0).attach(network)
    for _ in range(3):
        network(images)
        penalty.penalty()
    saved = penalty.state_dict()
    network(images)
    expected = _some(penalty.penalty())
    penalty.detach()
    resumed = PrincipalComponentPenalty(delta=0, seed=9).attach(network)
    resumed.load_state_dict(saved)
    network(images)
    assert torch.equal(_some(resumed.penalty()), expected)
    resumed.detach()
    fresh = PrincipalComponentPenalty(delta=0, seed=9).attach(network)
    network(images)
    assert not torch.equal(_some(fresh.penalty()), expected)


def test_another_image_size_starts_the_vector_anew() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    penalty = PrincipalComponentPenalty(modules=["1"]).attach(network)
    for size in (4, 6):
        network(torch.randn(5, 3, size, size))
        assert len(penalty.state_dict()["vectors"]["1:0"]) == 4 * size**2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32_and_does_not_overflow(dtype: torch.dtype) -> None:
    values = (300 * _planted(0.5, samples=16, units=64, seed=0)).to(dtype).requires_grad_()
    assert dtype is torch.bfloat16 or torch.isinf((values - values.mean(0)).square().sum())
    network = nn.Sequential(nn.Identity())
    penalty = PrincipalComponentPenalty(alpha=1, delta=0, modules=["0"]).attach(network)
    for _ in range(6):
        with torch.autocast("cpu", torch.bfloat16):
            network(values)
        found = _some(penalty.penalty())
    assert found.dtype == torch.float32
    assert penalty.state_dict()["vectors"]["0:0"].dtype == torch.float32
    assert _value(found) == pytest.approx(float(_exact_share(values.detach().float())), rel=1e-3)


def test_a_training_step_under_autocast_has_finite_gradients(network: CifarResNet, images: Tensor) -> None:
    penalty = PrincipalComponentPenalty(delta=0).attach(network)
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(images).float()
    loss = F.cross_entropy(logits, torch.zeros(6, dtype=torch.long)) + _some(penalty.penalty())
    loss.backward()
    assert all(torch.isfinite(w.grad).all() for w in network.parameters() if w.grad is not None)
    assert min(penalty.shares.values()) > 0


# What torch warns of while it traces around a hook is its own access to a gradient.
@pytest.mark.filterwarnings("default:The .grad attribute of a Tensor:UserWarning")
def test_a_compiled_network_has_the_same_penalty() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    inputs = torch.randn(10, 6)
    found = []
    for compiled in (False, True):
        with PrincipalComponentPenalty(delta=0, modules=["1"]).attach(network) as penalty:
            runnable = torch.compile(network, backend="eager") if compiled else network
            for _ in range(3):
                runnable(inputs)
                found.append(_value(penalty.penalty()))
    assert found[3:] == pytest.approx(found[:3], rel=1e-6)
    assert found[0] < found[1] < found[2]


def test_float64_stays_float64() -> None:
    network = nn.Sequential(nn.Linear(4, 5), nn.ReLU()).double()
    penalty = PrincipalComponentPenalty(modules=["1"]).attach(network)
    network(torch.randn(6, 4, dtype=torch.float64))
    assert _some(penalty.penalty()).dtype == torch.float64


def test_as_an_intervention_it_attaches_and_leaves(network: CifarResNet, images: Tensor) -> None:
    penalty = PrincipalComponentPenalty(delta=0)
    assert penalty.penalty() is None
    assert penalty.prepare(network) is network
    network(images)
    assert penalty.penalty() is not None
    assert penalty.finish(network) is network
    network(images)
    assert penalty.penalty() is None


def test_two_networks_cannot_share_a_penalty(network: CifarResNet) -> None:
    penalty = PrincipalComponentPenalty().attach(network)
    with pytest.raises(ParameterError, match="attached to a network already; detach it first, or make another one"):
        penalty.attach(CifarResNet(8))


def test_vectors_of_other_modules_are_refused(network: CifarResNet) -> None:
    penalty = PrincipalComponentPenalty(from_stage=3).attach(network)
    with pytest.raises(ZooError, match="belong to other modules: found 'stage2.0.relu1:0', expected one of 2 attached"):
        penalty.load_state_dict({"vectors": {"stage2.0.relu1:0": torch.ones(3)}})


def test_modules_that_are_not_there_are_refused_with_near_names(network: CifarResNet) -> None:
    with pytest.raises(LayerNotFoundError, match=r"No module of CifarResNet matches 'stage2.0.rely1'.*stage2.0.relu1"):
        PrincipalComponentPenalty(modules=["stage2.0.rely1"]).attach(network)
    with pytest.raises(LayerNotFoundError, match="No module of CifarResNet fits the predicate; choose some"):
        PrincipalComponentPenalty(modules=lambda *_: False).attach(network)
    with pytest.raises(
        LayerNotFoundError, match="Sequential has no stages: no module is called stage1, layer1, .*Name"
    ):
        PrincipalComponentPenalty().attach(nn.Sequential(nn.ReLU()))


def test_outputs_that_are_no_activations_are_refused() -> None:
    class Pair(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    for module, described in (
        (Pair(), "a tuple"),
        (nn.Flatten(0), r"a tensor of shape \(6,\) and type float32"),
    ):
        network = nn.Sequential(module)
        penalty = PrincipalComponentPenalty(modules=["0"]).attach(network)
        with pytest.raises(ZooError, match=f"Module '0' returns {described}; the penalty needs one tensor"):
            network(torch.randn(2, 3, requires_grad=True))
        penalty.detach()


def test_settings_out_of_range_are_refused() -> None:
    for alpha in (-1, float("inf"), float("nan")):
        with pytest.raises(ParameterError, match=f"alpha={alpha} is not a strength; give a number of at least 0"):
            PrincipalComponentPenalty(alpha=alpha)
    for delta in (-0.1, 1.1):
        with pytest.raises(ParameterError, match=f"delta={delta} is not a share of the variance; give a number from 0"):
            PrincipalComponentPenalty(delta=delta)
    with pytest.raises(ParameterError, match="from_stage=0 is no stage; they are counted from 1"):
        PrincipalComponentPenalty(from_stage=0)


def _value(penalty: Tensor | None) -> float:
    return float(_some(penalty).detach())


def _some(penalty: Tensor | None) -> Tensor:
    assert penalty is not None
    return penalty
