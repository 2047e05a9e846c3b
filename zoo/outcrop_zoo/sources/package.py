"""Weights that an installed Python package ships, and the network that they fill."""

import hashlib
import io
import pickle
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from outcrop.errors import MissingDependencyError, ZooError, did_you_mean
from outcrop_zoo.sources.source import PackageSource

if TYPE_CHECKING:
    from torch import Tensor, nn


def installed_version(source: PackageSource) -> str | None:
    """Return the version of a source's package that is installed, or None."""
    try:
        return metadata.version(source.package)
    except metadata.PackageNotFoundError:
        return None


def package_file(source: PackageSource) -> Path:
    """Return where a source's file lies.

    Raises:
        MissingDependencyError: The package is not installed.
        ZooError: It came without the file.
    """
    try:
        distribution = metadata.distribution(source.package)
    except metadata.PackageNotFoundError as error:
        raise MissingDependencyError(
            f"The weights are in the Python package {source.package!r}, which is not installed; "
            f"run '{source.installation}'."
        ) from error
    path = Path(str(distribution.locate_file(source.file)))
    if not path.is_file():
        raise ZooError(
            f"The Python package {source.package!r} {distribution.version} holds no file {source.file!r}; "
            f"run '{source.installation} --force-reinstall'."
        )
    return path


def load_package_network(source: PackageSource) -> "nn.Module":
    """Return a source's network with its weights, in evaluation mode on the CPU.

    Nothing but tensors is read of the file, and no code of the package runs.

    Raises:
        MissingDependencyError: The package is not installed.
        ZooError: The file is missing or another one, holds no tensors, or these do not fit the architecture.
    """
    weights = _read_weights(source)
    network = _build(source)
    state = network.state_dict()
    if len(weights) != len(state):
        raise ZooError(
            f"{source.file} of {source.package!r} holds {len(weights)} tensors; {source.architecture} has "
            f"{len(state)}. Correct the card's architecture or its number of classes."
        )
    for (given, values), (key, expected) in zip(weights.items(), state.items(), strict=True):
        # Order alone would let a running mean pass for a running variance, which has the same shape.
        if values.shape != expected.shape or given.rpartition(".")[2] != key.rpartition(".")[2]:
            raise ZooError(
                f"{source.file} of {source.package!r} holds {given!r} {tuple(values.shape)} in the place of {key!r} "
                f"{tuple(expected.shape)} of {source.architecture}: its order is another one. Correct the card."
            )
    network.load_state_dict(dict(zip(state, weights.values(), strict=True)))
    return network.eval()


def _read_weights(source: PackageSource) -> "dict[str, Tensor]":
    import torch

    path = package_file(source)
    # Hashed and read from the same bytes.
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != source.sha256:
        raise ZooError(
            f"{path} is not the file on the card: sha256 {found}, expected {source.sha256}. The installed version of "
            f"{source.package!r} is {installed_version(source)}; run '{source.installation} --force-reinstall'."
        )
    try:
        weights = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise ZooError(
            f"{path} is not a file of weights that torch reads without running code; correct the card."
        ) from error
    if not isinstance(weights, dict) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise ZooError(f"{path} holds a {type(weights).__name__}; expected tensors by name. Correct the card.")
    return weights


def _build(source: PackageSource) -> "nn.Module":
    import timm

    if not timm.is_model(source.architecture):
        raise ZooError(
            f"timm has no network {source.architecture!r}.{did_you_mean(source.architecture, timm.list_models())} "
            "Correct the card's architecture."
        )
    options = {} if source.classes is None else {"num_classes": source.classes}
    network: nn.Module = timm.create_model(source.architecture, pretrained=False, **options)
    return network
