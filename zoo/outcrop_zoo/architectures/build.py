"""Build a network from the architecture entry of a recipe or card."""

from typing import TYPE_CHECKING

from outcrop_zoo.architectures.resnet import CifarResNet

if TYPE_CHECKING:
    from torch import nn

    from outcrop_zoo.recipes import Architecture


def build_architecture(architecture: "Architecture") -> "nn.Module":
    """Return a freshly initialised network; seed torch's generator first for a reproducible one."""
    return CifarResNet(architecture.depth, width=architecture.width, num_classes=architecture.classes)
