"""Features of a layer in one order and in double precision, a few at a time, for sums over samples."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from outcrop.errors import AnalysisError
from outcrop.models.model import Layer
from outcrop.numerics.components.feature_order import FeatureOrder
from outcrop.numerics.stream.gram_options import LayerKey

CHUNK = 1 << 18
"""Values widened at a time: 2 MiB, which a cache holds through all that is made of them."""

DEVICE_CHUNK = 1 << 24  # on an accelerator


class LayerFeatures:
    """The features of layers (sample, feature), each layer's in the order in which its first group has them.

    Vectors over features are kept in that order while values stream, and leave it for that of the dimensions.
    """

    def __init__(self) -> None:
        self.orders: dict[LayerKey, FeatureOrder] = {}
        self._kept: dict[LayerKey, Tensor] = {}

    def of(self, key: LayerKey, values: Float[Tensor, "sample ..."]) -> Float[Tensor, "sample feature"]:
        """Return values as they are, flattened.

        Raises:
            AnalysisError: They have another shape than those of earlier groups.
        """
        values = values.detach()
        if values.is_complex():
            values = torch.view_as_real(values.resolve_conj())
        order = self.orders.setdefault(key, FeatureOrder.of(values))
        if order.shape != tuple(values.shape[1:]):
            raise AnalysisError(
                f"Layer {key[1]!r} of model {key[0]!r} has features of shape {tuple(values.shape[1:])} and had "
                f"{order.shape} before; every sample must have the same features."
            )
        return order.flatten(values)

    def kept(
        self, key: LayerKey, layer: Layer, device: torch.device, vectors: Callable[[], NDArray[np.float64]]
    ) -> Float[Tensor, "vector feature"]:
        """Return vectors (vector, feature), given in the order of the dimensions, in that of a layer, made once.

        Raises:
            AnalysisError: They are of another number of features.
        """
        if key not in self._kept:
            given = torch.from_numpy(np.ascontiguousarray(vectors(), dtype=np.float64))
            order = self.orders[key]
            if given.shape[1] != order.features:
                raise AnalysisError(
                    f"Layer {layer.name!r} of model {key[0]!r} has {order.features} features, and a direction of "
                    f"{given.shape[1]} was given for it; take directions from the same layer."
                )
            self._kept[key] = order.from_named(given).to(wide_device(device))
        return self._kept[key]

    def named(self, vectors: Mapping[LayerKey, Tensor]) -> dict[LayerKey, NDArray[np.float64]]:
        """Return vectors (vector, feature) of layers with features in the order of their dimensions."""
        return {key: self.orders[key].to_named(value.cpu()).numpy() for key, value in vectors.items()}

    def aligned(self, key: LayerKey, other: "LayerFeatures", vectors: Tensor) -> Tensor:
        """Return vectors (vector, feature) in another's order of a layer in this one's, which is theirs if none yet."""
        mine, theirs = self.orders.setdefault(key, other.orders[key]), other.orders[key]
        return vectors if mine == theirs else mine.from_named(theirs.to_named(vectors))


def widened(features: Float[Tensor, "sample feature"], rows: Tensor | None = None) -> Iterator[tuple[slice, Tensor]]:
    """Yield slices of features and their values (sample, feature) in float64, a new tensor each time.

    Args:
        features: Of any type.
        rows: Positions of the samples wanted; all by default.
    """
    device = wide_device(features.device)
    chunk = CHUNK if features.device.type == "cpu" else DEVICE_CHUNK
    step = max(1, chunk // max(1, len(features)))
    for start in range(0, features.shape[1], step):
        columns = slice(start, start + step)
        part = features[:, columns] if rows is None else features[:, columns].index_select(0, rows)
        yield columns, part.to(device).to(torch.float64, copy=True)


def wide_device(device: torch.device) -> torch.device:
    """Return where float64 can be computed: the device itself, or the CPU beside one that has none."""
    return torch.device("cpu") if device.type == "mps" else device
