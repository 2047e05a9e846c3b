"""Draw results of kind ``dominance_reference``: where models are judged, and who dominates there."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from outcrop.report.dominant.judged import TOLD, Judged, judged_of, shown_of
from outcrop.report.dominant.sheet import has_pictures, sample_names
from outcrop.report.figure import Cell, Drawing, Figure, Run, Table
from outcrop.report.samples import PictureRow, pictures_at

if TYPE_CHECKING:
    import xarray as xr

SHOWN_SAMPLES = 26
LISTED_SAMPLES = 8
"""Of each sort, where there are no pictures."""

_LISTED_STATISTICS = 4


def draw_references(dataset: "xr.Dataset", run: Run) -> Sequence[Drawing]:
    """Return where each model is judged and why, and its dominant samples beside typical ones."""
    judged = judged_of(dataset)
    shown, said = shown_of(judged)
    drawings = [_where(dataset, judged, said)]
    several = dataset.sizes["model"] > 1
    for one in shown:
        if not one.dominant.any():
            continue
        title = f"{one.model}: dominant and typical samples" if several else "Dominant and typical samples"
        pictured = has_pictures(run.data, one.samples.tolist())
        found = _pictures(run, one, title) if pictured else _listed(run, one, title)
        # Of a single model the evidence stands above its table.
        evidence = f"{_evidence(dataset, one.model)} " if several else ""
        drawings.append(replace(found, caption=evidence + found.caption))
    return drawings


def _extent(one: Judged) -> str:
    return one.first_layer if one.first_layer == one.last_layer else f"{one.first_layer}\nto {one.last_layer}"


def _evidence(dataset: "xr.Dataset", model: str) -> str:
    """Return what speaks for and against a block of a model, as a sentence."""
    models = [str(one) for one in dataset["model"].values]
    text = str(dataset["evidence"].values[models.index(model)])
    return f"{text[:1].upper()}{text[1:]}".rstrip(".") + "."


def _where(dataset: "xr.Dataset", judged: Sequence[Judged], said: str) -> Drawing:
    by_model = {one.model: one for one in judged}
    rows: list[tuple[Cell, ...]] = []
    models = [str(model) for model in dataset["model"].values]
    for place, model in enumerate(models):
        verdict = str(dataset["verdict"].values[place])
        found = by_model.get(model)
        if found is None:
            rows.append((model, verdict, "nowhere", "", "", 0, float("nan")))
            continue
        count = int(found.dominant.sum())
        rows.append(
            (
                model, verdict, _extent(found), found.layer,
                TOLD.get(found.rule, found.rule), count, 100 * count / max(len(found.dominant), 1),
            )
        )  # fmt: skip
    columns = ("model", "verdict", "judged in", "ranked at", "told by", "dominant samples", "% of samples")
    ranks = " Ranks are means over the layers that a model is judged in." if dataset.attrs.get("pooled") else ""
    if len(models) == 1:
        caption = _evidence(dataset, models[0])
    else:
        blocks = sum(one.is_block for one in judged)
        found_in = f"{blocks} of {len(models)} models have a block and are judged in it, the others"
        if blocks in (0, len(models)):
            found_in = f"{'None' if not blocks else 'Each'} of {len(models)} models has a block; they are judged"
        caption = f"{found_in} in it" if blocks == len(models) else f"{found_in} in their longest interval of similar "
        if blocks < len(models):
            caption += "layers, or among all layers where there is none"
        caption += ", at the layer of the largest share of variance there, unless another was asked for."
        if nowhere := [model for model in models if model not in by_model]:
            caption += f" Judged nowhere, as no layer tells samples apart: {', '.join(nowhere)}."
    return Drawing("Where samples are judged", caption + ranks + said, table=Table(columns, tuple(rows)))


def _pictures(run: Run, one: Judged, title: str) -> Drawing:
    assert run.data is not None
    rows = []
    for name, positions, every in _sorts(one):
        chosen = positions[:SHOWN_SAMPLES]
        remarks = [f"rank {rank:,.3g}" for rank in _ranks(one, chosen)]
        note = f"{len(chosen)} of {every:,}" if len(chosen) < every else f"{every:,}"
        rows.append(PictureRow(name, note, pictures_at(run.data, chosen, remarks)))
    count, every = int(one.dominant.sum()), len(one.dominant)
    caption = (
        f"{count:,} of {every:,} samples dominate {one.layer}; of these the largest |projection| comes first. Typical: "
        "those of the others nearest to their middle rank. Point at a picture for its name, class and rank."
    )
    return Drawing(title, caption, pictures=tuple(rows))


def _listed(run: Run, one: Judged, title: str) -> Drawing:
    """Return samples as a table: what they are called and what is known of them."""
    statistics = _statistics(run, one)
    norms = _norms(run, one)
    columns = ["", "sample", "rank", *(["norm"] if norms else []), *statistics]
    rows: list[tuple[Cell, ...]] = []
    for name, positions, _ in _sorts(one):
        chosen = positions[:LISTED_SAMPLES]
        named = sample_names(run.data, chosen)
        for position, text, rank in zip(chosen.tolist(), named, _ranks(one, chosen), strict=True):
            numbers = [float(values[position]) for values in statistics.values()]
            norm = [norms.get(position, float("nan"))] if norms else []
            rows.append((name, text, float(rank) if rank % 1 else int(rank), *norm, *numbers))
    count, every = int(one.dominant.sum()), len(one.dominant)
    shown = min(LISTED_SAMPLES, count)
    caption = (
        f"{count:,} of {every:,} samples dominate {one.layer}; the {shown} of the largest |projection|, and those of "
        "the others nearest to their middle rank. No pictures are kept of these samples."
    )
    return Drawing(title, caption, table=Table(tuple(columns), tuple(rows)))


def _sorts(one: Judged) -> tuple[tuple[str, NDArray[np.int64], int], ...]:
    found = (("Dominant", one.ordered), ("Typical", one.typical))
    return tuple((name, positions, len(positions)) for name, positions in found if len(positions))


def _ranks(one: Judged, positions: NDArray[np.int64]) -> list[float]:
    by_position = dict(zip(one.samples.tolist(), one.rank.tolist(), strict=True))
    return [by_position[position] for position in positions.tolist()]


def _norms(run: Run, one: Judged) -> dict[int, float]:
    """Return the norm of each sample at the layer a model is judged at; empty where the run does not say."""
    found = run.of_kind("dominance")
    if found is None or "norm" not in found:
        return {}
    rows = [
        row
        for row, (model, name) in enumerate(zip(found["model"].values, found["name"].values, strict=True))
        if (str(model), str(name)) == (one.model, one.layer)
    ]
    if not rows:
        return {}
    return dict(zip(found["sample"].values.tolist(), found["norm"].values[rows[0]].astype(float).tolist(), strict=True))


def _statistics(run: Run, one: Judged) -> dict[str, NDArray[np.float64]]:
    """Return a few statistics (sample,) of the data, those that tell the dominant samples best first."""
    data = run.data
    if data is None or one.samples.max() >= data.sizes["sample"]:
        return {}
    names = [
        str(name)
        for name, values in data.data_vars.items()
        if values.dims == ("sample",) and values.dtype.kind == "f" and name != "label"
    ]
    shared = run.of_kind("association")
    if shared is not None and one.model in (owners := [str(owner) for owner in shared["block_model"].values]):
        ranks = shared["rank"].values[owners.index(one.model)]
        order = {str(name): int(rank) for name, rank in zip(shared["statistic"].values, ranks, strict=True)}
        names.sort(key=lambda name: order.get(name, len(order) + 1))
    return {name.replace("_", " "): data[name].values.astype(float) for name in names[:_LISTED_STATISTICS]}


DOMINANCE_REFERENCE = Figure(kind="dominance_reference", title="Dominant samples", draw=draw_references)
