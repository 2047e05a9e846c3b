import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.errors import InputError, ParameterError
from outcrop.numerics import mutual_neighbours


def related(seed=0, samples=60, features=(12, 20), noise=1.0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(samples, features[0]))
    return x, x @ rng.normal(size=features) / 4 + noise * rng.normal(size=(samples, features[1]))


def by_hand(x, y, neighbours, metric):
    """Sets of neighbours, one sample at a time."""
    shares = []
    for i in range(len(x)):
        sets = []
        for a in (x, y):
            if metric == "cosine":
                near = a @ a[i] / np.linalg.norm(a, axis=1)
                order = [int(j) for j in np.argsort(-near) if j != i]
            else:
                order = [int(j) for j in np.argsort(((a - a[i]) ** 2).sum(1)) if j != i]
            sets.append(set(order[:neighbours]))
        shares.append(len(sets[0] & sets[1]) / neighbours)
    return np.mean(shares)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("neighbours", [1, 5, 10, 58])
def test_it_is_the_mean_overlap_of_sets_of_neighbours(metric, neighbours):
    for seed in range(3):
        x, y = related(seed)
        found = mutual_neighbours(x, y, neighbours=neighbours, metric=metric)
        assert found == pytest.approx(by_hand(x, y, neighbours, metric), abs=1e-12)


@given(seed=st.integers(0, 10_000), scale=st.floats(1e-3, 1e3))
@settings(max_examples=20, deadline=None)
def test_rotation_and_isotropic_scaling_change_nothing_and_equal_features_share_all(seed, scale):
    x, y = related(seed, samples=30, features=(8, 6))
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(8, 8))).Q
    for metric in ("cosine", "euclidean"):
        moved = scale * (x @ rotation)
        assert mutual_neighbours(moved, y, metric=metric) == mutual_neighbours(x, y, metric=metric)
        assert mutual_neighbours(y, x, metric=metric) == mutual_neighbours(x, y, metric=metric)
        assert mutual_neighbours(moved, x, metric=metric) == 1


def test_shifts_matter_to_the_cosine_only():
    x, y = related()
    assert mutual_neighbours(x + 100, y, metric="euclidean") == mutual_neighbours(x, y, metric="euclidean")
    assert mutual_neighbours(x + 3, y) != mutual_neighbours(x, y)


@pytest.mark.parametrize("neighbours", [1, 10, 40])
def test_shuffled_samples_share_what_is_expected_of_unrelated_ones(neighbours):
    x, y = related(samples=60, noise=0.3)
    rng = np.random.default_rng(0)
    orders = [rng.permutation(60) for _ in range(300)]
    raw = [mutual_neighbours(x, y[order], neighbours=neighbours) for order in orders]
    corrected = [mutual_neighbours(x, y[order], neighbours=neighbours, corrected=True) for order in orders]
    assert np.mean(raw) == pytest.approx(neighbours / 59, abs=4 * np.std(raw) / np.sqrt(300))
    assert np.mean(corrected) == pytest.approx(0, abs=4 * np.std(corrected) / np.sqrt(300))
    assert mutual_neighbours(x, y, neighbours=neighbours, corrected=True) > max(corrected)


def test_corrected_values_are_one_for_equal_neighbourhoods_and_below_zero_for_opposite_ones():
    x, _ = related()
    assert mutual_neighbours(x, 2 * x, neighbours=40, corrected=True) == 1
    angles = np.linspace(0, np.pi, 30) + np.linspace(0, 0.01, 30) ** 2
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    far = circle[np.concatenate([np.arange(0, 30, 2), np.arange(1, 30, 2)])]
    assert mutual_neighbours(circle, far, neighbours=1, corrected=True) < 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_tensors_of_any_precision_and_shape_are_taken(dtype):
    x, y = related(samples=200)
    tensor = torch.from_numpy(x).to(dtype).reshape(200, 2, 3, 2).requires_grad_()
    tolerance = {torch.float64: 0, torch.bfloat16: 0.02}.get(dtype, 2e-3)
    assert mutual_neighbours(tensor, y) == pytest.approx(mutual_neighbours(x, y), abs=tolerance)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_features_far_from_zero_in_single_precision_keep_their_neighbours(metric):
    x, y = (a + 100 for a in related(samples=200))
    true = mutual_neighbours(x, y, metric=metric)
    found = mutual_neighbours(x.astype(np.float32), y.astype(np.float32), metric=metric)
    assert found == pytest.approx(true, abs=1e-3)


def test_samples_of_very_large_norm_do_not_turn_the_others_into_ties():
    x, y = related(samples=400)
    x[:20] *= 1e5
    assert mutual_neighbours(x, y, metric="euclidean", neighbours=5) == pytest.approx(
        by_hand(x, y, 5, "euclidean"), abs=1e-12
    )


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_samples_equally_far_from_one_another_give_nan(metric):
    x, _ = related(samples=20)
    assert math.isnan(mutual_neighbours(x, np.eye(20), metric=metric))
    assert math.isnan(mutual_neighbours(np.full((20, 7), 0.1), x, metric=metric))
    assert math.isnan(mutual_neighbours(x, np.zeros((20, 7)), metric=metric))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_ties_at_the_last_neighbour_are_counted_and_refused(metric):
    x, y = related(samples=40)
    y[1:4] = y[0] = 30 * np.eye(20)[0]  # four of a kind, at the edge of all others
    y[4:] -= 30 * np.eye(20)[0]
    with pytest.raises(
        InputError, match=r"4 of the 40 samples of y have no definite 2 nearest neighbours: .* repeated"
    ):
        mutual_neighbours(x, y, neighbours=2, metric=metric)
    assert 0 < mutual_neighbours(x, y, neighbours=3, metric=metric) < 1  # the tie is among the three


def test_samples_without_any_activation_are_ties_for_the_cosine():
    x, y = related(samples=40)
    x[:2] = 0
    with pytest.raises(InputError, match="2 of the 40 samples of x have no definite 10 nearest"):
        mutual_neighbours(x, y)


@pytest.mark.parametrize("neighbours", [0, 19, 20])
def test_as_many_neighbours_as_there_are_others_are_refused(neighbours):
    x, y = related(samples=20)
    with pytest.raises(ParameterError, match=f"neighbours must be from 1 to 18 of 20 samples, .* got {neighbours}"):
        mutual_neighbours(x, y, neighbours=neighbours)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(InputError, match="Mutual nearest neighbours needs at least 3 samples; got 2"):
        mutual_neighbours(np.ones((2, 2)), np.ones((2, 2)))
    with pytest.raises(ParameterError, match=r"Unknown metric 'cosin': choose cosine, .* Did you mean 'cosine'"):
        mutual_neighbours(np.ones((5, 2)), np.ones((5, 2)), metric="cosin")
