"""Where each model's dominant samples are told, and which these are; shared by the figures of ``dominant``."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from outcrop.report.figure import Run
from outcrop.report.maps import Axis, Span
from outcrop.report.verdicts import Mark

if TYPE_CHECKING:
    import xarray as xr

SHOWN_MODELS = 8
"""Models that get drawings of their own; of more, as of a training's checkpoints, some are chosen evenly."""

TOLD = {"mixture": "two modes", "top fraction": "the largest", "none": "none told"}
"""How dominant samples were told, in words."""

One = TypeVar("One")


@dataclass(frozen=True)
class Judged:
    """Where the dominant samples of one model are told.

    Attributes:
        model: Its name.
        layer: The reference layer, on whose first principal component samples are ranked.
        first_layer: Of the interval that it is in.
        last_layer: Of the interval.
        is_block: Whether the interval is a block.
        rule: How dominant samples were told.
        samples: (sample,), positions in the data.
        dominant: (sample,).
        rank: (sample,), from 1.
    """

    model: str
    layer: str
    first_layer: str
    last_layer: str
    is_block: bool
    rule: str
    samples: NDArray[np.int64]
    dominant: NDArray[np.bool_]
    rank: NDArray[np.float64]

    @property
    def ordered(self) -> NDArray[np.int64]:
        """Return positions of the dominant samples in the data, the lowest rank first."""
        chosen = np.flatnonzero(self.dominant)
        return self.samples[chosen[np.argsort(self.rank[chosen], kind="stable")]]

    @property
    def typical(self) -> NDArray[np.int64]:
        """Return positions of the other samples, the one nearest to their middle rank first."""
        others = np.flatnonzero(~self.dominant)
        if not others.size:
            return self.samples[:0]
        ranks = self.rank[others]
        return self.samples[others[np.argsort(np.abs(ranks - np.median(ranks)), kind="stable")]]


def read_judged(run: Run) -> dict[str, Judged]:
    """Return where each model is judged; no entry for models that are judged nowhere, or of a run that does not say."""
    found = run.of_kind("dominance_reference")
    if found is None or "block_model" not in found:
        return {}
    return {one.model: one for one in judged_of(found)}


def judged_of(references: "xr.Dataset") -> list[Judged]:
    """Return where each model is judged, from a dataset of kind ``dominance_reference``."""
    text = {
        name: [str(value) for value in references[name].values]
        for name in ("block_model", "reference_layer", "first_layer", "last_layer", "rule")
    }
    return [
        Judged(
            text["block_model"][row],
            text["reference_layer"][row],
            text["first_layer"][row],
            text["last_layer"][row],
            bool(references["is_block"].values[row]),
            text["rule"][row],
            references["sample"].values.astype(np.int64),
            references["dominant"].values[row].astype(bool),
            references["rank"].values[row].astype(float),
        )
        for row in range(references.sizes.get("block", 0))
    ]


def mark_of(one: Judged | None, axis: Axis, span: Span) -> tuple[Mark, ...]:
    """Return the interval that a model is judged in, as positions along its layers; nothing where there is none."""
    names = axis.names[span.start : span.stop]
    if one is None or one.first_layer not in names or one.last_layer not in names:
        return ()
    start, stop = names.index(one.first_layer), names.index(one.last_layer) + 1
    return (Mark(start, stop, one.is_block, f"{one.first_layer} to {one.last_layer}"),) if stop > start + 1 else ()


def interval_name(first: object, last: object, is_block: bool) -> str:
    """Return an interval in words: ``block stage1.0 to stage2.3``; of a single layer its name."""
    if str(first) == str(last):
        return f"layer {first}"
    return f"{'block' if is_block else 'similar layers'} {first} to {last}"


def shown_of(everything: Sequence[One], what: str = "models") -> tuple[list[One], str]:
    """Return what is drawn, the first and the last among it, and a sentence where that is not everything."""
    chosen = [everything[place] for place in evenly(len(everything), SHOWN_MODELS)]
    return chosen, f" {len(chosen)} of {len(everything)} {what} are drawn." if len(chosen) < len(everything) else ""


def evenly(count: int, most: int) -> NDArray[np.int64]:
    """Return ``most`` of ``count`` places, evenly spread; all of them where there are no more."""
    return np.unique(np.linspace(0, max(count - 1, 0), min(most, count)).round().astype(np.int64))


def times(value: float) -> str:
    """Return a ratio in words: ``3.4 times``."""
    return f"{value:.2g} times" if value < 100 else f"{value:,.0f} times"


def share_of(value: float) -> str:
    """Return a share of samples in words, with a digit after the point where it is small: ``0.5 %``."""
    return f"{100 * value:.3g} %"
