"""Which samples dominate every layer, how they stand out there, and which stand for each model's block."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from outcrop import Layer
from outcrop.analysis.references import Reference
from outcrop.numerics import (
    DirectionsAccumulator,
    ProjectionAccumulator,
    SetDirectionsAccumulator,
    Split,
    ranks_of,
    split_projections,
)

if TYPE_CHECKING:
    import xarray as xr

    from outcrop import Context

LayerKey = tuple[str, str]


@dataclass(frozen=True)
class Projections:
    """What ``components`` tells of all layers; layers in topological order, one model after the other.

    Values that are not defined are NaN.

    Attributes:
        layers: (model, layer) of every row.
        sample_index: Position of each sample in the data.
        projections: On the first principal component over all samples.
        splits: Which samples dominate each layer, and by what rule.
        shares: Variance share of each layer's first principal component.
        effective_samples: Effective number of samples that carry it.
        degenerate: Layers without variance, or with values that are not finite.
    """

    layers: tuple[tuple[str, Layer], ...]
    sample_index: Int[np.ndarray, " sample"]
    projections: Float[np.ndarray, "layer sample"]
    splits: tuple[Split, ...]
    shares: Float[np.ndarray, " layer"]
    effective_samples: Float[np.ndarray, " layer"]
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
class Dominance(Projections):
    """The dominant samples of all layers, and how they stand out.

    Attributes:
        norms: Lengths of the activations, the mean not taken off.
        cosine_inside: Mean cosine between two dominant samples.
        cosine_outside: The same between two others.
    """

    norms: Float[np.ndarray, "layer sample"]
    cosine_inside: Float[np.ndarray, " layer"]
    cosine_outside: Float[np.ndarray, " layer"]


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


def known_projections(context: "Context", *, top_fraction: float) -> Projections:
    """Return which samples dominate every layer, from the result of ``components``.

    Args:
        context: Of the run; the result is at hand.
        top_fraction: Share of the samples taken where a layer's have no two modes.
    """
    found, per_layer = context.result("components", "projections"), context.result("components", "per_layer")
    layers = tuple((model, layer) for model, chosen in context.models.items() for layer in chosen)
    keys = [(model, layer.name) for model, layer in layers]
    projections = _in_order(found, found["projection"].values, keys)
    return Projections(
        layers=layers,
        sample_index=np.asarray(found["sample"].values, dtype=np.int64),
        projections=projections,
        splits=tuple(split_projections(row, top_fraction=top_fraction) for row in projections),
        shares=_in_order(per_layer, per_layer["pc_share"].values, keys),
        effective_samples=_in_order(per_layer, per_layer["effective_samples"].values, keys),
        degenerate=_in_order(per_layer, per_layer["degenerate"].values, keys),
    )


class DominanceMeasurement:
    """Finds how the dominant samples of all layers stand out, in two passes over all layers.

    The first pass finds the mean features, the second lengths and cosines. Each may be fed in a pass that others make
    over all layers of all models; those that are not asked for, :meth:`finish` makes.
    """

    def __init__(self, context: "Context", known: Projections) -> None:
        """Prepare for the passes.

        Args:
            context: Of the run.
            known: Which samples dominate.
        """
        self._context, self._known = context, known
        self._keys = [(model, layer.name) for model, layer in known.layers]
        self._means: DirectionsAccumulator | None = None
        self._second: tuple[SetDirectionsAccumulator, ProjectionAccumulator] | None = None

    def first_pass(self) -> DirectionsAccumulator:
        """Return what is to be fed all layers of all samples, once, before the second pass."""
        # Layers without a component have a mean and lengths all the same.
        scores = np.where(self._known.degenerate[:, None], 0.0, self._known.projections)
        self._means = DirectionsAccumulator(self._by_position(scores, np.nan))
        return self._means

    def second_pass(self) -> tuple[SetDirectionsAccumulator, ProjectionAccumulator]:
        """Return what is to be fed all layers of all samples, once, after the first pass."""
        assert self._means is not None
        directions = self._means.finish()
        chosen = self._by_position(self._known.members, False)
        self._second = SetDirectionsAccumulator(directions, chosen), ProjectionAccumulator(directions)
        return self._second

    def finish(self, *, batch_size: int) -> Dominance:
        """Return what was found, after the passes that nobody has made.

        Args:
            batch_size: Samples of a group in these.
        """
        if self._means is None:
            self._context.stream(self.first_pass(), batch_size=batch_size)
        if self._second is None:
            self._context.stream(*self.second_pass(), batch_size=batch_size)
        assert self._second is not None
        cosines, lengths = self._second[0].finish(), self._second[1].finish()
        known = self._known
        order = _order_of(cosines.layers, self._keys)
        norms = lengths.norms[_order_of(lengths.layers, self._keys)]
        norms = norms[:, np.searchsorted(lengths.sample_index, known.sample_index)]
        return Dominance(
            **{field.name: getattr(known, field.name) for field in fields(known)},
            # A single sample whose values are not finite has no length; the layer's others do.
            norms=np.where(np.isfinite(norms), norms, np.nan),
            cosine_inside=np.where(known.degenerate, np.nan, np.clip(cosines.cosine_inside[order], -1, 1)),
            cosine_outside=np.where(known.degenerate, np.nan, np.clip(cosines.cosine_outside[order], -1, 1)),
        )

    def _by_position(self, values: NDArray[Any], fill: float) -> dict[LayerKey, NDArray[Any]]:
        """Return rows by layer, with values in the places of their samples' positions in the data."""
        placed = np.full((len(values), self._context.sample_count), fill, dtype=values.dtype)
        placed[:, self._known.sample_index] = values
        return dict(zip(self._keys, placed, strict=True))


def select_members(references: Sequence[Reference], dominance: Projections, *, pooled: bool) -> Selected:
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
