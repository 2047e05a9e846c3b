import numpy as np
import pytest
import torch

from outcrop.numerics import leading_component


def grams(layers, samples, spectrum):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(layers, samples, len(spectrum), generator=generator, dtype=torch.float64) * spectrum
    x = x - x.mean(1, keepdim=True)
    return x @ x.mT


@pytest.mark.parametrize("samples", [5, 60, 200])
@pytest.mark.parametrize("decay", [2.0, 0.5, 0.0], ids=["steep", "gentle", "flat"])
def test_the_pair_is_that_of_a_full_decomposition(samples, decay):
    matrices = grams(4, samples, torch.arange(1, 301, dtype=torch.float64) ** -decay)
    values, vectors = leading_component(matrices)
    all_values, all_vectors = torch.linalg.eigh(matrices)
    torch.testing.assert_close(values, all_values[:, -1], rtol=1e-10, atol=0)
    cosines = (vectors * all_vectors[:, :, -1]).sum(1).abs()
    torch.testing.assert_close(cosines, torch.ones(4, dtype=torch.float64), rtol=0, atol=1e-8)


def test_matrices_of_rank_one_and_tiny_or_huge_ones_are_decomposed():
    vector = torch.linspace(-1, 1, 100, dtype=torch.float64)
    single = torch.outer(vector, vector)
    values, vectors = leading_component(torch.stack([single, single * 1e-200, single * 1e200]))
    size = float(vector @ vector)
    np.testing.assert_allclose(values.numpy(), [size, size * 1e-200, size * 1e200], rtol=1e-10)
    np.testing.assert_allclose((vectors @ vector).abs().numpy(), size**0.5, rtol=1e-10)


def test_beside_a_component_of_nearly_all_variance_the_rest_is_kept():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 128, 500, generator=generator, dtype=torch.float64)
    x[:, ::20] += 1e4 * torch.randn(500, generator=generator, dtype=torch.float64)
    x = x - x.mean(1, keepdim=True)
    u, s, _ = torch.linalg.svd(x, full_matrices=False)
    values, vectors = leading_component(x @ x.mT)
    left = x @ x.mT - values[:, None, None] * vectors[:, :, None] * vectors[:, None, :]
    rest = u[:, :, 1:] * s[:, None, 1:]
    expected = rest @ rest.mT
    assert float((left - expected).abs().max() / expected.abs().max()) < 1e-6


def test_a_zero_matrix_gives_zeros_and_touches_no_other():
    matrices = grams(3, 100, torch.ones(20, dtype=torch.float64))
    alone = leading_component(matrices[:1])
    matrices[1] = 0
    values, vectors = leading_component(matrices)
    assert values[1] == 0
    assert not vectors[1].any()
    torch.testing.assert_close(values[:1], alone[0])


def test_the_argument_is_left_as_it_is():
    matrices = grams(2, 100, torch.ones(20, dtype=torch.float64))
    before = matrices.clone()
    leading_component(matrices)
    assert torch.equal(matrices, before)
