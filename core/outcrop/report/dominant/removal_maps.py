"""Draw results of kinds ``removal_maps`` and ``removal_layers``: every layer when samples are left out."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from outcrop.report.dominant.depth import MOST_LAYERS
from outcrop.report.dominant.judged import evenly, mark_of, read_judged, share_of, shown_of
from outcrop.report.dominant.norms import depth_ticks
from outcrop.report.dominant.removal_curves import LOOKS
from outcrop.report.figure import Drawing, Figure, Run, Sign
from outcrop.report.heatmap import cell_of, draw_heatmap, groups_of, mapper_of
from outcrop.report.maps import Axis, Span, pack, read_axis
from outcrop.report.style import BLOCK, LINES, label, titled_figure
from outcrop.report.verdicts import Mark

if TYPE_CHECKING:
    import xarray as xr

MOST_MAPS = 3

_STEPS = (LINES[7], LINES[3], LINES[5], LINES[0])
"""Of shares left out, from nothing to the largest: blue, violet, magenta, rust."""

_DASHES = ("solid", "dashed", "dotted", "solid")
_LOOKS = ("line", "dashed", "dotted", "line")


def draw_removal_maps(dataset: "xr.Dataset", run: Run) -> Sequence[Drawing]:
    """Return, for each model, maps of its layers without some of its dominant samples, side by side."""
    from bokeh.models import Range1d

    axis = read_axis(dataset, "layer_a", "_a")
    judged = read_judged(run)
    fractions = dataset["fraction"].values.astype(float)
    chosen = evenly(len(fractions), MOST_MAPS)
    spans, said = shown_of(axis.spans)
    drawings = []
    for span in spans:
        rows = axis.order[span.start : span.stop]
        values = dataset["similarity"].values[np.ix_(np.arange(len(fractions)), rows, rows)]
        if not np.isfinite(values).any():
            continue
        key = f"{run.analysis}/{run.run_id}/removal/{span.model}"
        side = Range1d(-0.5, span.length - 0.5, bounds=(-0.5, span.length - 0.5))
        depth = Range1d(span.length - 0.5, -0.5, bounds=(-0.5, span.length - 0.5))
        marks = mark_of(judged.get(span.model), axis, span)
        window = slice(span.start, span.stop)
        table = {"models": axis.models[window], "names": axis.names[window], "kinds": axis.kinds[window]}
        whole = Span(span.model, 0, span.length)
        assets: dict[str, Any] = {}
        plots = []
        for place in chosen.tolist():
            own = f"{key}/{place}"
            assets |= {f"{own}/rows": table, f"{own}/columns": table, f"{own}/similarity": pack(values[place])}
            name = f"Without {share_of(fractions[place])}" if fractions[place] else "All samples"
            plots.append(
                draw_heatmap(
                    "similarity", {"similarity": name}, own,
                    cells=[cell_of(whole, whole, -0.5, -0.5, span.length, span.length)],
                    ranges=(side, depth),
                    groups=(groups_of(axis, span), groups_of(axis, span)),
                    mapper=mapper_of(dataset["similarity"].values),
                    marks=marks,
                    role="side",
                )
            )  # fmt: skip
        named = f"{span.model}: " if len(axis.spans) > 1 else ""
        title = f"{named}maps without dominant samples" if named else "Maps without dominant samples"
        drawings.append(
            Drawing(title, _said(values, chosen, fractions, marks) + said, tuple(plots), assets=assets, layout="row")
        )
        said = ""
    return drawings


def _said(
    values: NDArray[np.float64], chosen: NDArray[np.int64], fractions: NDArray[np.float64], marks: Sequence[Mark]
) -> str:
    """Return the mean of each map, inside the outline if there is one."""
    window = slice(marks[0].start, marks[0].stop) if marks else slice(None)
    means = []
    for place in chosen.tolist():
        inside = values[place][window, window]
        known = inside[np.triu_indices(len(inside), 1)]
        known = known[np.isfinite(known)]
        if known.size:
            without = f"without {share_of(fractions[place])}" if fractions[place] else "with all samples"
            means.append(f"{known.mean():.2f} {without}")
    of = (
        "between the layers inside the outline, those that samples are judged in"
        if marks
        else "over all pairs of layers"
    )
    said = f" Mean {of}: {', '.join(means)}." if means else ""
    return (
        f"{values.shape[1]} layers in topological order, depth growing to the right and downwards; black is 0, white "
        f"is 1.{said}"
    )


def draw_removal_layers(dataset: "xr.Dataset", run: Run) -> Sequence[Drawing]:
    """Return, for each model, the first component's share in every layer over a few shares of what is left out."""
    axis = read_axis(dataset, "layer")
    fractions = dataset["fraction"].values.astype(float)
    chosen = _telling(fractions)
    selections = [name for name in map(str, dataset["selection"].values) if name in LOOKS]
    judged = read_judged(run)
    spans, said = shown_of(axis.spans)
    drawings = []
    for span in spans:
        rows = axis.order[span.start : span.stop]
        shares = dataset["pc_share"].values[rows].astype(float)
        if not np.isfinite(shares).any():
            continue
        plots = tuple(
            _lines(dataset, axis, span, selection, chosen, judged.get(span.model)) for selection in selections
        )
        key = tuple(
            Sign(f"without {share_of(fractions[place])}" if fractions[place] else "all samples", _STEPS[i], _LOOKS[i])
            for i, place in enumerate(chosen.tolist())
        )
        named = f"{span.model}: " if len(axis.spans) > 1 else ""
        title = "share of variance of the first principal component"
        caption = _change(dataset, rows, selections, fractions, int(chosen[-1])) + _scope(dataset)
        caption += f" {MOST_LAYERS} of {span.length} layers are drawn." if span.length > MOST_LAYERS else ""
        drawings.append(
            Drawing(
                named + title if named else title[0].upper() + title[1:], caption + said, plots, layout="row", key=key
            )
        )
        said = ""
    return drawings


def _telling(fractions: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return places of the shares that are drawn: nothing, those nearest to 1 and 10 %, and the largest."""
    wanted = [0, *(int(np.argmin(np.abs(fractions - near))) for near in (0.01, 0.1)), len(fractions) - 1]
    return np.unique(wanted)


def _change(
    dataset: "xr.Dataset", rows: NDArray[np.int64], selections: Sequence[str], fractions: NDArray[np.float64], last: int
) -> str:
    parts = []
    first = float("nan")
    for name in selections:
        shares = dataset["pc_share"].sel(selection=name).values[rows].astype(float)
        known = np.isfinite(shares[:, [0, last]]).all(axis=1)
        if known.any():
            first = float(shares[known, 0].mean())
            parts.append(f"{shares[known, last].mean():.2f} without {LOOKS[name].text.removeprefix('the ')}")
    if not parts or not last:
        return ""
    gone = share_of(fractions[last])
    return f"Mean over the layers: {first:.2f} with all samples; when {gone} are left out, {', '.join(parts)}."


def _scope(dataset: "xr.Dataset") -> str:
    return (
        " Taken within batches; small ones overstate it." if dataset["pc_share"].attrs.get("scope") == "batch" else ""
    )


def _lines(dataset: "xr.Dataset", axis: Axis, span: Span, selection: str, chosen: NDArray[np.int64], one: Any) -> Any:
    from bokeh.models import BoxAnnotation, ColumnDataSource, FixedTicker, HoverTool, Range1d

    names = axis.names[span.start : span.stop]
    kept = evenly(span.length, MOST_LAYERS)
    shares = dataset["pc_share"].sel(selection=selection).values[axis.order[span.start : span.stop]].astype(float)
    fractions = dataset["fraction"].values.astype(float)
    text = LOOKS[selection].text.removeprefix("the ")
    plot = titled_figure(f"Without {text}", height=230, y_range=Range1d(0, 1), x_range=Range1d(-0.5, span.length - 0.5))
    for mark in mark_of(one, axis, span):
        plot.add_layout(
            BoxAnnotation(
                left=mark.start - 0.5,
                right=mark.stop - 0.5,
                fill_color=BLOCK,
                fill_alpha=0.1,
                line_color=None,
                level="underlay",
            )
        )
    lines = []
    for i, place in enumerate(chosen.tolist()):
        source = ColumnDataSource(
            {
                "x": kept, "y": shares[kept, place], "layer": [label(names[row]) for row in kept],
                "without": [share_of(fractions[place])] * len(kept),
            }
        )  # fmt: skip
        lines.append(plot.line("x", "y", source=source, line_color=_STEPS[i], line_width=1.8, line_dash=_DASHES[i]))
    ticks = depth_ticks(names, 4)
    plot.xaxis.ticker = FixedTicker(ticks=list(ticks))
    plot.xaxis.major_label_overrides = ticks
    plot.xgrid.visible = False
    plot.add_tools(
        HoverTool(renderers=lines, tooltips=[("layer", "@layer"), ("without", "@without"), ("share", "@y{0.000}")])
    )
    return plot


REMOVAL_MAPS = Figure(kind="removal_maps", title="Maps without the dominant samples", draw=draw_removal_maps)
REMOVAL_LAYERS = Figure(
    kind="removal_layers", title="First components without the dominant samples", draw=draw_removal_layers
)
