"""Count values that are not finite, at about the speed of memory."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_PIECE = 1 << 17
"""Values looked at together: they stay in the cache, and only pieces with such values are counted one by one."""

_HALF_EXPONENT = np.uint16(0x7C00)


def count_non_finite(values: np.ndarray[Any, Any]) -> int:
    """Return how many values are infinite or not a number; none in an array of integers.

    A sum is finite only if every value is, so one is taken of each piece, and the values are counted where it is not
    (which a sum of finite values may also be, when it overflows). Numpy sums float16 slowly; there the exponents are
    looked at.

    Args:
        values: Of any type, shape and strides; a complex number counts once.
    """
    if values.dtype.kind not in "fc":
        return 0
    flat = values.ravel(order="K")
    # In the machine's byte order, whatever the array's.
    flat = flat.astype(flat.dtype.newbyteorder("="), copy=False)
    count = _count_in_half if flat.dtype == np.float16 else _count
    with np.errstate(over="ignore", invalid="ignore"):
        return sum(count(flat[start : start + _PIECE]) for start in range(0, flat.size, _PIECE))


def _count(piece: NDArray[Any]) -> int:
    return 0 if np.isfinite(piece.sum()) else piece.size - int(np.count_nonzero(np.isfinite(piece)))


def _count_in_half(piece: NDArray[np.float16]) -> int:
    exponents = piece.view(np.uint16) & _HALF_EXPONENT
    return int(np.count_nonzero(exponents == _HALF_EXPONENT))
