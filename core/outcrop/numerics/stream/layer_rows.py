"""Which layers come with which samples, the same for every group: what an accumulator of all layers checks."""

from typing import Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from outcrop.errors import AnalysisError
from outcrop.models.model import Layer
from outcrop.numerics.stream.gram_options import LayerKey


class LayerRows:
    """Numbers layers as they come, and refuses groups that lack some, repeat some or mix samples.

    Attributes:
        layers: (model, layer) of every row.
        group: Rows of the present group, in the order in which they came.
        samples: Positions in the data of the present group's samples; None between groups.
    """

    def __init__(self) -> None:
        self.layers: list[tuple[str, Layer]] = []
        self.group: list[int] = []
        self.samples: NDArray[np.int64] | None = None
        self._rows: dict[LayerKey, int] = {}
        self._present: set[int] = set()
        self._complete = False
        self._checked: NDArray[np.int64] | None = None

    def take(self, model: str, layer: Layer, sample_index: NDArray[np.int64]) -> int:
        """Return the row of a layer that comes for samples.

        Raises:
            AnalysisError: The layers, or the samples within a group, change.
        """
        self._check_samples(model, layer, sample_index)
        key = (model, layer.name)
        row = self._rows.get(key)
        if row is None:
            if self._complete:
                raise AnalysisError(
                    f"Layer {layer.name!r} of model {model!r} gave no values for earlier samples and does now; "
                    "every layer must come for every sample."
                )
            row = self._rows[key] = len(self.layers)
            self.layers.append((model, layer))
        elif row in self._present:
            raise AnalysisError(f"Layer {layer.name!r} of model {model!r} came twice for the same samples.")
        self.group.append(row)
        self._present.add(row)
        return row

    def end_group(self) -> None:
        """Be ready for the next group.

        Raises:
            AnalysisError: A layer that earlier groups had is missing.
        """
        missing = set(range(len(self.layers))) - self._present
        if missing:
            model, layer = self.layers[min(missing)]
            raise AnalysisError(
                f"Layer {layer.name!r} of model {model!r} gave values for earlier samples and none for the last group; "
                "every layer must come for every sample."
            )
        self.group, self._present = [], set()
        self.samples = self._checked = None
        self._complete = True

    def merge(self, other: Self) -> NDArray[np.int64]:
        """Return the other's rows in the order of ours, which are theirs where there are none yet.

        Raises:
            AnalysisError: Layers differ.
        """
        if not self.layers:
            self._rows, self.layers = dict(other._rows), list(other.layers)
        if self._rows.keys() != other._rows.keys():
            model, name = min(self._rows.keys() ^ other._rows.keys())
            raise AnalysisError(
                "Only accumulators of the same layers can be merged; "
                f"one of them lacks layer {name!r} of model {model!r}."
            )
        self._complete = True
        return np.asarray([other._rows[key] for key in self._rows])

    def copy(self) -> "LayerRows":
        """Return the same layers, between groups and with none to come any more."""
        made = LayerRows()
        made.merge(self)
        return made

    def topological(self) -> NDArray[np.int64]:
        """Return all rows, one model after the other, layers in topological order."""
        models = list(dict.fromkeys(model for model, _ in self.layers))
        return np.asarray(
            sorted(
                range(len(self.layers)),
                key=lambda row: (models.index(self.layers[row][0]), self.layers[row][1].index),
            )
        )

    def _check_samples(self, model: str, layer: Layer, sample_index: NDArray[np.int64]) -> None:
        if self.samples is None:
            self.samples = sample_index.copy()
        elif sample_index is not self._checked:
            check_samples(model, layer, sample_index, self.samples)
        self._checked = sample_index


def check_values(model: str, layer: Layer, sample_index: NDArray[np.int64], values: Tensor) -> None:
    """Check that values have one row for each sample.

    Raises:
        AnalysisError: They have not.
    """
    if values.ndim == 0 or len(values) != len(sample_index):
        rows = "a single number" if values.ndim == 0 else f"{len(values)} rows"
        raise AnalysisError(
            f"Layer {layer.name!r} of model {model!r} gives {rows} for {len(sample_index)} samples; "
            "its first dimension must be the sample."
        )


def check_samples(model: str, layer: Layer, sample_index: NDArray[np.int64], before: NDArray[np.int64]) -> None:
    """Check that a layer comes with the samples of those before it in the group.

    Raises:
        AnalysisError: It does not.
    """
    if not np.array_equal(sample_index, before):
        raise AnalysisError(
            f"Layer {layer.name!r} of model {model!r} comes with other samples than the layers before it; "
            "layers are compared on the same samples."
        )
