"""Draw how far stimuli raise the norm along the depth of a network, with the first component and without it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outcrop.report.figure import Cell, Drawing, Picture
from outcrop.report.probes.probed import FOUND, Probed, table_of, times, two_lines
from outcrop.report.samples import data_uri
from outcrop.report.style import BLOCK, DOMINANT, INK, LINES, label, plain_figure

SHOWN_FAMILIES = 6
"""Families whose strongest stimulus has a line of its own."""

_TITLE = "Norm of the features by layer"
_COLOURS = (*LINES[1:6], LINES[7])  # without that of the dominant sample, and the grey, which is like a grid
_DASHES: tuple[tuple[int, ...], ...] = ((), (9, 4), (3, 3), (9, 3, 3, 3))
_DOMINANT = "most dominant sample"


@dataclass(frozen=True)
class Line:
    """A stimulus along the depth.

    Attributes:
        name: What it is, with its family.
        norms: (layer,) over the median norm of real samples.
        without: (layer,) length of what is beside the mean and the first component, over that median.
        colour: Of the line.
        dash: Lengths of its dashes and gaps; empty for a solid line.
        row: Its row in the table.
    """

    name: str
    norms: NDArray[np.float64]
    without: NDArray[np.float64]
    colour: str
    dash: tuple[int, ...]
    row: tuple[Cell, ...]


def draw_layers(probed: Probed, named: str) -> list[Drawing]:
    """Return norms by layer of the strongest stimulus of each family and of the most dominant sample, and their key.

    Args:
        probed: The model.
        named: What goes before the title.
    """
    lines = [_line(probed, place, stimulus) for place, stimulus in enumerate(strongest_of_families(probed))]
    dominant = _ratio(probed, probed.along("dominant_norm"))
    if np.isfinite(dominant).any():
        lines.append(_dominant_line(probed, dominant))
    lines = [line for line in lines if (line.norms > 0).any()]
    if not lines:
        return []
    plots = tuple(
        plot
        for values, title in (("norms", "norm over median"), ("without", "without mean and PC1"))
        if (plot := _plot(probed, lines, values, title)) is not None
    )
    if len(plots) > 1:
        plots[1].x_range = plots[0].x_range
    columns = ("", "", "stimulus", "norm\nmedian = 1", "without\nmean, PC1", "largest\nnorm", "at layer")
    return [
        Drawing(f"{named}{_TITLE}", _caption(probed, lines), plots, table_of(columns, [line.row for line in lines]))
    ]


def strongest_of_families(probed: Probed) -> list[int]:
    """Return the strongest stimulus of each of the leading families, the strongest family first.

    What searches found is left out, as it is of a family too, and so is what does the same as that of another family.
    """
    found: dict[str, int] = {}
    counting = (one for one in probed.ranked.tolist() if not probed.keeps_content[one])
    for stimulus in probed.distinct(counting):
        family = str(probed.families[stimulus])
        if family != FOUND:
            found.setdefault(family, stimulus)
    return list(found.values())[:SHOWN_FAMILIES]


def _line(probed: Probed, place: int, stimulus: int) -> Line:
    colour, dash = _COLOURS[place % len(_COLOURS)], _DASHES[place % len(_DASHES)]
    norms = _positive(probed.along("norm_ratio")[:, stimulus])
    without = _ratio(probed, probed.along("norm_without_pc1")[:, stimulus])
    title, family = probed.title(stimulus), probed.kind(stimulus)
    row = (
        _key(colour, dash, title), probed.picture(stimulus), two_lines(title, family), *_numbers(probed, norms, without)
    )  # fmt: skip
    return Line(f"{family}: {title}", norms, without, colour, dash, row)


def _dominant_line(probed: Probed, norms: NDArray[np.float64]) -> Line:
    # As a stimulus it has a picture, and a norm without the component.
    shown = probed.dominant
    without = np.full(len(norms), np.nan)
    if shown is not None:
        without = _ratio(probed, probed.along("norm_without_pc1")[:, shown])
    picture = "" if shown is None else probed.picture(shown)
    row = (_key(DOMINANT, (), _DOMINANT), picture, two_lines(_DOMINANT, "real"), *_numbers(probed, norms, without))
    return Line(_DOMINANT, norms, without, DOMINANT, (), row)


def _numbers(probed: Probed, norms: NDArray[np.float64], without: NDArray[np.float64]) -> tuple[Cell, ...]:
    known = np.isfinite(norms)
    highest = int(np.where(known, norms, -1).argmax())
    largest = float(norms[highest]) if known.any() else np.nan
    return (
        float(norms[probed.place]), float(without[probed.place]), largest, probed.names[highest] if known.any() else ""
    )  # fmt: skip


def _ratio(probed: Probed, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values (layer,) over the median norm of real samples; NaN where they cannot lie on a log axis."""
    median = probed.along("median_norm")
    return _positive(values / np.where(median > 0, median, np.nan))


def _positive(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.isfinite(values) & (values > 0), values, np.nan)


def _plot(probed: Probed, lines: Sequence[Line], values: str, title: str) -> Any | None:
    from bokeh.models import BoxAnnotation, ColumnDataSource, FixedTicker, HoverTool, NumeralTickFormatter, Span

    if not any(np.isfinite(getattr(line, values)).any() for line in lines):
        return None
    plot = plain_figure(
        height=300 if values == "norms" else 240, width=600, min_border_left=64, sizing_mode="stretch_width", tools="",
        toolbar_location=None, y_axis_type="log", tags=[{"role": "lines", "title": f"{_TITLE}: {title}"}],
    )  # fmt: skip
    names = [str(probed.verdict.get(name, "")) for name in ("first_layer", "last_layer")]
    if probed.verdict.get("is_block") and all(name in probed.names for name in names):
        start, stop = (probed.names.index(name) for name in names)
        plot.add_layout(
            BoxAnnotation(
                left=start - 0.5, right=stop + 0.5, fill_color=BLOCK, fill_alpha=0.12, line_color=BLOCK, line_alpha=0.9,
                level="underlay",
            )
        )  # fmt: skip
    plot.add_layout(Span(location=probed.place, dimension="height", line_color=INK, line_dash=[2, 4]))
    plot.add_layout(Span(location=1, dimension="width", line_color=INK, line_alpha=0.7))
    dots = []
    for line in lines:
        size = getattr(line, values)
        if not np.isfinite(size).any():
            continue
        source = ColumnDataSource(
            {
                "x": np.arange(len(size)), "value": size, "layer": list(probed.names),
                "name": [label(line.name)] * len(size),
            }
        )  # fmt: skip
        width = 3.2 if line.name == _DOMINANT else 1.8
        plot.line(
            "x", "value", source=source, line_color=line.colour, line_width=width, line_dash=list(line.dash),
            name="outcrop-line",
        )  # fmt: skip
        dots.append(plot.scatter("x", "value", source=source, size=4, fill_color=line.colour, line_color=None))
    plot.xaxis.axis_label = "layer"
    plot.yaxis.axis_label = title
    plot.yaxis.ticker = FixedTicker(ticks=_ticks([getattr(line, values) for line in lines]))
    plot.yaxis.formatter = NumeralTickFormatter(format="0.[000]")
    plot.add_tools(
        HoverTool(renderers=dots, tooltips=[("stimulus", "@name"), ("layer", "@layer"), (title, "@value{0.000}")])
    )
    return plot


def _ticks(lines: Sequence[NDArray[np.float64]]) -> list[float]:
    """Return 1, 2 and 5 times powers of ten in the range of values; powers alone where that is long."""
    known = np.concatenate([line[np.isfinite(line)] for line in lines])
    low, high = np.floor(np.log10(known.min())), np.ceil(np.log10(known.max()))
    steps = (1.0, 2.0, 5.0) if high - low <= 3 else (1.0,)
    return [step * 10.0**power for power in np.arange(low, high + 1) for step in steps]


def _caption(probed: Probed, lines: Sequence[Line]) -> str:
    at = probed.place
    leading = lines[0]
    said = [
        "Lengths of the features over the median of real samples, which is 1, on a logarithmic axis; lines are the "
        "strongest stimulus of each of the leading families, told apart by the first column of the table. The dotted "
        f"line is {probed.layer}, where stimuli are ranked"
        + (", the shade the block." if probed.verdict.get("is_block") else "."),
        f"There {leading.name.partition(': ')[2] or leading.name} reaches {times(float(leading.norms[at]))} the median",
    ]
    dominant = next((line for line in lines if line.name == _DOMINANT), None)
    if dominant is not None and dominant is not leading:
        said[-1] += f", the most dominant sample {times(float(dominant.norms[at]))}"
    said[-1] += "."
    if np.isfinite(leading.without[at]):
        left = f"Below, without the mean and each layer's first principal component, {leading.without[at]:.3g} is left"
        if dominant is not None and np.isfinite(dominant.without[at]):
            left += f", and {dominant.without[at]:.3g} of the most dominant sample"
        said.append(f"{left}.")
    return " ".join(said)


def _key(colour: str, dash: tuple[int, ...], text: str) -> Cell:
    """Return a piece of a line as the plots draw it, on nothing."""
    pixels = np.zeros((40, 40, 4), dtype=np.uint8)
    pixels[..., :3] = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    pattern = np.resize(np.repeat(np.arange(len(dash)) % 2 == 0, dash), 40) if dash else np.ones(40, dtype=bool)
    pixels[18:22, pattern, 3] = 255
    return Picture(data_uri(pixels), f"line of {text}", framed=False)
