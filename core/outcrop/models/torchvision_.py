"""Networks of torchvision: ``torchvision:NAME``, with trained weights, their preprocessing and class names."""

import inspect
import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torchvision
from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings
from torchvision.transforms._presets import VideoClassification
from torchvision.transforms.functional import resize

from outcrop.errors import ModelLoadError, ModelNotFoundError, did_you_mean
from outcrop.models.batch_norm import check_batch_norm
from outcrop.models.model import InputSpec, Preprocessing
from outcrop.models.reference import Reference, parse_reference
from outcrop.models.torch_ import TorchModel
from outcrop.models.torch_inputs import FOREIGN_ERRORS

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

OPTIONS = ("weights", "seed", "input_shape", "attention_maps", "batch_norm")
_SIZE = 224
_FRAMES = 16


def load_torchvision(reference: str, *, name: str | None = None, device: str = "auto") -> TorchModel:
    """Return a network of torchvision.

    Weights are read without executing pickled code (``weights_only``), and checked against their published hash.

    Args:
        reference: ``NAME``, then ``?weights=IMAGENET1K_V1`` for other than the default weights, ``?weights=none`` for
            random ones (with ``&seed=0``), or ``?input_shape=3x64x64`` for another input shape (of videos
            ``3x16x112x112``: channels, frames, height, width), ``?attention_maps=true`` for layers of what fused
            attention computes and never writes down, or ``?batch_norm=batch`` for batch norm with the statistics of
            the batch.
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
    transform = weights.transforms()
    shape = parts.shape() or _default_shape(weights, transform)
    network = _build(parts, state, weights, shape)
    return TorchModel(
        network,
        name=name or parts.name,
        source=f"torchvision:{reference}",
        inputs=[InputSpec("input", shape, "float32")],
        device=device,
        preprocessing=_preprocessing(transform, shape) if len(shape) == 3 and shape[0] == 3 else None,
        classes=weights.meta.get("categories"),
        attention_maps=bool(parts.switch("attention_maps")),
        batch_norm=check_batch_norm(parts.options.get("batch_norm", "evaluation"), parts.name),
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


def _build(parts: Reference, state: dict[str, Any] | None, weights: Any, shape: tuple[int, ...]) -> torch.nn.Module:
    builder = torchvision.models.get_model_builder(parts.name)
    options: dict[str, Any] = {"weights": None, **_for_shape(parts.name, shape)}
    if "init_weights" in inspect.signature(builder).parameters or parts.name in ("googlenet", "inception_v3"):
        options["init_weights"] = True  # unstated, torchvision warns that the default will change
    if "weights_backbone" in inspect.signature(builder).parameters:
        options["weights_backbone"] = None
    if state is not None:
        options["num_classes"] = len(weights.meta["categories"])
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(parts.number("seed", 0))
            network: torch.nn.Module = builder(**options)
        if state is not None:
            if isinstance(network, VisionTransformer):  # its weights hold one position a patch of the size trained on
                state = interpolate_embeddings(network.image_size, network.patch_size, OrderedDict(state))
            network.load_state_dict(state)
    except FOREIGN_ERRORS as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelLoadError(f"torchvision cannot build {parts.name!r}: {reason}") from error
    return network


def _for_shape(name: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """Return what torchvision has to know to build a network that depends on the size of its images."""
    if name.startswith("vit_"):
        if len(shape) != 3 or shape[1] != shape[2]:
            raise ModelLoadError(f"{name!r} takes square images; its input_shape is {shape}, write it as 3x64x64.")
        return {"image_size": shape[1]}
    return {"input_size": shape[1:]} if name.startswith("maxvit") else {}


def _default_shape(weights: Any, transform: Any) -> tuple[int, ...]:
    """Return the size of the images, or of the clips, that the weights were trained on."""
    crop = _crop(transform) or (_SIZE, _SIZE)
    if not isinstance(transform, VideoClassification):
        return (3, *crop)
    return (3, max(_FRAMES, weights.meta.get("min_temporal_size", 1)), *crop)


def _crop(transform: Any) -> tuple[int, int] | None:
    size = getattr(transform, "crop_size", None)
    return None if size is None else (size[0], size[-1])


def _preprocessing(transform: "Callable[[Image], Tensor]", shape: tuple[int, ...]) -> Preprocessing:
    """Return the transform of the weights; where it leaves images at another size, they are resized afterwards."""
    description = " ".join(f"torchvision {transform!r}".split())
    height, width = shape[1:]
    if (height, width) == _crop(transform):
        return Preprocessing(description, transform)

    def resized(image: "Image") -> "Tensor":
        tensor: Tensor = resize(transform(image), [height, width], antialias=True)
        return tensor

    return Preprocessing(f"{description}, then resized to {height}x{width}", resized)
