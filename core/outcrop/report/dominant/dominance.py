"""Draw results of kind ``dominance``: how the dominant samples of every layer stand out."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from outcrop.report.dominant.depth import draw_depth
from outcrop.report.dominant.judged import Judged, evenly, read_judged, share_of, shown_of, times
from outcrop.report.dominant.norms import draw_norms
from outcrop.report.dominant.sheet import Sheet, build_sheet
from outcrop.report.figure import Drawing, Figure, Run, Sign
from outcrop.report.maps import Axis, Span, read_axis
from outcrop.report.style import DOMINANT, INK, REST, titled_figure

if TYPE_CHECKING:
    import xarray as xr

MOST_DOMINANT, MOST_OTHERS = 300, 900
"""Samples that are drawn one by one, of each model and of all together."""

_BINS = 48


def draw_dominance(dataset: "xr.Dataset", run: Run) -> Sequence[Drawing]:
    """Return, for each model, its samples at the layer it is judged at and along the depth; and numbers of all layers.

    The layer is the one that the leaf ``references`` of the run names; without it, the one whose two modes lie farthest
    apart.
    """
    axis = read_axis(dataset, "layer")
    judged = read_judged(run)
    spans, said = shown_of(axis.spans)
    places = {span.model: _place(dataset, axis, span, judged.get(span.model)) for span in spans}
    members = {
        span.model: _members(dataset, axis, place, judged.get(span.model))
        for span in spans
        if (place := places[span.model]) is not None
    }
    drawn = {model: _thinned(chosen, dataset) for model, chosen in members.items()}
    positions = dataset["sample"].values.astype(np.int64)
    together = np.concatenate([*drawn.values(), np.arange(0)]).astype(np.int64)
    sheet = build_sheet(run, positions[together], "dominance")
    drawings: list[Drawing] = []
    for span in spans:
        place = places[span.model]
        if place is None:
            continue
        named = f"{span.model}: " if len(axis.spans) > 1 else ""
        row, chosen = int(axis.order[place]), members[span.model]
        drawings.append(_at_layer(dataset, row, chosen, drawn[span.model], sheet, named, axis.names[place]))
        if found := draw_norms(dataset, axis, span, chosen, judged.get(span.model), sheet, named):
            drawings.append(found)
    if drawings and said:
        drawings[0] = replace(drawings[0], caption=drawings[0].caption + said)
    return [*drawings, *draw_depth(dataset, axis)]


def _place(dataset: "xr.Dataset", axis: Axis, span: Span, one: Judged | None) -> int | None:
    """Return the place on the axis of the layer a model is judged at; None where no layer tells samples apart."""
    rows = axis.order[span.start : span.stop]
    known = np.isfinite(dataset["projection"].values[rows]).any(axis=1)
    if not known.any():
        return None
    names = axis.names[span.start : span.stop]
    if one is not None and one.layer in names and known[names.index(one.layer)]:
        return span.start + names.index(one.layer)
    apart = np.nan_to_num(dataset["ashman_d"].values[rows].astype(float), nan=-1.0)
    return span.start + int(np.argmax(np.where(known, apart, -2.0)))


def _members(dataset: "xr.Dataset", axis: Axis, place: int, one: Judged | None) -> NDArray[np.bool_]:
    """Return (sample,): who is dominant where the model is judged."""
    positions = dataset["sample"].values.astype(np.int64)
    if one is not None and one.layer == axis.names[place]:
        return np.isin(positions, one.samples[one.dominant])
    return np.asarray(dataset["dominant"].values[axis.order[place]].astype(bool))


def _thinned(members: NDArray[np.bool_], dataset: "xr.Dataset") -> NDArray[np.int64]:
    """Return places along ``sample`` of the samples that are drawn: dominant ones first, others spread evenly."""
    inside = np.flatnonzero(members)
    spread = evenly(dataset.sizes["sample"], MOST_OTHERS)
    return np.concatenate([inside[evenly(len(inside), MOST_DOMINANT)], spread[~members[spread]]])


def _at_layer(
    dataset: "xr.Dataset",
    row: int,
    members: NDArray[np.bool_],
    drawn: NDArray[np.int64],
    sheet: Sheet,
    named: str,
    layer: str,
) -> Drawing:
    size = np.abs(dataset["projection"].values[row].astype(float))
    norm = dataset["norm"].values[row].astype(float)
    threshold = float(dataset["threshold"].values[row])
    title = f"{named}samples at {layer}"
    positions = dataset["sample"].values.astype(np.int64)
    dots = _scatter(size, norm, members, drawn, positions, threshold, sheet)
    plots = (_histogram(size, members, threshold), dots)
    key: tuple[Sign, ...] = (Sign("dominant samples", DOMINANT, "dot"), Sign("the others", REST, "ring"))
    if np.isfinite(threshold):
        key += (Sign("least |projection| of a dominant sample", INK, "dashed"),)
    caption = _sentence(dataset, row, members) + _counted(size, drawn, bool(sheet.asset))
    return Drawing(
        title if named else f"Samples at {layer}", caption, plots, assets=sheet.assets, layout="halves", key=key
    )


def _sentence(dataset: "xr.Dataset", row: int, members: NDArray[np.bool_]) -> str:
    """Return the layer's numbers in words."""
    one = {str(name): dataset[name].values[row] for name in dataset.data_vars if dataset[name].dims == ("layer",)}
    count, every = int(members.sum()), len(members)
    rule = str(one["rule"])
    gain, apart = float(one["bic_gain"]), float(one["ashman_d"])
    evidence = ""
    if np.isfinite(gain):
        evidence = f" two modes gain a BIC of {gain:,.0f} over one"
        evidence += f" and lie {apart:.1f} spreads apart (Ashman's D)" if np.isfinite(apart) else ""
        if np.isfinite(chance := float(one.get("rise_p_value", np.nan))):
            evidence += f"; sizes that only fall beyond one mode look so with a probability of {chance:.2g}"
    if rule == "mixture":
        how = f"by the two modes of |projection|:{evidence}" if evidence else "by the two modes of |projection|"
    elif rule == "top fraction":
        how = "the largest, as there are no two modes that could tell them" + (f":{evidence}" if evidence else "")
    else:
        how = "none could be told"
    said = [f"{count:,} of {every:,} samples ({share_of(count / max(every, 1))}) are dominant, {how}."]
    if np.isfinite(carriers := float(one["effective_samples"])):
        said.append(f"The component is as uneven as if {carriers:,.0f} samples carried it alike.")
    if np.isfinite(ratio := float(one["dominant_norm_ratio"])):
        said.append(f"The dominant samples' median norm is {times(ratio)} that of all.")
    if np.isfinite(related := float(one["norm_correlation"])):
        said.append(f"|projection| and norm have a rank correlation of {related:.2f}.")
    inside, outside = float(one["cosine_inside"]), float(one["cosine_outside"])
    if np.isfinite(inside):
        against = f", two others of {outside:.2f}" if np.isfinite(outside) else ""
        said.append(f"Two dominant samples have a mean cosine of {inside:.2f}{against}.")
    return " ".join(said)


def _counted(size: NDArray[np.float64], drawn: NDArray[np.int64], pictured: bool) -> str:
    """Return what is left out of the plots, and what pointing does."""
    said = ""
    if zeros := int((size == 0).sum()):
        said += f" {zeros:,} projections of exactly 0 are not shown."
    if len(drawn) < len(size):
        said += f" Dots: {len(drawn):,} of the samples, the dominant ones first; bars: all."
    return said + f" Point at a dot for the {'picture' if pictured else 'name'} of its sample."


def _histogram(size: NDArray[np.float64], members: NDArray[np.bool_], threshold: float) -> Any:
    """Return bars of how many samples have which logarithm of |projection|, dominant ones on top of the others."""
    from bokeh.models import ColumnDataSource, HoverTool, Range1d
    from bokeh.models import Span as Rule

    known = np.isfinite(size) & (size > 0)
    logs = np.log10(size[known]) if known.any() else np.zeros(1)
    low, high = float(logs.min()), float(logs.max())
    edges = np.linspace(low, high if high > low else low + 1.0, _BINS + 1)
    others, _ = np.histogram(np.log10(size[known & ~members]), bins=edges)
    dominant, _ = np.histogram(np.log10(size[known & members]), bins=edges)
    source = ColumnDataSource(
        {
            "left": edges[:-1], "right": edges[1:], "others": others, "all": others + dominant, "dominant": dominant,
            "from": 10 ** edges[:-1], "to": 10 ** edges[1:],
        }
    )  # fmt: skip
    plot = titled_figure(
        "How many samples have which |projection|", x_range=Range1d(edges[0], edges[-1]),
        y_range=Range1d(0, 1.05 * max(1, int((others + dominant).max()))),
    )  # fmt: skip
    bars = plot.quad(
        left="left", right="right", bottom=0, top="others", source=source, fill_color=REST, fill_alpha=0.55,
        line_color=None,
    )  # fmt: skip
    on_top = plot.quad(
        left="left", right="right", bottom="others", top="all", source=source, fill_color=DOMINANT, line_color=None
    )
    if np.isfinite(threshold) and threshold > 0:
        plot.add_layout(Rule(location=np.log10(threshold), dimension="height", line_color=INK, line_dash=[5, 4]))
    plot.xaxis.axis_label = "log10 of |projection|"
    plot.yaxis.axis_label = "samples"
    plot.add_tools(
        HoverTool(
            renderers=[bars, on_top],
            tooltips=[
                ("|projection|", "@from{0.[00]a} to @to{0.[00]a}"), ("dominant", "@dominant{0,0}"),
                ("others", "@others{0,0}"),
            ],
        )
    )  # fmt: skip
    return plot


def _scatter(
    size: NDArray[np.float64],
    norm: NDArray[np.float64],
    members: NDArray[np.bool_],
    drawn: NDArray[np.int64],
    positions: NDArray[np.int64],
    threshold: float,
    sheet: Sheet,
) -> Any:
    """Return norm over |projection|, both logarithmic, a dot per sample that shows its picture."""
    from bokeh.models import ColumnDataSource, HoverTool
    from bokeh.models import Span as Rule

    shown = drawn[(size[drawn] > 0) & (norm[drawn] > 0)]  # NaN is not above 0 either.
    plot = titled_figure("Norm over |projection|", x_axis_type="log", y_axis_type="log")
    dots = []
    for chosen, colour, fill in ((~members[shown], REST, None), (members[shown], DOMINANT, DOMINANT)):
        places = shown[chosen]
        source = ColumnDataSource({"size": size[places], "norm": norm[places], **sheet.columns(positions[places])})
        look = {"size": 6, "line_alpha": 0.9} if fill else {"size": 5, "line_alpha": 0.75}
        dots.append(
            plot.scatter("size", "norm", source=source, fill_color=fill, fill_alpha=0.85, line_color=colour, **look)
        )
    if np.isfinite(threshold) and threshold > 0:
        plot.add_layout(Rule(location=threshold, dimension="height", line_color=INK, line_dash=[5, 4]))
    plot.xaxis.axis_label = "|projection|"
    plot.yaxis.axis_label = "norm of the activations"
    rows = [("|projection|", "@size{0,0.[00]}"), ("norm", "@norm{0,0.[00]}")]
    # One picture at a time: where dots lie close, several would cover the plot.
    plot.add_tools(HoverTool(renderers=dots, tooltips=sheet.template(rows), formatters=sheet.formatters(), limit=1))
    return plot


DOMINANCE = Figure(kind="dominance", title="Samples that dominate", draw=draw_dominance)
