"""One map between layers, whose matrix the page holds; shared by the figures that show such maps."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from outcrop.report.maps import Axis, Span, group_layers
from outcrop.report.style import BLOCK, colour_bar, colour_mapper, label, plain_figure
from outcrop.report.verdicts import Mark

if TYPE_CHECKING:
    from bokeh.models import LinearColorMapper

_ERROR = "standard_error"


def draw_heatmap(
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
    outline(plot, marks)
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


def outline(plot: Any, marks: Sequence[Mark], *, start: float = -0.5, scale: float = 1.0) -> None:
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


def mapper_of(values: np.ndarray) -> "LinearColorMapper":
    """Return colours for 0 to 1 where the values are shares or similarities, else for their own range."""
    finite = values[np.isfinite(values)]
    if not finite.size or (finite.min() >= -0.5 and finite.max() <= 1.05 and finite.max() > 0.01):
        return colour_mapper(0.0, 1.0)
    low, high = float(finite.min()), float(finite.max())
    return colour_mapper(low, high if high > low else low + 1.0)


def cell_of(row: Span, column: Span, x: float, y: float, width: float, height: float) -> dict[str, Any]:
    return {
        "x": x, "y": y, "width": width, "height": height,
        "rows": [row.start, row.stop], "columns": [column.start, column.stop],
    }  # fmt: skip


def groups_of(axis: Axis, span: Span) -> list[list[Any]]:
    names = axis.names[span.start : span.stop]
    return [[a - 0.5, b - 0.5, label(text)] for a, b, text in group_layers(names)]
