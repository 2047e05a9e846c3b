"""Room for layers that are gathered from several forward batches: memory first, then a temporary file."""

import errno
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from outcrop.errors import AnalysisError, InputError

if TYPE_CHECKING:
    from torch import Tensor

_SPILL_LIMIT = 32 << 30


def spill_bytes() -> int:
    """Return how many bytes gathered layers may take on the temporary disk: half of what is free, at most 32 GB."""
    return min(_SPILL_LIMIT, shutil.disk_usage(tempfile.gettempdir()).free // 2)


class GatheringBuffers:
    """One tensor (sample, ...) per layer, filled batch by batch; a context manager that takes its files away.

    The room of a layer is kept from one group of samples to the next.

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
        """Return the room of a layer for so many samples of the shape and type of the given values.

        Raises:
            InputError: Earlier values of the layer had another shape.
            AnalysisError: The temporary disk is full.
        """
        room = self._tensors.get(layer)
        if room is None or len(room) < samples:
            room = self._tensors[layer] = self._make(layer, like, samples)
        if room.shape[1:] != like.shape[1:]:
            raise InputError(
                f"Layer {layer!r} has the shape {tuple(room.shape[1:])} per sample in one batch and "
                f"{tuple(like.shape[1:])} in another. Bring the samples to one size, or leave the layer out."
            )
        return room[:samples]

    def gathered(self, layer: str, samples: int) -> "Tensor":
        """Return the values (sample, ...) of a layer, valid until the next group is gathered."""
        return self._tensors[layer][:samples]

    def _make(self, layer: str, like: "Tensor", samples: int) -> "Tensor":
        import torch

        shape = (samples, *like.shape[1:])
        size = samples * (like.nbytes // max(1, len(like)))
        if size <= self._left:
            self._left -= size
            return torch.empty(shape, dtype=like.dtype, device=like.device)
        mapped = np.memmap(self._file(layer, size), dtype=np.uint8, mode="r+", shape=(max(1, size),))
        return torch.from_numpy(mapped)[:size].view(like.dtype).view(shape)

    def _file(self, layer: str, size: int) -> Path:
        """Return a file whose space is taken: a mapped file that outgrows its disk would end the process."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="outcrop-gather-")
        path = Path(self._folder.name) / f"{len(self._tensors)}.raw"
        try:
            if size > shutil.disk_usage(path.parent).free:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            with path.open("wb") as file:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, max(1, size))
                else:
                    file.truncate(max(1, size))
        except OSError as error:
            raise AnalysisError(
                f"The values of layer {layer!r} are gathered from several batches and take {size / 1e9:.3g} GB on the "
                f"temporary disk {tempfile.gettempdir()}: {error.strerror}. Set TMPDIR to a folder with more room, or "
                "choose fewer layers or smaller batches."
            ) from error
        return path
