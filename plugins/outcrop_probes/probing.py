"""Probe the models of a run: find what dominates them, show them stimuli, search for what excites them most."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from outcrop.analysis.references import Reference, check_reference, find_references
from outcrop.errors import AnalysisError
from outcrop.stimuli import Stimulus, StimulusFamily, StimulusMaterial
from outcrop_probes.datasets import response_dataset, verdict_dataset
from outcrop_probes.material import Materials, dominant_samples, typical_samples
from outcrop_probes.response import LayerKey, RealSamples, measure_real, measure_response, scores_at
from outcrop_probes.samples import SampleForm, StimulusData, find_form
from outcrop_probes.searching import Search, search_model
from outcrop_probes.shared import describe_real
from outcrop_probes.shown import Shown, make_stimuli
from outcrop_probes.verdict import Judgement, judge

if TYPE_CHECKING:
    from outcrop import Context
    from outcrop.data import Data
    from outcrop_probes.analysis import ProbesParameters


@dataclass(frozen=True)
class _Subject:
    """A model that is judged: where, its dominant samples, the most dominant first, and its material."""

    reference: Reference
    dominant: NDArray[np.int64]
    material: StimulusMaterial

    @property
    def model(self) -> str:
        return self.reference.model

    @property
    def most_dominant(self) -> int:
        return int(self.dominant[0])

    @property
    def layer(self) -> LayerKey:
        return self.model, self.reference.layer


def check_probing(context: "Context", parameters: "ProbesParameters", families: Sequence[StimulusFamily]) -> None:
    """Refuse models that cannot be shown stimuli, samples that no family makes stimuli for, and an unknown reference.

    Raises:
        AnalysisError: A model is only stored, or not in evaluation mode; samples are of another kind; or a reference
            matches no layer.
    """
    check_reference(context.models, parameters.reference)
    form = find_form(_live_data(context))
    if not any(family.takes == form.takes for family in families):
        raise AnalysisError(
            f"None of the families {', '.join(family.name for family in families)} makes stimuli for samples of kind "
            f"{form.takes!r}; leave 'families' at 'all'."
        )


def probe(
    context: "Context", parameters: "ProbesParameters", families: Sequence[StimulusFamily]
) -> Mapping[str, xr.Dataset]:
    """Return the leaves ``response`` and ``verdict``; see :class:`outcrop_probes.analysis.ProbesAnalysis`.

    Raises:
        AnalysisError: As of the analysis.
    """
    data = _live_data(context)
    form = find_form(data)
    projections = _projections(context)
    references = find_references(
        context.models, context.result("blocks", "blocks"), _shares(context), layer=parameters.reference
    )
    if not references:
        raise AnalysisError(
            "No layer of any model tells samples apart: all are constant or hold values that are not finite. "
            "There is nothing to probe; look at the 'components' result."
        )
    materials = Materials(data, form, steps=parameters.steps, seed=context.seed)
    subjects = [_subject(reference, projections, materials, parameters) for reference in references]
    batch_size = parameters.batch_size
    everyone = np.arange(context.sample_count)
    members = {subject.model: np.isin(everyone, subject.dominant) for subject in subjects}
    real = measure_real(context, projections, members, batch_size=batch_size)
    shown = make_stimuli(families, {subject.model: subject.material for subject in subjects}, form)
    response = measure_response(context, real, _as_data(shown, form), batch_size=batch_size)
    searches: dict[str, tuple[Search, ...]] = {}
    if parameters.search:
        for subject in subjects:
            searches[subject.model] = _search(context, subject, real, form, families, batch_size)
        ended = tuple(one for found in searches.values() for search in found for one in search.shown)
        if ended:
            response = response.joined(measure_response(context, real, _as_data(ended, form), batch_size=batch_size))
            shown += ended
    described = describe_real(context, data, form, [subject.material for subject in subjects])
    judgements: list[Judgement] = []
    carries, lacks = np.zeros((2, len(subjects), len(shown)), dtype=np.bool_)
    for place, subject in enumerate(subjects):
        shared = described.shared_by(members[subject.model], seed=context.seed)
        amounts = np.full(len(shown), np.nan)
        if shared is not None:
            amounts = described.of_stimuli(shared, shown)
            carries[place], lacks[place] = shared.had_by(amounts), shared.lacked_by(amounts)
        judgements.append(
            judge(
                subject.reference,
                subject.material,
                subject.most_dominant,
                real,
                shown,
                response,
                searches.get(subject.model, ()),
                shared,
                amounts,
            )
        )
    dominant = {subject.model: subject.most_dominant for subject in subjects}
    settings: dict[str, int | float] = {"sample_count": context.sample_count, "top_fraction": parameters.top_fraction}
    return {
        "response": response_dataset(context, real, shown, response, form, dominant, carries, lacks).assign_attrs(
            settings
        ),
        "verdict": verdict_dataset(judgements).assign_attrs(settings),
    }


def _live_data(context: "Context") -> "Data":
    stored = [model for model in context.models if not context.is_live(model)]
    if stored or context.data is None:
        what = f"model {stored[0]!r} is at hand as stored activations" if stored else "the samples are not at hand"
        raise AnalysisError(
            f"Analysis 'probes' shows models new samples, and {what}; give the model itself and its data."
        )
    changing = [model for model, mode in context.modes.items() if mode != "evaluation"]
    if changing:
        raise AnalysisError(
            f"Batch norm of model {changing[0]!r} takes its statistics from the batch, so the response to a stimulus "
            "would be that to its batch; load the model in evaluation mode for 'probes'."
        )
    return context.data


def _projections(context: "Context") -> dict[LayerKey, NDArray[np.float64]]:
    """Return where every sample lies on the first component of every layer, by position."""
    found = context.result("components", "projections")
    placed = np.full((found.sizes["layer"], context.sample_count), np.nan)
    placed[:, found["sample"].values] = found["projection"].values
    keys = zip(found["model"].values.tolist(), found["name"].values.tolist(), strict=True)
    return dict(zip(keys, placed, strict=True))


def _shares(context: "Context") -> dict[LayerKey, float]:
    found = context.result("components", "per_layer")
    keys = zip(found["model"].values.tolist(), found["name"].values.tolist(), strict=True)
    return dict(zip(keys, found["pc_share"].values.tolist(), strict=True))


def _subject(
    reference: Reference,
    projections: Mapping[LayerKey, NDArray[np.float64]],
    materials: Materials,
    parameters: "ProbesParameters",
) -> _Subject:
    own = projections[reference.model, reference.layer]
    dominant = dominant_samples(own, parameters.top_fraction)
    typical = typical_samples(own, np.isin(np.arange(len(own)), dominant))
    return _Subject(reference, dominant, materials.of(dominant[: parameters.dominant_count], typical))


def _search(
    context: "Context",
    subject: _Subject,
    real: RealSamples,
    form: SampleForm,
    families: Sequence[StimulusFamily],
    batch_size: int,
) -> tuple[Search, ...]:
    row = real.layers.index(subject.layer)
    farthest = real.projections[row, subject.most_dominant]

    def excitation(stimuli: Sequence[Stimulus]) -> NDArray[np.float64]:
        data = StimulusData(stimuli, form)
        return np.asarray(scores_at(context, real, subject.layer, data, batch_size=batch_size) / farthest)

    return search_model(subject.model, subject.material, families, excitation, grey=form.grey)


def _as_data(shown: Sequence[Shown], form: SampleForm) -> StimulusData:
    return StimulusData([one.stimulus for one in shown], form, [one.name for one in shown])
