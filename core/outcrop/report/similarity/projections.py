"""Draw results of kind ``projections``: how samples spread along each layer's first component, and who is far out."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from outcrop.numerics.components.component_statistics import participation
from outcrop.report.figure import Drawing, Figure, Run
from outcrop.report.maps import Axis, Span, group_layers, read_axis
from outcrop.report.samples import PictureRow, pictures_at
from outcrop.report.style import INK, colour_bar, label, palette, plain_figure

if TYPE_CHECKING:
    import xarray as xr

SHOWN_LAYERS = 6
"""Layers whose outermost samples are shown."""

SHOWN_SAMPLES = 12

_BINS_PER_DECADE = 12
_LOWEST = -2.0
"""Logarithm of the projection, over its root mean square, below which samples are counted together."""

_TICKS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)

_NAMED_LAYERS = 44


def draw_projections(dataset: "xr.Dataset", run: Run) -> Sequence[Drawing]:
    """Return, for each model, a map of how many samples lie how far out, and the outermost samples of a few layers."""
    axis = read_axis(dataset, "layer")
    drawings = []
    for span in axis.spans:
        rows = axis.order[span.start : span.stop]
        values = dataset["projection"].values[rows].astype(float)
        if not np.isfinite(values).any():
            continue
        named = f"{span.model}: " if len(axis.spans) > 1 else ""
        size = _relative(values)
        names = axis.names[span.start : span.stop]
        blank = " Rows left blank are layers left out." if np.isnan(values).any() else ""
        caption = (
            f"Each row is a layer, from input to output downwards, and shows what share of its {values.shape[1]:,} "
            "samples lies how far out, without the sign. A second heap far to the right is a few samples that carry "
            f"the component between them.{blank}"
        )
        title = "How far samples lie out on the first principal component"
        drawings.append(Drawing(f"{named}{title}", caption, (_spread(size, names, title),)))
        pictures = _outermost(dataset, run, axis, span, values)
        if pictures:
            said = (
                f"The {len(pictures[0].thumbnails)} largest projections, the largest first, in layers at even depths "
                "and in the one whose component the fewest samples carry. Point at a picture for its name."
            )
            drawings.append(Drawing(f"{named}Samples that lie farthest out", said, pictures=pictures))
    return drawings


def _relative(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return sizes (layer, sample) over each layer's root mean square."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.abs(values) / np.sqrt(np.mean(values**2, axis=1, keepdims=True)))


def _spread(size: NDArray[np.float64], names: Sequence[str], title: str) -> Any:
    """Return a map of the share of samples over (layer, logarithm of the size)."""
    from bokeh.models import (
        CustomJSHover,
        FixedTicker,
        HoverTool,
        LogColorMapper,
        LogTicker,
        NumeralTickFormatter,
        Range1d,
        Span,
    )

    count, samples = size.shape
    highest = float(np.nanmax(np.log10(np.maximum(size, 1e-300))))
    highest = np.ceil(max(highest, 0.5) * _BINS_PER_DECADE + 1e-9) / _BINS_PER_DECADE
    bins = round((highest - _LOWEST) * _BINS_PER_DECADE)
    shares = np.full((count, bins), np.nan)
    for row in np.flatnonzero(np.isfinite(size).all(axis=1)):
        place = np.clip(np.log10(np.maximum(size[row], 1e-300)), _LOWEST, highest - 1e-9)
        counts, _ = np.histogram(place, bins=bins, range=(_LOWEST, highest))
        shares[row] = np.where(counts, counts / samples, np.nan)
    plot = plain_figure(
        height=int(np.clip(15 * count + 70, 180, 560)), width=600, sizing_mode="stretch_width", min_border_right=12,
        x_range=Range1d(_LOWEST, highest), y_range=Range1d(count - 0.5, -0.5), tools="", toolbar_location=None,
        tags=[{"role": "lines", "title": title}],
    )  # fmt: skip
    mapper = LogColorMapper(
        palette=palette()[40:], low=1 / samples, high=float(np.nanmax(shares)), nan_color="rgba(0, 0, 0, 0)"
    )
    image = plot.image(
        image=[shares.astype(np.float32)], x=_LOWEST, y=-0.5, dw=highest - _LOWEST, dh=count, color_mapper=mapper
    )
    plot.add_layout(Span(location=0, dimension="height", line_color=INK, line_dash=[4, 4], line_alpha=0.8))
    ticks = {float(np.log10(value)): f"{value:g}" for value in _TICKS if np.log10(value) <= highest}
    plot.xaxis.ticker = FixedTicker(ticks=list(ticks))
    plot.xaxis.major_label_overrides = ticks
    plot.xaxis.axis_label = "projection / root mean square of the layer"
    shown = [label(name) for name in names]
    if count <= _NAMED_LAYERS:
        named: dict[float, str] = {float(position): _short(name) for position, name in enumerate(shown)}
    else:
        groups = [group for group in group_layers(tuple(names)) if group[1] - group[0] > count / 60]
        named = {(start + stop - 1) / 2: _short(label(text)) for start, stop, text in groups}
    plot.yaxis.ticker = FixedTicker(ticks=list(named))
    plot.yaxis.major_label_overrides = named
    plot.ygrid.visible = False
    formatter = CustomJSHover(
        code=f"const names = {json.dumps(shown)}; const {{x, y}} = special_vars;"
        "if (format === 'layer') return names[Math.max(0, Math.min(names.length - 1, Math.round(y)))];"
        "return Math.pow(10, x).toPrecision(2);"
    )
    plot.add_tools(
        HoverTool(
            renderers=[image],
            tooltips=[("layer", "$y{layer}"), ("size", "$x{size}"), ("share of samples", "@image{0.00%}")],
            formatters={"$x": formatter, "$y": formatter},
            point_policy="follow_mouse",
        )
    )
    bar = colour_bar(mapper)
    bar.ticker = LogTicker(mantissas=[1, 3], desired_num_ticks=5)
    bar.formatter = NumeralTickFormatter(format="0.[00]%")
    plot.add_layout(bar, "right")
    return plot


def _outermost(
    dataset: "xr.Dataset", run: Run, axis: Axis, span: Span, values: NDArray[np.float64]
) -> tuple[PictureRow, ...]:
    """Return the pictures of the samples with the largest projections, in a few layers; none where none are kept."""
    positions = dataset["sample"].values if "sample" in dataset.coords else np.arange(values.shape[1])
    if run.data is None or "thumbnail" not in run.data or positions.max() >= run.data.sizes["sample"]:
        return ()
    known = np.flatnonzero(np.isfinite(values).all(axis=1))
    carriers = participation(values[known])
    chosen = known[np.linspace(0, len(known) - 1, min(len(known), SHOWN_LAYERS - 1)).round().astype(int)]
    chosen = np.union1d(chosen, known[[int(np.argmin(carriers))]])
    size = _relative(values)
    found = []
    for row in chosen.tolist():
        farthest = np.argsort(-size[row], kind="stable")[:SHOWN_SAMPLES]
        said = [f"{np.sign(values[row, sample]) * size[row, sample]:+.1f}" for sample in farthest]
        carried = carriers[np.flatnonzero(known == row)[0]]
        note = f"carried by {carried:,.0f} of {values.shape[1]:,}"
        pictures = pictures_at(run.data, positions[farthest], said)
        found.append(PictureRow(axis.names[span.start + row], note, pictures))
    return tuple(found)


def _short(text: str, most: int = 22) -> str:
    return text if len(text) <= most else "\u2026" + text[1 - most :]


PROJECTIONS = Figure(kind="projections", title="Samples on the first component", draw=draw_projections)
