import numpy as np
import pytest

from outcrop.errors import ParameterError
from outcrop.numerics import gram_matrix
from outcrop.numerics.kernels import gram_matrix as kernels


def test_many_features_are_summed_in_parts(monkeypatch):
    values = np.random.default_rng(0).normal(size=(20, 100))
    whole = gram_matrix(values)
    monkeypatch.setattr(kernels, "CHUNK", 20 * 7)
    np.testing.assert_allclose(gram_matrix(values), whole, atol=1e-12)
    centred = values - values.mean(0)
    np.testing.assert_allclose(whole, centred @ centred.T, atol=1e-12)


def test_squared_distances_are_those_between_samples_and_zero_for_equal_ones():
    values = np.random.default_rng(0).normal(size=(12, 5)) + 50
    values[7] = values[2]
    expected = ((values[:, None] - values[None]) ** 2).sum(-1)
    found = kernels.squared_distances(values)
    np.testing.assert_allclose(found, expected, atol=1e-10)
    assert found[7, 2] == 0


def test_a_sample_of_norm_zero_is_cosine_similar_to_none():
    values = np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    np.testing.assert_allclose(
        gram_matrix(values, kernel="cosine"), [[1, 0, 0.5**0.5], [0, 0, 0], [0.5**0.5, 0, 1]], atol=1e-15
    )


def test_the_rbf_kernel_without_a_distance_is_refused():
    with pytest.raises(ParameterError, match="needs a squared distance"):
        gram_matrix(np.ones((4, 2)), kernel="rbf")
