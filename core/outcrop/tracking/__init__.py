"""Follow the layers of a network while it trains: first principal components and similarity, in anyone's own loop.

    tracker = outcrop.Tracker(network, images, every=100, study="training.zarr")
    for step, (inputs, labels) in enumerate(batches):
        ...
        tracker(step)

Importing this package imports no torch; the names below are loaded when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from outcrop.tracking.isolation import undisturbed
    from outcrop.tracking.tracker import Tracker

__all__ = ["Tracker", "undisturbed"]

_MODULES = {"Tracker": "tracker", "undisturbed": "isolation"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
