"""Small multiples of a checkpoint series: at a few steps, the map within the step and the map with the last step."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from outcrop.report.figure import Drawing, Run
from outcrop.report.heatmap import draw_heatmap, mapper_of
from outcrop.report.maps import Axis, Span, pack, read_axis

if TYPE_CHECKING:
    import xarray as xr

COLUMNS = 6
"""Steps that are shown: the first, the last, and some between."""

_MARGIN = 0.025
"""Empty share of a map's place on each side, which keeps neighbours apart."""

_PAIRS = {"similarity": "similarity_to_last", "standard_error": "standard_error_to_last"}
"""What is shown of a step, and its counterpart with the last step."""


def chosen_steps(count: int, most: int) -> NDArray[np.int64]:
    """Return the positions of the first and the last of ``count`` steps, and of some between, evenly by position."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(np.int64))


def draw_series(dataset: "xr.Dataset", run: Run, axis: Axis, span: Span, steps: NDArray[np.int64]) -> Drawing:
    """Return one column of two maps for each of a few steps, all in one scale of colours.

    Args:
        dataset: Of kind ``trajectory``, with ``similarity_to_last``.
        run: That it belongs to.
        axis: Layers of the dataset.
        span: Those of the network that is drawn.
        steps: (step,).
    """
    from bokeh.models import Range1d

    chosen = chosen_steps(len(steps), COLUMNS)
    key = f"{run.analysis}/{run.run_id}/series/{span.model}"
    order = read_axis(dataset, "layer_a", "_a").order[span.start : span.stop]
    assets: dict[str, Any] = {
        f"{key}/rows": _table(axis, span, ["same step", f"step {steps[-1]:,}"]),
        f"{key}/columns": _table(axis, span, [f"step {step:,}" for step in steps[chosen]]),
    }
    for within, to_last in _PAIRS.items():
        if within in dataset and to_last in dataset:
            assets[f"{key}/{within}"] = pack(_side_by_side(dataset, (within, to_last), chosen, order))
    across, down, length = len(chosen), 2, span.length
    cells = [
        {
            "x": column + _MARGIN, "y": row + _MARGIN, "width": 1 - 2 * _MARGIN, "height": 1 - 2 * _MARGIN,
            "rows": [row * length, (row + 1) * length], "columns": [column * length, (column + 1) * length],
        }
        for row in range(down)
        for column in range(across)
    ]  # fmt: skip
    labels = ("within the step", f"with step {steps[-1]:,}")
    plot = draw_heatmap(
        "similarity", {"similarity": "CKA between layers"}, key,
        cells=cells,
        ranges=(Range1d(0, across, bounds=(0, across)), Range1d(down, 0, bounds=(0, down))),
        groups=(
            [[column, column + 1, f"step {step:,}"] for column, step in enumerate(steps[chosen])],
            [[row, row + 1, text] for row, text in enumerate(labels)],
        ),
        mapper=mapper_of(np.stack([dataset[name].values for name in ("similarity", "similarity_to_last")])),
        marks=(),
        role="series",
    )  # fmt: skip
    # The maps stand apart from one another and from a frame.
    plot.axis.axis_line_color = plot.axis.major_tick_line_color = None
    plot.tags = [{**plot.tags[0], "columns": across, "rows": down}]
    named = f"{span.model}: " if len(axis.spans) > 1 else ""
    several = f"{len(chosen)} of {len(steps)} steps" if len(chosen) < len(steps) else f"{len(steps)} steps"
    caption = (
        f"{several} of the training, a column each; {length} layers in topological order, depth growing to the right "
        "and downwards. Above: the layers of the step among themselves. Below: its layers, to the right, against those "
        "of the last step, downwards. Where the diagonal below is bright, layers tell the samples apart as they will "
        "in the end."
    )
    return Drawing(f"{named}CKA between layers, and with those of the last step", caption, (plot,), assets=assets)


def _side_by_side(
    dataset: "xr.Dataset", names: tuple[str, str], chosen: NDArray[np.int64], order: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return all maps as one matrix (2 layer, step layer), so that a column is a layer of its step in both rows."""
    square = np.ix_(order, order)
    within, to_last = (dataset[name].values for name in names)
    above = np.concatenate([within[step][square] for step in chosen], axis=1)
    below = np.concatenate([to_last[step][square].T for step in chosen], axis=1)
    return np.concatenate([above, below], axis=0)


def _table(axis: Axis, span: Span, places: list[str]) -> dict[str, Any]:
    """Return the layers that the page names at a place, once for every place of a map along one side."""
    window = slice(span.start, span.stop)
    return {
        "models": [place for place in places for _ in range(span.length)],
        "names": [*axis.names[window]] * len(places),
        "kinds": [*axis.kinds[window]] * len(places),
    }
