"""Models: where a network comes from, how its layers are named, and how they are read.

Nothing here imports torch before it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from outcrop.models.model import LAYER_KINDS, InputSpec, Layer, LayerKind, Model, Preprocessing, Visitor
    from outcrop.models.selection import Selection, select_layers
    from outcrop.models.sources import load_model, model_schemes
    from outcrop.models.torch_ import RandomWeightsWarning, TorchModel
    from outcrop.models.watched import UnseenOperationsWarning

_HOMES = {
    "InputSpec": "model",
    "LAYER_KINDS": "model",
    "Layer": "model",
    "LayerKind": "model",
    "Model": "model",
    "Preprocessing": "model",
    "RandomWeightsWarning": "torch_",
    "Selection": "selection",
    "TorchModel": "torch_",
    "UnseenOperationsWarning": "watched",
    "Visitor": "model",
    "load_model": "sources",
    "model_schemes": "sources",
    "select_layers": "selection",
}

__all__ = [
    "InputSpec",
    "LAYER_KINDS",
    "Layer",
    "LayerKind",
    "Model",
    "Preprocessing",
    "RandomWeightsWarning",
    "Selection",
    "TorchModel",
    "UnseenOperationsWarning",
    "Visitor",
    "load_model",
    "model_schemes",
    "select_layers",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(f"outcrop.models.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'outcrop.models' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
