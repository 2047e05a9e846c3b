"""Draw the colour response surface: solid images over the RGB cube, as slices of one blue each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outcrop.report.figure import Drawing
from outcrop.report.probes.probed import FOUND, Probed, hexadecimal, times
from outcrop.report.similarity.checkpoints import chosen_steps
from outcrop.report.style import BLOCK, INK, MONO, colour_bar, colour_mapper, plain_figure

SLICES = 9
"""Values of blue that are shown of a fine grid, the first and the last among them."""

SOLID = "solid"
"""Family of the images of one colour over a grid."""

_TITLE = "Response to solid colours"
_DARK = "#0b0a12"
_MARGIN = 0.03
"""Empty share of a slice's place on each side, which keeps neighbours apart."""

_HEADING = 0.09
"""Height of a slice's name over that of its place."""


@dataclass(frozen=True)
class Surface:
    """Responses to solid images at one layer.

    Attributes:
        levels: Values of red, green and blue, ascending; blue only those that are shown.
        values: (red, green, blue), NaN where no such colour was shown to the model.
        best: Colour of the grid of the largest value.
    """

    levels: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
    values: NDArray[np.float64]
    best: NDArray[np.float64]


def read_surface(probed: Probed) -> Surface | None:
    """Return the responses of a model's reference layer to solid images; None where it was shown no grid of them."""
    chosen = np.flatnonzero((probed.families == SOLID) & np.isfinite(probed.colours).all(axis=1))
    if not len(chosen) or not np.isfinite(probed.strength[chosen]).any():
        return None
    colours, strength = probed.colours[chosen], probed.strength[chosen]
    red, green, blue = (np.unique(column) for column in colours.T)
    if 1 in (len(red), len(green), len(blue)) or len(chosen) < max(len(red), len(green), len(blue)) ** 2:
        # A line through the cube, as of grey pictures: most of any square would be empty.
        return None
    values = np.full((len(red), len(green), len(blue)), np.nan)
    places = [np.searchsorted(level, column) for level, column in zip((red, green, blue), colours.T, strict=True)]
    values[tuple(places)] = strength
    shown = chosen_steps(len(blue), SLICES)
    best = colours[int(np.nanargmax(strength))]
    return Surface((red, green, blue[shown]), values[:, :, shown], best)


def draw_surface(probed: Probed, named: str) -> list[Drawing]:
    """Return the slices of one model's reference layer, with the strongest colour marked; nothing without solid images.

    Args:
        probed: The model.
        named: What goes before the title.
    """
    surface = read_surface(probed)
    if surface is None:
        return []
    excited = bool(np.isfinite(probed.excitation).any())
    what = "how far out it lies, over the most dominant sample" if excited else "its norm over the median"
    optimum, value = _optimum(probed)
    marked = optimum if optimum is not None else surface.best
    if optimum is None:
        value = float(np.nanmax(probed.strength[probed.families == SOLID]))
    told = " ".join(f"{part:.2f}" for part in marked)
    source = "a search found" if optimum is not None else "the grid has"
    low, high = np.nanmin(surface.values), np.nanmax(surface.values)
    reach = f"{times(value)} as far out as the most dominant sample" if excited else f"{times(value)} the median norm"
    count = int((probed.families == SOLID).sum())
    caption = (
        f"Every cell is an image of one colour, shown in its middle; the frame says {what}, at {probed.layer}, from "
        f"{low:.3g} to {high:.3g} over {count} colours. Red grows to the right and green upwards, from 0 to 1; each "
        f"square has another blue. The ring is the strongest colour that {source}, {told} (red, green, blue), "
        f"{reach}; it is drawn in the square of the nearest blue."
    )
    return [Drawing(f"{named}{_TITLE}", caption, (_slices(surface, marked, what),))]


def _optimum(probed: Probed) -> tuple[NDArray[np.float64] | None, float]:
    """Return the colour that a search found for the model and its strength; None where there was no search."""
    colours = np.isfinite(probed.colours).all(axis=1)
    found = np.flatnonzero((probed.families == FOUND) & colours & np.isfinite(probed.strength))
    if not len(found):
        return None, np.nan
    best = found[probed.strength[found].argmax()]
    return probed.colours[best], float(probed.strength[best])


def _slices(surface: Surface, marked: NDArray[np.float64], what: str) -> Any:
    from bokeh.core.properties import value
    from bokeh.models import ColumnDataSource, HoverTool, Range1d, Title

    red, green, blue = surface.levels
    columns = min(3, len(blue))
    rows = -(-len(blue) // columns)
    corners = [(place % columns, (rows - 1 - place // columns) * (1 + _HEADING)) for place in range(len(blue))]
    height = rows * (1 + _HEADING)
    values = surface.values
    low = min(0.0, float(np.nanmin(values)))
    mapper = colour_mapper(low, max(float(np.nanmax(values)), low + 1e-9))
    plot = plain_figure(
        width=columns * 240, height=round(height * 240), sizing_mode="scale_width", max_width=columns * 260,
        tools="", toolbar_location=None, min_border=4,
        x_range=Range1d(0, columns), y_range=Range1d(-0.02, height), tags=[{"role": "lines", "title": _TITLE}],
    )  # fmt: skip
    cell = (1 - 2 * _MARGIN) / np.array([len(red), len(green)])
    at = np.argwhere(np.isfinite(values))
    source = ColumnDataSource(
        {
            "x": [corners[k][0] + _MARGIN + cell[0] * (i + 0.5) for i, _, k in at],
            "y": [corners[k][1] + _MARGIN + cell[1] * (j + 0.5) for _, j, k in at],
            "value": values[tuple(at.T)],
            "colour": [hexadecimal(np.array([red[i], green[j], blue[k]])) for i, j, k in at],
            "told": [f"{red[i]:.2f} {green[j]:.2f} {blue[k]:.2f}" for i, j, k in at],
        }
    )
    frames = plot.rect(
        "x", "y", width=cell[0], height=cell[1], source=source,
        fill_color={"field": "value", "transform": mapper}, line_color=None, name="outcrop-response",
    )  # fmt: skip
    plot.rect(
        "x", "y", width=0.52 * cell[0], height=0.52 * cell[1], source=source,
        fill_color="colour", line_color="#ffffff", line_alpha=0.4, line_width=0.8, name="outcrop-colour",
    )  # fmt: skip
    plot.text(
        [x + _MARGIN for x, _ in corners], [y + 1 - _MARGIN / 2 for _, y in corners],
        text=[f"blue {level:.2f}" for level in blue], text_font=value(MONO), text_font_size="11px", text_color=INK,
        text_baseline="bottom",
    )  # fmt: skip
    _ring(plot, surface, corners, marked, cell)
    for channel, side in (("red", "below"), ("green", "left")):
        plot.add_layout(
            Title(
                text=f"{channel}, 0 to 1 in each square", align="center", text_color=INK, text_font=MONO,
                text_font_size="10px", text_font_style="normal",
            ),
            side,
        )  # fmt: skip
    plot.axis.visible = False
    plot.grid.visible = False
    plot.add_tools(HoverTool(renderers=[frames], tooltips=[("red green blue", "@told"), (what, "@value{0.000}")]))
    plot.add_layout(colour_bar(mapper), "right")
    return plot


def _ring(
    plot: Any,
    surface: Surface,
    corners: Sequence[tuple[float, float]],
    marked: NDArray[np.float64],
    cell: NDArray[np.float64],
) -> None:
    """Mark a colour in the slice of the nearest blue, between the cells where it lies between colours of the grid."""
    red, green, blue = surface.levels
    corner = corners[int(np.abs(blue - marked[2]).argmin())]
    x = corner[0] + _MARGIN + cell[0] * (np.interp(marked[0], red, np.arange(len(red))) + 0.5)
    y = corner[1] + _MARGIN + cell[1] * (np.interp(marked[1], green, np.arange(len(green))) + 0.5)
    for colour, width in ((_DARK, 6.0), (BLOCK, 2.6)):
        plot.ellipse(
            [x], [y], width=[0.86 * cell[0]], height=[0.86 * cell[1]], fill_color=None, line_color=colour,
            line_width=width, name="outcrop-optimum",
        )  # fmt: skip
