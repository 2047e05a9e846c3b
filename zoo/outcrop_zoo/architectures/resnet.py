"""The CIFAR ResNet v1 of the block-structure papers (arXiv 2202.07184, appendix B; arXiv 2010.15327).

Post-activation residual blocks of two 3x3 convolutions in three stages of equal depth, with
convolutions that carry a bias, batch norm at the Keras defaults (epsilon 1e-3, momentum 0.99,
which is 0.01 in torch's convention), and a 1x1 stride-2 convolution without batch norm as the
shortcut wherever the resolution changes. Pixels enter in [0, 1], not normalised further.

Every operation, the residual addition included, is a module of its own, so that hooks and an
exported graph both see the same ``7 * 3n + 8`` named operations (the papers count the input as one more).
"""

import torch
from torch import Tensor, nn

from outcrop.errors import ZooError


class Add(nn.Module):
    """The residual addition, as a module so that it has a name."""

    def forward(self, branch: Tensor, shortcut: Tensor) -> Tensor:
        return branch + shortcut


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, added to the shortcut, then ReLU."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride=stride, padding=1)
        self.norm1 = _batch_norm(channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = _batch_norm(channels)
        self.shortcut = (
            nn.Identity()
            if stride == 1 and channels_in == channels
            else nn.Conv2d(channels_in, channels, 1, stride=stride)
        )
        self.add = Add()
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        branch = self.relu1(self.norm1(self.conv1(x)))
        branch = self.norm2(self.conv2(branch))
        output: Tensor = self.relu2(self.add(branch, self.shortcut(x)))
        return output


class CifarResNet(nn.Module):
    """CIFAR ResNet v1 of depth ``6n + 2`` for 32x32 colour images.

    Args:
        depth: Number of weighted layers, ``6n + 2`` with n blocks in each of three stages.
        width: Multiplies the 16, 32, 64 channels of the three stages.
        num_classes: Number of logits.

    Raises:
        ZooError: The depth is not of the form ``6n + 2``.
    """

    def __init__(self, depth: int, *, width: int = 1, num_classes: int = 10) -> None:
        super().__init__()
        blocks, remainder = divmod(depth - 2, 6)
        if remainder or blocks < 1:
            raise ZooError(f"A CIFAR ResNet has depth 6n + 2 (8, 14, 20, ...); got depth {depth}.")
        channels = 16 * width
        self.conv = nn.Conv2d(3, channels, 3, padding=1)
        self.norm = _batch_norm(channels)
        self.relu = nn.ReLU()
        self.stage1 = _stage(channels, channels, blocks, stride=1)
        self.stage2 = _stage(channels, 2 * channels, blocks, stride=2)
        self.stage3 = _stage(2 * channels, 4 * channels, blocks, stride=2)
        self.pool = nn.AvgPool2d(8)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(4 * channels, num_classes)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.conv(x)))
        x = self.stage3(self.stage2(self.stage1(x)))
        logits: Tensor = self.classifier(self.flatten(self.pool(x)))
        return logits


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def _stage(channels_in: int, channels: int, blocks: int, *, stride: int) -> nn.Sequential:
    first = ResidualBlock(channels_in, channels, stride)
    return nn.Sequential(first, *(ResidualBlock(channels, channels, 1) for _ in range(blocks - 1)))


def _initialise(module: nn.Module) -> None:
    """He-normal convolutions and classifier, zero biases (the papers' Keras initialisers)."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            with torch.no_grad():
                module.bias.zero_()
