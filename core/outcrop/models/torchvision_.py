"""Networks of torchvision: ``torchvision:NAME``, with trained weights, their preprocessing and class names."""

import inspect
import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torchvision

from outcrop.errors import ModelLoadError, ModelNotFoundError, did_you_mean
from outcrop.models.model import InputSpec, Preprocessing
from outcrop.models.reference import Reference, parse_reference
from outcrop.models.torch_ import TorchModel
from outcrop.models.torch_inputs import FOREIGN_ERRORS

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

OPTIONS = ("weights", "seed", "input_shape")


def load_torchvision(reference: str, *, name: str | None = None, device: str = "auto") -> TorchModel:
    """Return a network of torchvision.

    Weights are read without executing pickled code (``weights_only``), and checked against their published hash.

    Args:
        reference: ``NAME``, then ``?weights=IMAGENET1K_V1`` for other than the default weights, ``?weights=none`` for
            random ones (with ``&seed=0``), or ``?input_shape=3x64x64`` for another input shape.
        name: Short name; by default that of the reference.
        device: ``cpu``, ``cuda``, ...; ``auto`` is CUDA where there is one.

    Raises:
        ModelNotFoundError: torchvision has no such network or weights.
        ModelLoadError: The weights cannot be fetched, or the network cannot be built.
    """
    parts = parse_reference(reference, OPTIONS)
    if parts.name not in torchvision.models.list_models():
        suggestion = did_you_mean(parts.name, torchvision.models.list_models())
        raise ModelNotFoundError(
            f"torchvision has no network {parts.name!r}.{suggestion} torchvision.models.list_models() lists them all."
        )
    random = parts.options.get("weights", "").lower() == "none"
    weights = _weights(parts)
    state = None if random else _state(parts, weights)
    network = _build(parts, state, weights)
    transform = weights.transforms() if weights is not None else None
    shape = parts.shape() or (3, *_crop(transform))
    return TorchModel(
        network,
        name=name or parts.name,
        source=f"torchvision:{reference}",
        inputs=[InputSpec("input", shape, "float32")],
        device=device,
        preprocessing=None if transform is None else _preprocessing(transform, shape),
        classes=weights.meta.get("categories") if weights is not None else None,
    )


def _weights(parts: Reference) -> Any:
    """Return the weights asked for; for random ones the default, whose preprocessing is used."""
    choices = torchvision.models.get_model_weights(parts.name)
    wanted = parts.options.get("weights", "DEFAULT")
    if wanted.lower() == "none":
        wanted = "DEFAULT"
    if wanted not in choices.__members__:
        known = ", ".join(choices.__members__)
        raise ModelNotFoundError(f"torchvision has no weights {wanted!r} of {parts.name!r}; there are: {known}.")
    return choices[wanted]


def _state(parts: Reference, weights: Any) -> dict[str, Any]:
    try:
        state: dict[str, Any] = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelLoadError(
            f"The weights of {parts.name!r} in {torch.hub.get_dir()} hold more than tensors and are not read."
        ) from error
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "reason", error)
        raise ModelLoadError(
            f"The weights of {parts.name!r} cannot be fetched from {weights.url} ({reason}). "
            f"Random weights: 'torchvision:{parts.name}?weights=none'."
        ) from error
    return state


def _build(parts: Reference, state: dict[str, Any] | None, weights: Any) -> torch.nn.Module:
    builder = torchvision.models.get_model_builder(parts.name)
    options: dict[str, Any] = {"weights": None}
    if "init_weights" in inspect.signature(builder).parameters or parts.name in ("googlenet", "inception_v3"):
        options["init_weights"] = True  # unstated, torchvision warns that the default will change
    if "weights_backbone" in inspect.signature(builder).parameters:
        options["weights_backbone"] = None
    if state is not None and weights is not None:
        options["num_classes"] = len(weights.meta["categories"])
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(parts.number("seed", 0))
            network: torch.nn.Module = builder(**options)
        if state is not None:
            network.load_state_dict(state)
    except FOREIGN_ERRORS as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelLoadError(f"torchvision cannot build {parts.name!r}: {reason}") from error
    return network


def _crop(transform: Any) -> tuple[int, int]:
    size = getattr(transform, "crop_size", None) or [224]
    return (size[0], size[-1])


def _preprocessing(transform: "Callable[[Image], Tensor]", shape: tuple[int, ...]) -> Preprocessing:
    description = " ".join(f"torchvision {transform!r}".split())
    crop = _crop(transform)
    if tuple(shape[1:]) == crop or len(shape) != 3:
        return Preprocessing(description, transform)
    from torchvision.transforms.functional import resize

    def resized(image: "Image") -> "Tensor":
        tensor: Tensor = resize(transform(image), list(shape[1:]), antialias=True)
        return tensor

    return Preprocessing(f"{description}, then resized to {shape[1]}x{shape[2]}", resized)
