"""Room for layers that are gathered from several forward batches: memory first, then a temporary file."""

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

_SPILL_LIMIT = 32 << 30


def spill_bytes() -> int:
    """Return how many bytes gathered layers may take on the temporary disk: half of what is free, at most 32 GB."""
    return min(_SPILL_LIMIT, shutil.disk_usage(tempfile.gettempdir()).free // 2)


class GatheringBuffers:
    """One tensor (sample, ...) per layer, filled batch by batch; a context manager that takes its file away.

    Args:
        memory_budget: Bytes of memory; tensors beyond it are mapped from files in a temporary folder.
    """

    def __init__(self, memory_budget: int) -> None:
        self._left = memory_budget
        self._tensors: dict[str, Tensor] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tensors.clear()
        if self._folder is not None:
            self._folder.cleanup()

    def of(self, layer: str, like: "Tensor", samples: int) -> "Tensor":
        """Return the tensor of a layer for so many samples of the shape and type of the given values."""
        if layer not in self._tensors:
            self._tensors[layer] = self._make(like, samples)
        return self._tensors[layer]

    def pop(self, layer: str) -> "Tensor":
        """Return the tensor of a layer and let go of it."""
        return self._tensors.pop(layer)

    def _make(self, like: "Tensor", samples: int) -> "Tensor":
        import torch

        shape = (samples, *like.shape[1:])
        size = samples * (like.nbytes // max(1, len(like)))
        if size <= self._left:
            self._left -= size
            return torch.empty(shape, dtype=like.dtype, device=like.device)
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="outcrop-gather-")
        file = Path(self._folder.name) / f"{len(self._tensors)}.raw"
        mapped = np.memmap(file, dtype=np.uint8, mode="w+", shape=(max(1, size),))
        return torch.from_numpy(mapped)[:size].view(like.dtype).view(shape)
