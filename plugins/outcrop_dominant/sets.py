"""Which samples dominate every layer, how they stand out there, and which stand for each model's block."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from outcrop import Layer
from outcrop.numerics import (
    DirectionsAccumulator,
    ProjectionAccumulator,
    SetDirectionsAccumulator,
    Split,
    ranks_of,
    split_projections,
)
from outcrop_dominant.references import Reference

if TYPE_CHECKING:
    import xarray as xr

    from outcrop import Context

LayerKey = tuple[str, str]


@dataclass(frozen=True)
class Dominance:
    """The dominant samples of all layers; layers in topological order, one model after the other.

    Values that are not defined are NaN.

    Attributes:
        layers: (model, layer) of every row.
        sample_index: Position of each sample in the data.
        projections: On the first principal component over all samples.
        splits: Which samples dominate each layer, and by what rule.
        norms: Lengths of the activations, the mean not taken off.
        shares: Variance share of each layer's first principal component.
        effective_samples: Effective number of samples that carry it.
        cosine_inside: Mean cosine between two dominant samples.
        cosine_outside: The same between two others.
        degenerate: Layers without variance, or with values that are not finite.
    """

    layers: tuple[tuple[str, Layer], ...]
    sample_index: Int[np.ndarray, " sample"]
    projections: Float[np.ndarray, "layer sample"]
    splits: tuple[Split, ...]
    norms: Float[np.ndarray, "layer sample"]
    shares: Float[np.ndarray, " layer"]
    effective_samples: Float[np.ndarray, " layer"]
    cosine_inside: Float[np.ndarray, " layer"]
    cosine_outside: Float[np.ndarray, " layer"]
    degenerate: Bool[np.ndarray, " layer"]

    @property
    def members(self) -> Bool[np.ndarray, "layer sample"]:
        """Which samples dominate each layer."""
        return np.stack([split.dominant for split in self.splits])

    @property
    def rows(self) -> Mapping[LayerKey, int]:
        """Row of each layer by model and name."""
        return {(model, layer.name): row for row, (model, layer) in enumerate(self.layers)}

    def shares_by_layer(self) -> dict[LayerKey, float]:
        """Return the shares by model and layer name."""
        return {key: float(self.shares[row]) for key, row in self.rows.items()}


@dataclass(frozen=True)
class Selected:
    """The samples that dominate at each reference.

    Attributes:
        ranks: By |projection| at the reference layer, 1 for the largest; pooled, the mean over the interval's layers.
        members: As many of lowest rank as dominate the reference layer.
    """

    ranks: Float[np.ndarray, "block sample"]
    members: Bool[np.ndarray, "block sample"]

    def members_by_position(self, sample_index: NDArray[np.int64], count: int) -> Bool[np.ndarray, "block sample"]:
        """Return the members, each in the place of its sample's position among so many samples of the data."""
        placed = np.zeros((len(self.members), count), dtype=bool)
        placed[:, sample_index] = self.members
        return placed


def measure_dominance(context: "Context", *, top_fraction: float, batch_size: int) -> Dominance:
    """Return which samples dominate every layer, from the projections of ``components`` and two passes of its own.

    The first pass finds the mean features, the second lengths and cosines.

    Args:
        context: Of the run; the results of ``components`` are at hand.
        top_fraction: Share of the samples taken where a layer's have no two modes.
        batch_size: Samples of a group.
    """
    found, per_layer = context.result("components", "projections"), context.result("components", "per_layer")
    layers = tuple((model, layer) for model, chosen in context.models.items() for layer in chosen)
    keys = [(model, layer.name) for model, layer in layers]
    projections = _in_order(found, found["projection"].values, keys)
    splits = tuple(split_projections(row, top_fraction=top_fraction) for row in projections)
    sample_index = np.asarray(found["sample"].values, dtype=np.int64)
    degenerate = _in_order(per_layer, per_layer["degenerate"].values, keys)
    # Layers without a component have a mean and lengths all the same.
    known = np.where(degenerate[:, None], 0.0, projections)
    directions = DirectionsAccumulator(dict(zip(keys, _placed(known, sample_index, context, np.nan), strict=True)))
    context.stream(directions, batch_size=batch_size)
    centred = directions.finish()
    chosen = _placed(np.stack([split.dominant for split in splits]), sample_index, context, False)
    inside = SetDirectionsAccumulator(centred, dict(zip(keys, chosen, strict=True)))
    lengths = ProjectionAccumulator(centred)
    context.stream(inside, lengths, batch_size=batch_size)
    cosines, measured = inside.finish(), lengths.finish()
    order = _order_of(cosines.layers, keys)
    # A single sample whose values are not finite has no length; the layer's others do.
    norms = measured.norms[_order_of(measured.layers, keys)][:, np.searchsorted(measured.sample_index, sample_index)]
    return Dominance(
        layers=layers,
        sample_index=sample_index,
        projections=projections,
        splits=splits,
        norms=np.where(np.isfinite(norms), norms, np.nan),
        shares=_in_order(per_layer, per_layer["pc_share"].values, keys),
        effective_samples=_in_order(per_layer, per_layer["effective_samples"].values, keys),
        cosine_inside=np.where(degenerate, np.nan, np.clip(cosines.cosine_inside[order], -1, 1)),
        cosine_outside=np.where(degenerate, np.nan, np.clip(cosines.cosine_outside[order], -1, 1)),
        degenerate=degenerate,
    )


def select_members(references: Sequence[Reference], dominance: Dominance, *, pooled: bool) -> Selected:
    """Return the ranks of the samples at each reference, and which of them dominate.

    Args:
        references: Where models are judged.
        dominance: Of all layers.
        pooled: Rank by the mean rank over the layers of the interval.
    """
    ranks = np.ones((len(references), len(dominance.sample_index)))
    members = np.zeros(ranks.shape, dtype=bool)
    for place, reference in enumerate(references):
        own = dominance.rows[reference.model, reference.layer]
        pool = [dominance.rows[reference.model, name] for name in reference.layers] if pooled else [own]
        known = [row for row in pool if not dominance.degenerate[row]]
        ranks[place] = ranks_of(np.abs(dominance.projections[known])).mean(axis=0)
        if pooled:
            count = int(dominance.splits[own].dominant.sum())
            members[place, np.argsort(ranks[place], kind="stable")[:count]] = True
        else:
            members[place] = dominance.splits[own].dominant
    return Selected(ranks, members)


def _in_order(dataset: "xr.Dataset", values: NDArray[np.generic], keys: Sequence[LayerKey]) -> NDArray[np.generic]:
    """Return rows of a result in the order of the layers."""
    named = zip(dataset["model"].values.tolist(), dataset["name"].values.tolist(), strict=True)
    rows = {key: row for row, key in enumerate(named)}
    return values[[rows[key] for key in keys]]


def _order_of(layers: Sequence[tuple[str, Layer]], keys: Sequence[LayerKey]) -> list[int]:
    rows = {(model, layer.name): row for row, (model, layer) in enumerate(layers)}
    return [rows[key] for key in keys]


def _placed(
    values: NDArray[np.generic], sample_index: NDArray[np.int64], context: "Context", fill: float
) -> NDArray[np.generic]:
    """Return values in the places of their samples' positions in the data."""
    placed = np.full((len(values), context.sample_count), fill, dtype=values.dtype)
    placed[:, sample_index] = values
    return placed
