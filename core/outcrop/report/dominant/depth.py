"""Numbers of the dominant samples along the depth of every model, as small plots side by side."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from outcrop.report.dominant.judged import evenly, share_of
from outcrop.report.figure import Drawing, Sign
from outcrop.report.maps import Axis, Span
from outcrop.report.style import INK, LINES, label, titled_figure

if TYPE_CHECKING:
    import xarray as xr

MOST_LAYERS = 300

MOST_LINES = len(LINES)

_PANELS: Mapping[str, tuple[str, str]] = {
    "dominant_share": ("Share of the samples that dominate", "share"),
    "dominant_norm_ratio": ("Their norm over the median of all", "ratio"),
    "cosine_inside": ("Mean cosine of two dominant samples", "cosine"),
    "norm_correlation": ("Rank correlation of |projection| and norm", "correlation"),
    "effective_share": ("Effective share of the samples", "share"),
    "ashman_d": ("Distance of the two modes (Ashman's D)", "spreads"),
}


def draw_depth(dataset: "xr.Dataset", axis: Axis) -> Sequence[Drawing]:
    """Return one drawing of what layers say of their own dominant samples; nothing where no layer has any.

    Args:
        dataset: Of kind ``dominance``.
        axis: Its layers.
    """
    counts = dataset["dominant_count"].values[axis.order]
    if not counts.any():
        return []
    samples = dataset.sizes["sample"]
    numbers = {
        str(name): variable.values[axis.order].astype(float)
        for name, variable in dataset.data_vars.items()
        if variable.dims == ("layer",) and variable.dtype.kind in "fiu"
    }
    numbers["dominant_share"] = np.where(counts > 0, counts / samples, np.nan)
    numbers["effective_share"] = numbers["effective_samples"] / samples
    told = np.array([str(rule) == "mixture" for rule in dataset["rule"].values[axis.order]])
    spans = [axis.spans[place] for place in evenly(len(axis.spans), MOST_LINES)]
    plots = tuple(_panel(axis, spans, numbers, name, told) for name in _PANELS if np.isfinite(numbers[name]).any())
    several = len(axis.spans) > 1
    colours = {span.model: LINES[place] for place, span in enumerate(spans)}
    key = tuple(Sign(model, colour) for model, colour in colours.items()) if several else ()
    key += (
        Sign("told by two modes", INK, "dot"),
        Sign("the largest projections", INK, "ring"),
        *([Sign("cosine of two others", INK, "dashed")] if "cosine_outside" in numbers else []),
    )
    return [Drawing("Along the depth", _caption(axis, spans, counts, told, samples), plots, layout="row", key=key)]


def _caption(
    axis: Axis, spans: Sequence[Span], counts: NDArray[np.int64], told: NDArray[np.bool_], samples: int
) -> str:
    some = counts > 0
    shares = counts[some] / samples
    low, middle, high = (share_of(float(share)) for share in (shares.min(), np.median(shares), shares.max()))
    said = (
        f"Every layer by its own dominant samples: two modes tell them in {int((told & some).sum())} of "
        f"{len(counts)} layers. They are "
        f"{f'{low} to {high} of the samples, {middle} in the median' if low != high else f'{low} of the samples'}."
    )
    if len(axis.spans) > 1:
        said += " Depth is relative: the first layer of every model at 0, its last at 1."
    if len(spans) < len(axis.spans):
        said += f" {len(spans)} of {len(axis.spans)} models are drawn."
    if (longest := max(span.length for span in spans)) > MOST_LAYERS:
        said += f" At most {MOST_LAYERS} of {longest} layers of a model are drawn."
    return said


def _panel(
    axis: Axis, spans: Sequence[Span], numbers: Mapping[str, NDArray[Any]], name: str, told: NDArray[np.bool_]
) -> Any:
    from bokeh.models import ColumnDataSource, HoverTool, NumeralTickFormatter, Range1d

    title, short = _PANELS[name]
    plot = titled_figure(title, height=210)
    dots = []
    relative = len(axis.spans) > 1
    for place, span in enumerate(spans):
        kept = span.start + evenly(span.length, MOST_LAYERS)
        depth = (kept - span.start) / max(span.length - 1, 1) if relative else kept - span.start
        values, colour = numbers[name][kept], LINES[place]
        if name == "cosine_inside":
            plot.line(depth, numbers["cosine_outside"][kept], line_color=colour, line_dash=[5, 4], line_width=1.2)
        source = ColumnDataSource(
            {
                "x": depth, "y": values, "fill": np.where(told[kept], 1.0, 0.0),
                "layer": [label(axis.names[row]) for row in kept], "model": [label(span.model)] * len(kept),
                "told": ["two modes" if flag else "the largest" for flag in told[kept]],
            }
        )  # fmt: skip
        plot.line("x", "y", source=source, line_color=colour, line_width=1.4, line_alpha=0.8)
        dots.append(
            plot.scatter("x", "y", source=source, size=4.5, fill_color=colour, fill_alpha="fill", line_color=colour)
        )
    tooltips = [("layer", "@layer"), (short, "@y{0,0.[000]}"), ("told by", "@told")]
    plot.add_tools(HoverTool(renderers=dots, tooltips=[("model", "@model"), *tooltips] if relative else tooltips))
    known = np.concatenate([np.zeros(1), *(numbers[name][span.start : span.stop] for span in spans)])
    if name == "cosine_inside":
        known = np.append(known, np.concatenate([numbers["cosine_outside"][span.start : span.stop] for span in spans]))
    known = known[np.isfinite(known)]
    margin = 0.05 * max(float(np.ptp(known)), 1e-6)
    plot.y_range = Range1d(float(known.min()) - margin if known.min() < 0 else 0.0, float(known.max()) + margin)
    if short == "share":
        plot.yaxis.formatter = NumeralTickFormatter(format="0.[0]%")
    plot.yaxis.ticker.desired_num_ticks = 5
    plot.xaxis.axis_label = "relative depth" if relative else "layer"
    return plot
