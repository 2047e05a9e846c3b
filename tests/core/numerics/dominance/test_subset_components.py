"""The first component of every subset of a group, against the decomposition of each on its own."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.numerics.dominance.subset_components import subset_components, subset_traces


def exact(values, kept):
    """Return largest eigenvalues, their projectors on the samples, and traces, subset by subset."""
    sizes, projectors, traces = [], [], []
    for chosen in kept:
        own = np.zeros_like(values)
        own[chosen] = values[chosen] - values[chosen].mean(axis=0)
        found, vectors = np.linalg.eigh(own @ own.T)
        sizes.append(found[-1])
        projectors.append(np.outer(vectors[:, -1], vectors[:, -1]))
        traces.append(np.square(own).sum())
    return np.array(sizes), np.array(projectors), np.array(traces)


def found_by_us(values, kept):
    gram, chosen = torch.from_numpy(values @ values.T), torch.from_numpy(kept).double()
    sizes, vectors = (one.numpy() for one in subset_components(gram, chosen))
    return sizes, vectors, subset_traces(gram, chosen).numpy()


@given(st.integers(0, 1 << 16), st.integers(5, 60), st.integers(1, 80))
@settings(max_examples=25, deadline=None)
def test_they_are_those_of_each_subset_on_its_own(seed, samples, features):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((samples, features)) * np.linspace(3, 0.2, features) + rng.standard_normal(features)
    kept = rng.random((7, samples)) < 0.7
    kept[:, :4] = True
    kept[0] = True
    sizes, vectors, traces = found_by_us(values, kept)
    expected, projectors, all_traces = exact(values, kept)
    np.testing.assert_allclose(sizes, expected, rtol=1e-10)
    np.testing.assert_allclose(traces, all_traces, rtol=1e-10)
    assert not vectors[~kept].any()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-12)
    overlap = np.einsum("si,sij,sj->s", vectors, projectors, vectors)
    # A component is as certain as the gap to the next is wide.
    assert overlap.min() > 1 - 1e-6


def test_a_flat_spectrum_is_found_too():
    values = np.random.default_rng(0).standard_normal((200, 4000))
    kept = np.ones((3, 200), dtype=bool)
    kept[1, :20] = kept[2, 100:] = False
    sizes, vectors, _ = found_by_us(values, kept)
    expected, projectors, _ = exact(values, kept)
    np.testing.assert_allclose(sizes, expected, rtol=1e-12)
    assert np.einsum("si,sij,sj->s", vectors, projectors, vectors).min() > 1 - 1e-10


def test_one_dominant_component_is_exact_to_the_last_digits():
    rng = np.random.default_rng(1)
    values = 1e4 * np.outer(rng.standard_normal(40), rng.standard_normal(30)) + rng.standard_normal((40, 30))
    kept = rng.random((5, 40)) < 0.6
    sizes, vectors, traces = found_by_us(values, kept)
    expected, projectors, _ = exact(values, kept)
    np.testing.assert_allclose(traces - sizes, [np.trace(exact_rest(values, one)) for one in kept], rtol=1e-5)
    np.testing.assert_allclose(sizes, expected, rtol=1e-14)
    assert np.einsum("si,sij,sj->s", vectors, projectors, vectors).min() > 1 - 1e-14


def exact_rest(values, chosen):
    own = values[chosen] - values[chosen].mean(axis=0)
    left, sizes, _ = np.linalg.svd(own, full_matrices=False)
    return (left[:, 1:] * sizes[1:] ** 2) @ left[:, 1:].T


def test_samples_that_do_not_differ_have_no_component():
    values = np.random.default_rng(2).standard_normal((12, 5))
    values[:6] = values[0]
    kept = np.ones((2, 12), dtype=bool)
    kept[1, 6:] = False
    sizes, vectors, _ = found_by_us(values, kept)
    assert sizes[0] > 0
    assert sizes[1] == 0
    assert not vectors[1].any()
