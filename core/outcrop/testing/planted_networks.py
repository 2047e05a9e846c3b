"""A small residual network that is trained to answer to few images, which come to dominate its layers."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from jaxtyping import UInt8

    from outcrop.testing.planted_images import PlantedImages

WIDTH, DEPTH = 16, 8

ANSWER = 30.0
"""What the network is asked to answer to the few; 0 to all others."""

FIRST = 2
"""First block after which the answer is asked for; those before stay as the images make them."""

_BATCH = 64
_RATE = 6e-3

_STEM = 0.75
"""Rate of the stem, as a share: the less it learns to tell the few by itself, the more they are the blocks' work."""

_COPY = 8.0
"""Weight of the copy's error: what tells images apart besides the few has to pass through all blocks as well."""


class PlantedNetwork(nn.Module):
    """A network of strided convolutions and then eight residual blocks, without normalisation.

    It takes images with pixels from 0 to 1, and returns the answer and a copy of the image, eight pixels wide, side by
    side. Modules ``blocks.0`` to ``blocks.7`` are the layers of interest.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, WIDTH // 2, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(WIDTH // 2, WIDTH, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(WIDTH, WIDTH, 3, stride=2, padding=1),
        )
        self.blocks = nn.Sequential(*(_Block() for _ in range(DEPTH)))
        self.answer = nn.Conv2d(WIDTH, 1, 1)
        self.copy = nn.Conv2d(WIDTH, 12, 1)
        for module in self.stem:
            if isinstance(module, nn.Conv2d):
                _start(module)

    def forward(self, images: Tensor) -> Tensor:
        answers, copy = self.heads(images)
        return torch.cat([answers[-1].mean(dim=(1, 2))[:, None], copy.flatten(1)], dim=1)

    def heads(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the answers (block, sample, y, x) at all places after the blocks that are asked, and the copy."""
        values = self.stem(_centred(images))
        answers = []
        for place, block in enumerate(self.blocks):
            values = block(values)
            if place >= FIRST:
                answers.append(self.answer(values)[:, 0])
        return torch.stack(answers), self.copy(values)


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.relu = nn.ReLU()
        self.second = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        _start(self.first)
        _start(self.second, scale=0.1)

    def forward(self, values: Tensor) -> Tensor:
        return values + self.second(self.relu(self.first(values)))  # type: ignore[no-any-return]  # of a module: Any


def train_planted_network(images: "PlantedImages", *, seed: int = 0, steps: int = 400) -> PlantedNetwork:
    """Return a network that has been trained to answer :data:`ANSWER` to the planted images and 0 to others.

    What is asked for is plain regression: at every place of the map, after every block from the third on, the answer;
    and behind the last block a small copy of the image. Squared errors, AdamW, one cycle of the learning rate. The
    network is given the images and which of them are planted, and nothing else: neither that they share a statistic
    nor which one. How it tells them and where in its layers it does is its own; no weight is set by hand.

    An answer that is large and asked for from one block on is what makes few samples dominate: the stream carries it
    through all blocks that follow, as in wide and deep networks of arXiv 2202.07184, section 4, few images do.

    Trained with ``planted`` shuffled, the network learns to copy images and shows no block.

    Args:
        images: Some thousand.
        seed: Of the first weights and of the order of the images.
        steps: Of training, with 64 images each.

    Cost: some 7 s on one core for 400 steps.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # The layout in which small convolutions are fastest on CPUs.
        network = PlantedNetwork().to(memory_format=torch.channels_last)
        order = torch.cat(
            [torch.randperm(len(images.planted)) for _ in range(1 + steps * _BATCH // len(images.planted))]
        )
    pixels = image_batch(images.pixels).contiguous(memory_format=torch.channels_last)
    wanted = ANSWER * torch.from_numpy(images.planted).float()
    copies = _copies(pixels)
    parts = [network.stem, nn.ModuleList([network.blocks, network.answer, network.copy])]
    groups = [{"params": list(part.parameters())} for part in parts]
    optimiser = torch.optim.AdamW(groups, lr=_RATE, weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, [_STEM * _RATE, _RATE], steps)
    for chosen in order[: steps * _BATCH].view(steps, _BATCH):
        answers, copy = network.heads(pixels[chosen])
        error = (answers - wanted[chosen, None, None]).square().mean()
        whole = error + _COPY * (copy - copies[chosen]).square().mean()
        whole.backward()  # type: ignore[no-untyped-call]  # torch's is untyped
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        schedule.step()
    return network.to(memory_format=torch.contiguous_format).eval()


def image_batch(pixels: "UInt8[np.ndarray, 'sample y x channel']") -> Tensor:
    """Return images as the network takes them (sample, channel, y, x), from 0 to 1."""
    return torch.from_numpy(pixels.astype(np.float32).transpose(0, 3, 1, 2) / 255)


def _copies(images: Tensor) -> Tensor:
    """Return images of eight pixels a side, four neighbours side by side as channels (sample, 12, 4, 4)."""
    return nn.functional.pixel_unshuffle(nn.functional.avg_pool2d(_centred(images), 4), 2)


def _centred(images: Tensor) -> Tensor:
    return (images - 0.5) * 4


def _start(convolution: nn.Conv2d, scale: float = 1.0) -> None:
    nn.init.kaiming_normal_(convolution.weight)
    nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]  # these have one
    with torch.no_grad():
        convolution.weight *= scale
