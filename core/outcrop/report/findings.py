"""What analyses other than the block detector found, one or two sentences per model, for the head of the report."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from outcrop.report.figure import Run

if TYPE_CHECKING:
    import xarray as xr

_MOST_PER_ANALYSIS = 8
"""Models of one run that are told of; a training's checkpoints have figures of their own."""


@dataclass(frozen=True)
class Finding:
    """What an analysis found in one model.

    Attributes:
        model: Its name.
        heading: What it is about, in a word or two.
        text: What was found.
    """

    model: str
    heading: str
    text: str


def read_findings(run: Run) -> list[Finding]:
    """Return what a run found of dominant samples and with stimuli; nothing of a run of anything else."""
    return [*_dominant(run), *_probes(run)]


def _dominant(run: Run) -> Iterator[Finding]:
    references = run.of_kind("dominance_reference")
    if references is None or "block_model" not in references:
        return
    shared, removal = run.of_kind("association"), run.of_kind("removal")
    for row, model in enumerate(_first(references)):
        chosen = references["dominant"].values[row].astype(bool)
        layer = references["reference_layer"].values[row]
        said = [f"{int(chosen.sum()):,} of {len(chosen):,} samples dominate the first principal component of {layer}"]
        if shared is not None and (place := _row_of(shared, model)) is not None:
            said.append(_shared(shared, place))
        text = "; ".join(said) + "."
        if removal is not None and (place := _row_of(removal, model)) is not None:
            text += f" Leaving samples out: {str(removal['verdict'].values[place]).rstrip('.')}."
        yield Finding(model, "Dominant samples", text)


def _shared(shared: "xr.Dataset", row: int) -> str:
    leading = str(shared["leading_statistic"].values[row])
    names = [str(name) for name in shared["statistic"].values]
    if leading not in names:
        return "no statistic tells them from the rest"
    place = names.index(leading)
    area = float(shared["auroc"].values[row, place])
    means = [float(shared[name].values[row, place]) for name in ("mean_dominant", "mean_rest")]
    p_value = float(shared["adjusted_p"].values[row, place])
    return (
        f"they have {'more' if area > 0.5 else 'less'} {_title(shared, place)} than the rest ({means[0]:.3g} against "
        f"{means[1]:.3g}, AUROC {max(area, 1 - area):.2f}, adjusted p {p_value:.2g})"
    )


def _title(shared: "xr.Dataset", place: int) -> str:
    title = str(shared["statistic_title"].values[place]) if "statistic_title" in shared.variables else ""
    return (title or str(shared["statistic"].values[place]).replace("_", " ")).removesuffix(", 0 to 1")


def _probes(run: Run) -> Iterator[Finding]:
    from outcrop.report.probes.answers import found_sentence, own_sentence
    from outcrop.report.probes.probed import verdict_rows

    verdicts = run.of_kind("probe_verdict")
    if verdicts is None or "compared_count" not in verdicts:
        return
    rows = verdict_rows(verdicts)
    for model in _first(verdicts):
        yield Finding(model, "Probes", " ".join(filter(None, (found_sentence(rows[model]), own_sentence(rows[model])))))


def _first(dataset: "xr.Dataset") -> list[str]:
    """Return the models of a result, in its order; some of very many."""
    return [str(model) for model in dataset["block_model"].values[:_MOST_PER_ANALYSIS]]


def _row_of(dataset: "xr.Dataset", model: str) -> int | None:
    found = np.flatnonzero([str(name) == model for name in dataset["block_model"].values])
    return int(found[0]) if len(found) else None
