"""Draw results of kind ``per_layer``: a value per layer along the depth of a network."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from outcrop.report.figure import Drawing, Figure, Run, Table
from outcrop.report.maps import Axis, Span, read_axis
from outcrop.report.style import BLOCK, INK, LINES, MISSING, label, plain_figure
from outcrop.report.verdicts import Mark

if TYPE_CHECKING:
    import xarray as xr

_TITLES = {
    "pc_share": "Share of variance of the first principal component",
    "feature_count": "Features per layer",
    "non_finite_count": "Values that are not finite",
}


def draw_strip(run: Run, model: str, side: Any, marks: Sequence[Mark]) -> Any | None:
    """Return bars of the first principal component's share, along the range ``side`` of a map; None without shares.

    Args:
        run: With a leaf of kind ``per_layer``, or without.
        model: Name of the model.
        side: Bokeh range of the map's layers.
        marks: Intervals to shade.
    """
    from bokeh.models import BoxAnnotation, ColumnDataSource, HoverTool, Range1d

    layers = run.of_kind("per_layer")
    if layers is None or "pc_share" not in layers or "layer" not in layers.dims:
        return None
    axis = read_axis(layers, "layer")
    span = next((span for span in axis.spans if span.model == model), None)
    if span is None:
        return None
    order = axis.order[span.start : span.stop]
    shares, degenerate = layers["pc_share"].values[order].astype(float), _flags(layers, order)
    plot = plain_figure(
        x_range=side, y_range=Range1d(0, 1), height=130, width=300, min_border=4, tools="", toolbar_location=None,
        tags=[{"role": "strip", "title": "PC1 share of variance"}],
    )  # fmt: skip
    for mark in marks:
        plot.add_layout(
            BoxAnnotation(
                left=mark.start - 0.5, right=mark.stop - 0.5, fill_color=BLOCK,
                fill_alpha=0.22 if mark.is_block else 0.1, line_color=BLOCK, line_alpha=0.9,
                line_dash="solid" if mark.is_block else [7, 4], level="underlay",
            )
        )  # fmt: skip
    source = ColumnDataSource(_columns(axis, span, shares, degenerate) | {"x": np.arange(span.length)})
    bars = plot.vbar(x="x", top="value", width=0.86, fill_color=LINES[0], line_color=None, source=source)
    places = np.flatnonzero(degenerate)
    plot.vbar(
        x=places, top=np.ones(len(places)), width=1.0, fill_color=MISSING, fill_alpha=0.25, line_color=None,
        hatch_pattern="/", hatch_color=INK, hatch_scale=6, name="outcrop-degenerate",
    )  # fmt: skip
    plot.add_tools(
        HoverTool(
            renderers=[bars],
            mode="vline",
            tooltips=[("layer", "@name"), ("kind", "@kind"), ("PC1 share", "@value{0.000}")],
        )
    )
    plot.xaxis.major_label_text_font_size = "0px"
    plot.xaxis.major_tick_line_color = None
    plot.xgrid.visible = False
    plot.yaxis.ticker = [0, 0.5, 1]
    return plot


def draw_per_layer(dataset: "xr.Dataset", _run: Run) -> Sequence[Drawing]:
    """Return one drawing per number that layers have, a line per model over depth, and a table of what is flagged."""
    axis = read_axis(dataset, "layer")
    drawings: list[Drawing] = []
    for name, variable in dataset.data_vars.items():
        if variable.dims != ("layer",) or variable.dtype.kind not in "fiu":
            continue
        values = variable.values[axis.order].astype(float)
        if name == "non_finite_count" and not (values > 0).any():
            continue
        title = _TITLES.get(str(name)) or str(variable.attrs.get("long_name", str(name).replace("_", " ")))
        plot = _lines(axis, values, _flags(dataset, axis.order), title, logarithmic=name == "feature_count")
        first = len(axis.spans) > 1 and not drawings
        depth = "Depth is relative: the first layer of every model at 0, its last at 1." if first else ""
        drawings.append(Drawing(title, " ".join(filter(None, (depth, _scope(variable, dataset)))), (plot,)))
    if flagged := _flagged(dataset, axis):
        drawings.append(flagged)
    return drawings


def unconverged_layers(run: Run, model: str) -> str:
    """Return a sentence on the layers of a model whose first component was not found; nothing where all were."""
    layers = run.of_kind("per_layer")
    if layers is None or "unconverged" not in layers:
        return ""
    axis = read_axis(layers, "layer")
    flags = layers["unconverged"].values[axis.order].astype(bool)
    names = [axis.names[i] for i in np.flatnonzero(flags) if axis.models[i] == model]
    if not names:
        return ""
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    passes = layers.attrs.get("passes")
    after = f"After {passes} passes the" if passes else "The"
    count = "1 layer" if len(names) == 1 else f"{len(names)} layers"
    return (
        f" {after} first principal component of {count} had not converged: {', '.join(names[:8])}{more}. There the map "
        "without it is without a direction near it, of no larger a share of the variance; ask for more passes."
    )


def _lines(axis: Axis, values: NDArray[Any], degenerate: NDArray[Any], title: str, *, logarithmic: bool) -> Any:
    from bokeh.models import ColumnDataSource, HoverTool, Range1d

    spans = axis.spans
    relative = len(spans) > 1
    plot = plain_figure(
        height=260, width=600, sizing_mode="stretch_width", tools="", toolbar_location=None,
        y_axis_type="log" if logarithmic and (values > 0).all() else "linear",
        tags=[{"role": "lines", "title": title}],
    )  # fmt: skip
    finite = values[np.isfinite(values)]
    if not logarithmic and finite.size and finite.min() >= 0:
        plot.y_range = Range1d(0, 1.05 * max(float(finite.max()), 1e-9))
    plot.xaxis.axis_label = "relative depth" if relative else "layer"
    dots = []
    for i, span in enumerate(spans):
        x = np.arange(span.length) / max(span.length - 1, 1) if relative else np.arange(span.length)
        part = values[span.start : span.stop]
        source = ColumnDataSource(_columns(axis, span, part, degenerate[span.start : span.stop]) | {"x": x})
        colour = LINES[i % len(LINES)]
        legend = {"legend_label": label(span.model)} if relative else {}
        plot.line("x", "value", source=source, line_color=colour, line_width=1.4, line_alpha=0.75, **legend)
        dots.append(plot.scatter("x", "value", source=source, size=4, fill_color=colour, line_color=None, **legend))
    tooltips = [("layer", "@name"), ("kind", "@kind"), (title, "@value{0,0.[000]}")]
    plot.add_tools(HoverTool(renderers=dots, tooltips=[("model", "@model"), *tooltips] if relative else tooltips))
    if relative:
        plot.legend.background_fill_color = plot.legend.border_line_color = None
        plot.legend.label_text_color = INK
        plot.legend.label_text_font_size = "11px"
        plot.legend.padding = 0
        plot.legend.spacing = 0
        plot.legend.location = "left"
        plot.add_layout(plot.legend[0], "below")
    return plot


def _flagged(dataset: "xr.Dataset", axis: Axis) -> Drawing | None:
    flags = _flags(dataset, axis.order)
    counts = (
        dataset["non_finite_count"].values[axis.order] if "non_finite_count" in dataset else np.zeros(len(flags), int)
    )
    rows = tuple(
        (axis.models[i], axis.names[i], axis.kinds[i], bool(flags[i]), int(counts[i]))
        for i in np.flatnonzero(flags | (counts > 0))
    )
    if not rows:
        return None
    caption = (
        "A layer that tells no samples apart (it is constant, or all samples are equally far from one another), or "
        "that holds values that are not finite, has no similarity to anything: its values are missing, not 0."
    )
    table = Table(("model", "layer", "kind", "left out", "values not finite"), rows)
    return Drawing("Layers left out or suspect", caption, table=table)


def _scope(variable: "xr.DataArray", dataset: "xr.Dataset") -> str:
    """Return what a share that was taken within batches leaves to say, or an empty string."""
    if variable.attrs.get("scope") != "batch":
        return ""
    size = dataset.attrs.get("batch_size")
    return f"Taken within batches{f' of {size} samples' if size else ''}; small batches overstate it."


def _columns(axis: Axis, span: Span, values: NDArray[Any], degenerate: NDArray[Any]) -> dict[str, Any]:
    return {
        "value": values,
        "name": list(axis.names[span.start : span.stop]),
        "kind": [
            f"{kind}, left out" if flag else kind
            for kind, flag in zip(axis.kinds[span.start : span.stop], degenerate, strict=True)
        ],
        "model": [span.model] * span.length,
    }


def _flags(layers: "xr.Dataset", order: NDArray[np.int64]) -> NDArray[np.bool_]:
    if "degenerate" not in layers:
        return np.zeros(len(order), dtype=bool)
    return np.asarray(layers["degenerate"].values[order].astype(bool))


PER_LAYER = Figure(kind="per_layer", title="Along the depth", draw=draw_per_layer)
