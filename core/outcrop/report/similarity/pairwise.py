"""Draw results of kind ``pairwise``: maps between layers, one panel per model, and the map over all models."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from outcrop.report.figure import Drawing, Figure, Run
from outcrop.report.heatmap import cell_of, draw_heatmap, groups_of, mapper_of, outline
from outcrop.report.maps import Axis, Span, pack, read_axis
from outcrop.report.similarity.per_layer import draw_strip, unconverged_layers
from outcrop.report.style import label
from outcrop.report.verdicts import Mark, marks_of

if TYPE_CHECKING:
    import xarray as xr

_ERROR = "standard_error"
_WITHOUT = "similarity_without_pc1"
_TITLES = {
    "similarity": "CKA",
    _WITHOUT: "CKA without the first principal component",
    "pc_alignment": "Alignment of first principal components",
}


def draw_pairwise(dataset: "xr.Dataset", run: Run) -> Sequence[Drawing]:
    """Return a panel per model that is on both sides, and the map over all models where there are several."""
    from bokeh.models import Range1d

    rows, columns = read_axis(dataset, "layer_a", "_a"), read_axis(dataset, "layer_b", "_b")
    kept = [str(name) for name, values in dataset.data_vars.items() if values.dims == ("layer_a", "layer_b")]
    # A store may list them in any order; the first one is shown largest.
    rank = {name: place for place, name in enumerate(_TITLES)}
    kept.sort(key=lambda name: rank.get(name, len(rank)))
    key = f"{run.analysis}/{run.run_id}"
    assets: dict[str, Any] = {f"{key}/rows": rows.asset(), f"{key}/columns": columns.asset()}
    for name in kept:
        assets[f"{key}/{name}"] = pack(dataset[name].values[np.ix_(rows.order, columns.order)])
    labels = {name: _title(name, dataset) for name in kept}
    maps = [name for name in kept if name != _ERROR]
    drawings = []
    for row, column in ((a, b) for a in rows.spans for b in columns.spans if a.model == b.model):
        marks = marks_of(run, row.model, rows.depths[row.start : row.stop])
        side = Range1d(-0.5, column.length - 0.5, bounds=(-0.5, column.length - 0.5))
        depth = Range1d(row.length - 0.5, -0.5, bounds=(-0.5, row.length - 0.5))
        plots = [
            draw_heatmap(
                name, labels, key,
                cells=[cell_of(row, column, -0.5, -0.5, column.length, row.length)],
                ranges=(side, depth),
                groups=(groups_of(columns, column), groups_of(rows, row)),
                mapper=mapper_of(dataset[name].values),
                marks=marks,
                role="main" if name == maps[0] else "side",
            )
            for name in maps
        ]  # fmt: skip
        strip = draw_strip(run, row.model, side, marks)
        if strip is not None:
            plots.insert(1, strip)
        said = _caption(row, labels, marks) + (unconverged_layers(run, row.model) if _WITHOUT in labels else "")
        drawings.append(Drawing(row.model or "all layers", said, tuple(plots), assets=assets, layout="panel"))
    if maps and (len(rows.spans) > 1 or len(columns.spans) > 1):
        drawings.append(_grid(run, maps[0], dataset, rows, columns, labels, key, assets))
    return drawings


def _grid(
    run: Run,
    name: str,
    dataset: "xr.Dataset",
    rows: Axis,
    columns: Axis,
    labels: Mapping[str, str],
    key: str,
    assets: Mapping[str, Any],
) -> Drawing:
    """Return the map over all models, each stretched to the same side: equal places are equal relative depths."""
    from bokeh.models import Range1d
    from bokeh.models import Span as Rule

    cells = [cell_of(a, b, j, i, 1.0, 1.0) for i, a in enumerate(rows.spans) for j, b in enumerate(columns.spans)]
    across, down = len(columns.spans), len(rows.spans)
    plot = draw_heatmap(
        name, labels, key,
        cells=cells,
        ranges=(Range1d(0, across, bounds=(0, across)), Range1d(down, 0, bounds=(0, down))),
        groups=tuple([[i, i + 1, label(span.model)] for i, span in enumerate(axis.spans)] for axis in (columns, rows)),
        mapper=mapper_of(dataset[name].values),
        marks=(),
        role="grid",
    )  # fmt: skip
    for dimension, count in (("height", across), ("width", down)):
        for position in range(1, count):
            plot.add_layout(
                Rule(location=position, dimension=dimension, line_color="white", line_width=2, line_alpha=0.9)
            )
    if [span.model for span in rows.spans] == [span.model for span in columns.spans]:
        for i, span in enumerate(rows.spans):
            marks = marks_of(run, span.model, rows.depths[span.start : span.stop])
            outline(plot, marks, start=i, scale=1 / span.length)
    layers = sum(span.length for span in rows.spans)
    caption = (
        f"{labels[name]} between all {layers} layers of {down} models. Every model is stretched to the same side, so "
        "equal places are equal relative depths; depth grows to the right and downwards."
    )
    return Drawing("Between models", caption, (plot,), assets=assets, layout="grid")


def _title(name: str, dataset: "xr.Dataset") -> str:
    return _TITLES.get(name) or str(dataset[name].attrs.get("long_name", name.replace("_", " ")))


def _caption(span: Span, labels: Mapping[str, str], marks: Sequence[Mark]) -> str:
    text = f"{span.length} layers in topological order, depth growing to the right and downwards."
    if any(mark.is_block for mark in marks):
        text += " Solid outline: a block, from its first to its last layer"
        text += ", dissolved where the first principal component is removed." if _WITHOUT in labels else "."
    if any(not mark.is_block for mark in marks):
        text += " Dashed outline: similar layers, but not all the signs of a block."
    return text


PAIRWISE = Figure(kind="pairwise", title="Similarity between layers", draw=draw_pairwise)
