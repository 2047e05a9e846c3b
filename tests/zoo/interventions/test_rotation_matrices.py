import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm, logm
from scipy.optimize import nnls
from torch import Tensor

from outcrop.errors import InputError, ParameterError
from outcrop_zoo.architectures import CifarResNet
from outcrop_zoo.interventions import geodesic, inversion_deficit, rotation_matrix

ORTHOGONAL = ["haar", "special_haar", "permutation", "signed_permutation", "householder"]


def _identity(features: int) -> Tensor:
    return torch.eye(features, dtype=torch.float64)


@settings(max_examples=40, deadline=None)
@given(kind=st.sampled_from(ORTHOGONAL), features=st.integers(1, 20), seed=st.integers(0, 2**31))
def test_rotations_are_orthogonal_and_the_same_for_the_same_seed(kind: str, features: int, seed: int) -> None:
    matrix = rotation_matrix(kind, features, seed=seed)  # type: ignore[arg-type] # of the list above
    torch.testing.assert_close(matrix.T @ matrix, _identity(features), rtol=0, atol=1e-12)
    assert torch.equal(matrix, rotation_matrix(kind, features, seed=seed))  # type: ignore[arg-type] # as above


def test_haar_matrices_have_the_moments_of_the_uniform_distribution() -> None:
    draws = [rotation_matrix("haar", 4, seed=seed) for seed in range(800)]
    traces = torch.stack([matrix.trace() for matrix in draws])
    # Over all orthogonal matrices, tr R has mean 0 and variance 1, tr R^2 has mean 1 (Diaconis and Shahshahani 1994).
    assert abs(float(traces.mean())) < 4 / math.sqrt(800)
    assert float(traces.square().mean()) == pytest.approx(1, abs=0.2)
    assert float(torch.stack([(m @ m).trace() for m in draws]).mean()) == pytest.approx(1, abs=0.15)
    assert float(torch.stack([torch.linalg.det(matrix) for matrix in draws]).mean()) == pytest.approx(0, abs=0.1)
    # The same without the correction of signs is far from uniform.
    generator = torch.Generator().manual_seed(0)
    raw = [torch.linalg.qr(torch.randn(4, 4, generator=generator, dtype=torch.float64)).Q for _ in range(800)]
    assert abs(float(torch.stack([matrix.trace() for matrix in raw]).mean())) > 0.5


@pytest.mark.parametrize("features", [1, 2, 3, 8])
def test_special_rotations_have_determinant_one(features: int) -> None:
    for seed in range(10):
        matrix = rotation_matrix("special_haar", features, seed=seed)
        assert float(torch.linalg.det(matrix)) == pytest.approx(1)


def test_a_householder_matrix_reflects_one_direction() -> None:
    matrix = rotation_matrix("householder", 6, seed=0)
    values = torch.linalg.eigvalsh(matrix)
    torch.testing.assert_close(values, torch.tensor([-1.0, 1, 1, 1, 1, 1], dtype=torch.float64))


def test_a_block_rotation_leaves_all_but_a_subspace() -> None:
    matrix = rotation_matrix("block", 10, seed=0, dimensions=3)
    torch.testing.assert_close(matrix.T @ matrix, _identity(10), rtol=0, atol=1e-12)
    assert int(torch.linalg.matrix_rank(matrix - _identity(10), tol=1e-9)) in (2, 3)  # three dimensions have an axis
    assert int((matrix.abs() > 1e-9).sum()) == 100  # of no particular axes


@settings(max_examples=30, deadline=None)
@given(features=st.integers(1, 12), seed=st.integers(0, 2**31))
def test_permutations_move_channels_and_their_kin_scale_them(features: int, seed: int) -> None:
    permutation = rotation_matrix("permutation", features, seed=seed)
    channels = torch.arange(1.0, features + 1, dtype=torch.float64)
    assert sorted((permutation @ channels).tolist()) == channels.tolist()
    signed = rotation_matrix("signed_permutation", features, seed=seed)
    assert sorted((signed @ channels).abs().tolist()) == channels.tolist()
    diagonal = rotation_matrix("positive_diagonal", features, seed=seed)
    assert torch.equal(diagonal, diagonal.diagonal().diag())
    scaled = rotation_matrix("scaled_permutation", features, seed=seed)
    assert (scaled > 0).sum(0).tolist() == (scaled > 0).sum(1).tolist() == [1] * features
    for factors in (diagonal.diagonal(), scaled.sum(1)):
        assert 0.5 <= float(factors.min()) <= float(factors.max()) <= 2


@pytest.mark.parametrize("features", [2, 3, 8, 9])
def test_a_geodesic_is_the_exponential_of_a_part_of_the_logarithm(features: int) -> None:
    rotation = rotation_matrix("special_haar", features, seed=1)
    for fraction in (0.0, 0.3, 0.5, 1.0):
        expected = expm(fraction * np.real(logm(rotation.numpy())))
        np.testing.assert_allclose(geodesic(rotation, fraction), expected, atol=1e-8)
        assert torch.equal(
            rotation_matrix("geodesic", features, seed=1, fraction=fraction), geodesic(rotation, fraction)
        )


@settings(max_examples=30, deadline=None)
@given(features=st.integers(1, 9), seed=st.integers(0, 2**31), one=st.floats(0, 1), other=st.floats(0, 1))
def test_parts_of_a_geodesic_follow_one_another(features: int, seed: int, one: float, other: float) -> None:
    rotation = rotation_matrix("special_haar", features, seed=seed)
    joined = geodesic(rotation, one) @ geodesic(rotation, other)
    torch.testing.assert_close(joined, geodesic(rotation, one + other), rtol=0, atol=1e-10)
    torch.testing.assert_close(geodesic(rotation, 1), rotation, rtol=0, atol=1e-10)
    torch.testing.assert_close(geodesic(rotation, 0), _identity(features), rtol=0, atol=1e-12)


def test_a_geodesic_crosses_half_turns() -> None:
    reversed_twice = torch.diag(torch.tensor([1.0, -1, 1, -1, -1, -1], dtype=torch.float64))
    half = geodesic(reversed_twice, 0.5)
    torch.testing.assert_close(half.T @ half, _identity(6), rtol=0, atol=1e-12)
    torch.testing.assert_close(half @ half, reversed_twice, rtol=0, atol=1e-12)


def test_what_cannot_be_rotated_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"Unknown rotation 'har': choose haar, .*Did you mean 'haar'"):
        rotation_matrix("har", 4, seed=0)  # type: ignore[arg-type] # the point of the test
    with pytest.raises(ParameterError, match="A rotation of 0 features is none; give at least 1"):
        rotation_matrix("haar", 0, seed=0)
    for kind, dimensions in (("block", None), ("block", 5), ("block", 0), ("haar", 2)):
        with pytest.raises(
            ParameterError, match=f"of 4 features with dimensions={dimensions}: give dimensions, from 1"
        ):
            rotation_matrix(kind, 4, seed=0, dimensions=dimensions)  # type: ignore[arg-type] # some are wrong
    for kind, fraction in (("geodesic", None), ("geodesic", 1.5), ("haar", 0.5)):
        with pytest.raises(ParameterError, match=f"with fraction={fraction}: give fraction, from 0 to 1, with 'geo"):
            rotation_matrix(kind, 4, seed=0, fraction=fraction)  # type: ignore[arg-type] # some are wrong
    with pytest.raises(ParameterError, match="determinant -1, a reflection; a geodesic needs determinant 1"):
        geodesic(rotation_matrix("householder", 4, seed=0), 0.5)
    with pytest.raises(ParameterError, match=r"not orthogonal: R'R differs from the identity by 3, expected at most"):
        geodesic(2 * _identity(3), 0.5)
    with pytest.raises(ParameterError, match=r"A rotation is a square matrix; got shape \(2, 3\)"):
        geodesic(torch.ones(2, 3), 0.5)


@pytest.fixture(scope="module")
def features() -> Tensor:
    torch.manual_seed(0)
    network = CifarResNet(8, width=2)
    kept: list[Tensor] = []
    network.stage2[0].relu1.register_forward_hook(lambda *call: kept.append(call[-1].detach()))
    network(torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    return kept[0]


def test_permutations_have_no_deficit(features: Tensor) -> None:
    assert inversion_deficit(features, rotation_matrix("permutation", 64, seed=0)) == 0


@pytest.mark.parametrize("seed", range(5))
def test_uniform_rotations_lose_about_a_half(seed: int) -> None:
    values = torch.randn(2000, 256, generator=torch.Generator().manual_seed(seed)).relu()
    assert 0.4 < inversion_deficit(values, rotation_matrix("haar", 256, seed=seed)) < 0.6


def test_uniform_rotations_lose_about_a_half_of_the_features_of_a_network(features: Tensor) -> None:
    # One rotation may lose more or less: the mean activation, most of the squared length, is turned to one direction.
    deficits = [inversion_deficit(features, rotation_matrix("haar", 64, seed=seed)) for seed in range(20)]
    assert 0.45 < sum(deficits) / 20 < 0.55
    assert 0.3 < min(deficits) < max(deficits) < 0.7


def test_the_deficit_grows_along_a_geodesic(features: Tensor) -> None:
    deficits = [
        inversion_deficit(features, rotation_matrix("geodesic", 64, seed=0, fraction=fraction))
        for fraction in (0, 0.1, 0.3, 1)
    ]
    assert deficits[0] == pytest.approx(0, abs=1e-20)
    assert deficits == sorted(deficits)
    assert deficits[1] > 1e-3


def test_a_reflection_loses_less_than_a_uniform_rotation(features: Tensor) -> None:
    reflected = inversion_deficit(features, rotation_matrix("householder", 64, seed=0))
    assert 0 < reflected < 0.3


def test_the_closed_form_equals_the_best_non_negative_fit(features: Tensor) -> None:
    vectors = features.movedim(1, -1).flatten(0, -2)[:40].double()
    matrix = rotation_matrix("haar", 64, seed=3)
    residuals = [nnls(matrix.numpy(), vector.numpy())[1] ** 2 for vector in vectors]
    expected = sum(residuals) / float(vectors.square().sum())
    assert inversion_deficit(vectors, matrix) == pytest.approx(expected, rel=1e-9)


def test_nothing_in_the_range_comes_nearer() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(30, 6, generator=generator, dtype=torch.float64)
    matrix = rotation_matrix("haar", 6, seed=0)
    bound = inversion_deficit(values, matrix, lower=0, upper=0.3)
    for _ in range(200):
        tried = 0.3 * torch.rand(30, 6, generator=generator, dtype=torch.float64)
        assert float((tried @ matrix.T - values).square().sum() / values.square().sum()) >= bound
    assert bound > inversion_deficit(values, matrix)  # without an upper end there is more room


def test_gaussian_features_lose_exactly_a_half_of_any_rotation() -> None:
    values = torch.randn(100_000, 5, generator=torch.Generator().manual_seed(0))
    assert inversion_deficit(values, rotation_matrix("haar", 5, seed=0)) == pytest.approx(0.5, abs=0.01)


def test_features_of_zero_have_no_deficit_to_speak_of() -> None:
    assert math.isnan(inversion_deficit(torch.zeros(3, 4), _identity(4)))


def test_what_does_not_fit_is_refused(features: Tensor) -> None:
    with pytest.raises(ParameterError, match="not orthogonal: R'R differs .* Use an orthogonal one"):
        inversion_deficit(features, rotation_matrix("positive_diagonal", 64, seed=0))
    with pytest.raises(ParameterError, match="The range from 1 to 0 is empty; lower must be less than upper"):
        inversion_deficit(features, _identity(64), lower=1, upper=0)
    with pytest.raises(
        InputError, match=r"has 3 features, and got values of shape \(8, 64, .*; give \(sample, feature"
    ):
        inversion_deficit(features, _identity(3))
    with pytest.raises(InputError, match="not finite; leave those samples out"):
        inversion_deficit(torch.full((2, 3), float("nan")), _identity(3))
