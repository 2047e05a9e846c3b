"""Images and labels in memory, ready to be trained on."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class ImageSet:
    """Images (sample, channel, y, x) float32 in [0, 1] and labels (sample,)."""

    images: Tensor
    labels: Tensor

    def to(self, device: str) -> "ImageSet":
        """Return the same on a device; itself where it is there."""
        return ImageSet(self.images.to(device), self.labels.to(device))
