"""Draw results of kind ``overlap``: how far the dominant samples of layers are the same, within and between models."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from outcrop.report.dominant.judged import Judged, mark_of, read_judged, shown_of
from outcrop.report.figure import Drawing, Figure, Run, Table
from outcrop.report.heatmap import cell_of, draw_heatmap, groups_of, outline
from outcrop.report.maps import Axis, Span, pack, read_axis
from outcrop.report.style import colour_mapper, label

if TYPE_CHECKING:
    import xarray as xr

MOST_LAYERS = 600
"""Of all models; above, only the map itself is in the page, not what else pointing at it would show."""

_LABELS: Mapping[str, str] = {
    "jaccard": "Jaccard index of the dominant samples",
    "shared": "samples that dominate both",
    "log_p": "log10 of the chance to share as many",
}


def draw_overlap(dataset: "xr.Dataset", run: Run) -> Sequence[Drawing]:
    """Return a map between all layers of all models, one of each model, and what models share where they are judged."""
    axis = read_axis(dataset, "layer_a", "_a")
    judged = read_judged(run)
    values = _values(dataset, axis)
    if not np.isfinite(values["jaccard"]).any():
        return []
    key = f"{run.analysis}/{run.run_id}/overlap"
    kept = dict.fromkeys(values) if len(axis.order) <= MOST_LAYERS else {"jaccard": None}
    assets: dict[str, Any] = {f"{key}/rows": axis.asset(), f"{key}/columns": axis.asset()}
    for name in kept:
        assets[f"{key}/{name}"] = pack(values[name]) | ({"whole": True} if name == "shared" else {})
    labels = {name: _LABELS[name] for name in kept}
    spans, said = shown_of(axis.spans)
    drawings = []
    if len(axis.spans) > 1:
        drawings.append(_between(axis, values, judged, labels, key, assets))
    within = tuple(_map(axis, span, judged.get(span.model), labels, key) for span in spans)
    sentences = " ".join(_within(span, values["jaccard"], len(axis.spans) > 1) for span in spans)
    caption = f"{sentences} 1: the same samples dominate both layers; 0: none does. Blank: a layer without any.{said}"
    drawings.append(
        Drawing(
            "Within each model" if len(axis.spans) > 1 else "Between layers",
            caption,
            within,
            assets=assets,
            layout="halves",
        )
    )
    return drawings


def _values(dataset: "xr.Dataset", axis: Axis) -> dict[str, NDArray[np.float64]]:
    square = np.ix_(axis.order, axis.order)
    chance = np.maximum(dataset["p_value"].values[square].astype(float), 1e-300)
    return {
        "jaccard": dataset["jaccard"].values[square].astype(float),
        "shared": dataset["shared"].values[square].astype(float),
        "log_p": np.log10(chance),
    }


def _map(axis: Axis, span: Span, one: Judged | None, labels: Mapping[str, str], key: str) -> Any:
    from bokeh.models import Range1d

    side = Range1d(-0.5, span.length - 0.5, bounds=(-0.5, span.length - 0.5))
    depth = Range1d(span.length - 0.5, -0.5, bounds=(-0.5, span.length - 0.5))
    plot = draw_heatmap(
        "jaccard", labels, key,
        cells=[cell_of(span, span, -0.5, -0.5, span.length, span.length)],
        ranges=(side, depth),
        groups=(groups_of(axis, span), groups_of(axis, span)),
        mapper=colour_mapper(0.0, 1.0),
        marks=mark_of(one, axis, span),
        role="main",
    )  # fmt: skip
    plot.tags = [{**plot.tags[0], "title": span.model or "all layers"}]
    return plot


def _between(
    axis: Axis,
    values: Mapping[str, NDArray[np.float64]],
    judged: Mapping[str, Judged],
    labels: Mapping[str, str],
    key: str,
    assets: Mapping[str, Any],
) -> Drawing:
    """Return the map over all models, each stretched to the same side, and what they share where they are judged."""
    from bokeh.models import Range1d
    from bokeh.models import Span as Rule

    count = len(axis.spans)
    cells = [cell_of(a, b, j, i, 1.0, 1.0) for i, a in enumerate(axis.spans) for j, b in enumerate(axis.spans)]
    ticks = [[i, i + 1, label(span.model)] for i, span in enumerate(axis.spans)]
    plot = draw_heatmap(
        "jaccard", labels, key,
        cells=cells,
        ranges=(Range1d(0, count, bounds=(0, count)), Range1d(count, 0, bounds=(0, count))),
        groups=(ticks, ticks),
        mapper=colour_mapper(0.0, 1.0),
        marks=(),
        role="grid",
    )  # fmt: skip
    for dimension in ("height", "width"):
        for position in range(1, count):
            plot.add_layout(
                Rule(location=position, dimension=dimension, line_color="white", line_width=2, line_alpha=0.9)
            )
    for i, span in enumerate(axis.spans):
        outline(plot, mark_of(judged.get(span.model), axis, span), start=i, scale=1 / span.length)
    pairs = _pairs(axis, values, judged)
    caption = (
        f"Jaccard index of the dominant samples of all {len(axis.order)} layers of {count} models, each stretched to "
        "the same side: equal places are equal relative depths. "
    )
    if pairs:
        one, layer, other, there, shared, index, chance = pairs[0]
        most = f", the most of {len(pairs)} pairs" if len(pairs) > 1 else ""
        caption += (
            f"Where they are judged, {one} ({layer}) and {other} ({there}) have {shared:,} dominant samples in common, "
            f"a Jaccard index of {index:.2f}{most}; random sets of their sizes share as many or more with a "
            f"probability of {chance:.2g}."
        )
    columns = ("model", "layer", "other model", "layer", "samples in common", "Jaccard index", "chance of as many")
    table = Table(columns, tuple(pairs)) if pairs else None
    return Drawing("Between models", caption, (plot,), table=table, assets=assets, layout="grid")


def _pairs(
    axis: Axis, values: Mapping[str, NDArray[np.float64]], judged: Mapping[str, Judged]
) -> list[tuple[str, str, str, str, int, float, float]]:
    """Return what every two models share at the layers they are judged at, the most similar pairs first."""
    rows = []
    for span in axis.spans:
        names = axis.names[span.start : span.stop]
        one = judged.get(span.model)
        if one is not None and one.layer in names:
            rows.append((one, span.start + names.index(one.layer)))
    found = [
        (
            a.model, a.layer, b.model, b.layer, int(values["shared"][i, j]), float(values["jaccard"][i, j]),
            float(10 ** values["log_p"][i, j]),
        )
        for place, (a, i) in enumerate(rows)
        for b, j in rows[place + 1 :]
        if np.isfinite(values["jaccard"][i, j])
    ]  # fmt: skip
    return sorted(found, key=lambda pair: -pair[5])[:28]


def _within(span: Span, jaccard: NDArray[np.float64], several: bool) -> str:
    """Return how alike the dominant samples of neighbours and of all layers are."""
    window = jaccard[span.start : span.stop, span.start : span.stop]
    pairs, neighbours = window[np.triu_indices(span.length, 1)], window.diagonal(1)
    pairs, neighbours = pairs[np.isfinite(pairs)], neighbours[np.isfinite(neighbours)]
    if not pairs.size:
        return ""
    said = f"{pairs.mean():.2f} on average over all pairs of layers"
    said += f", {neighbours.mean():.2f} of neighbours" if neighbours.size else ""
    return f"{span.model}: {said}." if several else f"{said[0].upper()}{said[1:]}."


OVERLAP = Figure(kind="overlap", title="Dominant samples in common", draw=draw_overlap)
