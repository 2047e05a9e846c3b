import numpy as np
import pytest

from outcrop.errors import AnalysisError
from outcrop.models.model import Layer
from outcrop.numerics.kernels.hsic import u_centre
from outcrop.numerics.stream.deconfounded import ModelInputs, model_inputs, slopes_on_inputs, without_inputs


def symmetric(count, samples, seed=0):
    matrices = np.random.default_rng(seed).normal(size=(count, samples, samples))
    return matrices + matrices.transpose(0, 2, 1)


def parts(matrix):
    """Return the U-centred matrix and the effects ``a`` of samples: ``K = U + a_i + a_j`` off the diagonal."""
    centred = u_centre(matrix)
    rest = matrix - centred
    effects = [
        (rest[i, (i + 1) % n] + rest[i, (i + 2) % n] - rest[(i + 1) % n, (i + 2) % n]) / 2
        for n in [len(matrix)]
        for i in range(n)
    ]
    return centred, np.array(effects)


def test_slopes_are_those_of_a_regression_over_the_entries_off_the_diagonal():
    matrices = symmetric(5, 9)
    inputs = ModelInputs(np.array([0, 0, 1, 0, 1]), np.array([0, 2]))
    centred, effects = (np.array(part) for part in zip(*map(parts, matrices), strict=True))
    inner = np.einsum("aij,bij->ab", centred, centred)
    found = slopes_on_inputs(inner[:, [0, 2]], np.diag(inner)[[0, 2]], effects, effects[[0, 2]], inputs)
    off = ~np.eye(9, dtype=bool)
    for row, model in enumerate(inputs.model):
        expected = np.zeros(2)
        if row not in inputs.rows:
            expected[model] = np.polyfit(matrices[inputs.rows[model]][off], matrices[row][off], 1)[0]
        np.testing.assert_allclose(found[row], expected, atol=1e-12)


def test_inner_products_of_residuals_are_those_of_the_matrices():
    centred = np.array([u_centre(matrix) for matrix in symmetric(5, 9)])
    slopes = np.random.default_rng(1).normal(size=(5, 2))
    left = centred - np.einsum("lm,mij->lij", slopes, centred[[0, 2]])
    inner = np.einsum("aij,bij->ab", centred, centred)
    found = without_inputs(inner, inner[:, [0, 2]], inner[np.ix_([0, 2], [0, 2])], slopes)
    np.testing.assert_allclose(found, np.einsum("aij,bij->ab", left, left), atol=1e-11)


def layer(name, kind):
    return Layer(name, kind, 0, (1,), "float32", "x", ("feature",))


def test_the_input_of_every_model_is_found_wherever_it_comes():
    layers = [("a", layer("x", "input")), ("b", layer("relu", "act")), ("b", layer("y", "input"))]
    found = model_inputs(layers)
    assert found.rows.tolist() == [0, 2]
    assert found.model.tolist() == [0, 1, 1]


def test_no_input_and_several_are_refused():
    with pytest.raises(AnalysisError, match="The input of model 'b' is to be regressed out of its layers and is not"):
        model_inputs([("a", layer("x", "input")), ("b", layer("relu", "act"))])
    with pytest.raises(AnalysisError, match="One input of model 'a' can be regressed out of its layers; 2 are among"):
        model_inputs([("a", layer("x", "input")), ("a", layer("y", "input"))])
