"""Two sets of features of the same samples, checked and flattened, as every measure of similarity takes them."""

import math
import sys
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from outcrop.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


def matched_features(
    x: "ArrayLike | Tensor", y: "ArrayLike | Tensor", *, measure: str, least: int
) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    """Return both as finite arrays (sample, feature) of equally many samples, copied only where they have to be.

    Args:
        x: (sample, ...); further dimensions are flattened. An array, or a tensor on any device.
        y: (sample, ...).
        measure: Name of the measure, which errors begin with.
        least: Fewest samples for which the measure is defined.

    Raises:
        InputError: Fewer samples, different numbers of samples, or values that are not finite real numbers.
    """
    first, second = features_of(x, "x", measure=measure), features_of(y, "y", measure=measure)
    if len(first) != len(second):
        raise InputError(
            f"{measure} compares representations of the same samples; "
            f"x has {len(first)} samples and y has {len(second)}."
        )
    if len(first) < least:
        raise InputError(f"{measure} needs at least {least} samples; got {len(first)}.")
    return first, second


def features_of(values: "ArrayLike | Tensor", name: str, *, measure: str) -> NDArray[np.generic]:
    """Return finite values as an array (sample, feature), copied only where they have to be.

    Args:
        values: (sample, ...); further dimensions are flattened. An array, or a tensor on any device.
        name: What the caller calls them.
        measure: Name of the measure, which errors begin with.

    Raises:
        InputError: Values that are not finite real numbers, or a single number.
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(values, torch.Tensor):
        tensor = values.detach().cpu()
        # numpy has no bfloat16.
        values = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise InputError(f"{measure} takes real numbers; {name} holds values of type {array.dtype}.")
    if array.ndim == 0:
        raise InputError(f"{measure} takes arrays (sample, ...); {name} is a single number.")
    array = array.reshape(len(array), math.prod(array.shape[1:]))
    wrong = array.size - np.count_nonzero(np.isfinite(array))
    if wrong:
        raise InputError(
            f"{measure} needs finite values; {wrong} of the {array.size} values of {name} are NaN or infinite."
        )
    return array


def resolution(values: "ArrayLike | Tensor") -> float:
    """Return the relative spacing of the values' type: 2.2e-16 for float64 and whole numbers, 7.8e-3 for bfloat16."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(values, torch.Tensor):
        return float(torch.finfo(values.dtype).eps) if values.dtype.is_floating_point else resolution(0.0)
    dtype = np.asarray(values).dtype
    return float(np.finfo(dtype if dtype.kind == "f" else np.float64).eps)
