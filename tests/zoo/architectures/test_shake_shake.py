import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional

from outcrop.errors import ZooError
from outcrop_zoo.architectures import ShakeShake
from outcrop_zoo.architectures.shake_shake import Projection, Shake, ShakeShakeBlock, draw_shares


@pytest.fixture
def block() -> ShakeShakeBlock:
    torch.manual_seed(0)
    block = ShakeShakeBlock(4, 6, 2).double()
    for parameter in block.parameters():
        nn.init.normal_(parameter)
    return block


def batch_norm(x: Tensor, shift: Tensor) -> Tensor:
    mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, unbiased=False)
    return (x - mean) / torch.sqrt(variance + 1e-3) + shift[:, None, None]


@given(samples=st.integers(1, 50), seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=50)
def test_shares_of_both_branches_sum_to_one_in_each_pass_and_image(samples: int, seed: int) -> None:
    torch.manual_seed(seed)
    shares = draw_shares(samples)
    assert shares.shape == (2, 2, samples)
    assert bool((shares > 0).all())
    torch.testing.assert_close(shares.sum(1), torch.ones(2, samples))


def test_shares_are_distributed_as_one_of_two_uniform_numbers_over_their_sum() -> None:
    torch.manual_seed(0)
    forward, backward = draw_shares(20_000)[:, 0].double().numpy()

    def below(t: torch.Tensor) -> torch.Tensor:
        # P(u / (u + v) < t): the area of the unit square above the line of that slope.
        t = torch.as_tensor(t)
        return torch.where(t < 0.5, t / (2 * (1 - t)), 1 - (1 - t) / (2 * t))

    for shares in (forward, backward):
        assert stats.kstest(shares, lambda t: below(t).numpy()).pvalue > 0.01
        assert stats.kstest(shares, "uniform").pvalue < 1e-6
    # Independent between the passes and between the images.
    assert abs(stats.spearmanr(forward, backward).statistic) < 0.02
    assert abs(stats.spearmanr(forward[1:], forward[:-1]).statistic) < 0.02


def test_the_value_is_weighted_by_one_number_and_the_gradient_by_another() -> None:
    x = torch.randn(5, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    forward_weight, backward_weight = torch.rand(2, 5, dtype=torch.float64)
    upstream = torch.randn(5, 2, 3, 3, dtype=torch.float64)
    value = Shake()(x, (forward_weight, backward_weight))
    (gradient,) = torch.autograd.grad(value, x, upstream)
    # Written out as in the papers' code.
    f, b = forward_weight[:, None, None, None], backward_weight[:, None, None, None]
    written_out = x * b + (x * f - x * b).detach()
    (expected,) = torch.autograd.grad(written_out, x, upstream)
    torch.testing.assert_close(value, written_out, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(gradient, expected, rtol=0, atol=0)
    torch.testing.assert_close(gradient, upstream * b, rtol=0, atol=0)


def test_a_block_in_training_mixes_its_branches_by_the_drawn_shares(block: ShakeShakeBlock) -> None:
    x = torch.randn(5, 4, 8, 8, dtype=torch.float64)
    gradients: dict[str, Tensor] = {}
    values: dict[str, Tensor] = {}

    def keep(name: str, value: Tensor) -> None:
        values[name] = value.detach()
        value.register_hook(lambda gradient: gradients.update({name: gradient}))

    for name in ("branch1", "branch2", "shortcut"):
        block.get_submodule(name).register_forward_hook(lambda *call, name=name: keep(name, call[-1]))
    torch.manual_seed(7)
    output = block.train()(x)
    torch.manual_seed(7)
    shares = draw_shares(5).double()[..., None, None, None]
    upstream = torch.randn_like(output)
    torch.autograd.backward(output, upstream)
    expected = shares[0, 0] * values["branch1"] + shares[0, 1] * values["branch2"] + values["shortcut"]
    torch.testing.assert_close(output.detach(), expected)
    torch.testing.assert_close(gradients["branch1"], shares[1, 0] * upstream)
    torch.testing.assert_close(gradients["branch2"], shares[1, 1] * upstream)
    torch.testing.assert_close(gradients["shortcut"], upstream)
    assert not torch.allclose(shares[0], shares[1], atol=0.05)


def test_a_branch_is_relu_convolution_and_norm_twice(block: ShakeShakeBlock) -> None:
    x = torch.randn(5, 4, 8, 8, dtype=torch.float64)
    branch = block.branch1.train()
    hidden = functional.conv2d(x.clamp(min=0), branch.conv1.weight, branch.conv1.bias, stride=2, padding=1)
    hidden = batch_norm(hidden, branch.norm1.bias).clamp(min=0)
    hidden = functional.conv2d(hidden, branch.conv2.weight, branch.conv2.bias, padding=1)
    torch.testing.assert_close(branch(x), batch_norm(hidden, branch.norm2.bias))


@pytest.mark.parametrize("stride", [1, 2])
def test_a_projection_halves_the_channels_between_two_grids_a_pixel_apart(stride: int) -> None:
    torch.manual_seed(0)
    projection = Projection(4, 6, stride).double().train()
    x = torch.randn(5, 4, 8, 8, dtype=torch.float64)
    shifted = torch.zeros_like(x)
    shifted[:, :, :-1, :-1] = x[:, :, 1:, 1:]
    halves = [
        torch.einsum("oi,niyx->noyx", conv.weight[:, :, 0, 0], grid[:, :, ::stride, ::stride])
        + conv.bias[:, None, None]
        for conv, grid in ((projection.conv1, x), (projection.conv2, shifted))
    ]
    torch.testing.assert_close(projection(x), batch_norm(torch.cat(halves, 1), projection.norm.bias))


def test_in_evaluation_the_branches_count_half_each(block: ShakeShakeBlock) -> None:
    x = torch.randn(5, 4, 8, 8, dtype=torch.float64)
    block.eval()
    expected = (block.branch1(x) + block.branch2(x)) / 2 + block.shortcut(x)
    torch.testing.assert_close(block(x), expected)
    torch.manual_seed(1)
    first = block(x)
    state = torch.get_rng_state()
    assert torch.equal(first, block(x))
    # Nothing was drawn.
    assert torch.equal(torch.get_rng_state(), state)


def test_a_seed_determines_what_is_drawn_in_training() -> None:
    torch.manual_seed(0)
    network = ShakeShake(8).train()
    images = torch.rand(3, 3, 32, 32)

    def step(seed: int) -> tuple[Tensor, Tensor]:
        torch.manual_seed(seed)
        logits = network(images)
        (gradient,) = torch.autograd.grad(logits.square().sum(), network.conv.weight)
        return logits.detach(), gradient

    (logits, gradient), (again, gradient_again), (other, _) = step(5), step(5), step(6)
    assert torch.equal(logits, again)
    assert torch.equal(gradient, gradient_again)
    assert not torch.equal(logits, other)


def test_shaking_averages_to_the_mixture_of_evaluation() -> None:
    torch.manual_seed(0)
    branch1, branch2 = torch.randn(2, 1, 2, 3, 3, dtype=torch.float64).expand(2, 20_000, 2, 3, 3)
    shares = draw_shares(20_000).double()
    shake = Shake()
    mixed = shake(branch1, (shares[0, 0], shares[1, 0])) + shake(branch2, (shares[0, 1], shares[1, 1]))
    torch.testing.assert_close(mixed.mean(0), (shake(branch1) + shake(branch2))[0], rtol=0, atol=0.02)


def test_a_seed_of_half_precision_branches_keeps_their_type() -> None:
    x = torch.ones(2, 1, 1, 1, dtype=torch.bfloat16)
    assert Shake()(x, (torch.rand(2), torch.rand(2))).dtype == torch.bfloat16


def test_batch_norm_learns_a_shift_and_no_scale() -> None:
    network = ShakeShake(8)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum, norm.weight) for norm in norms} == {(1e-3, 1e-3, None)}
    assert all(not norm.bias.any() for norm in norms)
    nn.init.ones_(norms[0].bias)
    norms[0].running_mean.fill_(3)
    norms[0].reset_parameters()
    assert not norms[0].bias.any()
    assert not norms[0].running_mean.any()


def test_kernels_start_as_in_keras() -> None:
    torch.manual_seed(0)
    for name, parameter in ShakeShake(8, width=4).named_parameters():
        if parameter.ndim > 1 and parameter.numel() > 5000:
            fans = (parameter.shape[0] + parameter.shape[1]) * parameter[0, 0].numel()
            limit = (6 / fans) ** 0.5
            assert float(parameter.detach().abs().max()) == pytest.approx(limit, rel=0.01), name
            assert float(parameter.detach().std()) == pytest.approx(limit / 3**0.5, rel=0.05), name


@pytest.mark.parametrize(("width", "millions"), [(2, 2.9), (4, 11.7), (6, 26.2)])
def test_parameters_are_as_many_as_published(width: int, millions: float) -> None:
    # arXiv 1705.07485, table 2: 26 2x32d, 26 2x64d, 26 2x96d.
    with torch.device("meta"):
        network = ShakeShake(26, width=width)
    assert round(sum(parameter.numel() for parameter in network.parameters()) / 1e6, 1) == millions


@pytest.mark.parametrize(("depth", "width", "projections"), [(8, 1, 2), (8, 2, 3), (26, 1, 2)])
def test_layers_about_double_those_of_the_resnet(depth: int, width: int, projections: int) -> None:
    operations = [
        module
        for module in ShakeShake(depth, width=width).modules()
        if not any(module.children()) and not isinstance(module, nn.Identity)
    ]
    assert len(operations) == 16 * (depth - 2) // 2 + 7 * projections + 6


@pytest.mark.parametrize("depth", [2, 9])
def test_another_depth_is_refused(depth: int) -> None:
    with pytest.raises(ZooError, match=rf"A Shake-Shake network has depth 6n \+ 2 \(8, 14, .*\); got depth {depth}"):
        ShakeShake(depth)
