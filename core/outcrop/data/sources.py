"""From a reference, an array, a mapping or a dataset to data."""

import copy
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from outcrop.data.dataset import Data
from outcrop.data.selection import evenly_chosen, subset
from outcrop.errors import DataNotFoundError, DataReadError, ParameterError, did_you_mean
from outcrop.progress import Progress, silent

if TYPE_CHECKING:
    from torch import Tensor

    from outcrop.data.torch_ import MapStyle

# At least two characters, so that C:\photos is a path.
_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9_+.-]+):(?P<rest>.*)", re.DOTALL)
_ARRAY_FILES = {".npy", ".npz"}


def load_data(
    reference: "str | os.PathLike[str] | NDArray[Any] | Tensor | Mapping[str, NDArray[Any] | Tensor] | MapStyle | Data",
    *,
    name: str | None = None,
    limit: int | None = None,
    strict: bool = False,
    progress: Progress = silent,
) -> Data:
    r"""Return samples from wherever they are.

    Args:
        reference: One of
            a folder of images, with or without a subfolder for each class; one image; a ``.npy`` or ``.npz`` file;
            ``torchvision:CIFAR10`` (``/train``, ``?root=PATH``); ``text:FILE?tokenizer=NAME``;
            ``scheme:...`` of a plugin, such as ``zoo:patches``;
            an array or tensor (sample, ...); a mapping of them, by input name, with ``labels``, ``ids``, ``classes``;
            a map-style torch dataset; data, which is returned. uint8 in the shape of images is
            preprocessed by each model; other arrays are taken as they are.
        name: Short name, unique in a study; by default the last part of the reference.
        limit: How many samples at most: evenly by class and spaced over each, always the same ones.
        strict: Whether an unreadable sample is an error; otherwise it is skipped with a SkippedSamplesWarning.
        progress: Told of every sample that is checked.

    Raises:
        DataNotFoundError: Nothing answers to the reference, or it holds no sample.
        DataReadError: It holds something else, or, with ``strict``, something unreadable.
        ParameterError: ``limit`` is not a whole number above 0.
    """
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int | np.integer) or limit < 1):
        raise ParameterError(f"The limit of samples is {limit!r}; expected a whole number above 0.")
    data = _load(reference, None if limit is None else int(limit), strict, progress)
    if limit is not None and limit < len(data):
        data = subset(data, evenly_chosen(len(data), int(limit), data.labels))
    limited = int(limit) if limit is not None and limit <= len(data) else data.limit
    if (name or data.name, limited) != (data.name, data.limit):
        # A source may hand out one object many times.
        data = copy.copy(data)
        data.name, data.limit = name or data.name, limited
    return data


def _load(reference: Any, limit: int | None, strict: bool, progress: Progress) -> Data:
    if isinstance(reference, Data):
        return reference
    if isinstance(reference, str):
        return _from_text(reference, limit, strict, progress)
    if isinstance(reference, os.PathLike):
        return _from_path(Path(reference), limit, strict, progress)
    from outcrop.data.array_files import data_from_arrays

    if isinstance(reference, Mapping):
        arrays = {str(key): _array(value) for key, value in reference.items()}
        return data_from_arrays(arrays, name="mapping", source=f"mapping of {', '.join(arrays)}")
    if isinstance(reference, np.ndarray) or hasattr(reference, "__array__"):
        array = _array(reference)
        return data_from_arrays({"": array}, name="array", source=f"array {array.dtype} {array.shape}")
    if hasattr(reference, "__getitem__") and hasattr(reference, "__len__") and not _is_iterable_only(reference):
        from outcrop.data.torch_ import TorchDataset

        return TorchDataset(reference, limit=limit, strict=strict, progress=progress)
    advice = " Give the loader's dataset." if hasattr(reference, "dataset") else ""
    raise DataReadError(
        f"A {type(reference).__name__} is not data; expected a reference, a path, an array, a mapping of arrays, or a "
        f"dataset with a length and items.{advice}"
    )


def _array(value: Any) -> NDArray[Any]:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        from outcrop.data.torch_ import array_of

        return array_of(value)
    try:
        return np.asanyarray(value)
    except ValueError as error:
        raise DataReadError(f"A {type(value).__name__} is no array: {error}. Pad its rows to one length.") from error


def _is_iterable_only(reference: object) -> bool:
    # torch's IterableDataset inherits __getitem__ and cannot do it.
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(reference, torch.utils.data.IterableDataset)


def _from_text(reference: str, limit: int | None, strict: bool, progress: Progress) -> Data:
    if not reference.strip():
        raise DataNotFoundError("An empty reference names no data; give a folder, a file or 'scheme:name'.")
    match = _SCHEME.fullmatch(reference)
    if match is None or os.path.exists(reference):
        return _from_path(Path(reference), limit, strict, progress)
    from outcrop.plugins import plugin_registry

    scheme = match["scheme"]
    registry = plugin_registry()
    sources = {**OWN_LOADERS, **registry.data_sources()}
    if scheme not in sources:
        registry.raise_if_broken("outcrop_data_sources", scheme)
        raise DataNotFoundError(
            f"There is no data source {scheme!r} for {reference!r}.{did_you_mean(scheme, sources)} "
            f"Available: {', '.join(sorted(sources))}; or give a path.{registry.hint('outcrop_data_sources')}"
        )
    return sources[scheme](match["rest"])


def _torchvision(reference: str) -> Data:
    from outcrop.data.torchvision_ import load_torchvision

    return load_torchvision(reference)


def _text(reference: str) -> Data:
    from outcrop.data.transformers_ import load_text

    return load_text(reference)


OWN_LOADERS: Mapping[str, Callable[[str], Data]] = {"text": _text, "torchvision": _torchvision}
"""Schemes of outcrop itself; they take what follows the scheme."""


def _from_path(path: Path, limit: int | None, strict: bool, progress: Progress) -> Data:
    path = path.expanduser()
    if not os.path.exists(path):
        raise DataNotFoundError(_missing(path))
    from outcrop.data.folder import ImageFolder
    from outcrop.data.images import readable_extensions

    if path.is_dir() or path.suffix.lower() in readable_extensions():
        return ImageFolder(path, limit=limit, strict=strict, progress=progress)
    if path.suffix.lower() in _ARRAY_FILES:
        from outcrop.data.array_files import data_from_file

        return data_from_file(path)
    advice = f" For lines of text say 'text:{path}?tokenizer=NAME'." if path.suffix.lower() == ".txt" else ""
    raise DataReadError(
        f"File {str(path)!r} is not data; expected an image, a folder of images, or a .npy or .npz file.{advice}"
    )


def _missing(path: Path) -> str:
    from outcrop.data.torchvision_ import NAMES

    if not os.path.isdir(path.parent):
        return f"There is no folder or file {str(path)!r}; its parent {str(path.parent)!r} does not exist either."
    beside = sorted(entry.name for entry in path.parent.iterdir() if not entry.name.startswith("."))
    named = [f"torchvision:{name}" for name in NAMES if name.lower() == path.name.lower()]
    advice = f" Did you mean {named[0]!r}?" if named else did_you_mean(path.name, beside)
    return f"There is no folder or file {str(path)!r}.{advice} Expected a path, or 'scheme:name' such as 'zoo:patches'."
