"""Draw results of kind ``influence``: how few samples carry the similarity inside an interval, and which."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from outcrop.report.figure import Drawing, Figure, Run
from outcrop.report.samples import PictureRow, pictures_at
from outcrop.report.style import INK, LINES, label, plain_figure
from outcrop.report.verdicts import percent

if TYPE_CHECKING:
    import xarray as xr

SHOWN_SAMPLES = 24

_POINTS = 400
"""Of a curve; more samples than that are drawn at ranks evenly spread over the logarithm."""


def draw_influence(dataset: "xr.Dataset", run: Run) -> Sequence[Drawing]:
    """Return the share of the similarity that the leading samples carry, and pictures of these."""
    shares = dataset["share"].values.astype(float)
    rows = [row for row in range(len(shares)) if np.isfinite(shares[row]).any()]
    if not rows:
        return []
    named = dataset["block_model"].values.tolist()
    several = len(set(named)) > 1
    names = [_name(dataset, row, several) for row in rows]
    title = "Share of the mean CKA inside that the leading samples carry"
    curves = _curves([shares[row] for row in rows], names, title)
    size = dataset.attrs.get("batch_size")
    within = (
        f" Taken within batches of {size} samples." if dataset["share"].attrs.get("scope") == "batch" and size else ""
    )
    caption = " ".join(_sentence(dataset, row, name) for row, name in zip(rows, names, strict=True)) + within
    found = [Drawing(title, caption, curves)]
    pictures = _pictures(dataset, run, rows, names)
    if pictures:
        said = (
            f"The {len(pictures[0].thumbnails)} samples of the largest shares, the largest first. "
            "Point at a picture for its name and its share."
        )
        found.append(Drawing("Samples that carry the similarity", said, pictures=pictures))
    return found


def _curves(shares: Sequence[NDArray[np.float64]], names: Sequence[str], title: str) -> tuple[Any, ...]:
    """Return cumulative shares over the rank of samples, the largest share first."""
    from bokeh.models import ColumnDataSource, HoverTool, NumeralTickFormatter, Range1d

    counts = [int(np.isfinite(one).sum()) for one in shares]
    plot = plain_figure(
        height=280, width=600, sizing_mode="stretch_width", tools="", toolbar_location=None, x_axis_type="log",
        x_range=Range1d(1, max(*counts, 2)), tags=[{"role": "lines", "title": title}],
    )  # fmt: skip
    dots = []
    highest = 1.0
    for position, (name, one, count) in enumerate(zip(names, shares, counts, strict=True)):
        ordered = -np.sort(-one[np.isfinite(one)])
        ranks = np.unique(np.geomspace(1, count, min(_POINTS, count)).round().astype(int))
        together = np.cumsum(ordered)[ranks - 1]
        highest = max(highest, float(together.max()))
        source = ColumnDataSource(
            {"rank": ranks, "share": together, "own": ordered[ranks - 1], "name": [label(name)] * len(ranks)}
        )
        colour = LINES[position % len(LINES)]
        plot.line("rank", "share", source=source, line_color=colour, line_width=2, legend_label=label(name))
        dots.append(plot.scatter("rank", "share", source=source, size=4, fill_color=colour, line_color=None))
    even = np.geomspace(1, max(counts), 100)
    plot.line(
        even, even / max(counts), line_color=INK, line_dash=[5, 4], line_width=1.2, legend_label="all samples alike"
    )
    # Samples that speak against the similarity have negative shares, so the sum can pass 1 before it ends there.
    plot.y_range = Range1d(0, 1.03 * highest)
    plot.yaxis.formatter = NumeralTickFormatter(format="0%")
    plot.xaxis.formatter = NumeralTickFormatter(format="0,0")
    plot.xaxis.axis_label = "samples, the largest share first"
    plot.add_tools(
        HoverTool(
            renderers=dots,
            tooltips=[
                ("interval", "@name"), ("samples", "@rank{0,0}"), ("share together", "@share{0.0%}"),
                ("the last one's", "@own{0.00%}"),
            ],
        )
    )  # fmt: skip
    plot.legend.background_fill_color = plot.legend.border_line_color = None
    plot.legend.label_text_color = INK
    plot.legend.label_text_font_size = "11px"
    plot.legend.padding = plot.legend.spacing = 0
    plot.legend.location = "left"
    plot.add_layout(plot.legend[0], "below")
    return (plot,)


def _sentence(dataset: "xr.Dataset", row: int, name: str) -> str:
    shares = dataset["share"].values[row].astype(float)
    known = np.sort(shares[np.isfinite(shares)])[::-1]
    leading = max(1, round(0.05 * len(known)))
    return (
        f"{name}: the {leading:,} leading samples, {percent(leading / len(known))} of {len(known):,}, carry "
        f"{percent(known[:leading].sum())} of the mean CKA of {float(dataset['similarity'].values[row]):.2f}; "
        f"as uneven as if {float(dataset['effective_samples'].values[row]):,.0f} carried it alike."
    )


def _pictures(dataset: "xr.Dataset", run: Run, rows: Sequence[int], names: Sequence[str]) -> tuple[PictureRow, ...]:
    """Return the pictures of the samples of the largest shares; none where the study keeps none."""
    positions = dataset["sample"].values
    if run.data is None or "thumbnail" not in run.data or positions.max() >= run.data.sizes["sample"]:
        return ()
    found = []
    for row, name in zip(rows, names, strict=True):
        shares = dataset["share"].values[row].astype(float)
        chosen = np.argsort(-np.nan_to_num(shares, nan=-np.inf), kind="stable")[:SHOWN_SAMPLES]
        said = [f"{100 * shares[sample]:.2f} %" for sample in chosen]
        note = f"{percent(np.nansum(shares[chosen]))} of the mean CKA"
        found.append(PictureRow(name, note, pictures_at(run.data, positions[chosen], said)))
    return tuple(found)


def _name(dataset: "xr.Dataset", row: int, several: bool) -> str:
    what = "block" if bool(dataset["is_block"].values[row]) else "similar layers"
    layers = f"{what} {dataset['first_layer'].values[row]} to {dataset['last_layer'].values[row]}"
    return f"{dataset['block_model'].values[row]}, {layers}" if several else layers[0].upper() + layers[1:]


INFLUENCE = Figure(kind="influence", title="Samples that carry the similar layers", draw=draw_influence)
