"""Operations that several networks share, each a module so that hooks and exported graphs know it by name."""

import torch
from torch import Tensor, nn


class Add(nn.Module):
    """The addition of a branch and its shortcut."""

    def forward(self, branch: Tensor, shortcut: Tensor) -> Tensor:
        return branch + shortcut


def keras_batch_norm(channels: int) -> nn.BatchNorm2d:
    """Return batch norm at the defaults of Keras: epsilon 1e-3, momentum 0.99, which is 0.01 in torch's convention."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def average_pool(height: int, width: int) -> nn.AvgPool2d:
    """Return the average over all positions of feature maps of a known size."""
    # Not AdaptiveAvgPool2d: this is the same for every image, and stays a pooling in exported graphs.
    return nn.AvgPool2d(height if height == width else (height, width))


def initialise_he_normal(module: nn.Module) -> None:
    """Draw the kernel of a convolution or dense layer He-normal by fan-in (arXiv 1502.01852), its bias zero.

    To be handed to ``Module.apply``.
    """
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            with torch.no_grad():
                module.bias.zero_()
