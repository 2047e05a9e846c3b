"""Reading activations: lazy arrays by model and layer name, and a source for analyses."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

from outcrop.capture.source import ActivationSource, Visit
from outcrop.errors import LayerNotFoundError, ModelNotFoundError, StudyError, did_you_mean
from outcrop.models.model import Layer, Visitor
from outcrop.store.captures import layer_array
from outcrop.store.layout import escape
from outcrop.store.ledger import CaptureRecord, read_record

if TYPE_CHECKING:
    from outcrop.store.study import Study


class Capture(Mapping[str, xr.DataArray]):
    """The stored layers of one model over one data set, as lazy arrays by layer name.

    Attributes:
        node: Name of the group in the study.
        identity: Everything that determines the values.
        name: Name of the model; also ``model``.
        source: Reference of the model.
        data: Node name of the data.
        samples: Number of samples of the data.
        group: The zarr group.
        layers: Stored layers, in topological order.
    """

    def __init__(self, study: "Study", node: str, group: zarr.Group, record: CaptureRecord) -> None:
        self._study = study
        self._committed = record.committed()
        self.group = group
        self.node = node
        self.identity = record.identity
        self.name = self.model = record.identity.model
        self.source = record.identity.model_source
        self.data = record.identity.data
        self.samples = record.samples
        self.layers = record.layers

    def __getitem__(self, layer: str) -> xr.DataArray:
        """Return a layer's values (sample, ...), with the samples' labels; samples not yet stored are left out.

        Raises:
            LayerNotFoundError: The layer is not stored.
        """
        layer = self.layer(layer).name
        group = f"activations/{self.node}/{escape(layer)}"
        stored = xr.open_zarr(self._study.location, group=group, chunks={}, consolidated=False)
        values: xr.DataArray = stored["values"].assign_coords(self._coordinates())
        return values.isel(sample=slice(0, self.committed(layer))).rename(layer)

    def layer(self, name: str) -> Layer:
        """Return a stored layer by its name.

        Raises:
            LayerNotFoundError: The layer is not stored.
        """
        by_name = {layer.name: layer for layer in self.layers}
        if name not in by_name:
            raise LayerNotFoundError(
                f"The study holds no layer {name!r} of {self.model!r}.{did_you_mean(name, by_name)} "
                f"It holds {len(by_name)}: {', '.join(list(by_name)[:8])}{', ...' if len(by_name) > 8 else ''}."
            )
        return by_name[name]

    def __iter__(self) -> Iterator[str]:
        return (layer.name for layer in self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __repr__(self) -> str:
        return f"<Capture of {self.model} on {self.data}: {len(self)} layers, {self.samples} samples>"

    def committed(self, layer: str) -> int:
        """Return how many samples of a layer were stored when this view was made."""
        return self._committed.get(layer, 0)

    def holds(self, layers: tuple[Layer, ...]) -> bool:
        """Return whether all samples of all the given layers are stored."""
        return all(self.committed(layer.name) == self.samples for layer in layers)

    def _coordinates(self) -> dict[str, Any]:
        data = xr.open_zarr(self._study.location, group=f"data/{self.data}", chunks=None, consolidated=False)
        coordinates: dict[str, Any] = {"sample": data["sample"]}
        if "label" in data:
            coordinates["label"] = data["label"]
        return coordinates


class Activations(Mapping[str, Capture]):
    """All captures of a study, by model name.

    Where a model was captured several times, by ``model, data``, or by the name of the capture's group.
    """

    def __init__(self, study: "Study") -> None:
        self._study = study

    def captures(self) -> list[Capture]:
        """Return every capture."""
        found = []
        for node, group in sorted(self._groups(), key=lambda item: item[0]):
            record = read_record(group)
            # A group without a record is of a capture that was killed before it had stored anything.
            if record is not None and record.layers:
                found.append(Capture(self._study, node, group, record))
        return found

    def _groups(self) -> Iterator[tuple[str, zarr.Group]]:
        parent = self._study.root.get("activations")
        return parent.groups() if isinstance(parent, zarr.Group) else iter(())

    def __getitem__(self, key: str | tuple[str, str]) -> Capture:
        """Return the capture of a model.

        Raises:
            ModelNotFoundError: The study holds none of this model.
            StudyError: It holds several; name the data too.
        """
        model, data = (key, None) if isinstance(key, str) else key
        captures = self.captures()
        found = [
            capture
            for capture in captures
            if (capture.model == model and _is_of(capture, data)) or (data is None and capture.node == model)
        ]
        if not found:
            names = sorted({capture.model for capture in captures})
            raise ModelNotFoundError(
                f"The study holds no activations of {model!r}{f' on {data!r}' if data else ''}."
                f"{did_you_mean(model, names)} It holds {', '.join(names) or 'none'}."
            )
        if len(found) > 1:
            nodes = " or ".join(repr(capture.node) for capture in found)
            raise StudyError(f"The study holds {len(found)} captures of {model!r}; name one of them: {nodes}.")
        return found[0]

    def __iter__(self) -> Iterator[str]:
        captures = self.captures()
        models = [capture.model for capture in captures]
        return (capture.model if models.count(capture.model) == 1 else capture.node for capture in captures)

    def __len__(self) -> int:
        return len(self.captures())

    def __repr__(self) -> str:
        return "\n".join(["<Activations>", *(f"  {capture!r}" for capture in self.captures())])


class StoredSource(ActivationSource):
    """Layers of a capture on disk, read one layer and group at a time.

    Args:
        capture: Complete for the given layers.
        layers: What to visit.
    """

    def __init__(self, capture: Capture, layers: tuple[Layer, ...]) -> None:
        self.name = capture.model
        self.layers = layers
        self._arrays = {layer.name: layer_array(capture.group, layer.name) for layer in layers}

    def groups(self, order: NDArray[np.int64], group_size: int) -> Iterator[tuple[NDArray[np.int64], Visit]]:
        """Yield groups of ``group_size`` samples, the last one of what remains."""
        for start in range(0, len(order), group_size):
            chosen = order[start : start + group_size]

            def visit(visitor: Visitor, chosen: NDArray[np.int64] = chosen) -> None:
                import torch

                ascending = np.argsort(chosen)
                for layer in self.layers:
                    rows = self._arrays[layer.name].oindex[chosen[ascending]]
                    values = np.empty_like(rows)
                    values[ascending] = rows
                    visitor(layer, torch.from_numpy(values))

            yield chosen, visit


def _is_of(capture: Capture, data: str | None) -> bool:
    return data is None or capture.data == data or capture.data.rsplit("-", 1)[0] == escape(data)
