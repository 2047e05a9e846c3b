"""Build a network from the architecture entry of a recipe or card."""

from collections.abc import Callable
from typing import Any

from torch import nn

from outcrop.errors import ZooError
from outcrop_zoo.architectures.architecture import Architecture, ArchitectureName
from outcrop_zoo.architectures.mlp import Mlp
from outcrop_zoo.architectures.plain_cnn import PlainCnn
from outcrop_zoo.architectures.resnet import CifarResNet
from outcrop_zoo.architectures.shake_shake import ShakeShake
from outcrop_zoo.architectures.vgg import Vgg
from outcrop_zoo.architectures.vision_transformer import VisionTransformer
from outcrop_zoo.architectures.wide_resnet import WideResNet

_NETWORKS: dict[ArchitectureName, tuple[Callable[..., nn.Module], tuple[str, ...]]] = {
    "cifar_resnet": (CifarResNet, ("image",)),
    "plain_cnn": (PlainCnn, ("image",)),
    "shake_shake": (ShakeShake, ("image",)),
    "wide_resnet": (WideResNet, ("image",)),
    "vgg": (Vgg, ("image", "batch_norm")),
    "mlp": (Mlp, ("image", "features")),
    "vit": (VisionTransformer, ("image", "patch", "heads")),
}
"""The class of each architecture, and the options that it takes."""


def build_architecture(architecture: Architecture) -> nn.Module:
    """Return a freshly initialised network; seed torch's generator first for a reproducible one.

    It takes float32 images (sample, channel, y, x) in [0, 1], an ``mlp`` of ``features`` vectors (sample, feature),
    and returns logits (sample, class).

    Raises:
        ZooError: The architecture does not have this depth or width, or an option is not its own.
    """
    network, accepted = _NETWORKS[architecture.name]
    given: dict[str, Any] = architecture.options()
    foreign = [f"{option} = {value}" for option, value in given.items() if option not in accepted]
    if foreign:
        raise ZooError(
            f"The architecture {architecture.name!r} does not take {', '.join(foreign)}; its options are depth, width, "
            f"classes, {', '.join(accepted)}. Leave the others out."
        )
    return network(architecture.depth, width=architecture.width, num_classes=architecture.classes, **given)
