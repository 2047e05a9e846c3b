"""What was tracked, step by step, as one labelled dataset."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from outcrop.models.model import Layer

VARIABLES: dict[str, tuple[str, ...]] = {
    "similarity": ("step", "layer_a", "layer_b"),
    "pc_share": ("step", "layer"),
    "similarity_to_first": ("step", "layer"),
    "similarity_to_previous": ("step", "layer"),
    "degenerate": ("step", "layer"),
    "non_finite_count": ("step", "layer"),
}


@dataclass(frozen=True)
class Moment:
    """What was seen at one step.

    Attributes:
        step: Of the training.
        values: (layer,) or (layer, layer), by variable.
    """

    step: int
    values: dict[str, NDArray[Any]]


def trajectory_dataset(
    moments: list[Moment], model: str, layers: tuple[Layer, ...], attributes: dict[str, Any]
) -> xr.Dataset:
    """Return all moments as a dataset of kind ``trajectory``."""
    names = [name for name in VARIABLES if name in moments[0].values]
    extra = {"similarity": {"measure": "minibatch unbiased linear CKA"}, "pc_share": {"scope": "batch"}}
    variables = {
        name: xr.Variable(VARIABLES[name], np.stack([moment.values[name] for moment in moments]), extra.get(name))
        for name in names
    }
    coordinates: dict[str, Any] = {"step": ("step", np.array([moment.step for moment in moments], dtype=np.int64))}
    for dimension, suffix in (("layer", ""), ("layer_a", "_a"), ("layer_b", "_b")):
        coordinates |= {
            f"model{suffix}": (dimension, _text([model] * len(layers))),
            f"name{suffix}": (dimension, _text([layer.name for layer in layers])),
            f"depth{suffix}": (dimension, np.array([layer.index for layer in layers], dtype=np.int64)),
            f"layer_kind{suffix}": (dimension, _text([layer.kind for layer in layers])),
        }
    return xr.Dataset(variables, coordinates, attributes)


def read_moments(dataset: xr.Dataset) -> list[Moment]:
    """Return the moments of a dataset of kind ``trajectory``."""
    names = [name for name in VARIABLES if name in dataset]
    loaded = {name: dataset[name].values for name in names}
    return [
        Moment(int(step), {name: loaded[name][position] for name in names})
        for position, step in enumerate(dataset["step"].values)
    ]


def _text(values: list[str]) -> NDArray[Any]:
    return np.array(values, dtype=np.dtypes.StringDType())
