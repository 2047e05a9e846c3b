"""A model whose layers are given arrays, so that an analysis can be run on a known truth without a network."""

import hashlib
from collections.abc import Collection, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from outcrop.data.arrays import ArrayData
from outcrop.errors import InputError
from outcrop.models.model import InputSpec, Layer, LayerKind, Model, Visitor

if TYPE_CHECKING:
    from torch import Tensor

_DIMS = {1: ("feature",), 2: ("token", "feature"), 3: ("channel", "y", "x")}


class ArrayModel(Model):
    """A model that looks its layers' values up by sample index; :class:`IndexData` holds the indices.

    Args:
        name: Of the model.
        arrays: Values (sample, ...) by layer name, in topological order.
        kinds: Kinds by layer name; ``block`` where not given.

    Raises:
        InputError: There is no layer, or the layers have different numbers of samples.
    """

    inputs = (InputSpec("sample", (), "int64"),)

    def __init__(
        self, name: str, arrays: Mapping[str, NDArray[Any]], *, kinds: Mapping[str, LayerKind] | None = None
    ) -> None:
        counts = {layer: len(values) for layer, values in arrays.items()}
        if len(set(counts.values())) != 1:
            raise InputError(f"The layers of {name!r} must have one number of samples; got {counts or 'no layer'}.")
        self.name = name
        self.source = f"arrays:{name}"
        self.sample_count = next(iter(counts.values()))
        self._arrays = dict(arrays)
        self.layers = tuple(
            Layer(
                name=layer,
                kind=(kinds or {}).get(layer, "block"),
                index=index,
                shape=values.shape[1:],
                dtype=str(values.dtype),
                operation="array",
                dims=_DIMS.get(values.ndim - 1, tuple(f"dim_{axis}" for axis in range(1, values.ndim))),
            )
            for index, (layer, values) in enumerate(self._arrays.items())
        )

    @cached_property
    def fingerprint(self) -> str:
        """Return a hash of all values."""
        digest = hashlib.sha256()
        for layer, values in self._arrays.items():
            digest.update(f"{layer} {values.dtype} {values.shape}".encode())
            digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()

    def visit(self, inputs: "Mapping[str, Tensor]", layers: Collection[str], visitor: Visitor) -> None:
        """Call the visitor with the values of the samples asked for; every call gets a copy of its own.

        Raises:
            InputError: An index lies outside the arrays.
        """
        import torch

        self.check_inputs(inputs)
        index = inputs["sample"].numpy()
        if index.size and (index.min() < 0 or index.max() >= self.sample_count):
            raise InputError(f"Model {self.name!r} has samples 0 to {self.sample_count - 1}; got index {index.max()}.")
        for layer in self.layers:
            if layer.name in layers:
                visitor(layer, torch.from_numpy(self._arrays[layer.name][index]))

    def forward(self, inputs: "Mapping[str, Tensor]") -> "Tensor":
        """Return the values of the last layer."""
        found: list[Tensor] = []
        self.visit(inputs, [self.layers[-1].name], lambda _, values: found.append(values))
        return found[0]


class IndexData(ArrayData):
    """The sample indices 0 to ``count - 1``: the data of an :class:`ArrayModel`."""

    def __init__(self, count: int, *, name: str = "index") -> None:
        super().__init__(np.arange(count, dtype=np.int64), name=name, source=f"index:{count}")
