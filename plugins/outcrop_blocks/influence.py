"""How much each sample carries of the intervals that were found, from another look at their layers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from outcrop import Context, Layer
from outcrop.numerics import BlockEvidence, GramStatistics, Influence, InfluenceAccumulator
from outcrop_blocks.datasets import text_array, whole_array
from outcrop_blocks.evaluation import Evaluation


@dataclass(frozen=True)
class IntervalInfluence:
    """What each sample carries of one interval.

    Attributes:
        model: Its name.
        layers: First and last layer.
        is_block: Whether the interval is a block.
        measured: How many layers were measured.
        influence: On the mean similarity of these.
    """

    model: str
    layers: tuple[Layer, Layer]
    is_block: bool
    measured: int
    influence: Influence


def measure_influence(
    context: Context, evaluations: Sequence[Evaluation], statistics: GramStatistics, *, batch_size: int
) -> tuple[IntervalInfluence, ...]:
    """Return the influence on every interval found, over the batches of the first pass.

    Args:
        context: Streams the layers of models with an interval once more.
        evaluations: Of all models.
        statistics: What they were evaluated on.
        batch_size: As before.
    """
    intervals = [(one, evidence, _layers(one, evidence)) for one in evaluations for evidence in one.evidence]
    if not intervals:
        return ()
    bandwidths = {
        (model, layer.name): float(bandwidth)
        for (model, layer), bandwidth in zip(statistics.layers, statistics.bandwidths, strict=True)
    }
    accumulator = InfluenceAccumulator(
        [[(one.model, layer.name) for layer in layers] for one, _, layers in intervals],
        group_size=batch_size,
        kernel=statistics.kernel,
        bandwidths=bandwidths if statistics.kernel == "rbf" else None,
    )
    # A stream of its own draws the batches of the first pass again.
    context.stream(accumulator, batch_size=batch_size, models=list(dict.fromkeys(one.model for one, _, _ in intervals)))
    return tuple(
        IntervalInfluence(one.model, (layers[0], layers[-1]), evidence.is_block, len(followed), influence)
        for (one, evidence, layers), followed, influence in zip(
            intervals, accumulator.followed(), accumulator.finish(), strict=True
        )
    )


def influence_dataset(found: Sequence[IntervalInfluence], sample_count: int) -> xr.Dataset:
    """Return the influence on all intervals, of kind ``influence``; without an interval, of none.

    Args:
        found: One for each interval.
        sample_count: Samples of the data.
    """
    values = np.full((2, len(found), sample_count), np.nan)
    for row, one in enumerate(found):
        # Samples behind the last one that was in a batch have no place in the influence.
        values[0, row, : len(one.influence.share)] = one.influence.share
        values[1, row, : len(one.influence.change)] = one.influence.change
    effective = [one.influence.effective_samples for one in found]
    variables = {
        "block_model": ("block", text_array(one.model for one in found)),
        "first_layer": ("block", text_array(one.layers[0].name for one in found)),
        "last_layer": ("block", text_array(one.layers[1].name for one in found)),
        "first_depth": ("block", whole_array(one.layers[0].index for one in found)),
        "last_depth": ("block", whole_array(one.layers[1].index for one in found)),
        "is_block": ("block", np.array([one.is_block for one in found], dtype=np.bool_)),
        "measured_layers": ("block", whole_array(one.measured for one in found)),
        "similarity": ("block", np.array([one.influence.similarity for one in found], dtype=np.float64)),
        "effective_samples": ("block", np.array(effective, dtype=np.float64)),
        "share": xr.Variable(("block", "sample"), values[0], {"scope": "batch"}),
        "change": xr.Variable(("block", "sample"), values[1], {"scope": "batch"}),
    }
    return xr.Dataset(variables, {"sample": np.arange(sample_count)}, {"kind": "influence", "kind_version": "1.0"})


def _layers(evaluation: Evaluation, evidence: BlockEvidence) -> tuple[Layer, ...]:
    return evaluation.layers[evidence.interval.start : evidence.interval.stop]
