"""Random words that are the same on every machine and for every version of numpy."""

import numpy as np
from numpy.typing import NDArray

LARGEST_SEED = (1 << 64) - 1


def random_words(count: int, *, seed: int, stream: int) -> NDArray[np.uint64]:
    """Return 64-bit words of the counter-based generator Philox (Salmon et al. 2011, doi:10.1145/2063384.2063405).

    Numpy keeps the raw output of its bit generators, and does not promise to keep what its distributions make of it.
    The first words are the same however many are asked for.

    Args:
        count: How many.
        seed: 0 to ``LARGEST_SEED``.
        stream: Tells apart what is drawn with one seed for different ends.
    """
    return np.random.Philox(key=(stream << 64) | seed).random_raw(count)
