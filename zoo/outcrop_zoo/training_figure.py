"""The figure of kind ``training``: loss, accuracy and learning rate over the epochs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from outcrop.report.figure import Drawing, Figure, Run
from outcrop.report.style import INK, LINES, plain_figure

if TYPE_CHECKING:
    import xarray as xr

_DOTTED = 40
"""Epochs up to which each is a dot."""

_MAGNITUDES = 20.0
"""Times that the largest loss may be the smallest, before the axis is one of magnitudes."""

_PANELS: dict[str, tuple[str, ...]] = {
    "Loss": ("loss", "penalty"),
    "Accuracy": ("train_accuracy", "held_out_accuracy"),
    "Learning rate": ("learning_rate",),
}
_NAMES = {
    "loss": "cross-entropy",
    "penalty": "penalty of interventions",
    "train_accuracy": "training images, augmented",
    "held_out_accuracy": "held-out images",
    "learning_rate": "learning rate",
}


def draw_training(dataset: "xr.Dataset", _run: Run) -> Sequence[Drawing]:
    """Return loss, accuracy and learning rate over one axis of epochs, and what the training came to."""
    from bokeh.models import Range1d

    epochs = dataset["epoch"].values
    margin = max(0.5, 0.015 * float(epochs[-1] - epochs[0]))
    shared = Range1d(float(epochs[0]) - margin, float(epochs[-1]) + margin)
    plots = [_panel(dataset, title, names, shared) for title, names in _PANELS.items()]
    return [Drawing(str(dataset.attrs["model"]), _caption(dataset), tuple(plots))]


def _panel(dataset: "xr.Dataset", title: str, names: Sequence[str], shared: Any) -> Any:
    """Return the lines of some variables, with the epoch whose weights were kept."""
    from bokeh.models import (
        ColumnDataSource,
        FixedTicker,
        HoverTool,
        Label,
        LogTicker,
        NumeralTickFormatter,
        Range1d,
        Span,
    )

    names = [name for name in names if name in dataset and np.isfinite(dataset[name].values).any()]
    values = np.concatenate([dataset[name].values for name in names]) if names else np.zeros(1)
    finite = values[np.isfinite(values)]
    last = title == next(reversed(_PANELS))
    magnitudes = title == "Loss" and finite.min() > 0 and finite.max() > _MAGNITUDES * finite.min()
    plot = plain_figure(
        height=150 if last else 210, width=600, sizing_mode="stretch_width", tools="", toolbar_location=None,
        x_range=shared, y_axis_type="log" if magnitudes else "linear", min_border_left=64, min_border_right=12,
        tags=[{"role": "lines", "title": title}],
    )  # fmt: skip
    columns = {name: dataset[name].values for name in ("epoch", "step", *names)}
    source = ColumnDataSource(columns)
    lines = []
    for i, name in enumerate(names):
        legend = {"legend_label": _NAMES[name]} if len(names) > 1 else {}
        style: dict[str, Any] = {"line_color": LINES[i], "line_width": 1.8, **legend}
        lines.append(plot.line("epoch", name, source=source, **style))
        if len(dataset["epoch"]) <= _DOTTED:
            plot.scatter("epoch", name, source=source, size=5, fill_color=LINES[i], line_color=None, **legend)
    if title == "Accuracy":
        plot.y_range = Range1d(0, 1.02)
        plot.yaxis.formatter = NumeralTickFormatter(format="0 %")
    elif magnitudes:
        plot.yaxis.ticker = LogTicker(mantissas=[1, 2, 5], desired_num_ticks=8)
        plot.yaxis.formatter = NumeralTickFormatter(format="0.[0000]")
    else:
        plot.y_range = Range1d(0, 1.08 * max(float(finite.max(initial=0.0)), 1e-9))
    kept = int(dataset.attrs["selected_epoch"])
    if kept != int(dataset["epoch"].values[-1]):
        plot.add_layout(Span(location=kept, dimension="height", line_color=INK, line_dash="dashed", line_width=1))
        if title == "Accuracy":
            plot.add_layout(
                Label(x=kept, y=0.04, x_offset=-5, text=f"weights of epoch {kept} kept", text_align="right",
                      text_color=INK, text_font_size="11px")
            )  # fmt: skip
    plot.yaxis.axis_label = _NAMES[names[0]] if len(names) == 1 and title != "Accuracy" else title.lower()
    if last:
        plot.xaxis.axis_label = _epoch_label(dataset)
    else:
        plot.xaxis.major_label_text_font_size = "0px"
    if len(dataset["epoch"]) <= 12:
        plot.xaxis.ticker = FixedTicker(ticks=dataset["epoch"].values.tolist())
    shown = [(_NAMES[name], f"@{name}{'{0.0 %}' if name.endswith('accuracy') else '{0.0000}'}") for name in names]
    plot.add_tools(
        HoverTool(renderers=lines[:1], mode="vline", tooltips=[("epoch", "@epoch"), ("step", "@step{0,0}"), *shown])
    )
    if len(names) > 1:
        plot.legend.background_fill_color = plot.legend.border_line_color = None
        plot.legend.label_text_color = INK
        plot.legend.label_text_font_size = "11px"
        plot.legend.padding, plot.legend.spacing = 0, 16
        plot.legend.location = "left"
        plot.legend.orientation = "horizontal"
        plot.add_layout(plot.legend[0], "above")
    return plot


def _epoch_label(dataset: "xr.Dataset") -> str:
    sizes = np.unique(np.diff(dataset["step"].values, prepend=0))
    return f"epoch of {sizes[0]:,} steps" if len(sizes) == 1 else "epoch"


def _caption(dataset: "xr.Dataset") -> str:
    """Return how long it took, on what, where it ended and which weights were kept."""
    epochs, kept = dataset["epoch"].values, int(dataset.attrs["selected_epoch"])
    seconds = float(dataset["seconds"].sum())
    parts = [
        f"{_count(len(epochs), 'epoch')}, {int(dataset['step'].values[-1]):,} steps, {_duration(seconds)} on "
        f"{str(dataset.attrs['device']).upper()}."
    ]
    row = dataset.sel(epoch=kept) if kept in epochs else dataset.isel(epoch=-1)
    ends = [
        f"cross-entropy {float(row['loss']):.3g}",
        f"accuracy {100 * float(row['train_accuracy']):.1f} % on training images",
    ]
    if "held_out_accuracy" in row and np.isfinite(row["held_out_accuracy"]):
        ends.append(f"{100 * float(row['held_out_accuracy']):.1f} % on held-out ones")
    which = "the last" if kept == int(epochs[-1]) else "the best on held-out images"
    parts.append(f"Kept are the weights of epoch {kept}, {which}: {', '.join(ends)}.")
    undefined = epochs[~np.isfinite(dataset["loss"].values)]
    if len(undefined):
        parts.append(f"The loss is not finite in {_count(len(undefined), 'epoch')}, first in epoch {undefined[0]}.")
    return " ".join(parts)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


TRAINING_FIGURE = Figure(kind="training", title="Training", draw=draw_training)
