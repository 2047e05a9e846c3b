import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.numerics import biased_hsic, double_centre, u_centre, unbiased_hsic


def grams(seed, samples=20):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, samples, 6))
    return x @ x.T, y @ y.T


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_the_u_centred_form_equals_the_sum_over_quadruples_of_distinct_samples(seed):
    k, l_ = grams(seed, samples=6)
    n = len(k)
    total = count = 0.0
    # Definition of the U-statistic (Song et al. 2012): E[k_ij (l_ij + l_qr - 2 l_iq)] over distinct i, j, q, r.
    for i in range(n):
        for j in set(range(n)) - {i}:
            for q in set(range(n)) - {i, j}:
                for r in set(range(n)) - {i, j, q}:
                    total += k[i, j] * (l_[i, j] + l_[q, r] - 2 * l_[i, q])
                    count += 1
    assert np.isclose(unbiased_hsic(k, l_), total / count, rtol=1e-10, atol=1e-10)


def test_u_centred_rows_sum_to_zero_on_a_zero_diagonal():
    centred = u_centre(grams(0)[0])
    np.testing.assert_allclose(centred.sum(0), 0, atol=1e-12)
    assert not np.diag(centred).any()


def test_shifts_of_features_change_neither_centring():
    x = np.random.default_rng(0).normal(size=(20, 6))
    near, far = x @ x.T, (x + 7) @ (x + 7).T
    np.testing.assert_allclose(u_centre(near), u_centre(far), atol=1e-11)
    np.testing.assert_allclose(double_centre(near), double_centre(far), atol=1e-11)


def test_biased_hsic_is_the_trace_of_the_centred_product():
    k, l_ = grams(1)
    centre = np.eye(20) - 1 / 20
    assert np.isclose(biased_hsic(k, l_), np.trace(k @ centre @ l_ @ centre) / 19**2)


def test_the_arguments_are_left_as_they_are():
    k, l_ = grams(2)
    before = k.copy()
    unbiased_hsic(k, l_)
    np.testing.assert_array_equal(k, before)
