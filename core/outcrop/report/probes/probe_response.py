"""Draw results of kind ``probe_response``: what each family of stimuli does, the colours, the layers, the strongest."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from outcrop.report.figure import Cell, Drawing, Figure, Run, Sign
from outcrop.report.probes.colour_surface import draw_surface
from outcrop.report.probes.probe_layers import draw_layers
from outcrop.report.probes.probed import Probed, hexadecimal, read_probed, table_of, times, two_lines
from outcrop.report.similarity.checkpoints import chosen_steps
from outcrop.report.style import DOMINANT, INK, label, plain_figure

if TYPE_CHECKING:
    import xarray as xr

SHOWN = 16
"""Stimuli in the ranking."""

PER_FAMILY = 3
"""Of these, at most so many of one family, so that neighbours of one colour do not fill it; one where the family still
shows a dominant sample."""

_DOTS = 300
"""Of one family; of a larger one, stimuli at even ranks are drawn."""


_CROWDED = 60
_FAINT = 0.45
"""Opacity of stimuli that have not what dominant samples share, on light pages and on dark ones."""


def draw_probe_response(dataset: "xr.Dataset", run: Run) -> Sequence[Drawing]:
    """Return, for each model, stimuli by family, the colour response surface, norms by layer, and a ranking."""
    models = read_probed(dataset, run)
    drawings: list[Drawing] = []
    for probed in models:
        named = f"{probed.model}: " if len(models) > 1 else ""
        if len(probed.ranked):
            drawings.append(_families(probed, named))
        drawings += draw_surface(probed, named)
        drawings += draw_layers(probed, named)
        if len(probed.ranked):
            drawings.append(_ranking(probed, named))
    return drawings


def _families(probed: Probed, named: str) -> Drawing:
    counts = dict.fromkeys(_ordered(probed), 0)
    for stimulus in probed.ranked.tolist():
        counts[str(probed.families[stimulus])] += 1
    excited = bool(np.isfinite(probed.excitation).any())
    leading = int(probed.ranked[0])
    reach = probed.strength[probed.ranked]
    caption = (
        f"Every dot is a stimulus, {len(reach)} in {len(counts)} families, at {probed.layer}; dots of one colour are "
        "images of that colour. "
    )
    if excited:
        beyond = int((reach[~probed.keeps_content[probed.ranked]] >= 1).sum())
        caption += (
            "To the right, it lies farther out on the first principal component of the real samples, whose mean is 0; "
            f"1 is the most dominant sample. {beyond} stimuli that show none of the dominant samples reach it. "
        )
    else:
        caption += "To the right, its features are longer; 1 is the median of real samples. "
    caption += f"Farthest out is {probed.title(leading)} ({probed.kind(leading)}), at {reach[0]:.3g}."
    if probed.keeps_content[probed.ranked].any():
        caption += " Families with a star still show a dominant sample, so they say nothing on what excites."
    thinned = [family for family, count in counts.items() if count > _DOTS]
    if thinned:
        caption += f" Of {', '.join(_short(family) for family in thinned)}, {_DOTS} at even ranks are drawn."
    plot = _dots(probed, list(counts), excited=excited)
    return Drawing(f"{named}Stimuli by family", caption, (plot,), key=_key(probed, excited=excited))


def _key(probed: Probed, *, excited: bool) -> tuple[Sign, ...]:
    signs = [Sign("most dominant sample" if excited else "median of real samples", DOMINANT)]
    if probed.carries is not None:
        shared = str(probed.verdict.get("shared", "")) or "what dominant samples share"
        signs += [
            Sign(f"has {shared}, as dominant samples have", INK, "ring"),
            Sign("the others", f"{INK}{round(255 * _FAINT):02x}", "ring"),
        ]
    return tuple(signs)


def _ordered(probed: Probed) -> list[str]:
    """Return the families, that of the strongest stimulus first."""
    return list(dict.fromkeys(str(probed.families[stimulus]) for stimulus in probed.ranked))


def _dots(probed: Probed, families: Sequence[str], *, excited: bool) -> Any:
    from bokeh.models import ColumnDataSource, FixedTicker, HoverTool, Range1d, Span

    title = "Stimuli by family"
    x_label = "distance over the most dominant sample's" if excited else "norm over the median"
    drawn = [_thinned(probed, family) for family in families]
    chosen = np.concatenate(drawn)
    # Rows of many dots are high, so that these can be told apart.
    heights = np.array([1.0 if len(dots) <= _CROWDED else 3.0 for dots in drawn])
    middles = np.cumsum(heights) - heights / 2
    row = {family: place for place, family in enumerate(families)}
    rows = np.array([row[str(probed.families[stimulus])] for stimulus in chosen])
    values = probed.strength[chosen]
    low, high = min(0.0, float(values.min())), max(1.0, float(values.max()))
    room = 0.04 * (high - low)
    plot = plain_figure(
        height=60 + round(22 * heights.sum()), width=600, sizing_mode="stretch_width", tools="", toolbar_location=None,
        x_range=Range1d(low - room, high + room), y_range=Range1d(heights.sum() + 0.1, -0.1),
        tags=[{"role": "lines", "title": title}],
    )  # fmt: skip
    known = np.asarray(np.isfinite(probed.colours[chosen]).all(axis=1))
    has = np.ones(len(chosen), dtype=bool) if probed.carries is None else probed.carries[chosen]
    source = ColumnDataSource(
        {
            "x": values,
            # Dots of a row are spread by the golden ratio, so that neighbours do not cover one another.
            "y": middles[rows] + (heights[rows] - 0.4) * ((np.arange(len(chosen)) * 0.6180339887) % 1 - 0.5),
            "colour": [
                hexadecimal(probed.colours[stimulus]) if one else None
                for stimulus, one in zip(chosen, known, strict=True)
            ],
            "alpha": np.where(has, 1.0, _FAINT),
            "name": [label(probed.title(stimulus)) for stimulus in chosen],
            "family": [label(probed.kind(stimulus)) for stimulus in chosen],
            "norm": probed.here("norm_ratio")[chosen],
            "cosine": probed.here("cosine")[chosen],
        }
    )
    for place, colour, width in ((1.0, DOMINANT, 2.5), (0.0, INK, 1.0)):
        plot.add_layout(Span(location=place, dimension="height", line_color=colour, line_width=width))
    dots = plot.scatter(
        "x",
        "y",
        source=source,
        size=8,
        fill_color="colour",
        fill_alpha="alpha",
        line_color=INK,
        line_alpha="alpha",
        line_width=0.9,
    )
    named = {
        middle: _short(family) + _star(probed, family)
        for middle, family in zip(middles.tolist(), families, strict=True)
    }
    plot.yaxis.ticker = FixedTicker(ticks=list(named))
    plot.yaxis.major_label_overrides = named
    plot.xaxis.axis_label = x_label
    plot.add_tools(
        HoverTool(
            renderers=[dots],
            tooltips=[
                ("stimulus", "@name"), ("family", "@family"), (x_label, "@x{0.000}"),
                ("norm over median", "@norm{0.000}"), ("cosine to dominant samples", "@cosine{0.000}"),
            ],
        )
    )  # fmt: skip
    return plot


def _thinned(probed: Probed, family: str) -> NDArray[np.int64]:
    of_family = probed.ranked[probed.families[probed.ranked] == family]
    return np.asarray(of_family[chosen_steps(len(of_family), _DOTS)])


def _ranking(probed: Probed, named: str) -> Drawing:
    """Return the strongest stimuli with their pictures and where they lie among the real samples."""
    taken: dict[str, int] = {}
    rows: list[tuple[Cell, ...]] = []
    excitation = probed.excitation
    columns = {
        "distance\ndominant = 1": excitation,
        "percentile\nof distance": probed.here("projection_percentile"),
        "norm\nmedian = 1": probed.here("norm_ratio"),
        "percentile\nof norm": probed.here("norm_percentile"),
        "cosine to\ndominant": probed.here("cosine"),
    }
    rank = {stimulus: place for place, stimulus in enumerate(probed.ranked.tolist(), start=1)}
    for stimulus in probed.distinct(rank):
        family = str(probed.families[stimulus])
        taken[family] = taken.get(family, 0) + 1
        if taken[family] > (1 if probed.keeps_content[stimulus] else PER_FAMILY) or len(rows) == SHOWN:
            continue
        rows.append(
            (
                rank[stimulus], probed.picture(stimulus),
                two_lines(probed.title(stimulus), probed.kind(stimulus) + _star(probed, family)),
                *(float(values[stimulus]) for values in columns.values()),
            )
        )  # fmt: skip
    above = int((columns["percentile\nof norm"][probed.ranked] >= 100).sum())
    leading = int(probed.ranked[0])
    largest = times(float(columns["norm\nmedian = 1"][leading]))
    caption = (
        f"The strongest of {len(rank)} stimuli at {probed.layer} with their ranks: of those that do the same one, at "
        f"most {PER_FAMILY} of a family, one of those with a star, which still show a dominant sample. "
        f"Percentiles are among the {_sample_count(probed)}real samples. {above} of all "
        f"stimuli have a larger norm than any real sample; the strongest, {probed.title(leading)}, has {largest} the "
        "median."
    )
    table = table_of(("rank", "", "stimulus", *columns), rows)
    return Drawing(f"{named}The strongest stimuli", caption, table=table)


def _sample_count(probed: Probed) -> str:
    count = probed.response.attrs.get("sample_count")
    return f"{int(count):,} " if count else ""


def _star(probed: Probed, family: str) -> str:
    return " *" if probed.keeps_content[probed.families == family].any() else ""


def _short(family: str, most: int = 20) -> str:
    text = label(family.replace("_", " "))
    return text if len(text) <= most else text[: most - 1] + "\u2026"


PROBE_RESPONSE = Figure(kind="probe_response", title="What stimuli provoke", draw=draw_probe_response)
