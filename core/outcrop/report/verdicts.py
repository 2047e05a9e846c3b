"""What the block detector found, one plain sentence or two per model, and how sure it is."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from outcrop.numerics.blocks.intervals import BlockThresholds, similar_intervals
from outcrop.report.figure import Run
from outcrop.report.maps import Span, read_axis

if TYPE_CHECKING:
    import xarray as xr

_INTERVALS = (
    ("score", "score"),
    ("similarity", "mean CKA"),
    ("contrast", "contrast"),
    ("contrast_without_pc1", "contrast without the component"),
    ("pc_support", "the component's share"),
)


@dataclass(frozen=True)
class Mark:
    """An interval of similar layers, at positions ``start`` to ``stop - 1`` of its model's layers."""

    start: int
    stop: int
    is_block: bool
    label: str


@dataclass(frozen=True)
class Verdict:
    """What was found in one model.

    Attributes:
        model: Its name.
        verdict: As the analysis states it.
        sentences: What was found.
        certainty: How sure that is.
        notes: What qualifies it: degenerate layers, values that were not finite.
        marks: Intervals, for the drawings.
        shares: (layer,) share of variance of the first principal component, or empty.
    """

    model: str
    verdict: str
    sentences: tuple[str, ...]
    certainty: tuple[str, ...]
    notes: tuple[str, ...]
    marks: tuple[Mark, ...]
    shares: tuple[float, ...]

    @property
    def tone(self) -> str:
        """Return "found", "partial" or "none"."""
        return {"block": "found", "similar layers, not a block": "partial"}.get(self.verdict, "none")


def read_verdicts(run: Run) -> list[Verdict]:
    """Return one verdict per model of a run that has a leaf of kind ``blocks``; else an empty list."""
    blocks = run.of_kind("blocks")
    if blocks is None or "verdict" not in blocks or "model" not in blocks.variables:
        return []
    return [
        _verdict(run, blocks, str(model), str(verdict))
        for model, verdict in zip(blocks["model"].values, blocks["verdict"].values, strict=True)
    ]


def marks_of(run: Run, model: str, depths: np.ndarray) -> tuple[Mark, ...]:
    """Return the intervals found in a model, as positions along its layers.

    Args:
        run: With a leaf of kind ``blocks``, or without: then there is no mark.
        model: Name of the model.
        depths: (layer,), topological index of the layers that are drawn, ascending.
    """
    blocks = run.of_kind("blocks")
    if blocks is None or "block_model" not in blocks:
        return ()
    found = []
    for row in _rows(blocks, model):
        start = int(np.searchsorted(depths, row["first_depth"]))
        stop = int(np.searchsorted(depths, row["last_depth"], side="right"))
        found.append(Mark(start, stop, bool(row["is_block"]), f"{row['first_layer']} to {row['last_layer']}"))
    return tuple(found)


def _verdict(run: Run, blocks: "xr.Dataset", model: str, verdict: str) -> Verdict:
    rows = _rows(blocks, model)
    facts = blocks.isel(model=int(np.flatnonzero(_is(blocks["model"], model))[0]))
    evaluated = int(facts["evaluated_layers"]) if "evaluated_layers" in facts else 0
    kind = str(facts["evaluated_kind"].values) if "evaluated_kind" in facts else "all"
    thresholds = read_thresholds(blocks)
    asked = run.provenance.get("parameters", {}).get("confidence", 0.95)
    confidence = float(blocks.attrs.get("confidence", asked))
    if rows:
        # Blocks first, then what merely looks alike; each group in the order of the layers.
        rows.sort(key=lambda row: (not row["is_block"], row["first_depth"]))
        sentences = tuple(_found(row, evaluated, kind, thresholds) for row in rows)
        certainty = tuple(_how_sure(row, confidence, len(rows) > 1) for row in rows)
    elif verdict == "too few layers":
        layers = f"{evaluated} {_of_kind(kind, evaluated)}"
        sentences = (f"Too few layers to look for a block: {layers}, at least {thresholds.minimum_layers} are needed.",)
        certainty = ()
    else:
        sentences = (_none(run, model, evaluated, kind, thresholds),)
        certainty = ("Nothing was found that an interval could be put on.",)
    return Verdict(model, verdict, sentences, certainty + _map_error(run, model), *_layers(run, model))


def _found(row: dict[str, Any], evaluated: int, kind: str, thresholds: BlockThresholds) -> str:
    count, score = int(row["layer_count"]), float(row["score"])
    extent = f"{count} of {evaluated} {_of_kind(kind, evaluated)}, {row['first_layer']} to {row['last_layer']}"
    share = f"the first principal component carries {percent(row['pc_support'])} of the variance inside"
    outside = float(row["pc_support_outside"])
    nothing = f"no {'layer' if count == evaluated else 'comparable layer'} lies outside"
    if np.isfinite(outside):
        share += f" against {percent(outside)} outside"
        share += "" if row["supported"] else f", less than {thresholds.support_ratio:g} times that"
    elif row["supported"]:
        share += f", and {nothing}"
    else:
        share += f", less than the {percent(thresholds.support_share)} asked for where {nothing}"
    contrast = float(row["contrast"])
    similar = f"mean CKA {row['similarity']:.2f}"
    if np.isfinite(contrast):
        similar += f", {abs(contrast):.2f} {'above' if contrast >= 0 else 'below'} that with the other layers"
    if row["is_block"]:
        return (
            f"A block of {extent} (score {score:.2f}): {similar}; {share}; removing it dissolves the block{_left(row)}."
        )
    is_none = "not known to be a block" if hangs_on_empty_layers(row) and row["supported"] else "not a block"
    return f"{extent} are similar but {is_none}: {similar}; {share}{_removal(row)}."


def _removal(row: dict[str, Any]) -> str:
    """Return what removing the component does to an interval that is not called a block."""
    joint = "; but" if row["supported"] else ", and"
    if row["dissolved"]:
        dissolves = "the similarity" if "contrast_without_pc1" not in row else "what sets them apart"
        return f", though removing it dissolves {dissolves}{_left(row)}"
    if hangs_on_empty_layers(row):
        return "; whether removing it dissolves the similarity is unknown, as nothing is left of some layers without it"
    if "contrast_without_pc1" not in row:
        return f"{joint} removing it leaves the layers similar"
    if not np.isfinite(row["contrast"]):
        return f"{joint} with nothing outside to stand out from, they cannot be told from a network of similar layers"
    if row["contrast"] <= 0:
        return f"{joint} they do not stand out from the other layers"
    return f"{joint} without it they still stand out by {float(row['contrast_without_pc1']):.2f}{_shrunk(row)}"


def _shrunk(row: dict[str, Any]) -> str:
    """Return how many layers in a row stay similar without the component, where these are fewer."""
    effect = float(row["removal_effect"])
    if not effect > 0:
        return ""
    left = round(row["layer_count"] * (1 - effect / float(row["score"])))
    return f", though {f'only {left} in a row stay' if left else 'no row of them stays'} similar"


def _left(row: dict[str, Any]) -> str:
    """Return what sets layers apart without the component that dissolves it; nothing where that is not recorded."""
    left = float(row.get("contrast_without_pc1", np.nan))
    if not np.isfinite(left):
        return ""
    # What is less than can be written counts as nothing.
    return f": without it, the layers stand out {f'by {left:.2f}' if left >= 0.005 else 'no more'}"


def hangs_on_empty_layers(row: dict[str, Any]) -> bool:
    """Return whether layers of which nothing is left without the component leave open whether an interval dissolves."""
    if row["dissolved"]:
        return False
    if "contrast_without_pc1" not in row:
        # Of results that judged by the similarity inside alone.
        return not np.isfinite(float(row["removal_effect"]))
    stands_out = float(row["contrast"]) > 0
    return stands_out and not np.isfinite(float(row["contrast_without_pc1"]))


def _how_sure(row: dict[str, Any], confidence: float, several: bool) -> str:
    where = f" ({row['first_layer']} to {row['last_layer']})" if several else ""
    spans = [
        f"{label} {float(row[name + '_low']):.2f} to {float(row[name + '_high']):.2f}"
        for name, label in _INTERVALS
        if np.isfinite(float(row.get(name + "_low", np.nan))) and np.isfinite(float(row.get(name + "_high", np.nan)))
    ]
    if not spans:
        return f"Too few batches for an interval{where}."
    return f"{100 * confidence:g} % intervals{where}: {', '.join(spans)}."


def _none(run: Run, model: str, evaluated: int, kind: str, thresholds: BlockThresholds) -> str:
    least = max(thresholds.minimum_layers, int(np.ceil(thresholds.minimum_share * evaluated)))
    text = f"No block among {evaluated} {_of_kind(kind, evaluated)}: no interval of {least} or more is mutually similar"
    pairs = run.of_kind("pairwise")
    if pairs is None or "similarity" not in pairs:
        return text + "."
    axis = read_axis(pairs, "layer_a", "_a")
    chosen = [i for i, name in enumerate(axis.models) if name == model and (kind == "all" or axis.kinds[i] == kind)]
    if len(chosen) != evaluated:
        # The layers that were evaluated cannot be told from their kinds alone, so nothing more is claimed.
        return text + f" (mean CKA of {thresholds.similarity:.2f} is asked for)."
    order = axis.order[chosen]
    square = pairs["similarity"].values[np.ix_(order, order)]
    shorter = similar_intervals(square, replace(thresholds, minimum_layers=2, minimum_share=0.0))
    if not shorter:
        return text + f"; not even two neighbours reach a CKA of {thresholds.similarity:.2f}."
    longest = max(shorter, key=lambda interval: interval.length)
    first, last = axis.names[chosen[longest.start]], axis.names[chosen[longest.stop - 1]]
    return text + f"; the longest similar interval has {longest.length}, {first} to {last}."


def _layers(run: Run, model: str) -> tuple[tuple[str, ...], tuple[Mark, ...], tuple[float, ...]]:
    """Return notes, marks and PC shares of a model."""
    layers = run.of_kind("per_layer")
    if layers is None or "layer" not in layers.dims:
        return (), (), ()
    axis = read_axis(layers, "layer")
    span = next((span for span in axis.spans if span.model == model), Span(model, 0, 0))
    order = axis.order[span.start : span.stop]
    names = axis.names[span.start : span.stop]
    notes: list[str] = []
    counts = layers["non_finite_count"].values[order] if "non_finite_count" in layers else np.zeros(len(order), int)
    flags = np.zeros(len(order), dtype=bool)
    if "degenerate" in layers:
        flags = layers["degenerate"].values[order].astype(bool)
        if same := [names[i] for i in np.flatnonzero(flags & (counts == 0))]:
            notes.append(
                f"{_layers_that(same, 'tells', 'tell')} no samples apart (constant, or all samples equally far from "
                f"one another) and {'are' if len(same) > 1 else 'is'} left out: {_listed(same)}."
            )
    for left_out in (True, False):
        if places := np.flatnonzero((counts > 0) & (flags == left_out)).tolist():
            wrong = [f"{names[i]} ({int(counts[i]):,})" for i in places]
            ending = f" and {'are' if len(wrong) > 1 else 'is'} left out" if left_out else ""
            notes.append(
                f"{_layers_that(wrong, 'holds', 'hold')} values that are not finite{ending}: {_listed(wrong)}."
            )
    shares = layers["pc_share"].values[order] if "pc_share" in layers else np.zeros(0)
    marks = marks_of(run, model, axis.depths[span.start : span.stop])
    return tuple(notes), marks, tuple(float(share) for share in shares)


def _layers_that(names: Sequence[str], one: str, several: str) -> str:
    return f"{len(names)} layers {several}" if len(names) > 1 else f"1 layer {one}"


def _listed(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _map_error(run: Run, model: str) -> tuple[str, ...]:
    pairs = run.of_kind("pairwise")
    if pairs is None or "standard_error" not in pairs:
        return ()
    axis = read_axis(pairs, "layer_a", "_a")
    order = axis.order[[i for i, name in enumerate(axis.models) if name == model]]
    errors = pairs["standard_error"].values[np.ix_(order, order)]
    errors = errors[np.triu_indices(len(errors), 1)]
    finite = errors[np.isfinite(errors)]
    if not finite.size:
        return ()
    return (f"The map's CKA has a standard error of {np.median(finite):.3f} (median), at most {finite.max():.3f}.",)


def _rows(blocks: "xr.Dataset", model: str) -> list[dict[str, Any]]:
    names = [str(name) for name, variable in blocks.variables.items() if variable.dims == ("block",)]
    chosen = np.flatnonzero(_is(blocks["block_model"], model))
    return [{name: blocks[name].values[i] for name in names} for i in chosen]


def _is(names: "xr.DataArray", name: str) -> NDArray[np.bool_]:
    # A StringDType array, as zarr reads strings, cannot be cast to another string type as a whole.
    return np.array([str(value) == name for value in names.values], dtype=bool)


def read_thresholds(blocks: "xr.Dataset") -> BlockThresholds:
    """Return the thresholds that a result of kind ``blocks`` was made with."""
    recorded = json.loads(blocks.attrs.get("thresholds", "{}"))
    known = BlockThresholds.__dataclass_fields__
    return BlockThresholds(**{name: value for name, value in recorded.items() if name in known})


def _of_kind(kind: str, count: int) -> str:
    noun = {"block": "block output", "act": "activation", "all": "layer"}.get(kind, f"{kind} layer")
    return noun if count == 1 else noun + "s"


def percent(share: float) -> str:
    """Return a share in words: ``97 %``."""
    return f"{100 * float(share):.0f} %"
