"""Choose layers and samples of a capture: by name, position, class, or what a table says of the samples."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from outcrop.errors import LayerNotFoundError, SampleNotFoundError, StudyError, did_you_mean
from outcrop.models.model import Layer
from outcrop.store.layout import escape

if TYPE_CHECKING:
    from outcrop.models.selection import Selection
    from outcrop.store.reading.activations import Capture

SampleSelection = str | int | slice | Sequence[str] | Sequence[int] | NDArray[Any] | xr.DataArray
"""Ids, positions, a slice of either, or a mask."""

Where = xr.DataArray | NDArray[np.bool_] | Callable[[xr.Dataset], Any]


class LayerView(Mapping[str, xr.DataArray]):
    """Some layers and samples of a capture, as lazy arrays by layer name.

    Args:
        capture: What it is a part of.
        layers: In topological order.
        positions: (sample,), in the capture; all by default.

    Attributes:
        name: Name of the model.
        layers: As given.
    """

    def __init__(
        self, capture: "Capture", layers: tuple[Layer, ...], positions: NDArray[np.int64] | None = None
    ) -> None:
        self._capture = capture
        self.name: str = capture.identity.model
        self.layers = layers
        self._positions = positions

    def __getitem__(self, layer: str) -> xr.DataArray:
        """Return a layer's values (sample, ...), with ids and labels; samples not yet stored are left out.

        Raises:
            LayerNotFoundError: The layer is not among these.
            StudyError: The study is gone. When values are computed: some of them are damaged.
        """
        return self._capture.lazy(self.layer(layer).name, self._positions)

    def __iter__(self) -> Iterator[str]:
        return (layer.name for layer in self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __repr__(self) -> str:
        table = self.samples_table
        return f"<{self.name}: {len(self)} layers, {table.sizes['sample']} samples>"

    def layer(self, name: str) -> Layer:
        """Return a layer by its name.

        Raises:
            LayerNotFoundError: It is not among these.
        """
        if name not in self._by_name:
            names = list(self._by_name)
            raise LayerNotFoundError(
                f"The study holds no layer {name!r} of {self.name!r}.{did_you_mean(name, names)} "
                f"It holds {len(names)}: {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}."
            )
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, Layer]:
        return {layer.name: layer for layer in self.layers}

    @property
    def samples_table(self) -> xr.Dataset:
        """What the study knows of the samples: ids, labels and statistics, each a variable (sample)."""
        table = self._capture.all_samples
        return table if self._positions is None else table.isel(sample=self._positions)

    def sel(
        self,
        *,
        layer: "Selection" = "all",
        sample: SampleSelection | None = None,
        label: str | int | Sequence[str | int] | None = None,
        where: Where | None = None,
    ) -> "LayerView":
        """Return fewer layers and samples: those that satisfy all that is given.

        ``capture.sel(layer="layer3.*", label="cat", where=lambda samples: samples.brightness > 0.8)``

        Args:
            layer: Names, globs, presets, kinds, as :func:`outcrop.models.select_layers` takes.
            sample: Ids (text), positions (numbers), a slice of either, or a mask. Their order is kept.
            label: Name or index of a class, or several.
            where: Mask (sample), or a function that makes one of :attr:`samples_table`.

        Raises:
            LayerNotFoundError: No such layer.
            SampleNotFoundError: No such sample or class, or none that satisfies all.
        """
        from outcrop.models.selection import select_layers

        layers = select_layers(self, layer)
        table = self.samples_table
        chosen = np.arange(table.sizes["sample"]) if sample is None else _positions(table, sample, self.name)
        if label is not None:
            chosen = chosen[np.isin(_labels(table, self.name)[chosen], self._class_indices(label))]
        if where is not None:
            chosen = chosen[_mask(where(table) if callable(where) else where, table, "where")[chosen]]
        if not len(chosen):
            raise SampleNotFoundError(
                f"None of the {table.sizes['sample']} samples of {self.name!r} satisfies the selection; widen it. "
                f"Known of each sample: {', '.join(map(str, table.variables))}."
            )
        if self._positions is None and len(chosen) == table.sizes["sample"] and bool((np.diff(chosen) == 1).all()):
            return LayerView(self._capture, layers)
        return LayerView(self._capture, layers, chosen if self._positions is None else self._positions[chosen])

    def to_dataset(self) -> xr.Dataset:
        """Return all layers as one dataset, lazily; they must agree in the size of every dimension they share.

        Raises:
            StudyError: They do not.
        """
        arrays = dict(self)
        sizes: dict[str, tuple[int, str]] = {}
        for name, values in arrays.items():
            for dimension, size in values.sizes.items():
                known, other = sizes.setdefault(str(dimension), (size, name))
                if known != size:
                    raise StudyError(
                        f"Layers {other!r} and {name!r} differ in {dimension!r} ({known} and {size}) and cannot be one "
                        "dataset; take to_datatree(), or layers of one shape."
                    )
        return xr.Dataset(arrays)

    def to_datatree(self) -> xr.DataTree:
        """Return all layers as a tree, lazily: one node for each, by its escaped name, with a variable ``values``."""
        return xr.DataTree.from_dict(
            {escape(name): values.rename("values").to_dataset(promote_attrs=True) for name, values in self.items()}
        )

    def _class_indices(self, label: str | int | Sequence[str | int]) -> list[int]:
        classes = self._capture.classes
        wanted = [label] if isinstance(label, str | int | np.integer) else list(label)
        found = []
        for one in wanted:
            if isinstance(one, str) and one not in classes:
                raise SampleNotFoundError(
                    f"The samples of {self.name!r} have no class {one!r}.{did_you_mean(one, classes)} "
                    f"Classes: {', '.join(classes[:8]) or 'none'}{', ...' if len(classes) > 8 else ''}."
                )
            found.append(classes.index(one) if isinstance(one, str) else int(one))
        return found


def _labels(table: xr.Dataset, name: str) -> NDArray[np.int64]:
    if "label" not in table.variables:
        raise SampleNotFoundError(
            f"The samples of {name!r} have no labels; choose them by sample= or where=. "
            f"Known of each sample: {', '.join(map(str, table.variables))}."
        )
    labels: NDArray[np.int64] = table["label"].to_numpy()
    return labels


def _positions(table: xr.Dataset, sample: SampleSelection, name: str) -> NDArray[np.int64]:
    """Return the positions of a selection of samples, in the order given."""
    count = table.sizes["sample"]
    if isinstance(sample, slice):
        start, stop = (
            _position(table, bound, name) if isinstance(bound, str) else bound for bound in (sample.start, sample.stop)
        )
        if isinstance(sample.stop, str):  # by id, both ends belong to it, as everywhere in xarray
            backwards = sample.step is not None and sample.step < 0
            stop = stop + 1 if not backwards else stop - 1 if stop else None
        return np.arange(count)[slice(start, stop, sample.step)]
    if isinstance(sample, xr.DataArray) or (isinstance(sample, np.ndarray) and sample.dtype == bool):
        if sample.dtype == bool:
            return np.flatnonzero(_mask(sample, table, "sample"))
        sample = sample.to_numpy() if isinstance(sample, xr.DataArray) else sample
    wanted = [sample] if isinstance(sample, str | int | np.integer) else list(sample)
    if wanted and all(isinstance(one, bool | np.bool_) for one in wanted):
        return np.flatnonzero(_mask(np.asarray(wanted, dtype=bool), table, "sample"))
    return np.array([_position(table, one, name) for one in wanted], dtype=np.int64)


def _position(table: xr.Dataset, one: Any, name: str) -> int:
    count = table.sizes["sample"]
    if isinstance(one, str):
        ids = table.indexes["sample"]
        if one not in ids:
            raise SampleNotFoundError(
                f"There is no sample {one!r} of {name!r}.{did_you_mean(one, map(str, ids[:10_000]))} "
                f"Its {count} ids begin with {', '.join(map(repr, map(str, ids[:3])))}; numbers are positions."
            )
        return int(ids.get_loc(one))
    if not isinstance(one, int | np.integer):
        raise SampleNotFoundError(
            f"There is no sample {one!r} of {name!r}: samples are chosen by id, which is text, or by position, "
            "which is a whole number."
        )
    if not -count <= int(one) < count:
        raise SampleNotFoundError(f"There is no sample {int(one)} of {name!r}; positions go from 0 to {count - 1}.")
    return int(one) % count


def _mask(mask: Any, table: xr.Dataset, what: str) -> NDArray[np.bool_]:
    if isinstance(mask, xr.DataArray) and "sample" in mask.indexes:
        mask = mask.reindex(sample=table["sample"], fill_value=False)
    found = np.asarray(mask)
    if found.dtype != bool or found.shape != (table.sizes["sample"],):
        raise SampleNotFoundError(
            f"The mask given as {what}= is {found.dtype} of shape {found.shape}; "
            f"expected one truth value for each of {table.sizes['sample']} samples."
        )
    return found
