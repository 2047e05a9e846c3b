import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from outcrop.capture.projections import RandomProjection, blocks, multiply, multiply_by_gathering
from outcrop.models.model import Layer


def features(count: int, dtype: str = "float32") -> Layer:
    return Layer("l", "block", 0, (count,), dtype, "x", ("feature",))


def dense(projection: RandomProjection, count: int) -> NDArray[np.float64]:
    """The matrix (dimension, feature), entry by entry."""
    rows, signs = projection.matrix(count)
    matrix = np.zeros((projection.dimension, count))
    for column in range(count):
        for row, sign in zip(rows[column], signs[column], strict=True):
            assert matrix[row, column] == 0
            matrix[row, column] = sign / math.sqrt(rows.shape[1])
    return matrix


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 200), st.integers(0, 2**64 - 1), st.sampled_from(["float32", "float64"]))
def test_a_projection_is_the_product_with_its_matrix(dimension: int, more: int, seed: int, dtype: str) -> None:
    projection, count = RandomProjection(dimension, seed), dimension + more
    values = np.random.default_rng(0).normal(size=(3, count)).astype(dtype)
    expected = values.astype(np.float64) @ dense(projection, count).T
    tolerance = 1e-12 if dtype == "float64" else 1e-4
    found = projection.apply(features(count, dtype), torch.from_numpy(values))
    assert found.is_contiguous()
    np.testing.assert_allclose(found.numpy(), expected, rtol=tolerance, atol=tolerance)
    # On a GPU the sums are made in another way.
    gathered = multiply_by_gathering(projection, torch.from_numpy(values))
    np.testing.assert_allclose(gathered.numpy(), expected, rtol=tolerance, atol=tolerance)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.integers(1, 100), st.integers(0, 2**64 - 1))
def test_every_column_has_one_entry_in_each_block_of_rows(dimension: int, count: int, seed: int) -> None:
    rows, signs = RandomProjection(dimension, seed).matrix(count)
    sizes = blocks(dimension)
    ends = np.cumsum(sizes)
    assert ends[-1] == dimension
    assert len(sizes) == min(4, dimension)
    assert max(sizes) - min(sizes) <= 1
    assert (rows < ends).all()
    assert (rows >= ends - sizes).all()
    assert set(np.unique(signs)) <= {-1, 1}


def variance(first: NDArray[np.float64], second: NDArray[np.float64], dimension: int) -> float:
    """The stated variance of an inner product, pair by pair."""
    sizes = blocks(dimension)
    factor = sum(1 / size for size in sizes) / len(sizes) ** 2
    mixed = np.outer(first, second) + np.outer(second, first)
    return float(factor * (np.triu(mixed, 1) ** 2).sum())


@pytest.mark.parametrize(("dimension", "sparse"), [(8, False), (8, True), (7, False), (3, False), (1, False)])
def test_inner_products_are_unbiased_with_the_stated_variance(dimension: int, sparse: bool) -> None:
    rng = np.random.default_rng(dimension)
    first, second = rng.normal(size=(2, 20))
    if sparse:
        # Few large features, as in massive activations.
        first[2:], second[2:] = 0, 0
    values = torch.from_numpy(np.stack([first, second]))
    seeds = 1000
    found = np.empty(seeds)
    for seed in range(seeds):
        left, right = RandomProjection(dimension, seed).apply(features(20, "float64"), values).numpy()
        found[seed] = left @ right
    expected, spread = float(first @ second), variance(first, second, dimension)
    assert abs(found.mean() - expected) < 5 * math.sqrt(spread / seeds)
    kurtosis = ((found - found.mean()) ** 4).mean() / found.var() ** 2
    assert abs(found.var() / spread - 1) < 5 * math.sqrt((kurtosis - 1) / seeds)
    sizes = blocks(dimension)
    factor = sum(1 / size for size in sizes) / len(sizes) ** 2
    assert spread <= factor * ((first @ first) * (second @ second) + expected**2)


def test_a_gram_matrix_is_kept_to_the_stated_error() -> None:
    values = np.random.default_rng(0).normal(size=(50, 3, 20, 20)).astype(np.float32)
    layer = Layer("l", "block", 0, (3, 20, 20), "float32", "x", ("channel", "y", "x"))
    projected = RandomProjection(256).apply(layer, torch.from_numpy(values)).numpy().astype(np.float64)
    flat = values.reshape(50, -1).astype(np.float64)
    norms = np.linalg.norm(flat, axis=1)
    error = (projected @ projected.T - flat @ flat.T) / np.outer(norms, norms)
    assert math.sqrt((error**2).mean()) < math.sqrt(2 / 256)
    assert np.abs(error).max() < 6 * math.sqrt(2 / 256)


def test_layers_of_no_more_features_are_left_as_they_are() -> None:
    projection, values = RandomProjection(12), torch.randn(2, 3, 2, 2)
    layer = Layer("l", "conv", 0, (3, 2, 2), "float32", "Conv2d", ("channel", "y", "x"))
    assert projection.reduced(layer) == layer
    assert projection.apply(layer, values) is values
    assert projection.details(layer) == {}


def test_half_precision_is_summed_in_single() -> None:
    values = torch.full((1, 4096), 60000.0, dtype=torch.float16)
    found = RandomProjection(4).apply(features(4096, "float16"), values)
    assert found.dtype == torch.float32
    assert found.isfinite().all()


@pytest.mark.parametrize("product", [multiply, multiply_by_gathering])
def test_nan_stays_in_its_sample_and_in_the_rows_of_its_feature(product) -> None:  # type: ignore[no-untyped-def] # either
    projection, values = RandomProjection(64), torch.ones(3, 70)
    values[1, 0] = math.nan
    found = product(projection, values).isnan()
    assert not found[[0, 2]].any()
    assert torch.nonzero(found[1]).flatten().tolist() == sorted(projection.matrix(70)[0][0].tolist())


def test_the_matrix_is_what_it_has_always_been() -> None:
    rows, signs = RandomProjection(10, seed=0).matrix(3)
    assert rows.tolist() == [[2, 4, 6, 9], [2, 4, 6, 8], [2, 3, 6, 9]]
    assert signs.tolist() == [[1, 1, 1, 1], [-1, 1, -1, 1], [1, -1, -1, -1]]


@pytest.mark.parametrize("product", [multiply, multiply_by_gathering])
def test_threads_and_batches_change_no_bit(product) -> None:  # type: ignore[no-untyped-def] # either
    projection, values = RandomProjection(32), torch.randn(8, 5000)
    whole = product(projection, values)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(product(projection, values), whole)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(product(projection, values), whole)


def test_a_million_features_take_no_dense_matrix() -> None:
    layer = features(1_000_000)
    found = RandomProjection(4096).apply(layer, torch.ones(1, 1_000_000))
    assert found.shape == (1, 4096)
    assert abs(float(found.square().sum()) / 1e6 - 1) < 6 * math.sqrt(2 / 4096)


def test_matrices_are_kept_by_their_bytes_and_made_once() -> None:
    from outcrop.capture.projections import _Kept

    made: list[str] = []

    def take(name: str, size: int) -> str:
        def make() -> tuple[str, int]:
            made.append(name)
            return name, size

        return str(kept.get((name,), make))

    kept = _Kept(100)
    many = [f"small {index}" for index in range(50)]
    for name in many * 2:
        assert take(name, 2) == name
    assert made == many
    assert take("large", 60) == "large"
    take("small 49", 2)
    take("small 0", 2)
    assert made == [*many, "large", "small 0"]
    assert take("beyond", 101) == take("beyond", 101) == "beyond"
    assert made[-2:] == ["beyond", "beyond"]
