"""Load a model from wherever it is: a reference, a path, or an object."""

import copy
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from outcrop.errors import ModelLoadError, ModelNotFoundError, did_you_mean
from outcrop.models.model import Model

if TYPE_CHECKING:
    import onnx
    import torch

    from outcrop.models.batch_norm import BatchNorm

Loader = Callable[[str, str | None, str], Model]
"""Takes what follows the scheme, a name or None, and a device."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9_.\-]+):(.*)", re.DOTALL)  # two letters at least: C:\ is a drive


def load_model(
    reference: "str | os.PathLike[str] | torch.nn.Module | onnx.ModelProto | Model",
    *,
    name: str | None = None,
    device: str = "auto",
    input_shape: tuple[int, ...] | None = None,
    attention_maps: bool = False,
    batch_norm: "BatchNorm" = "evaluation",
) -> Model:
    """Return a model from a reference, a path or an object.

    References: ``timm:NAME``, ``torchvision:NAME``, ``onnx:PATH`` (or a path that ends in .onnx), ``hf:NAME``,
    ``python:package.module:factory``, and those that plugins add, such as ``zoo:NAME``. Options follow a question
    mark: ``timm:resnet18?pretrained=false&seed=1``.

    Args:
        reference: Where the model is, or the model: a torch module, an ONNX model, or a model already loaded.
        name: Short name, unique in a study.
        device: ``cpu``, ``cuda``, ...; ``auto`` is CUDA where there is one. A torch module given as an object stays
            where it is unless a device is stated.
        input_shape: Shape of one sample, for a torch module given as an object.
        attention_maps: Whether what each token attends to is a layer also where attention is fused, for a torch module
            given as an object: ``blocks.0.attn.softmax`` (head, token, token_key).
        batch_norm: For a torch module given as an object: ``batch`` has batch norm take its statistics from the batch
            at hand, as in training; running statistics are neither used nor updated, dropout stays off.

    Raises:
        ModelNotFoundError: No model answers to the reference; near ones are suggested.
        ModelLoadError: The model was found, and cannot be read or run.
        MissingDependencyError: An optional package is needed.
    """
    if input_shape is not None and isinstance(reference, str | os.PathLike | Model):
        raise ModelLoadError(
            "input_shape belongs to torch modules given as objects; write '?input_shape=3x64x64' behind a reference."
        )
    if attention_maps and not _is_torch_module(reference):
        raise ModelLoadError(
            "attention_maps belongs to torch modules given as objects; write '?attention_maps=true' behind the "
            "reference of a torch network. An ONNX graph has its attention maps among its layers."
        )
    if batch_norm != "evaluation" and not _is_torch_module(reference):
        raise ModelLoadError(
            "batch_norm belongs to torch modules given as objects; write '?batch_norm=batch' behind the reference of a "
            "torch network. An ONNX graph has its batch norm fixed."
        )
    if isinstance(reference, Model):
        return _named(reference, name)
    if isinstance(reference, os.PathLike):
        return _load_path(os.fspath(reference), name, device)
    if isinstance(reference, str):
        return _load_text(reference, name, device)
    return _load_object(reference, name, device, input_shape, attention_maps, batch_norm)


def _is_torch_module(reference: object) -> bool:
    if isinstance(reference, str | os.PathLike | Model):
        return False
    import torch

    return isinstance(reference, torch.nn.Module)


def model_schemes() -> dict[str, Loader]:
    """Return the loaders of outcrop and its plugins by scheme."""
    from outcrop.plugins import plugin_registry

    offered = plugin_registry().model_sources()
    return {**OWN_LOADERS, **{scheme: _of_plugin(scheme, load) for scheme, load in offered.items()}}


def _load_text(reference: str, name: str | None, device: str) -> Model:
    match = _SCHEME.fullmatch(reference)
    if match is None:
        return _load_path(reference, name, device)
    scheme, rest = match.groups()
    # Plugins are asked only for a scheme that is not outcrop's own.
    load = OWN_LOADERS.get(scheme) or model_schemes().get(scheme)
    if load is None:
        from outcrop.plugins import plugin_registry

        known, registry = model_schemes(), plugin_registry()
        registry.raise_if_broken("outcrop_model_sources", scheme)
        listed = ", ".join(f"{one}:" for one in sorted(known))
        raise ModelNotFoundError(
            f"No model source {scheme + ':'!r} in {reference!r}.{did_you_mean(scheme, known)} There are: {listed}."
            f"{registry.hint('outcrop_model_sources')}"
        )
    if not rest:
        raise ModelNotFoundError(f"{reference!r} names no model; write {scheme}:NAME.")
    return load(rest, name, device)


def _load_path(path: str, name: str | None, device: str) -> Model:
    if path.lower().endswith(".onnx"):
        return _load_onnx(path, name, device)
    there = Path(path).exists()
    what = "is no ONNX file (*.onnx)" if there else "is neither a reference nor a file"
    listed = ", ".join(f"{scheme}:" for scheme in sorted(model_schemes()))
    raise ModelNotFoundError(f"{path!r} {what}. Write SCHEME:NAME with one of {listed} or the path of an ONNX file.")


def _load_object(
    model: "torch.nn.Module | onnx.ModelProto",
    name: str | None,
    device: str,
    input_shape: tuple[int, ...] | None,
    attention_maps: bool,
    batch_norm: "BatchNorm",
) -> Model:
    import torch

    if isinstance(model, torch.nn.Module):
        from outcrop.models.torch_ import TorchModel

        placed = None if device == "auto" else device
        return TorchModel(
            model,
            name=name,
            input_shape=input_shape,
            device=placed,
            attention_maps=attention_maps,
            batch_norm=batch_norm,
        )
    import onnx

    if isinstance(model, onnx.ModelProto):
        from outcrop.models.onnx_ import load_onnx

        return load_onnx(model, name=name, device=device)
    raise ModelLoadError(
        f"Cannot load a model from a {type(model).__name__}; give a reference such as 'timm:resnet18', a path, "
        "a torch.nn.Module or an onnx.ModelProto."
    )


def _load_onnx(path: str, name: str | None, device: str) -> Model:
    from outcrop.models.onnx_ import load_onnx_reference

    return load_onnx_reference(path, name=name, device=device)


def _load_timm(rest: str, name: str | None, device: str) -> Model:
    from outcrop.models.timm_ import load_timm

    return load_timm(rest, name=name, device=device)


def _load_torchvision(rest: str, name: str | None, device: str) -> Model:
    from outcrop.models.torchvision_ import load_torchvision

    return load_torchvision(rest, name=name, device=device)


def _load_huggingface(rest: str, name: str | None, device: str) -> Model:
    from outcrop.models.huggingface_ import load_huggingface

    return load_huggingface(rest, name=name, device=device)


def _load_python(rest: str, name: str | None, device: str) -> Model:
    from outcrop.models.python_ import load_python

    return load_python(rest, name=name, device=device)


OWN_LOADERS: Mapping[str, Loader] = {
    "hf": _load_huggingface,
    "onnx": _load_onnx,
    "python": _load_python,
    "timm": _load_timm,
    "torchvision": _load_torchvision,
}
"""Schemes of outcrop itself."""


def _of_plugin(scheme: str, load: Callable[[str], Model]) -> Loader:
    def loader(rest: str, name: str | None, device: str) -> Model:
        model = load(rest)
        if device != "auto" and not model.device.startswith(device):
            raise ModelLoadError(
                f"{scheme}:{rest} runs on {model.device}; its source chooses the device, and {device!r} is refused."
            )
        return _named(model, name)

    return loader


def _named(model: Model, name: str | None) -> Model:
    """Return the model under a name; a copy, for whoever handed it out may hold it under its own."""
    if name is None or name == model.name:
        return model
    renamed = copy.copy(model)
    renamed.name = name
    return renamed
