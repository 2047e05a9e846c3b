"""The result of the ``checkpoints`` analysis as a labelled dataset."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from outcrop import Layer
from outcrop.numerics import SeriesStatistics
from outcrop_checkpoints.steps import Series

_PAIR = ("step", "layer_a", "layer_b")
_LAYER = ("step", "layer")
_MEASURE = {"measure": "minibatch unbiased linear CKA"}
_METHOD = {"method": "jackknife over groups of batches"}


def trajectory_dataset(series: Series, layers: tuple[Layer, ...], statistics: SeriesStatistics) -> xr.Dataset:
    """Return maps and shares of all checkpoints, of kind ``trajectory``."""
    within = statistics.similarity
    variables = {
        # Rounding of the products leaves maps a last digit from being symmetric.
        "similarity": xr.Variable(_PAIR, (within + within.transpose(0, 2, 1)) / 2, _MEASURE),
        "standard_error": xr.Variable(_PAIR, statistics.standard_error, _METHOD),
        "similarity_to_last": xr.Variable(_PAIR, statistics.similarity_to_last, _MEASURE),
        "standard_error_to_last": xr.Variable(_PAIR, statistics.standard_error_to_last, _METHOD),
        "pc_share": xr.Variable(_LAYER, statistics.pc_share, {"scope": "batch"}),
        "degenerate": xr.Variable(_LAYER, statistics.degenerate),
        "non_finite_count": xr.Variable(_LAYER, statistics.non_finite_count),
    }
    coordinates: dict[str, Any] = {
        "step": ("step", np.array(series.steps, dtype=np.int64)),
        "checkpoint": ("step", _text(series.checkpoints)),
    }
    for dimension, suffix in (("layer", ""), ("layer_a", "_a"), ("layer_b", "_b")):
        coordinates |= {
            f"model{suffix}": (dimension, _text([series.name] * len(layers))),
            f"name{suffix}": (dimension, _text(layer.name for layer in layers)),
            f"depth{suffix}": (dimension, np.array([layer.index for layer in layers], dtype=np.int64)),
            f"layer_kind{suffix}": (dimension, _text(layer.kind for layer in layers)),
        }
    return xr.Dataset(variables, coordinates, {"kind": "trajectory", "kind_version": "1.1"})


def _text(values: Iterable[str]) -> NDArray[Any]:
    return np.array(list(values), dtype=np.dtypes.StringDType())
