"""Networks of the zoo, built by name from a recipe's architecture entry."""

from outcrop_zoo.architectures.build import build_architecture
from outcrop_zoo.architectures.resnet import CifarResNet

__all__ = ["CifarResNet", "build_architecture"]
