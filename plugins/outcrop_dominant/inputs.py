"""How long the samples themselves are, for models whose input is not among the layers."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from outcrop import Context


def sample_norms(context: "Context") -> NDArray[np.float64] | None:
    """Return the root mean square of the values of every sample, which is its length but for its size.

    Images count as they are read, their values from 0 to 1, before a model's preprocessing.

    Args:
        context: Of the run.

    Returns:
        (sample,); None where only stored activations are at hand, or samples are no images and no real numbers: the
        length of token numbers says nothing.

    Raises:
        DataReadError: A sample cannot be read.
    """
    if context.data is None:
        return None
    norms = np.empty(context.sample_count)
    for index in range(context.sample_count):
        values = _values(context.data.read(index))
        if values is None:
            return None
        norms[index] = np.sqrt(np.mean(np.square(values))) if values.size else 0.0
    return norms


def _values(sample: Any) -> NDArray[np.float64] | None:
    """Return all numbers of a sample; None where they are no measured ones."""
    arrays = list(sample.values()) if isinstance(sample, Mapping) else [sample]
    parts = []
    for one in arrays:
        array = np.asarray(one)
        if array.dtype == np.uint8:
            parts.append(array.ravel() / 255)
        elif array.dtype.kind == "f":
            parts.append(array.ravel().astype(np.float64))
        else:
            return None
    return np.concatenate(parts)
