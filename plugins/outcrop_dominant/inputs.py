"""How long the samples themselves are, for models whose input is not among the layers."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from outcrop import Context

_COLOURS = ("red", "green", "blue")


def sample_norms(context: "Context") -> NDArray[np.float64] | None:
    """Return the length of every sample, before any model's preprocessing, from what is known of the samples.

    Of arrays the Euclidean norm of the values; of pictures the root mean square of the pixels, from means and standard
    deviations of the channels: the norm, but for the picture's size, which preprocessing makes the same for all.

    Args:
        context: Of the run; samples are read only where no study knows their statistics.

    Returns:
        (sample,); None where nothing is known of the samples, or their values are no measured ones: the length of a
        list of token numbers says nothing.

    Raises:
        DataReadError: A sample cannot be read.
    """
    if context.data is not None and not _is_measured(context.data.read(0)):
        return None
    known = context.described()
    if known is None:
        return None
    if "value_norm" in known:
        norms = known["value_norm"].values
    elif all(name in known for colour in _COLOURS for name in (colour, f"standard_deviation_{colour}")):
        moments = [f"{prefix}{colour}" for prefix in ("", "standard_deviation_") for colour in _COLOURS]
        norms = np.sqrt(sum(known[name].values ** 2 for name in moments) / len(_COLOURS))
    else:
        return None
    return np.asarray(norms, dtype=np.float64) if np.isfinite(norms).any() else None


def _is_measured(sample: Any) -> bool:
    """Return whether a sample's numbers are values, such as pixels, and not names of things."""
    arrays = list(sample.values()) if isinstance(sample, Mapping) else [sample]
    return all(one.dtype == np.uint8 or one.dtype.kind in "fc" for one in map(np.asarray, arrays))
