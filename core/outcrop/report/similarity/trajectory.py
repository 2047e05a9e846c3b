"""Draw results of kind ``trajectory``: what changes over the steps of a training."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from outcrop.report.figure import Drawing, Figure, Run
from outcrop.report.heatmap import cell_of, draw_heatmap, groups_of, mapper_of
from outcrop.report.maps import Axis, Span, group_layers, pack, read_axis
from outcrop.report.similarity.checkpoints import chosen_steps, draw_series
from outcrop.report.style import colour_bar, colour_mapper, label, plain_figure

if TYPE_CHECKING:
    import xarray as xr

MAPS = 6
"""Steps whose maps are shown: the first, the last, and some between."""

_COLUMNS = 480
_NAMED_LAYERS = 44
_UNEVEN = 4
"""Times that the widest gap between steps may be the narrowest, for an axis that is true to them."""

_TITLES = {
    "pc_share": "Share of variance of the first principal component",
    "similarity_to_first": "CKA of each layer with itself at the first step",
    "similarity_to_previous": "CKA of each layer with itself at the step before",
    "similarity_to_last": "CKA of each layer with itself at the last step",
}


def draw_trajectory(dataset: "xr.Dataset", run: Run) -> Sequence[Drawing]:
    """Return a strip over all steps for each number that layers have, and maps of their similarity at a few steps."""
    axis = read_axis(dataset, "layer")
    steps = dataset["step"].values.astype(np.int64)
    drawings = []
    for span in axis.spans:
        named = f"{span.model}: " if len(axis.spans) > 1 else ""
        order = axis.order[span.start : span.stop]
        for name, title in _TITLES.items():
            if name in dataset and np.isfinite(of_layers := _of_layers(dataset, name)[:, order]).any():
                values = of_layers.astype(float)
                strip = _strip(steps, values, axis.names[span.start : span.stop], title)
                drawings.append(Drawing(f"{named}{title}", _caption(name, dataset, len(steps)), (strip,)))
    maps = draw_series if "similarity_to_last" in dataset else _maps
    return [*drawings, *(maps(dataset, run, axis, span, steps) for span in axis.spans)]


def _of_layers(dataset: "xr.Dataset", name: str) -> NDArray[np.floating]:
    """Return a number of every layer (step, layer); of maps with other steps, that of each layer with itself."""
    values: NDArray[np.floating] = dataset[name].values
    return values if values.ndim == 2 else values.diagonal(axis1=1, axis2=2)


def _strip(steps: NDArray[np.int64], values: NDArray[np.float64], names: Sequence[str], title: str) -> Any:
    """Return a map of layers, downwards, over steps; between two tracked steps stands the value of the first.

    Steps that are far from evenly spaced (1, 10, 100, ...) get columns of one width.
    """
    from bokeh.models import CustomJSHover, FixedTicker, HoverTool, NumeralTickFormatter, Range1d

    count = len(names)
    gaps = np.diff(steps)
    even = not gaps.size or bool(gaps.max() <= _UNEVEN * gaps.min())
    starts = steps if even else np.arange(len(steps))
    # The last step is as wide as the steps before it are apart.
    width = float(np.median(np.diff(starts))) if len(starts) > 1 else 1.0
    first, last = float(starts[0]), float(starts[-1]) + width
    finest = max(1.0, float(np.min(np.diff(starts), initial=width)))
    columns = min(_COLUMNS, max(len(starts), int((last - first) / finest)))
    places = first + (np.arange(columns) + 0.5) * (last - first) / columns
    picked = np.clip(np.searchsorted(starts, places, side="right") - 1, 0, len(starts) - 1)
    plot = plain_figure(
        height=int(np.clip(15 * count + 58, 170, 560)), width=600, sizing_mode="stretch_width", min_border_right=12,
        x_range=Range1d(first, last), y_range=Range1d(count - 0.5, -0.5), tools="", toolbar_location=None,
        tags=[{"role": "lines", "title": title}],
    )  # fmt: skip
    mapper = colour_mapper(0.0, 1.0)
    image = plot.image(
        image=[values[picked].T.astype(np.float32)], x=first, y=-0.5, dw=last - first, dh=count, color_mapper=mapper
    )
    shown = [label(name) for name in names]
    if count <= _NAMED_LAYERS:
        ticks: dict[float, str] = {float(position): _short(name) for position, name in enumerate(shown)}
    else:
        groups = [group for group in group_layers(tuple(names)) if group[1] - group[0] > count / 60]
        ticks = {(start + stop - 1) / 2: _short(label(text)) for start, stop, text in groups}
    plot.yaxis.ticker = FixedTicker(ticks=list(ticks))
    plot.yaxis.major_label_overrides = ticks
    plot.xaxis.axis_label = "step"
    if even:
        plot.xaxis.formatter = NumeralTickFormatter(format="0,0")
    else:
        # No label beside another: twelve have room on a narrow page.
        marked = np.unique(np.linspace(0, len(steps) - 1, min(12, len(steps))).round().astype(int)).tolist()
        plot.xaxis.ticker = FixedTicker(ticks=[position + 0.5 for position in marked])
        plot.xaxis.major_label_overrides = {position + 0.5: f"{steps[position]:,}" for position in marked}
    plot.grid.visible = False
    texts = [json.dumps(values) for values in (shown, steps.tolist(), starts.tolist())]
    formatter = CustomJSHover(
        code=f"const [names, steps, starts] = [{', '.join(texts)}]; const {{x, y}} = special_vars;"
        "if (format === 'layer') return names[Math.max(0, Math.min(names.length - 1, Math.round(y)))];"
        "let at = 0; starts.forEach((start, i) => { if (start <= x) at = i; }); return String(steps[at]);"
    )
    plot.add_tools(
        HoverTool(
            renderers=[image],
            tooltips=[("layer", "$x{layer}"), ("step", "$x{step}"), ("value", "@image{0.000}")],
            formatters={"$x": formatter},
            point_policy="follow_mouse",
        )
    )
    plot.add_layout(colour_bar(mapper), "right")
    return plot


def _maps(dataset: "xr.Dataset", run: Run, axis: Axis, span: Span, steps: NDArray[np.int64]) -> Drawing:
    """Return maps of the similarity of a model's layers at a few steps, side by side, in one scale of colours."""
    from bokeh.models import Range1d

    order = read_axis(dataset, "layer_a", "_a").order
    chosen = chosen_steps(len(steps), MAPS)
    side = Range1d(-0.5, span.length - 0.5, bounds=(-0.5, span.length - 0.5))
    depth = Range1d(span.length - 0.5, -0.5, bounds=(-0.5, span.length - 0.5))
    plots: list[Any] = []
    assets: dict[str, Any] = {}
    for position in chosen.tolist():
        key = f"{run.analysis}/{run.run_id}/{steps[position]}"
        assets |= {f"{key}/rows": axis.asset(), f"{key}/columns": axis.asset()}
        assets[f"{key}/similarity"] = pack(dataset["similarity"].values[position][np.ix_(order, order)])
        plots.append(
            draw_heatmap(
                "similarity", {"similarity": f"Step {steps[position]:,}"}, key,
                cells=[cell_of(span, span, -0.5, -0.5, span.length, span.length)],
                ranges=(side, depth),
                groups=(groups_of(axis, span), groups_of(axis, span)),
                mapper=mapper_of(dataset["similarity"].values),
                marks=(),
                role="side",
            )
        )  # fmt: skip
    named = f"{span.model}: " if len(axis.spans) > 1 else ""
    caption = (
        f"{span.length} layers in topological order, depth growing to the right and downwards; "
        f"{len(chosen)} of {len(steps)} tracked steps. The colours are those of the strips: black is 0, white is 1."
    )
    return Drawing(f"{named}CKA between layers", caption, tuple(plots), assets=assets, layout="row")


def _caption(name: str, dataset: "xr.Dataset", steps: int) -> str:
    samples, size = dataset.attrs.get("sample_count"), dataset.attrs.get("batch_size")
    counted = f"{steps} {'checkpoint' if 'checkpoint' in dataset else 'tracked step'}{'' if steps == 1 else 's'}"
    if name == "similarity_to_last":
        return f"{counted}. 1 where the layer tells the samples apart as it will in the end."
    if name != "pc_share":
        return f"{counted}. 1 where the layer tells the samples apart as it did then."
    mode = str(dataset.attrs.get("mode", "evaluation"))
    ran = "with batch norm's statistics of the batch" if mode.startswith("batch") else f"in {mode} mode"
    return (
        f"{counted} on {samples} samples {ran}, layers from input to output downwards. Taken within batches "
        f"of {size} samples; small batches overstate it."
    )


def _short(text: str, most: int = 22) -> str:
    return text if len(text) <= most else "\u2026" + text[1 - most :]


TRAJECTORY = Figure(kind="trajectory", title="Over the training", draw=draw_trajectory)
