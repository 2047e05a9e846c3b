"""Similarity with what the input explains taken out of it (Cui et al. 2022, arXiv 2202.00095)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from outcrop.errors import AnalysisError
from outcrop.models.model import Layer


@dataclass(frozen=True)
class ModelInputs:
    """Which layers are the inputs that are regressed out of the others.

    Attributes:
        model: Model of every layer, as a number from 0.
        rows: The input of every model, as the number of its layer.
    """

    model: Int[np.ndarray, " layer"]
    rows: Int[np.ndarray, " model"]


def model_inputs(layers: Sequence[tuple[str, Layer]]) -> ModelInputs:
    """Return which of the layers (model, layer) are inputs.

    Raises:
        AnalysisError: A model has no input among its layers, or more than one.
    """
    models = list(dict.fromkeys(model for model, _ in layers))
    rows = []
    for model in models:
        own = [row for row, (owner, layer) in enumerate(layers) if owner == model and layer.kind == "input"]
        if not own:
            raise AnalysisError(
                f"The input of model {model!r} is to be regressed out of its layers and is not among them; "
                "select its input layer too."
            )
        if len(own) > 1:
            names = ", ".join(repr(layers[row][1].name) for row in own)
            raise AnalysisError(
                f"One input of model {model!r} can be regressed out of its layers; {len(own)} are among them "
                f"({names}). Select one."
            )
        rows.extend(own)
    return ModelInputs(np.array([models.index(model) for model, _ in layers]), np.array(rows))


def slopes_on_inputs(
    cross: Float[np.ndarray, "layer model"],
    own: Float[np.ndarray, " model"],
    effects: Float[np.ndarray, "layer sample"],
    input_effects: Float[np.ndarray, "model sample"],
    inputs: ModelInputs,
) -> NDArray[np.float64]:
    """Return the slopes (layer, model) of a regression of layers' kernel matrices on that of their model's input.

    Ordinary least squares with intercept over the entries off the diagonal. A kernel matrix is, off the diagonal, its
    U-centred matrix plus ``a_i + a_j``; the two parts are orthogonal, so the covariance of the entries of two matrices
    is the inner product of the U-centred ones plus ``2 (n - 2)`` times that of the mean-free ``a``. No matrix has to
    be at hand. The slope is 0 for inputs themselves, for layers of other models, and where an input does not vary.

    Args:
        cross: Inner products of U-centred matrices of layers and inputs.
        own: The same of inputs with themselves.
        effects: ``a`` of every layer.
        input_effects: ``a`` of every input.
        inputs: Which layers they are.
    """
    weight = 2.0 * (effects.shape[1] - 2)
    layer_part = effects - effects.mean(axis=1, keepdims=True)
    input_part = input_effects - input_effects.mean(axis=1, keepdims=True)
    covariance = cross + weight * layer_part @ input_part.T
    variance = own + weight * np.square(input_part).sum(axis=1)
    slopes = np.divide(covariance, variance, out=np.zeros_like(covariance), where=variance > 0)
    slopes[np.arange(len(inputs.rows)) != inputs.model[:, None]] = 0.0
    slopes[inputs.rows] = 0.0
    return np.asarray(slopes, dtype=np.float64)


def without_inputs(
    hsic: Float[np.ndarray, "layer layer"],
    cross: Float[np.ndarray, "layer model"],
    between: Float[np.ndarray, "model model"],
    slopes: Float[np.ndarray, "layer model"],
) -> NDArray[np.float64]:
    """Return the inner products of ``U_l - slope_l U_input``: U-centring is linear, and takes intercepts to 0.

    Args:
        hsic: Inner products of all layers.
        cross: Of layers and inputs.
        between: Of inputs.
        slopes: From :func:`slopes_on_inputs`.
    """
    mixed = cross @ slopes.T
    return np.asarray(hsic - mixed - mixed.T + slopes @ between @ slopes.T, dtype=np.float64)
