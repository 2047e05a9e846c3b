"""Random crops and flips of whole batches, driven by an explicit generator."""

import torch
from torch import Generator, Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention


def crop_and_flip(images: Tensor, *, generator: Generator, padding: int = 4) -> Tensor:
    """Return images (sample, channel, y, x), each reflect-padded, cropped at random and flipped half the time."""
    samples, _, height, width = images.shape
    padded = F.pad(images, [padding] * 4, mode="reflect")
    tops, lefts = torch.randint(0, 2 * padding + 1, (2, samples), generator=generator)
    flips = torch.rand(samples, generator=generator) < 0.5
    rows = tops[:, None] + torch.arange(height)
    columns = lefts[:, None] + torch.arange(width)
    columns = torch.where(flips[:, None], columns.flip(1), columns)
    sample = torch.arange(samples)[:, None, None]
    # Advanced indices around a slice put the channel last: (sample, y, x, channel).
    return padded[sample, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
