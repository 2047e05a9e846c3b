"""Traces of dominant samples: their norm in every layer, against those of the others."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from outcrop.report.dominant.judged import Judged, evenly, interval_name, mark_of, times
from outcrop.report.dominant.sheet import Sheet
from outcrop.report.figure import Drawing, Sign
from outcrop.report.maps import Axis, Span, group_layers
from outcrop.report.style import BLOCK, DOMINANT, REST, label, plain_figure

if TYPE_CHECKING:
    import xarray as xr

MOST_TRACES = 24
MOST_LAYERS = 300
_BAND = (5, 95)
"""Percentiles of the other samples that the band lies between."""


def draw_norms(
    dataset: "xr.Dataset",
    axis: Axis,
    span: Span,
    members: NDArray[np.bool_],
    one: Judged | None,
    sheet: Sheet,
    named: str,
) -> Drawing | None:
    """Return the norms of a model's dominant samples along its layers; None where there are none.

    Args:
        dataset: Of kind ``dominance``.
        axis: Its layers.
        span: Those of the model.
        members: (sample,), who is dominant where the model is judged.
        one: Where that is, if it is known.
        sheet: With the pictures of the samples that are traced.
        named: What the title begins with.
    """
    kept = evenly(span.length, MOST_LAYERS)
    norms = dataset["norm"].values[axis.order[span.start : span.stop]].astype(float)
    norms = np.where(norms > 0, norms, np.nan)  # What is 0 has no logarithm.
    if not members.any() or not np.isfinite(norms[:, members]).any():
        return None
    inside = _middle(norms[:, members], 50)
    others = norms[:, ~members]
    ratio = inside / _middle(norms, 50)
    positions = dataset["sample"].values.astype(np.int64)
    pictured = np.flatnonzero(members & np.isin(positions, list(sheet.names)))
    traced = pictured[evenly(len(pictured), MOST_TRACES)]
    plot = _plot(axis, span, one)
    band = [_middle(others, percentile)[kept] for percentile in _BAND]
    plot.varea(x=kept, y1=band[0], y2=band[1], fill_color=REST, fill_alpha=0.25)
    plot.line(kept, _middle(norms, 50)[kept], line_color=REST, line_width=2, line_dash=[6, 4])
    _traces(plot, norms[:, traced], kept, positions[traced], sheet, axis.names[span.start : span.stop])
    plot.line(kept, inside[kept], line_color=DOMINANT, line_width=2.6)
    low, high = _BAND
    key = (
        Sign("median of the dominant samples", DOMINANT),
        Sign("median of all", REST, "dashed"),
        Sign(f"{low} to {high} % of the others", REST, "area"),
    )
    count = int(members.sum())
    traces = f"thin lines: {'all' if len(traced) == count else len(traced)} of them" if len(traced) else "no traces"
    said = f"Norms of the {count:,} dominant samples ({traces}) against all {norms.shape[1]:,}. "
    said += _sentence(ratio, axis, span, one)
    said += f" {len(kept)} of {span.length} layers are drawn." if len(kept) < span.length else ""
    said += " Shaded: the layers that samples are judged in." if mark_of(one, axis, span) else ""
    title = f"{named}norms along the depth" if named else "Norms along the depth"
    return Drawing(title, said, (plot,), assets=sheet.assets, key=key)


def _middle(values: NDArray[np.float64], percentile: float) -> NDArray[np.float64]:
    """Return a percentile of what is known of every row, NaN where nothing is."""
    found = np.full(len(values), np.nan)
    rows = np.isfinite(values).any(axis=1)
    if rows.any():
        found[rows] = np.nanpercentile(values[rows], percentile, axis=1)
    return found


def _sentence(ratio: NDArray[np.float64], axis: Axis, span: Span, one: Judged | None) -> str:
    """Return how much longer the dominant samples are, in the interval and outside."""
    marks = mark_of(one, axis, span)
    known = np.isfinite(ratio)
    if not known.any():
        return ""
    if not marks or one is None:
        low, high = ratio[known].min(), ratio[known].max()
        return (
            f"Their median is {times(float(np.median(ratio[known])))} that of all in the median over the layers "
            f"({low:.2g} to {high:.2g})."
        )
    window = np.zeros(len(ratio), dtype=bool)
    window[marks[0].start : marks[0].stop] = True
    if not (window & known).any():
        return ""
    there = ratio[window & known]
    said = (
        f"In the {interval_name(one.first_layer, one.last_layer, one.is_block)}, their median is "
        f"{times(float(np.median(there)))} that of all ({there.min():.2g} to {there.max():.2g} in its layers)"
    )
    if (~window & known).any():
        said += f", outside {times(float(np.median(ratio[~window & known])))}"
    return said + "."


def _plot(axis: Axis, span: Span, one: Judged | None) -> Any:
    from bokeh.models import BoxAnnotation, FixedTicker, Range1d

    plot = plain_figure(
        height=320, width=600, sizing_mode="stretch_width", tools="", toolbar_location=None, y_axis_type="log",
        x_range=Range1d(-0.5, span.length - 0.5), min_border_right=12,
        tags=[{"role": "lines", "title": "Norms along the depth"}],
    )  # fmt: skip
    for mark in mark_of(one, axis, span):
        plot.add_layout(
            BoxAnnotation(
                left=mark.start - 0.5, right=mark.stop - 0.5, fill_color=BLOCK,
                fill_alpha=0.16 if mark.is_block else 0.08, line_color=BLOCK, line_alpha=0.9,
                line_dash="solid" if mark.is_block else [7, 4], level="underlay",
            )
        )  # fmt: skip
    ticks = depth_ticks(axis.names[span.start : span.stop])
    plot.xaxis.ticker = FixedTicker(ticks=list(ticks))
    plot.xaxis.major_label_overrides = ticks
    plot.xgrid.visible = False
    plot.yaxis.axis_label = "norm of the activations"
    return plot


def depth_ticks(names: tuple[str, ...], most: int = 6) -> dict[float, str]:
    """Return labels along the depth: modules where they are few and long enough, else every so many layers."""
    count = len(names)
    groups = [group for group in group_layers(names) if group[1] - group[0] >= count / 8]
    if 1 < len(groups) <= most:
        return {(start + stop - 1) / 2: _short(label(text)) for start, stop, text in groups}
    return {float(place): f"{place + 1}" for place in evenly(count, most).tolist()}


def _short(text: str, most: int = 11) -> str:
    return text if len(text) <= most else "\u2026" + text[1 - most :]


def _traces(
    plot: Any,
    norms: NDArray[np.float64],
    kept: NDArray[np.int64],
    positions: NDArray[np.int64],
    sheet: Sheet,
    names: tuple[str, ...],
) -> None:
    import html
    import json

    from bokeh.models import ColumnDataSource, CustomJSHover, HoverTool

    source = ColumnDataSource(
        {
            "x": [kept] * len(positions),
            "y": [norms[kept, place] for place in range(len(positions))],
            **sheet.columns(positions),
        }
    )
    lines = plot.multi_line(
        "x", "y", source=source, line_color=DOMINANT, line_alpha=0.35, line_width=1,
        hover_line_color=DOMINANT, hover_line_alpha=1.0,
    )  # fmt: skip
    escaped = json.dumps([html.escape(label(name)) for name in names])
    layer = CustomJSHover(
        code=f"const names = {escaped}; return names[Math.max(0, Math.min(names.length - 1, Math.round(value)))];"
    )
    norm = CustomJSHover(code="return value.toPrecision(3);")
    plot.add_tools(
        HoverTool(
            renderers=[lines],
            line_policy="nearest",
            limit=1,
            tooltips=sheet.template([("near", "$x{layer}"), ("norm", "$y{norm}")]),
            formatters={**sheet.formatters(), "$x": layer, "$y": norm},
        )
    )
