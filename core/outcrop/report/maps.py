"""Maps between layers, packed for the page: every matrix once, symmetric ones by their upper half."""

import base64
import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import xarray as xr

_CODES = 65534  # 65535 stands for "no value"


@dataclass(frozen=True)
class Span:
    """Layers ``start`` to ``stop - 1`` of an axis, all of one model."""

    model: str
    start: int
    stop: int

    @property
    def length(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Axis:
    """Layers along one side of a map, ordered by model and, within each, topologically.

    Attributes:
        order: (layer,), positions in the dataset.
        models: (layer,), name of the model.
        names: (layer,).
        kinds: (layer,).
        depths: (layer,), topological index within the model.
    """

    order: NDArray[np.int64]
    models: tuple[str, ...]
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    depths: NDArray[np.int64]

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        starts = [0, *(i for i in range(1, len(self.models)) if self.models[i] != self.models[i - 1])]
        stops = [*starts[1:], len(self.models)]
        return tuple(Span(self.models[a], a, b) for a, b in zip(starts, stops, strict=True) if b > a)

    def asset(self) -> dict[str, Any]:
        """Return the layer table that the page reads."""
        return {"models": self.models, "names": self.names, "kinds": self.kinds}


def read_axis(dataset: "xr.Dataset", dim: str, suffix: str = "") -> Axis:
    """Return the layers along ``dim``; coordinates that a stranger's result lacks are filled in.

    Args:
        dataset: With coordinates ``model``, ``name``, ``depth`` and ``layer_kind``, each followed by ``suffix``.
        dim: Dimension of the layers.
        suffix: Such as ``_a``.
    """
    size = dataset.sizes[dim]

    def text(name: str, default: str) -> NDArray[np.object_]:
        if name + suffix in dataset.variables:
            return np.array([str(value) for value in dataset[name + suffix].values], dtype=object)
        return np.array([default.format(i) for i in range(size)], dtype=object)

    models, names, kinds = text("model", ""), text("name", "layer {}"), text("layer_kind", "")
    depth = dataset["depth" + suffix].values if "depth" + suffix in dataset.variables else np.arange(size)
    first = {model: i for i, model in reversed(list(enumerate(models)))}
    order = np.lexsort([depth, [first[model] for model in models]]) if size else np.arange(0)
    return Axis(order, tuple(models[order]), tuple(names[order]), tuple(kinds[order]), depth[order].astype(np.int64))


def pack(matrix: NDArray[np.floating]) -> dict[str, Any]:
    """Return a matrix as 16-bit codes in base64: ``value = low + code * step``, the last code stands for NaN.

    The upper half is enough where the matrix is symmetric. Rounded to (maximum - minimum) / 65534, about
    0.00002 for a similarity.
    """
    values = np.asarray(matrix, dtype=np.float64)
    symmetric = values.shape[0] == values.shape[1] and np.array_equal(values, values.T, equal_nan=True)
    kept = values[np.triu_indices(len(values))] if symmetric else values.ravel()
    finite = kept[np.isfinite(kept)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    step = (high - low) / _CODES
    codes = np.full(kept.shape, _CODES + 1, dtype="<u2")
    codes[np.isfinite(kept)] = np.round((finite - low) / step) if step else 0
    return {
        "rows": values.shape[0],
        "columns": values.shape[1],
        "symmetric": symmetric,
        "low": low,
        "step": step,
        "codes": base64.b64encode(codes.tobytes()).decode(),
    }


def group_layers(names: tuple[str, ...]) -> list[tuple[int, int, str]]:
    """Return (start, stop, label) of neighbouring layers under one module, for the ticks of a long axis.

    Goes as deep into the module path as it takes for no group to hold more than 60 % of the layers.
    """
    groups: list[tuple[int, int, str]] = []
    for depth in (1, 2, 3):
        labels = [_prefix(name, depth) for name in names]
        edges = [0, *(i for i in range(1, len(labels)) if labels[i] != labels[i - 1]), len(labels)]
        groups = [(a, b, labels[a]) for a, b in itertools.pairwise(edges) if b > a]
        if not groups or max(b - a for a, b, _ in groups) <= 0.6 * len(names):
            break
    return groups


def _prefix(name: str, depth: int) -> str:
    separator = "/" if "/" in name and "." not in name else "."
    return separator.join(name.strip(separator).split(separator)[:depth])
