"""Memory in which values wait to be written: bounded, and used again rather than asked for again."""

from threading import Condition
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_SMALLEST = 1 << 12


class BufferPool:
    """Buffers that together stay within a budget; whoever asks for more waits until some come back.

    Memory that was used before costs no page faults, which is a third of the price of copying a large layer.

    Args:
        budget: Bytes of all buffers; a single one may be larger.
        pinned: Whether a GPU is to copy into them.
    """

    def __init__(self, budget: int, *, pinned: bool = False) -> None:
        self._budget = budget
        self._pinned = pinned
        self._held = 0
        self._free: dict[int, list[Tensor]] = {}
        self._returned = Condition()

    def take(self, size: int) -> "Tensor":
        """Return a buffer of at least so many bytes, as soon as there is room for it."""
        import torch

        # Powers of two, so that layers of similar sizes share buffers.
        size = max(_SMALLEST, 1 << (size - 1).bit_length())
        with self._returned:
            while True:
                if self._free.get(size):
                    return self._free[size].pop()
                if self._held + size > self._budget:
                    self._let_go(self._held + size - self._budget)
                if self._held == 0 or self._held + size <= self._budget:
                    break
                self._returned.wait()
            self._held += size
        return torch.empty(size, dtype=torch.uint8, pin_memory=self._pinned)

    def give(self, buffer: "Tensor") -> None:
        """Take a buffer back."""
        with self._returned:
            self._free.setdefault(len(buffer), []).append(buffer)
            self._returned.notify()

    def _let_go(self, size: int) -> None:
        """Free unused buffers of other sizes, largest first, until so many bytes are gone or none is left."""
        for length in sorted(self._free, reverse=True):
            while size > 0 and self._free[length]:
                self._free[length].pop()
                self._held -= length
                size -= length
