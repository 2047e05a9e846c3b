"""Leave the dominant samples out and look again: what becomes of each block, against random samples and long inputs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Int
from numpy.typing import NDArray

from outcrop.analysis.references import Reference
from outcrop.errors import AnalysisError
from outcrop.numerics import RemovalAccumulator, RemovalStatistics
from outcrop_dominant.crossfit import Ranking, Scores, cross_fitted_scores
from outcrop_dominant.inputs import sample_norms
from outcrop_dominant.removal_evidence import RemovalEvidence, weigh_removal
from outcrop_dominant.sets import DominanceMeasurement

if TYPE_CHECKING:
    import xarray as xr

    from outcrop import Context
    from outcrop_dominant.parameters import DominantParameters

_RANDOM = 0x0DD5
"""Sets the draws of random samples apart from other draws of the same seed."""


@dataclass(frozen=True)
class ModelRemoval:
    """The removal test of one model.

    Attributes:
        reference: Where the model is judged.
        statistics: Of its searched layers, by mask.
        draws: By selection, the masks (draw, fraction) that were drawn by it.
        evidence: Of every mask.
    """

    reference: Reference
    statistics: RemovalStatistics
    draws: Mapping[str, Int[np.ndarray, "draw fraction"]]
    evidence: RemovalEvidence


@dataclass(frozen=True)
class Removal:
    """The removal test of all models.

    Attributes:
        models: Those with a reference whose samples could be ranked.
        fractions: Shares of the samples that are left out, ascending from 0.
        input_norm: What the lengths of inputs are of, or why they are not known.
        batch_size: Samples of a batch.
        sample_count: Samples of the data.
        replicates: Draws of random samples.
        pooled: Whether ranks are means over the layers of the interval.
        not_tested: Models with a reference whose samples could not be ranked.
    """

    models: tuple[ModelRemoval, ...]
    fractions: tuple[float, ...]
    input_norm: str
    batch_size: int
    sample_count: int
    replicates: int
    pooled: bool
    not_tested: tuple[str, ...] = ()


def removal_leaves(
    context: "Context",
    references: Sequence[Reference],
    parameters: "DominantParameters",
    *,
    beside: DominanceMeasurement | None = None,
) -> "dict[str, xr.Dataset]":
    """Return the leaves ``removal``, ``removal_layers`` and ``removal_maps``.

    Args:
        context: Of the run.
        references: Where each model is judged.
        parameters: Of the analysis.
        beside: Fed in passes that are made anyway.

    Raises:
        AnalysisError: A fraction leaves too few samples of every batch.
    """
    from outcrop_dominant.removal_datasets import removal_dataset, removal_layers_dataset, removal_maps_dataset

    removal = measure_removal(context, references, parameters, beside=beside)
    return {
        "removal": removal_dataset(removal),
        "removal_layers": removal_layers_dataset(removal),
        "removal_maps": removal_maps_dataset(removal),
    }


def measure_removal(
    context: "Context",
    references: Sequence[Reference],
    parameters: "DominantParameters",
    *,
    beside: DominanceMeasurement | None = None,
) -> Removal:
    """Return what becomes of each model's layers when samples are left out (arXiv 2202.07184, section 4).

    Samples are split in two halves, by batch, and each is ranked by |projection| on the first principal component that
    the other half has at the reference layer: what samples are left out was found without them, and what is measured is
    measured on one half at a time. Random samples, and those of the longest inputs, are left out as controls. One
    more pass of the searched layers gives the maps of all fractions and selections; nothing is computed anew by a
    network.

    Args:
        context: Of the run.
        references: Where each model is judged.
        parameters: Of the analysis.
        beside: Fed in passes that are made anyway, so that those go over all layers.

    Raises:
        AnalysisError: A fraction leaves too few samples of every batch.
    """
    fractions = tuple(sorted({0.0, *parameters.fractions}))
    batch_size = min(parameters.batch_size, context.sample_count // 2)
    replicates = parameters.random_replicates
    settings = (batch_size, context.sample_count, replicates, parameters.pooled)
    if not references:
        return Removal((), fractions, "not asked for: no layer tells samples apart", *settings)
    scores = cross_fitted_scores(
        context,
        references,
        pooled=parameters.pooled,
        batch_size=batch_size,
        beside=() if beside is None else (beside.first_pass(),),
    )
    norms, source = scores.input_norms, "input layer of a model"
    if norms is None:
        norms = sample_norms(context)
        source = "samples before preprocessing"
    if norms is None:
        source = "not known: no input layer is selected and the samples are not at hand, or are no measured values"
    rankings = {
        "random": [_random(context.seed, draw, scores.half) for draw in range(replicates)],
        "input_norm": [Ranking.by(norms, scores.half)] if norms is not None else [],
    }
    judged = [one for one in references if one.model in scores.sizes]
    models: tuple[ModelRemoval, ...] = ()
    if judged:
        models = _measured(context, judged, scores, rankings, fractions, batch_size, beside)
    not_tested = tuple(one.model for one in references if one not in judged)
    return Removal(models, fractions, source, *settings, not_tested)


def _measured(
    context: "Context",
    references: Sequence[Reference],
    scores: Scores,
    controls: Mapping[str, Sequence[Ranking]],
    fractions: Sequence[float],
    batch_size: int,
    beside: DominanceMeasurement | None,
) -> tuple[ModelRemoval, ...]:
    masks, draws = {}, {}
    for one in references:
        rankings = {"dominant": [Ranking.by(scores.sizes[one.model], scores.half)], **controls}
        masks[one.model], draws[one.model] = _masks(rankings, fractions)
    searched = {one.model: one.searched for one in references}
    accumulator = RemovalAccumulator(masks, group_size=batch_size, layers=searched)
    others = () if beside is None else beside.second_pass()
    context.stream(accumulator, *others, batch_size=batch_size, layers=None if others else searched)
    found = accumulator.finish()
    for one in references:
        few = found[one.model].kept_count == 0
        if few.any():
            most = min(
                fraction for fraction, lost in zip(fractions, few[draws[one.model]["dominant"][0]], strict=True) if lost
            )
            raise AnalysisError(
                f"Leaving out {most:g} of the samples leaves fewer than 4 of every batch of {batch_size}, "
                "which CKA needs; take larger batches, more samples or smaller fractions."
            )
    return tuple(
        ModelRemoval(one, found[one.model], draws[one.model], weigh_removal(found[one.model], one.interval))
        for one in references
    )


def _masks(
    rankings: Mapping[str, Sequence[Ranking]], fractions: Sequence[float]
) -> tuple[Bool[np.ndarray, "mask sample"], dict[str, NDArray[np.int64]]]:
    """Return all masks, and which of them are each selection's."""
    masks: list[NDArray[np.bool_]] = []
    draws = {}
    for selection, ranked in rankings.items():
        if ranked:
            draws[selection] = sum(map(len, masks)) + np.arange(len(ranked) * len(fractions)).reshape(len(ranked), -1)
            masks += [ranking.kept(fractions) for ranking in ranked]
    return np.concatenate(masks), draws


def _random(seed: int, draw: int, half: NDArray[np.int64]) -> Ranking:
    return Ranking.by(np.random.default_rng([seed, _RANDOM, draw]).random(len(half)), half)
