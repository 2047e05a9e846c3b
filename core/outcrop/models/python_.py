"""Anyone's network by its Python reference: ``python:package.module:factory``."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from outcrop.errors import ModelLoadError, ModelNotFoundError, did_you_mean
from outcrop.models.batch_norm import check_batch_norm
from outcrop.models.model import Model
from outcrop.models.reference import parse_reference
from outcrop.models.torch_ import TorchModel
from outcrop.models.torch_inputs import FOREIGN_ERRORS

OPTIONS = ("input_shape", "attention_maps", "batch_norm")


def load_python(reference: str, *, name: str | None = None, device: str = "auto") -> Model:
    """Return what a function without arguments returns: a ``torch.nn.Module``, or a model.

    The module is imported as Python would from the current folder: its code runs.

    Args:
        reference: ``package.module:factory``; ``?input_shape=3x32x32`` states the shape of one sample,
            ``?attention_maps=true`` makes layers of what fused attention computes and never writes down,
            ``?batch_norm=batch`` has batch norm take its statistics from the batch.
        name: Short name; by default that of the factory.
        device: ``cpu``, ``cuda``, ...; ``auto`` is CUDA where there is one.

    Raises:
        ModelNotFoundError: There is no such Python module or attribute.
        ModelLoadError: The module or factory raises, or returns something else.
    """
    parts = parse_reference(reference, OPTIONS)
    path, colon, attribute = parts.name.partition(":")
    if not (path and colon and attribute):
        raise ModelNotFoundError(f"Not a Python reference: {parts.name!r}; write python:package.module:factory.")
    factory = _attribute(_import(path), attribute)
    if not callable(factory):
        raise ModelLoadError(f"{parts.name} is a {type(factory).__name__}; expected a function that returns a network.")
    try:
        made = factory()
    except FOREIGN_ERRORS as error:
        raise ModelLoadError(f"{parts.name}() failed: {type(error).__name__}: {_line(error)}") from error
    if isinstance(made, nn.Module):
        return TorchModel(
            made,
            name=name or attribute.rpartition(".")[2],
            source=f"python:{reference}",
            input_shape=parts.shape(),
            device=device,
            attention_maps=bool(parts.switch("attention_maps")),
            batch_norm=check_batch_norm(parts.options.get("batch_norm", "evaluation"), parts.name),
        )
    if isinstance(made, Model):
        if "batch_norm" in parts.options:
            raise ModelLoadError(f"{parts.name}() returns a finished model; state its batch_norm where it is made.")
        made.name = name or made.name
        return made
    raise ModelLoadError(f"{parts.name}() returned a {type(made).__name__}; expected a torch.nn.Module or a Model.")


def _import(path: str) -> Any:
    with _current_folder_importable():
        try:
            return importlib.import_module(path)
        except ModuleNotFoundError as error:
            if error.name is not None and (path == error.name or path.startswith(error.name + ".")):
                raise ModelNotFoundError(
                    f"There is no Python module {error.name!r}, neither installed nor in {Path.cwd()}."
                ) from error
            raise ModelLoadError(f"Python module {path!r} needs {error.name!r}, which is not installed.") from error
        except (*FOREIGN_ERRORS, ImportError, SyntaxError, OSError) as error:
            raise ModelLoadError(f"Python module {path!r} failed: {type(error).__name__}: {_line(error)}") from error


def _attribute(module: Any, path: str) -> Any:
    found = module
    for part in path.split("."):
        if not hasattr(found, part):
            public = [name for name in vars(found) if not name.startswith("_")]
            raise ModelNotFoundError(f"Python module {module.__name__!r} has no {path!r}.{did_you_mean(part, public)}")
        found = getattr(found, part)
    return found


@contextmanager
def _current_folder_importable() -> Iterator[None]:
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(folder)


def _line(error: BaseException) -> str:
    return (str(error) or "no message").splitlines()[0]
