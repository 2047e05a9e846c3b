import numpy as np
import pytest
import torch

from outcrop.numerics.kernels.products import centred_gram
from outcrop.numerics.stream.matrix_notes import MatrixNotes


def features(size=1.0, samples=12, seed=0):
    values = np.random.default_rng(seed).standard_normal((samples, 5)) * size
    return torch.from_numpy(values.astype(np.float32))


def own(found, scale):
    """A stand-in for HSIC of a layer with itself, of the size that it has."""
    return (scale * found.trace / len(found.gram)) ** 2 * len(found.gram) ** 2


def test_all_batches_of_a_layer_are_in_the_units_of_its_first():
    notes = MatrixNotes((2, 3))
    first, second = centred_gram(features(1e-25)), centred_gram(features(64e-25))
    scale = notes.note((1, 2), first, 12)
    assert 0.5 <= scale * first.trace / 12 < 1
    assert notes.note((1, 2), second, 12) * second.trace == pytest.approx(4096 * scale * first.trace)
    found = notes.in_units((1, 2), features(1e-25).double().numpy())
    found = found - found.mean(axis=0)
    assert np.square(found).sum() == pytest.approx(scale * first.trace, rel=1e-5)


def test_merged_notes_are_those_of_all_batches_in_the_units_of_the_first():
    small, large = centred_gram(features()), centred_gram(features(1024, seed=1))
    whole, first, second = (MatrixNotes((2,)) for _ in range(3))
    for notes in (whole, first):
        notes.note(0, small, 12)
    whole.note(0, large, 12)
    second.note(1, large, 12)
    factor = first.merge(second, np.array([1, 0]))
    assert factor[0] == 2.0 ** (second.exponent[1] - whole.exponent[0])
    np.testing.assert_allclose(first.size, whole.size)
    np.testing.assert_array_equal(first.exponent, whole.exponent)


def test_layers_are_degenerate_without_variance_or_structure_or_with_values_that_are_not_finite():
    notes = MatrixNotes((4,))
    spoilt = features()
    spoilt[3, 2] = torch.nan
    hsic = np.zeros(4)
    for row, values in enumerate((features(), torch.ones(12, 5), spoilt, features())):
        found = centred_gram(values)
        hsic[row] = own(found, notes.note(row, found, 12))
    hsic[3] = 0.0  # all samples equally far from one another
    assert notes.degenerate(hsic).tolist() == [False, True, True, True]
    assert notes.non_finite.tolist() == [0, 0, 1, 0]
    assert notes.degenerate(hsic, least=10.0).all()
