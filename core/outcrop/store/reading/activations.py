"""Captures as users see them: lazy arrays by model and layer name."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

from outcrop.errors import LayerNotFoundError, ModelNotFoundError, StudyError, did_you_mean
from outcrop.models.model import Layer
from outcrop.store.layout import escape, layer_array, read_dataset
from outcrop.store.ledger import CaptureRecord, read_record
from outcrop.store.reading.query import LayerView
from outcrop.store.reading.stored_source import StoredSource as StoredSource
from outcrop.store.reading.values import LayerValues

if TYPE_CHECKING:
    from outcrop.models.selection import Selection
    from outcrop.store.reading.query import SampleSelection, Where
    from outcrop.store.study import Study

_PICTURES = "thumbnail"


class Capture(LayerView):
    """The stored layers of one model over one data set, as lazy arrays by layer name.

    What it knows of layers and samples is what was there when it was asked for first.

    Attributes:
        node: Name of the group in the study.
        record: What was captured, and how far it has come.
        identity: Everything that determines the values.
        name: Name of the model; also ``model``.
        source: Reference of the model.
        data: Node name of the data.
        samples: Number of samples of the data.
        group: The zarr group.
        attributes: Of the group, as they were read.
        layers: Stored layers, in topological order.
    """

    def __init__(self, study: "Study", node: str, group: zarr.Group, record: CaptureRecord) -> None:
        self._study = study
        self._committed = record.committed()
        self._readable = record.readable()
        self.record = record
        self.group = group
        self.attributes = dict(group.attrs)
        self.node = node
        self.identity = record.identity
        self.name = self.model = record.identity.model
        self.source = record.identity.model_source
        self.data = record.identity.data
        self.samples = record.samples
        super().__init__(self, record.layers)

    def __repr__(self) -> str:
        return f"<Capture of {self.model} on {self.data}: {len(self)} layers, {self.samples} samples>"

    def committed(self, layer: str) -> int:
        """Return how many samples of a layer were stored when this view was made."""
        return self._committed.get(layer, 0)

    def readable(self, layer: str) -> int:
        """Return how many samples of a layer could be read when this view was made: those in whole shards."""
        return self._readable.get(layer, 0)

    @property
    def non_finite(self) -> dict[str, int]:
        """How many stored values of each layer are infinite or not a number, where any are."""
        return self.record.non_finite()

    def holds(self, layers: tuple[Layer, ...]) -> bool:
        """Return whether all samples of all the given layers are stored."""
        return all(self.readable(layer.name) == self.samples for layer in layers)

    def values_of(self, layer: str, positions: NDArray[np.int64] | None = None) -> LayerValues:
        """Return the values of a layer, to be read when they are indexed.

        Args:
            layer: Its name.
            positions: (sample,), ascending; all that are stored by default.

        Raises:
            LayerNotFoundError: The layer is not stored.
            StudyError: The study is gone.
        """
        self.layer(layer)
        if layer not in self._arrays:
            try:
                self._arrays[layer] = layer_array(self.group, layer)
            except KeyError as error:
                self._study.check_present()
                raise StudyError(
                    f"Layer {layer!r} of {self.model!r} is gone from {self._study.location}/{self.group.path}, where "
                    "it was when the study was opened; open the study again."
                ) from error
        return LayerValues(
            self._arrays[layer],
            layer=layer,
            model=self.model,
            place=self._study.location,
            samples=self.readable(layer),
            positions=positions,
        )

    def lazy(self, layer: str, positions: NDArray[np.int64] | None = None) -> xr.DataArray:
        """Return the values of a layer as a lazy array.

        Args:
            layer: Its name.
            positions: (sample,), of those that are wanted, in any order; those not yet stored are left out.

        Raises:
            LayerNotFoundError: The layer is not stored.
            StudyError: The study is gone.
        """
        readable = self.readable(layer)
        chosen = positions if positions is None else positions[positions < readable]
        ordered, places = (None, None) if chosen is None else np.unique(chosen, return_inverse=True)
        values = self.values_of(layer, ordered)
        array = self._arrays[layer]
        made = xr.DataArray(
            values.lazy(),
            dims=array.metadata.dimension_names,  # type: ignore[union-attr] # zarr format 3 has them
            coords=self._coordinates(slice(0, readable) if ordered is None else ordered),
            attrs=dict(array.attrs),
            name=layer,
        )
        in_order = places is None or bool((np.diff(places) == 1).all())
        return made if in_order else made.isel(sample=places)

    @cached_property
    def all_samples(self) -> xr.Dataset:
        """What the study knows of all samples, in memory: ids, labels and statistics, without pictures."""
        stored = self._study.root.get(f"data/{self.data}")
        # A capture keeps the ids of its samples; the rest is known where the data stands in the study too.
        table = read_dataset(stored if isinstance(stored, zarr.Group) else self.group)
        return table.drop_vars(_PICTURES, errors="ignore").load()

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of the labels; empty where there are none."""
        return list(self.all_samples.attrs.get("classes", ()))

    @cached_property
    def _arrays(self) -> "dict[str, zarr.Array[Any]]":
        return {}

    def _coordinates(self, chosen: slice | NDArray[np.int64]) -> xr.Coordinates:
        if isinstance(chosen, slice):
            # Made once for all layers that are stored equally far.
            if chosen.stop not in self._made:
                self._made[chosen.stop] = self._make_coordinates(chosen)
            return self._made[chosen.stop]
        return self._make_coordinates(chosen)

    @cached_property
    def _made(self) -> dict[int, xr.Coordinates]:
        return {}

    def _make_coordinates(self, chosen: slice | NDArray[np.int64]) -> xr.Coordinates:
        table = self.all_samples
        unwanted = [name for name in table.variables if name not in ("sample", "label")]
        return table.drop_vars(unwanted).set_coords({"label"} & set(table.variables)).isel(sample=chosen).coords


class Activations(Mapping[str, Capture]):
    """All captures of a study, by model name, as they were when they were first looked at.

    Where a model was captured several times, by ``model, data``, or by the name of the capture's group.
    """

    def __init__(self, study: "Study") -> None:
        self._study = study

    def captures(self) -> list[Capture]:
        """Return every capture."""
        return list(self._captures)

    @cached_property
    def _captures(self) -> tuple[Capture, ...]:
        found = self._study.read_captures()
        if not found:
            self._study.check_present()
        return tuple(found[node] for node in sorted(found))

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

    def sel(
        self,
        *,
        layer: "Selection" = "all",
        sample: "SampleSelection | None" = None,
        label: str | int | Sequence[str | int] | None = None,
        where: "Where | None" = None,
    ) -> dict[str, LayerView]:
        """Return the same layers and samples of every capture that has them, by model; see :meth:`Capture.sel`.

        Raises:
            LayerNotFoundError: No capture has such a layer.
            SampleNotFoundError: One has no such sample.
        """
        chosen: dict[str, LayerView] = {}
        refused: LayerNotFoundError | None = None
        for name, capture in self.items():
            try:
                chosen[name] = capture.sel(layer=layer, sample=sample, label=label, where=where)
            except LayerNotFoundError as error:
                refused = error
        if refused is not None and not chosen:
            raise refused
        return chosen

    def __iter__(self) -> Iterator[str]:
        captures = self.captures()
        models = [capture.model for capture in captures]
        return (capture.model if models.count(capture.model) == 1 else capture.node for capture in captures)

    def __len__(self) -> int:
        return len(self.captures())

    def __repr__(self) -> str:
        return "\n".join(["<Activations>", *(f"  {capture!r}" for capture in self.captures())])


def find_captures(study: "Study", known: Mapping[str, Capture]) -> dict[str, Capture]:
    """Return all captures of a study by node; those already known, where nothing was added to them since."""
    parent = study.root.get("activations")
    found: dict[str, Capture] = {}
    for node, group in parent.groups() if isinstance(parent, zarr.Group) else ():
        capture = known.get(node)
        if capture is not None and capture.attributes == dict(group.attrs):
            found[node] = capture
            continue
        record = read_record(group)
        # A group without a record is of a capture that was killed before it had stored anything.
        if record is not None and record.layers:
            found[node] = Capture(study, node, group, record)
    return found


def _is_of(capture: Capture, data: str | None) -> bool:
    return data is None or capture.data == data or capture.data.rsplit("-", 1)[0] == escape(data)
