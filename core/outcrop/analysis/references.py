"""Where each model is judged: its block, and inside it the layer on whose first component samples are ranked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from outcrop.errors import AnalysisError, did_you_mean
from outcrop.models.activations import is_activation
from outcrop.numerics import Interval

if TYPE_CHECKING:
    import xarray as xr

    from outcrop import Layer

NO_LAYER = "no layer tells samples apart"


@dataclass(frozen=True)
class Reference:
    """Where one model is judged.

    Attributes:
        model: Its name.
        layers: Names of the layers of the interval, contiguous among ``searched``; of the reference layer alone where
            that lies in no interval of similar layers.
        layer: Name of the layer on whose first component samples are ranked.
        is_block: Whether the interval is a block by all three signatures.
        evidence: What was found in the model, with numbers, in one line.
        searched: Names of the layers that were searched for blocks, in topological order.
    """

    model: str
    layers: tuple[str, ...]
    layer: str
    is_block: bool
    evidence: str
    searched: tuple[str, ...] = ()

    @property
    def interval(self) -> Interval | None:
        """Where the interval lies among ``searched``; None where it has fewer than two layers."""
        if len(self.layers) < 2:
            return None
        start = self.searched.index(self.layers[0])
        return Interval(start, start + len(self.layers))


@dataclass(frozen=True)
class _Found:
    """An interval of similar layers of one model, as the result of ``blocks`` has it; depths are topological."""

    first: int
    last: int
    layers: int
    is_block: bool
    evidence: str

    def holds(self, layer: "Layer") -> bool:
        return self.first <= layer.index <= self.last


def find_references(
    models: "Mapping[str, tuple[Layer, ...]]",
    blocks: "xr.Dataset",
    shares: Mapping[tuple[str, str], float],
    *,
    layer: str = "auto",
) -> tuple[Reference, ...]:
    """Return where each model is judged, in the order of the models; those without a layer to judge at are left out.

    By itself, that is the longest block and its layer of the largest share; without a block the longest interval of
    similar layers likewise, and without one of these the searched layer of the largest share.

    Args:
        models: Selected layers by model.
        blocks: Of kind ``blocks``.
        shares: Variance share of the first principal component over all samples, by model and layer; NaN for
            degenerate layers.
        layer: ``auto``; or a name or glob, of which each model's matching layer of the largest share is taken.

    Raises:
        AnalysisError: The name matches no layer of a model.
    """
    found = []
    for model, layers in models.items():
        kind = str(blocks["evaluated_kind"].values[blocks["model"].values == model][0])
        searched = searched_layers(layers, kind)
        intervals = _intervals(blocks, model)
        if layer == "auto":
            interval = max(intervals, key=lambda one: (one.is_block, one.layers), default=None)
            candidates = [one for one in searched if interval is None or interval.holds(one)]
        else:
            candidates = _matching(model, layers, layer)
        chosen = _largest(candidates, {one.name: shares[model, one.name] for one in candidates})
        if chosen is None:
            continue
        if layer != "auto":
            holding = [one for one in intervals if one.holds(chosen)]
            interval = max(holding, key=lambda one: (one.is_block, one.layers), default=None)
        inside = [one.name for one in searched if interval is not None and interval.holds(one)]
        found.append(
            Reference(
                model=model,
                layers=tuple(inside) or (chosen.name,),
                layer=chosen.name,
                is_block=interval is not None and interval.is_block,
                evidence=_evidence(intervals, interval, chosen, shares[model, chosen.name]),
                searched=tuple(one.name for one in searched),
            )
        )
    return tuple(found)


def check_reference(models: "Mapping[str, Sequence[Layer]]", layer: str) -> None:
    """Refuse a reference that some model has no layer of; see :func:`find_references`.

    Raises:
        AnalysisError: With what layers there are.
    """
    if layer != "auto":
        for model, layers in models.items():
            _matching(model, layers, layer)


def searched_layers(layers: "Sequence[Layer]", kind: str) -> "list[Layer]":
    """Return the layers that ``blocks`` searched: outputs of network blocks, values after activations, or all."""
    if kind == "all":
        return list(layers)
    if kind == "block":
        return [layer for layer in layers if layer.kind == "block"]
    return [
        layer
        for layer in layers
        if layer.kind == "act" or (layer.kind in ("block", "output") and is_activation(layer.operation))
    ]


def _intervals(blocks: "xr.Dataset", model: str) -> list[_Found]:
    own: NDArray[np.intp] = np.flatnonzero(blocks["block_model"].values == model)
    found = []
    for row in own.tolist():
        one = {str(name): array.values[row] for name, array in blocks.data_vars.items() if array.dims == ("block",)}
        length = int(one["layer_count"])
        title = "block" if one["is_block"] else "similar layers that are no block"
        evidence = (
            f"{title}: {one['first_layer']} to {one['last_layer']}, {length} layers, mean similarity "
            f"{one['similarity']:.3f}; contrast {_number(one['contrast'])}, without the first principal components "
            f"{_number(one['contrast_without_pc1'])}; their share of variance {_number(one['pc_support'])} inside, "
            f"{_number(one['pc_support_outside'])} outside"
        )
        is_block = bool(one["is_block"])
        found.append(_Found(int(one["first_depth"]), int(one["last_depth"]), length, is_block, evidence))
    return found


def _matching(model: str, layers: "Sequence[Layer]", pattern: str) -> "list[Layer]":
    found = [layer for layer in layers if layer.name == pattern] or [
        layer for layer in layers if fnmatchcase(layer.name, pattern)
    ]
    if not found:
        raise AnalysisError(
            f"No selected layer of {model!r} is named or matches {pattern!r}, the reference."
            f"{did_you_mean(pattern, [layer.name for layer in layers])} Name one of its {len(layers)} layers, "
            "or leave reference at 'auto'."
        )
    return found


def _largest(candidates: "Sequence[Layer]", shares: Mapping[str, float]) -> "Layer | None":
    known = [layer for layer in candidates if np.isfinite(shares[layer.name])]
    return max(known, key=lambda layer: shares[layer.name], default=None)


def _evidence(intervals: Sequence[_Found], interval: _Found | None, layer: "Layer", share: float) -> str:
    start = "" if any(one.is_block for one in intervals) else "no block; "
    held = interval.evidence if interval is not None else "no interval of similar layers"
    return f"{start}{held}. Samples are ranked at {layer.name}, whose first principal component holds {share:.3f}."


def _number(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else "unknown"
