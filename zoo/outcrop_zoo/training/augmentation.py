"""Random crops and flips of whole batches, driven by an explicit generator."""

from typing import Literal

import torch
from torch import Generator, Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

Flip = Literal["horizontal", "vertical", "none"]


def crop_and_flip(images: Tensor, *, generator: Generator, padding: int = 4, flip: Flip = "horizontal") -> Tensor:
    """Return images (sample, channel, y, x), each reflect-padded, cropped at random and flipped half the time.

    Args:
        images: On any device.
        generator: On the CPU, so that every device sees the same crops.
        padding: Pixels of reflected border; 0 for no crop.
        flip: Left to right, top to bottom, or not at all. The draws are the same whichever it is.
    """
    samples, _, height, width = images.shape
    padded = F.pad(images, [padding] * 4, mode="reflect") if padding else images
    tops, lefts = torch.randint(0, 2 * padding + 1, (2, samples), generator=generator)
    flips = torch.rand(samples, generator=generator) < 0.5
    rows = tops[:, None] + torch.arange(height)
    columns = lefts[:, None] + torch.arange(width)
    if flip == "horizontal":
        columns = torch.where(flips[:, None], columns.flip(1), columns)
    elif flip == "vertical":
        rows = torch.where(flips[:, None], rows.flip(1), rows)
    sample = torch.arange(samples, device=images.device)[:, None, None]
    rows, columns = rows.to(images.device), columns.to(images.device)
    # Advanced indices around a slice put the channel last: (sample, y, x, channel).
    return padded[sample, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
