"""Draw results of kind ``association``: what the dominant samples of each block have in common."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from outcrop.report.dominant.judged import interval_name, shown_of
from outcrop.report.figure import Cell, Drawing, Figure, Run, Sign, Table
from outcrop.report.style import DOMINANT, INK, LINES, REST, label, plain_figure, titled_figure
from outcrop.report.verdicts import percent

if TYPE_CHECKING:
    import xarray as xr

MOST_STATISTICS = 30
MOST_ROWS = 12
"""Statistics of a block's table."""

MOST_CLASSES = 14


def draw_association(dataset: "xr.Dataset", _run: Run) -> Sequence[Drawing]:
    """Return how well each statistic tells the dominant samples, the leading ones in numbers, and their classes."""
    blocks, said = shown_of(list(range(dataset.sizes.get("block", 0))), "blocks")
    if not blocks:
        return []
    several = dataset.sizes["block"] > 1
    drawings = []
    if dataset.sizes.get("statistic", 0) and np.isfinite(dataset["auroc"].values[blocks].astype(float)).any():
        drawings.append(_dots(dataset, blocks, said))
        drawings += [_table(dataset, block, several) for block in blocks]
    else:
        sentences = " ".join(_evidence(dataset, block, several) for block in blocks)
        drawings.append(Drawing("What they share", sentences + said))
    if dataset.sizes.get("class_name", 0) and "class_share_dominant" in dataset:
        drawings += _classes(dataset, blocks, several)
    return drawings


def _dots(dataset: "xr.Dataset", blocks: Sequence[int], said: str) -> Drawing:
    """Return the AUROC of each statistic, a dot per block, the most telling statistic on top."""
    from bokeh.models import ColumnDataSource, FixedTicker, HoverTool, Range1d
    from bokeh.models import Span as Rule

    auroc = dataset["auroc"].values[blocks].astype(float)
    far = np.nan_to_num(np.abs(auroc - 0.5), nan=-1.0).max(axis=0)
    order = np.argsort(-far, kind="stable")[:MOST_STATISTICS]
    names = [label(str(name).replace("_", " ")) for name in dataset["statistic"].values]
    titles = [_described(dataset, int(row)) for row in order]
    alpha = float(dataset.attrs.get("significance", 0.05))
    plot = plain_figure(
        height=21 * len(order) + 60, width=600, sizing_mode="stretch_width", tools="", toolbar_location=None,
        x_range=Range1d(-0.035, 1.035), y_range=Range1d(len(order) - 0.4, -0.6), min_border_right=12,
        tags=[{"role": "lines", "title": "AUROC of each statistic"}],
    )  # fmt: skip
    plot.add_layout(Rule(location=0.5, dimension="height", line_color=INK, line_dash=[5, 4]))
    dots = []
    for place, block in enumerate(blocks):
        adjusted = dataset["adjusted_p"].values[block, order].astype(float)
        source = ColumnDataSource(
            {
                "x": auroc[place, order], "y": np.arange(len(order)) + _offset(place, len(blocks)),
                "name": [names[row] for row in order], "title": titles, "p": [_chance(p) for p in adjusted],
                "effect": dataset["effect"].values[block, order].astype(float),
                "fill": (adjusted <= alpha).astype(float),
                "inside": dataset["mean_dominant"].values[block, order].astype(float),
                "outside": dataset["mean_rest"].values[block, order].astype(float),
                "model": [label(str(dataset["block_model"].values[block]))] * len(order),
            }
        )  # fmt: skip
        colour = LINES[place % len(LINES)]
        dots.append(
            plot.scatter(
                "x", "y", source=source, size=9, fill_color=colour, fill_alpha="fill", line_color=colour, line_width=1.6
            )
        )
    plot.yaxis.ticker = FixedTicker(ticks=list(range(len(order))))
    plot.yaxis.major_label_overrides = {place: names[row] for place, row in enumerate(order)}
    plot.ygrid.grid_line_dash = [2, 3]
    plot.xaxis.ticker = [0, 0.25, 0.5, 0.75, 1]
    plot.xaxis.axis_label = "AUROC"
    plot.add_tools(
        HoverTool(
            renderers=dots,
            tooltips=[
                ("model", "@model"), ("statistic", "@title"), ("AUROC", "@x{0.000}"), ("adjusted p", "@p"),
                ("effect", "@effect{+0.00} standard deviations"), ("dominant", "@inside{0,0.[000]}"),
                ("rest", "@outside{0,0.[000]}"),
            ],
        )
    )  # fmt: skip
    several = dataset.sizes["block"] > 1
    caption = " ".join(_leader(dataset, block, several) for block in blocks)
    if len(order) < dataset.sizes["statistic"]:
        caption += f" {len(order)} of {dataset.sizes['statistic']} statistics are drawn, the most telling ones."
    models = tuple(
        Sign(str(dataset["block_model"].values[block]), LINES[place % len(LINES)], "dot")
        for place, block in enumerate(blocks)
        if several
    )
    caption += " AUROC: the chance that a dominant sample has a larger value than another; 0.5 tells nothing."
    key = (*models, Sign(f"adjusted p at most {alpha:g}", INK, "dot"), Sign("above", INK, "ring"))
    return Drawing("How well each statistic tells them", caption + said, (plot,), key=key)


def _leader(dataset: "xr.Dataset", block: int, several: bool) -> str:
    """Return the statistic that tells the dominant samples of a block best."""
    model = f"{dataset['block_model'].values[block]}: " if several else ""
    row = int(np.argmin(dataset["rank"].values[block]))
    auroc, p = (float(dataset[name].values[block, row]) for name in ("auroc", "adjusted_p"))
    named = str(dataset["statistic"].values[row]).replace("_", " ")
    said = f"{'higher' if auroc > 0.5 else 'lower'} {named} (AUROC {auroc:.3f}, adjusted p {_chance(p)})"
    if not str(dataset["leading_statistic"].values[block]):
        said = f"no statistic tells them for certain, nearest {said}"
    return f"{model}{said}." if model else f"{said[0].upper()}{said[1:]}."


def _evidence(dataset: "xr.Dataset", block: int, several: bool) -> str:
    """Return what is said of a block, and how well all statistics together predict its dominant samples."""
    text = str(dataset["evidence"].values[block]).rstrip(".")
    auroc, error = (float(dataset[name].values[block]) for name in ("logistic_auroc", "logistic_standard_error"))
    null = float(dataset["logistic_null_high"].values[block])
    if np.isfinite(auroc) and np.isfinite(error):
        text += f". Of all statistics together, the standard error over folds is {error:.3f}"
        text += f", and 95 % of random draws stay below {null:.3f}" if np.isfinite(null) else ""
    return f"{dataset['block_model'].values[block]}: {text}." if several else f"{text[:1].upper()}{text[1:]}."


def _table(dataset: "xr.Dataset", block: int, several: bool) -> Drawing:
    order = np.argsort(dataset["rank"].values[block], kind="stable")[:MOST_ROWS]
    one = {
        name: dataset[name].values[block].astype(float)
        for name in ("auroc", "effect", "adjusted_p", "coefficient", "mean_dominant", "mean_rest")
    }
    rows: list[tuple[Cell, ...]] = [
        (
            _described(dataset, int(row)), float(one["auroc"][row]), float(one["adjusted_p"][row]),
            float(one["effect"][row]), float(one["mean_dominant"][row]), float(one["mean_rest"][row]),
            float(one["coefficient"][row]),
        )
        for row in order
    ]  # fmt: skip
    columns = (
        "statistic", "AUROC", "adjusted p", "effect", "mean of dominant", "mean of rest", "log odds per deviation"
    )  # fmt: skip
    count = dataset.sizes["statistic"]
    what = interval_name(
        dataset["first_layer"].values[block],
        dataset["last_layer"].values[block],
        bool(dataset["is_block"].values[block]),
    )
    model = f"{dataset['block_model'].values[block]}: " if several else ""
    shown = f"The {len(order)} most telling of {count} statistics" if len(order) < count else "All statistics"
    caption = (
        f"{_evidence(dataset, block, False)} {shown}, for the dominant samples of the {what}. Effect: the "
        "difference of the means over the standard deviation. p-values are of "
        f"{int(dataset.attrs.get('permutations', 0)):,} random draws, adjusted for the number of statistics."
    )
    title = "the leading statistics"
    return Drawing(model + title if model else "The leading statistics", caption, table=Table(columns, tuple(rows)))


def _classes(dataset: "xr.Dataset", blocks: Sequence[int], several: bool) -> list[Drawing]:
    """Return, for the blocks side by side, the share of each class among dominant samples and among the rest."""
    plots, sentences = [], []
    alpha = float(dataset.attrs.get("significance", 0.05))
    for block in blocks:
        inside, outside, p = (
            dataset[name].values[block].astype(float)
            for name in ("class_share_dominant", "class_share_rest", "class_adjusted_p")
        )
        if not np.isfinite(inside).any():
            continue
        names = [str(name) for name in dataset["class_name"].values]
        plots.append(_shares(names, inside, outside, p, alpha, str(dataset["block_model"].values[block])))
        telling = int((p <= alpha).sum())
        model = f"{dataset['block_model'].values[block]}: " if several else ""
        top = int(np.nanargmax(inside))
        sentences.append(
            f"{model}{telling} of {len(names)} classes are more or less frequent among dominant samples (adjusted p at "
            f"most {alpha:g}); the largest of them is {names[top]}, {percent(inside[top])} against "
            f"{percent(outside[top])} of the rest."
        )
    if not plots:
        return []
    key = (
        Sign("of the dominant samples", DOMINANT, "dot"), Sign("of the rest", REST, "ring"),
        Sign(f"adjusted p at most {alpha:g}", INK), Sign("above", INK, "dotted"),
    )  # fmt: skip
    some = min(MOST_CLASSES, dataset.sizes["class_name"])
    more = f" The {some} of the largest differences are drawn." if some < dataset.sizes["class_name"] else ""
    return [Drawing("Classes", " ".join(sentences) + more, tuple(plots), layout="halves", key=key)]


def _shares(
    names: Sequence[str],
    inside: NDArray[np.float64],
    outside: NDArray[np.float64],
    p: NDArray[np.float64],
    alpha: float,
    title: str,
) -> Any:
    from bokeh.models import ColumnDataSource, FixedTicker, HoverTool, NumeralTickFormatter, Range1d

    difference = np.nan_to_num(inside - outside)
    chosen = np.argsort(-np.abs(difference), kind="stable")[:MOST_CLASSES]
    order = chosen[np.argsort(-difference[chosen], kind="stable")]
    source = ColumnDataSource(
        {
            "y": np.arange(len(order)), "inside": inside[order], "outside": outside[order],
            "name": [label(names[row]) for row in order], "p": [_chance(p[row]) for row in order],
            "dash": ["solid" if p[row] <= alpha else "dotted" for row in order],
        }
    )  # fmt: skip
    top = float(np.nanmax(np.concatenate([inside, outside])))
    plot = titled_figure(
        title, height=21 * len(order) + 56, x_range=Range1d(-0.03 * top, 1.05 * top),
        y_range=Range1d(len(order) - 0.4, -0.6),
    )  # fmt: skip
    plot.segment("outside", "y", "inside", "y", source=source, line_color=INK, line_dash="dash", line_width=1.5)
    dots = [
        plot.scatter("outside", "y", source=source, size=9, fill_color=None, line_color=REST, line_width=1.8),
        plot.scatter("inside", "y", source=source, size=9, fill_color=DOMINANT, line_color=DOMINANT),
    ]
    plot.yaxis.ticker = FixedTicker(ticks=list(range(len(order))))
    plot.yaxis.major_label_overrides = {place: _short(label(names[row])) for place, row in enumerate(order)}
    plot.ygrid.grid_line_dash = [2, 3]
    plot.xaxis.formatter = NumeralTickFormatter(format="0%")
    plot.xaxis.axis_label = "share of the samples"
    plot.add_tools(
        HoverTool(
            renderers=dots,
            tooltips=[
                ("class", "@name"), ("of the dominant", "@inside{0.0%}"), ("of the rest", "@outside{0.0%}"),
                ("adjusted p", "@p"),
            ],
        )
    )  # fmt: skip
    return plot


def _described(dataset: "xr.Dataset", row: int) -> str:
    """Return a statistic in words: its name, its units."""
    name = str(dataset["statistic"].values[row]).replace("_", " ")
    units = str(dataset["statistic_units"].values[row])
    return f"{name} ({units})" if units and units != "1" else name


def _offset(place: int, count: int) -> float:
    """Return how far dots of one block lie off their line, so that those of several do not hide one another."""
    return 0.0 if count < 2 else 0.36 * (place / (count - 1) - 0.5)


def _chance(p: float) -> str:
    return "\u2013" if not np.isfinite(p) else f"{p:.2g}"


def _short(text: str, most: int = 18) -> str:
    return text if len(text) <= most else text[: most - 1] + "\u2026"


ASSOCIATION = Figure(kind="association", title="What the dominant samples share", draw=draw_association)
