"""Statistics of an array of any shape."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def array_statistics(array: NDArray[Any]) -> tuple[float, ...]:
    """Return :data:`ARRAY_STATISTICS` of an array of any shape; not finite where its values are not."""
    values = np.ascontiguousarray(array).reshape(-1)
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float32 if values.dtype == np.float16 else np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = float(values.mean())  # summed in pairs, which loses no digit that counts
        squares = float(np.dot(values, values))
        spread = squares - values.size * mean * mean
        # What exceeds the range of float32 when squared is rare, and so are values far from zero for their spread.
        if not (np.isfinite(squares) and squares > np.finfo(values.dtype).tiny * values.size):
            wide = values.astype(np.float64)
            squares, spread = float(np.dot(wide, wide)), float(np.square(wide - mean).sum())
        elif spread < squares / 4:
            deviations = values - values.dtype.type(mean)
            spread = float(np.dot(deviations, deviations))
        return mean, float(np.sqrt(spread / values.size)), float(np.sqrt(squares))
