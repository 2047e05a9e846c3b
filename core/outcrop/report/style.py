"""Colours and bokeh parts that all figures share; the page adapts the ink to a light or dark background."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bokeh.models import ColorBar, LinearColorMapper
    from bokeh.plotting import figure as BokehFigure  # noqa: N812 # bokeh calls its class so

MISSING = "#9b968f"
BLOCK = "#38e0c8"
"""Outline and shade of intervals: the one hue that the palette of the maps never takes."""
LINES = ("#c4572b", "#2f8592", "#b58a1f", "#7d63b8", "#5b8c4b", "#b5497d", "#8a8178", "#4a74c9")
"""Of models; each keeps a contrast of 3 or more on the light and on the dark page."""
DOMINANT, REST = LINES[0], LINES[1]
"""Of dominant samples and of what they are compared with; shapes tell them apart as well."""
INK = "#6f6862"
MONO = "ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace"


def palette() -> tuple[str, ...]:
    """Return the 256 colours of maps: magma, perceptually uniform and legible to the colour-blind."""
    from bokeh.palettes import Magma256

    return tuple(Magma256)


def plain_figure(**options: Any) -> "BokehFigure":
    """Return an empty figure without background, with the page's fonts and grid."""
    from bokeh.plotting import figure

    options.setdefault("toolbar_location", "above")
    plot = figure(background_fill_color=None, border_fill_color=None, **options)
    plot.toolbar.logo = None
    plot.toolbar.autohide = True
    plot.outline_line_color = None
    for axis in plot.axis:
        axis.axis_line_color = axis.major_tick_line_color = axis.major_label_text_color = INK
        axis.axis_label_text_color = INK
        axis.minor_tick_line_color = None
        axis.major_label_text_font = axis.axis_label_text_font = MONO
        axis.major_label_text_font_size = axis.axis_label_text_font_size = "10px"
        axis.axis_label_text_font_style = "normal"
    plot.grid.grid_line_color = INK
    plot.grid.grid_line_alpha = 0.18
    return plot


def titled_figure(title: str, **options: Any) -> "BokehFigure":
    """Return an empty figure that is as wide as its place, with a title above it: one of several side by side."""
    tags = [{"role": "titled", "title": title}]
    wide = {"height": 280, "width": 400, "sizing_mode": "stretch_width", "tools": "", "toolbar_location": None}
    return plain_figure(**(wide | {"min_border_right": 12, "tags": tags} | options))


def colour_mapper(low: float, high: float) -> "LinearColorMapper":
    from bokeh.models import LinearColorMapper

    return LinearColorMapper(palette=palette(), low=low, high=high, nan_color=MISSING)


def colour_bar(mapper: "LinearColorMapper") -> "ColorBar":
    from bokeh.models import BasicTicker, ColorBar

    return ColorBar(
        color_mapper=mapper,
        ticker=BasicTicker(desired_num_ticks=5),
        width=9,
        padding=4,
        label_standoff=4,
        background_fill_color=None,
        bar_line_color=None,
        major_tick_line_color=None,
        major_label_text_color=INK,
        major_label_text_font=MONO,
        major_label_text_font_size="10px",
    )


def label(text: str) -> str:
    """Return text that bokeh shows as it stands: a name such as ``$$x$$`` would be taken for TeX."""
    return text.replace("$$", "$\u200b$")
