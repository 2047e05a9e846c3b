"""Draw results of kind ``pairwise``: maps between layers, one panel per model, and the map over all models."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from outcrop.report.figure import Drawing, Figure, Run
from outcrop.report.maps import Axis, Span, group_layers, pack, read_axis
from outcrop.report.per_layer import draw_strip
from outcrop.report.style import BLOCK, colour_bar, colour_mapper, label, plain_figure
from outcrop.report.verdicts import Mark, marks_of

if TYPE_CHECKING:
    import xarray as xr
    from bokeh.models import LinearColorMapper

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
            _map(
                name, labels, key,
                cells=[_cell(row, column, -0.5, -0.5, column.length, row.length)],
                ranges=(side, depth),
                groups=(_groups(columns, column), _groups(rows, row)),
                mapper=_mapper(dataset[name].values),
                marks=marks,
                role="main" if name == maps[0] else "side",
            )
            for name in maps
        ]  # fmt: skip
        strip = draw_strip(run, row.model, side, marks)
        if strip is not None:
            plots.insert(1, strip)
        drawings.append(
            Drawing(
                row.model or "all layers", _caption(row, labels, marks), tuple(plots), assets=assets, layout="panel"
            )
        )
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

    cells = [_cell(a, b, j, i, 1.0, 1.0) for i, a in enumerate(rows.spans) for j, b in enumerate(columns.spans)]
    across, down = len(columns.spans), len(rows.spans)
    plot = _map(
        name, labels, key,
        cells=cells,
        ranges=(Range1d(0, across, bounds=(0, across)), Range1d(down, 0, bounds=(0, down))),
        groups=tuple([[i, i + 1, label(span.model)] for i, span in enumerate(axis.spans)] for axis in (columns, rows)),
        mapper=_mapper(dataset[name].values),
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
            _outline(plot, marks, start=i, scale=1 / span.length)
    layers = sum(span.length for span in rows.spans)
    caption = (
        f"{labels[name]} between all {layers} layers of {down} models. Every model is stretched to the same side, so "
        "equal places are equal relative depths; depth grows to the right and downwards."
    )
    return Drawing("Between models", caption, (plot,), assets=assets, layout="grid")


def _map(
    name: str,
    labels: Mapping[str, str],
    key: str,
    *,
    cells: Sequence[Mapping[str, Any]],
    ranges: tuple[Any, Any],
    groups: Sequence[Sequence[Sequence[Any]]],
    mapper: "LinearColorMapper",
    marks: Sequence[Mark],
    role: str,
) -> Any:
    """Return a square heatmap whose image the page fills in from the packed matrix."""
    from bokeh.models import (
        BoxZoomTool,
        ColumnDataSource,
        CustomJSHover,
        FixedTicker,
        HoverTool,
        PanTool,
        ResetTool,
        WheelZoomTool,
    )

    box = BoxZoomTool(match_aspect=True)
    source = ColumnDataSource(
        # The page replaces these single cells: the matrix is in the file once, for every figure that shows it.
        data={
            "image": [np.zeros((1, 1), dtype=np.float32) for _ in cells],
            "x": [cell["x"] for cell in cells],
            "y": [cell["y"] for cell in cells],
            "dw": [cell["width"] for cell in cells],
            "dh": [cell["height"] for cell in cells],
        },
        name="outcrop-map",
        tags=[{"map": f"{key}/{name}", "cells": list(cells)}],
    )
    plot = plain_figure(
        x_range=ranges[0],
        y_range=ranges[1],
        width=300,
        height=300,
        min_border=4,
        min_border_top=8,
        tools=[PanTool(), box, WheelZoomTool(), ResetTool()],
        active_drag=box,
        active_scroll=None,
        title=None,
        # One toolbar per panel: the ranges of its maps are shared.
        toolbar_location=None if role == "side" else "above",
        tags=[{"role": role, "title": labels[name], "across": list(groups[0]), "down": list(groups[1])}],
    )
    image = plot.image(image="image", x="x", y="y", dw="dw", dh="dh", color_mapper=mapper, source=source)
    for axis in plot.axis:
        axis.ticker = FixedTicker(ticks=[])  # the page sets them, by the room there is
    plot.grid.visible = False
    _outline(plot, marks)
    # What one points at comes first. The braces name what the page's formatter shall answer.
    asked = [name, *(other for other in labels if other not in (name, _ERROR))]
    formatter = CustomJSHover(
        code=f"return outcrop.hover({json.dumps(key)}, {json.dumps(list(cells))}, format, special_vars)"
    )
    plot.add_tools(
        HoverTool(
            renderers=[image],
            tooltips=[
                ("down", "$x{row}"),
                ("across", "$x{column}"),
                *((labels[other], f"$x{{{other}}}") for other in asked),
            ],
            formatters={"$x": formatter},
            point_policy="follow_mouse",
        )
    )
    if role != "side":
        plot.add_layout(colour_bar(mapper), "right")
    return plot


def _outline(plot: Any, marks: Sequence[Mark], *, start: float = -0.5, scale: float = 1.0) -> None:
    """Outline intervals on the diagonal: solid where all evidence says block, dashed where layers are merely similar.

    Args:
        plot: With the map.
        marks: In layers.
        start: Where the first layer begins on both axes.
        scale: Length of a layer on both axes.
    """
    for mark in marks:
        middle, length = start + scale * (mark.start + mark.stop) / 2, scale * (mark.stop - mark.start)
        for colour, width, alpha in (("#0b0a12", 6.0, 0.8), (BLOCK, 2.6, 1.0)):
            plot.rect(
                [middle], [middle], [length], [length],
                fill_color=None, line_color=colour, line_width=width, line_alpha=alpha,
                line_dash="solid" if mark.is_block else [7, 4], line_join="miter",
                name="outcrop-block" if mark.is_block else "outcrop-similar",
            )  # fmt: skip


def _mapper(values: np.ndarray) -> "LinearColorMapper":
    """Return colours for 0 to 1 where the values are shares or similarities, else for their own range."""
    finite = values[np.isfinite(values)]
    if not finite.size or (finite.min() >= -0.5 and finite.max() <= 1.05 and finite.max() > 0.01):
        return colour_mapper(0.0, 1.0)
    low, high = float(finite.min()), float(finite.max())
    return colour_mapper(low, high if high > low else low + 1.0)


def _cell(row: Span, column: Span, x: float, y: float, width: float, height: float) -> dict[str, Any]:
    return {
        "x": x, "y": y, "width": width, "height": height,
        "rows": [row.start, row.stop], "columns": [column.start, column.stop],
    }  # fmt: skip


def _groups(axis: Axis, span: Span) -> list[list[Any]]:
    names = axis.names[span.start : span.stop]
    return [[a - 0.5, b - 0.5, label(text)] for a, b, text in group_layers(names)]


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
