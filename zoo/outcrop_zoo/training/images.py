"""Images and labels in memory, ready to be trained on."""

import hashlib
from dataclasses import dataclass
from typing import Self

from torch import Tensor


@dataclass(frozen=True)
class ImageSet:
    """Images (sample, channel, y, x) float32 in [0, 1] and labels (sample,)."""

    images: Tensor
    labels: Tensor

    def to(self, device: str) -> "ImageSet":
        """Return the same on a device; itself where it is there."""
        return ImageSet(self.images.to(device), self.labels.to(device))

    def digest(self, other: Self | None = None) -> str:
        """Return a hash of all images and labels, and of those of another set behind them."""
        digest = hashlib.sha256()
        for one in (self, other) if other is not None else (self,):
            for values in (one.images, one.labels):
                digest.update(f"{values.dtype} {tuple(values.shape)} ".encode())
                digest.update(values.detach().cpu().contiguous().numpy().data)
        return digest.hexdigest()
