"""Draw results of kind ``removal``: what is left of each block over the share of samples that is left out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from outcrop.report.dominant.judged import evenly, interval_name, share_of, shown_of
from outcrop.report.figure import Drawing, Figure, Run, Sign
from outcrop.report.style import DOMINANT, INK, LINES, REST, titled_figure

if TYPE_CHECKING:
    import xarray as xr

MOST_TICKS = 10

_MEASURES: Mapping[str, str] = {
    "similarity": "Mean similarity inside",
    "contrast": "Contrast: inside less outside",
    "pc_support": "PC1 share of variance inside",
}


_WORDS = {"similarity": "similarity from", "contrast": "contrast", "pc_support": "PC1 share"}


@dataclass(frozen=True)
class Look:
    """How a selection is drawn, and what it is."""

    text: str
    colour: str
    dash: str
    marker: str


LOOKS: Mapping[str, Look] = {
    "dominant": Look("the dominant samples", DOMINANT, "solid", "circle"),
    "random": Look("random samples", REST, "dashed", "square"),
    "input_norm": Look("samples of the longest input", LINES[3], "dotted", "triangle"),
}


ONES = {"dominant": "the dominant ones", "random": "random ones", "input_norm": "those of the longest input"}


def draw_removal(dataset: "xr.Dataset", _run: Run) -> Sequence[Drawing]:
    """Return, for each block, its similarity, contrast and support by the first component over what is left out."""
    blocks = list(range(dataset.sizes.get("block", 0)))
    shown, said = shown_of(blocks, "blocks")
    drawings = []
    for place in shown:
        one = dataset.isel(block=place)
        name = str(one["block_model"].values)
        layers = interval_name(one["first_layer"].values, one["last_layer"].values, bool(one["was_block"]))
        title = f"{name}: {layers}"
        plots = tuple(_curves(one, measure) for measure in _MEASURES)
        if not any(np.isfinite(one[measure].values.astype(float)).any() for measure in _MEASURES):
            drawings.append(
                Drawing(name, f"{_verdict(one)} There are no similar layers whose fate could be followed.{said}")
            )
            said = ""
            continue
        caption = f"{_verdict(one)} {_numbers(one)} {_method(dataset)}{said}"
        said = ""
        drawings.append(Drawing(title, caption, plots, layout="row", key=_key(one)))
    return drawings


def _verdict(one: "xr.Dataset") -> str:
    """Return whether leaving out dominant samples dissolves the block, and what controls do."""
    fractions = one["fraction"].values.astype(float)
    largest = share_of(fractions[-1])
    found = one["is_block"].sel(selection="dominant").values.astype(bool)
    what = interval_name(one["first_layer"].values, one["last_layer"].values, True)
    if not bool(one["was_block"]):
        return "There is no block to dissolve."
    if not found[0]:
        return f"With all samples, these batches show no {what}, so none can dissolve."
    kept = one["kept_count"].sel(selection="dominant").values
    if kept[0] == kept[-1]:
        return f"Shares of up to {largest} leave no sample out, so that nothing can be said of the {what}."
    if not np.isfinite(fraction := float(one["dissolving_fraction"])):
        return f"No removal of up to {largest} of the samples dissolves the {what}."
    last = fractions[np.flatnonzero(found)[-1]]
    said = (
        f"Without the {share_of(fraction)} most dominant samples, the {what} dissolves: this is the smallest share "
        f"tried from which on no block is found, and without {share_of(last)} there still is one"
    )
    if bool(one["controls_keep_block"]):
        return f"{said}; without as many others it stays."
    lost = [
        LOOKS[name].text.removeprefix("the ")
        for name in map(str, one["selection"].values)
        if name in LOOKS and name != "dominant"
        and not one["is_block"].sel(selection=name).values[fractions <= fraction].all()
    ]  # fmt: skip
    return f"{said}; but without as many {' or '.join(lost)} it does not stay either."


def _numbers(one: "xr.Dataset") -> str:
    """Return what similarity, contrast and share are with all samples and without the largest share of them."""
    fractions = one["fraction"].values.astype(float)
    told = float(one["dissolving_fraction"])
    place = int(np.argmin(np.abs(fractions - told))) if np.isfinite(told) else len(fractions) - 1
    said = []
    for name in map(str, one["selection"].values):
        values = {measure: one[measure].sel(selection=name).values.astype(float) for measure in _MEASURES}
        parts = [
            f"{word} {values[measure][0]:.2f} to {values[measure][place]:.2f}"
            for measure, word in _WORDS.items()
            if np.isfinite(values[measure][[0, place]]).all()
        ]
        if parts and name in LOOKS:
            said.append(f"{ONES[name]}, {', '.join(parts)}")
    if not said or place == 0:
        return ""
    return f"When {share_of(fractions[place])} of the samples are left out: {'; '.join(said)}."


def _method(dataset: "xr.Dataset") -> str:
    replicates = dataset.attrs.get("random_replicates")
    said = "Filled marks: a block is found; hollow: none."
    if replicates:
        said += f" Random: mean of {replicates} draws, shaded by their standard deviation."
    if np.isfinite(dataset["similarity_error"].values).any():
        said += " Bars: standard errors."
    if "input_norm" not in dataset["selection"].values.tolist():
        said += f" Lengths of inputs: {dataset.attrs.get('input_norm', 'not known')}."
    return said + " Samples are ranked on components that they had no part in finding."


def _key(one: "xr.Dataset") -> tuple[Sign, ...]:
    looks = [LOOKS[name] for name in map(str, one["selection"].values) if name in LOOKS]
    lines = {"solid": "line"}
    key = tuple(Sign(f"without {look.text}", look.colour, lines.get(look.dash, look.dash)) for look in looks)
    told = float(one["dissolving_fraction"])
    return (*key, Sign(f"dissolved from {share_of(told)} on", INK, "dashed")) if np.isfinite(told) else key


def _curves(one: "xr.Dataset", measure: str) -> Any:
    """Return one measure over what is left out; the shares tried stand at even distances."""
    from bokeh.models import ColumnDataSource, FixedTicker, HoverTool, Range1d, Whisker
    from bokeh.models import Span as Rule

    fractions = one["fraction"].values.astype(float)
    x = np.arange(len(fractions), dtype=float)
    plot = titled_figure(_MEASURES[measure], height=250, x_range=Range1d(-0.4, len(x) - 0.6))
    dots = []
    drawn = []
    for name in map(str, one["selection"].values):
        if name not in LOOKS:
            continue
        look, own = LOOKS[name], one.sel(selection=name)
        values = own[measure].values.astype(float)
        error, spread = (own[f"{measure}_{kind}"].values.astype(float) for kind in ("error", "spread"))
        source = ColumnDataSource(
            {
                "x": x, "y": values, "low": values - error, "high": values + error, "error": error,
                "share": [share_of(fraction) for fraction in fractions], "kept": own["kept_count"].values.astype(int),
                "left": [look.text] * len(x), "fill": own["is_block"].values.astype(float),
                "found": [f"{share:.0%} of the draws" if 0 < share < 1 else "yes" if share else "no"
                          for share in own["block_share"].values.astype(float)],
            }
        )  # fmt: skip
        drawn += [values, values - np.nan_to_num(error), values + np.nan_to_num(error)]
        if np.isfinite(spread).any():
            plot.varea(x=x, y1=values - spread, y2=values + spread, fill_color=look.colour, fill_alpha=0.22)
        if name != "random" and np.isfinite(error).any():
            whisker = Whisker(
                base="x",
                lower="low",
                upper="high",
                source=source,
                line_color=look.colour,
                line_alpha=0.6,
                level="underlay",
            )
            whisker.upper_head.size = whisker.lower_head.size = 0
            plot.add_layout(whisker)
        plot.line("x", "y", source=source, line_color=look.colour, line_width=2, line_dash=look.dash)
        dots.append(
            plot.scatter(
                "x", "y", source=source, size=7, marker=look.marker, fill_color=look.colour, fill_alpha="fill",
                line_color=look.colour, line_width=1.5,
            )
        )  # fmt: skip
    told = float(one["dissolving_fraction"])
    if np.isfinite(told):
        place = float(np.argmin(np.abs(fractions - told)))
        plot.add_layout(Rule(location=place, dimension="height", line_color=INK, line_dash=[5, 4]))
    plot.y_range = _range(drawn, measure)
    ticks = {float(place): f"{100 * fractions[place]:.3g}" for place in evenly(len(x), MOST_TICKS).tolist()}
    plot.xaxis.ticker = FixedTicker(ticks=list(ticks))
    plot.xaxis.major_label_overrides = ticks
    plot.xaxis.axis_label = "% of the samples left out"
    plot.add_tools(
        HoverTool(
            renderers=dots,
            tooltips=[
                ("without", "@left"), ("left out", "@share, @kept{0,0} kept"), (measure.replace("_", " "), "@y{0.000}"),
                ("standard error", "@error{0.000}"), ("block found", "@found"),
            ],
        )
    )  # fmt: skip
    return plot


def _range(drawn: Sequence[NDArray[np.float64]], measure: str) -> Any:
    """Return a range from 0 to at least 1, or for the contrast to what there is: small changes shall look small."""
    from bokeh.models import Range1d

    known = np.concatenate([np.zeros(1), *drawn])
    known = known[np.isfinite(known)]
    low, high = float(known.min()), float(known.max())
    top = high if measure == "contrast" else max(1.0, high)
    margin = 0.04 * max(top - low, 1e-6)
    return Range1d(low - margin if low < 0 else 0.0, top + margin)


REMOVAL = Figure(kind="removal", title="Without the dominant samples", draw=draw_removal)
