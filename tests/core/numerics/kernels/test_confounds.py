import numpy as np
import pytest

from outcrop.numerics.kernels.confounds import without_confounder, without_first_component


def gram(seed, spectrum, samples=200):
    x = np.random.default_rng(seed).normal(size=(samples, len(spectrum))) * spectrum
    x -= x.mean(0)
    return x @ x.T


@pytest.mark.parametrize("samples", [5, 60, 200, 500])
@pytest.mark.parametrize("decay", [2.0, 0.5, 0.0], ids=["steep", "gentle", "flat"])
def test_what_is_left_is_that_of_a_full_decomposition(samples, decay):
    matrix = gram(0, np.arange(1, 301) ** -decay, samples)
    values, vectors = np.linalg.eigh(matrix)
    expected = (vectors[:, :-1] * values[:-1]) @ vectors[:, :-1].T
    np.testing.assert_allclose(without_first_component(matrix), expected, atol=1e-9 * values[-1])


@pytest.mark.parametrize("power", [0.0, 2.0, 4.0])
def test_a_spectrum_that_the_iteration_cannot_separate_loses_one_direction_all_the_same(power):
    # Many eigenvalues close to the first; for power 2 and 4 the iteration gives up, for 0 any direction is first.
    matrix = np.diag(1 - (np.arange(400) / 400) ** power * (power > 0))
    centre = np.eye(400) - 1 / 400
    before, after = (np.linalg.eigvalsh(centre @ each @ centre) for each in (matrix, without_first_component(matrix)))
    np.testing.assert_allclose(after, np.sort(np.append(before[:-1], 0)), atol=1e-9)


def test_beside_a_component_of_nearly_all_variance_the_rest_is_kept():
    x = np.random.default_rng(0).normal(size=(300, 500))
    x[::20] += 1e4 * np.random.default_rng(1).normal(size=500)
    x -= x.mean(0)
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    expected = (u[:, 1:] * s[1:] ** 2) @ u[:, 1:].T
    left = without_first_component(x @ x.T)
    assert np.abs(left - expected).max() / np.abs(expected).max() < 1e-6


@pytest.mark.parametrize("scale", [1e-200, 1e150])
def test_tiny_and_huge_matrices_are_decomposed(scale):
    matrix = gram(0, np.arange(1, 31) ** -1.0)
    expected = scale * without_first_component(matrix)
    np.testing.assert_allclose(without_first_component(scale * matrix), expected, atol=1e-10 * scale * matrix.max())


def test_a_zero_matrix_stays_zero_and_equal_entries_take_nothing_away():
    assert not without_first_component(np.zeros((200, 200))).any()
    assert (without_first_component(np.full((200, 200), 3.0)) == 3).all()
    matrix = gram(0, np.ones(5), 10)
    for diagonal in (True, False):
        left = without_confounder(matrix, np.full((10, 10), 7.0), diagonal=diagonal)
        np.testing.assert_allclose(np.diff(left), np.diff(matrix), atol=1e-12)


@pytest.mark.parametrize("diagonal", [True, False])
def test_residuals_are_uncorrelated_with_the_confounder_over_the_entries_that_count(diagonal):
    matrix, confounder = gram(0, np.ones(5), 30), gram(1, np.ones(40), 30)
    left = without_confounder(matrix, confounder, diagonal=diagonal)
    counted = np.ones((30, 30), dtype=bool) if diagonal else ~np.eye(30, dtype=bool)
    assert left[counted].sum() == pytest.approx(0, abs=1e-9)
    assert left[counted] @ confounder[counted] == pytest.approx(0, abs=1e-9)


def test_a_large_diagonal_does_not_set_the_slope_of_estimators_that_ignore_it():
    off = gram(0, np.ones(4), 50)
    matrix, confounder = (0.2 * off + 1e3 * np.eye(50), off + 1e4 * np.eye(50))
    left = without_confounder(matrix, confounder, diagonal=False)
    np.testing.assert_allclose(left[~np.eye(50, dtype=bool)], 0, atol=1e-9)
