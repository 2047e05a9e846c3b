"""Networks of the zoo, built by name from a recipe's architecture entry.

Everything but the description itself is loaded when it is first used, for it needs torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from outcrop_zoo.architectures.architecture import REFERENCES, Architecture, ArchitectureName

if TYPE_CHECKING:
    from outcrop_zoo.architectures.build import build_architecture
    from outcrop_zoo.architectures.mlp import Mlp
    from outcrop_zoo.architectures.plain_cnn import PlainCnn
    from outcrop_zoo.architectures.resnet import CifarResNet
    from outcrop_zoo.architectures.shake_shake import ShakeShake
    from outcrop_zoo.architectures.vgg import Vgg
    from outcrop_zoo.architectures.vision_transformer import VisionTransformer
    from outcrop_zoo.architectures.wide_resnet import WideResNet

_HOMES = {
    "CifarResNet": "resnet",
    "Mlp": "mlp",
    "PlainCnn": "plain_cnn",
    "ShakeShake": "shake_shake",
    "Vgg": "vgg",
    "VisionTransformer": "vision_transformer",
    "WideResNet": "wide_resnet",
    "build_architecture": "build",
}

__all__ = [
    "REFERENCES",
    "Architecture",
    "ArchitectureName",
    "CifarResNet",
    "Mlp",
    "PlainCnn",
    "ShakeShake",
    "Vgg",
    "VisionTransformer",
    "WideResNet",
    "build_architecture",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(f"outcrop_zoo.architectures.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'outcrop_zoo.architectures' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
