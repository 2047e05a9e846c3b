"""Networks of timm: ``timm:NAME``, with trained weights, timm's own preprocessing and class names."""

import warnings
from typing import Any

import timm
import timm.data
import torch
from safetensors import SafetensorError
from timm.models import get_pretrained_cfg, is_model, split_model_name_tag

from outcrop.errors import ModelLoadError, ModelNotFoundError, did_you_mean
from outcrop.models.batch_norm import check_batch_norm
from outcrop.models.hub import HubUnreachableError, fetch
from outcrop.models.model import InputSpec, Preprocessing
from outcrop.models.reference import Reference, parse_reference
from outcrop.models.torch_ import RandomWeightsWarning, TorchModel
from outcrop.models.torch_inputs import FOREIGN_ERRORS

OPTIONS = ("pretrained", "seed", "input_shape", "attention_maps", "batch_norm")


def load_timm(reference: str, *, name: str | None = None, device: str = "auto") -> TorchModel:
    """Return a network of timm.

    Weights are read from safetensors files only. timm's ``test_*`` networks are meant for tests: where their weights
    cannot be fetched, they run with random ones (seed 0), with a warning.

    Args:
        reference: ``NAME`` or ``NAME.TAG``, then ``?pretrained=false`` for random weights (with ``&seed=0``), or
            ``?input_shape=3x64x64`` for another input shape, ``?attention_maps=true`` for layers of what fused
            attention computes and never writes down, or ``?batch_norm=batch`` for batch norm with the statistics of
            the batch.
        name: Short name; by default that of the reference.
        device: ``cpu``, ``cuda``, ...; ``auto`` is CUDA where there is one.

    Raises:
        ModelNotFoundError: timm has no such network or tag.
        ModelLoadError: The weights cannot be fetched, or the network cannot be built.
    """
    parts = parse_reference(reference, OPTIONS)
    _check_name(parts.name)
    configuration = get_pretrained_cfg(parts.name, allow_unregistered=True)
    weights = None
    if parts.switch("pretrained") is not False:
        weights = _find_weights(parts.name, configuration)
    shape = parts.shape()
    network = _build(parts.name, weights, seed=parts.number("seed", 0), options=_for_shape(parts, configuration))
    resolved = timm.data.resolve_model_data_config(network)
    if shape is not None:
        resolved["input_size"] = shape
    return TorchModel(
        network,
        name=name or parts.name,
        source=f"timm:{reference}",
        inputs=[InputSpec("input", tuple(resolved["input_size"]), "float32")],
        device=device,
        preprocessing=_preprocessing(resolved) if resolved["input_size"][0] == 3 else None,
        classes=_classes(network),
        attention_maps=bool(parts.switch("attention_maps")),
        batch_norm=check_batch_norm(parts.options.get("batch_norm", "evaluation"), parts.name),
    )


def _check_name(name: str) -> None:
    architecture, tag = split_model_name_tag(name)
    if not is_model(architecture):
        suggestion = did_you_mean(architecture, timm.list_models())
        raise ModelNotFoundError(
            f"timm has no network {architecture!r}.{suggestion} timm.list_models() lists them all."
        )
    tagged = timm.list_models(f"{architecture}.*", pretrained=True)
    if tag and name not in tagged:
        known = ", ".join(tagged) or "none"
        raise ModelNotFoundError(f"timm has no weights {name!r}; those of {architecture!r}: {known}.")


def _find_weights(name: str, configuration: Any) -> str | None:
    repository = getattr(configuration, "hf_hub_id", None)
    offer = f"Random weights: 'timm:{name}?pretrained=false'."
    if not repository:
        raise ModelLoadError(f"timm has no safetensors weights for {name!r}. {offer}")
    try:
        filename = getattr(configuration, "hf_hub_filename", None) or "model.safetensors"
        if not filename.endswith(".safetensors"):
            filename = filename.replace("pytorch_model.bin", "model.safetensors")
        return str(fetch(repository, filename))
    except HubUnreachableError as error:
        if name.startswith("test_"):
            warnings.warn(f"{name} runs with random weights (seed 0): {error}.", RandomWeightsWarning, stacklevel=5)
            return None
        raise ModelLoadError(f"The weights of {name!r} cannot be fetched: {error}. {offer}") from error
    except ModelNotFoundError as error:
        raise ModelLoadError(f"timm has no safetensors weights for {name!r}: {error}. {offer}") from error


def _for_shape(parts: Reference, configuration: Any) -> dict[str, Any]:
    """Return what timm has to know to build a network for another shape: its size only where it depends on it."""
    shape = parts.shape()
    if shape is None:
        return {}
    if len(shape) != 3:
        raise ModelLoadError(
            f"timm's networks take images; input_shape of {parts.name!r} has {len(shape)} numbers, write it as 3x64x64."
        )
    options: dict[str, Any] = {} if shape[0] == 3 else {"in_chans": shape[0]}
    if getattr(configuration, "fixed_input_size", False):
        options["img_size"] = shape[1:]
    return options


def _build(name: str, weights: str | None, *, seed: int, options: dict[str, Any]) -> torch.nn.Module:
    overlay = None if weights is None else {"file": weights}
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network: torch.nn.Module = timm.create_model(
                name, pretrained=weights is not None, pretrained_cfg_overlay=overlay, **options
            )
    except (*FOREIGN_ERRORS, OSError, SafetensorError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelLoadError(f"timm cannot build {name!r}: {reason}") from error
    return network


def _preprocessing(resolved: dict[str, Any]) -> Preprocessing:
    description = f"timm {sorted(resolved.items())!r}"
    return Preprocessing(description, timm.data.create_transform(**resolved, is_training=False))


def _classes(network: torch.nn.Module) -> tuple[str, ...] | None:
    """Return the names of the logits, where timm knows the labels that a network was trained on."""
    subset = timm.data.infer_imagenet_subset(network)
    if not subset:
        return None
    information = timm.data.ImageNetInfo(subset)
    return tuple(information.index_to_description(index) for index in range(information.num_classes()))
