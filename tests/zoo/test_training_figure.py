"""What the report shows of a training."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from bokeh.models import FixedTicker, Span
from torch import nn

from outcrop.plugins import plugin_registry
from outcrop.report import write_report
from outcrop.report.figure import Drawing, Run
from outcrop_zoo.recipes import Recipe
from outcrop_zoo.training.run import TrainingRun
from outcrop_zoo.training_figure import TRAINING_FIGURE, draw_training
from outcrop_zoo.training_kind import TRAINING


@pytest.fixture
def metrics(tiny_recipe: Recipe) -> Any:
    def make(epochs: int, *, kept: int | None = None, **columns: np.ndarray) -> xr.Dataset:
        history = [
            {
                "epoch": epoch + 1.0,
                "step": 24.0 * (epoch + 1),
                "learning_rate": 0.01 / (epoch + 1),
                "loss": 2.0 * 0.9**epoch,
                "train_accuracy": 1 - 0.9**epoch,
                "seconds": 3.0,
                **{name: float(values[epoch]) for name, values in columns.items()},
            }
            for epoch in range(epochs)
        ]
        return TrainingRun(nn.Linear(1, 1), tiny_recipe, history, kept or epochs, "cpu").metrics()

    return make


def _draw(dataset: xr.Dataset) -> Drawing:
    [drawing] = draw_training(dataset, Run("training", "ab12", {}))
    return drawing


def _lines(plot: Any) -> dict[str, np.ndarray]:
    return {
        renderer.glyph.y: renderer.data_source.data[renderer.glyph.y]
        for renderer in plot.renderers
        if type(renderer.glyph).__name__ == "Line"
    }


def _spans(drawing: Drawing) -> list[float]:
    return [one.location for plot in drawing.plots for one in plot.center if isinstance(one, Span)]


def test_loss_accuracy_and_learning_rate_share_one_axis_of_epochs(metrics: Any) -> None:
    dataset = metrics(10)
    drawing = _draw(dataset)
    assert [set(_lines(plot)) for plot in drawing.plots] == [{"loss"}, {"train_accuracy"}, {"learning_rate"}]
    for plot, name in zip(drawing.plots, ("loss", "train_accuracy", "learning_rate"), strict=True):
        np.testing.assert_array_equal(_lines(plot)[name], dataset[name].values)
        assert plot.x_range is drawing.plots[0].x_range
    assert drawing.plots[-1].xaxis[0].axis_label == "epoch of 24 steps"
    assert drawing.title == "tiny"
    assert drawing.caption == (
        "10 epochs, 240 steps, 30 s on CPU. Kept are the weights of epoch 10, the last: cross-entropy 0.775, "
        "accuracy 61.3 % on training images."
    )
    assert not _spans(drawing)


def test_held_out_images_penalty_and_the_epoch_that_was_kept_are_shown(metrics: Any) -> None:
    held_out = np.array([0.2, 0.5, 0.4])
    drawing = _draw(metrics(3, kept=2, held_out_accuracy=held_out, penalty=np.ones(3)))
    assert [set(_lines(plot)) for plot in drawing.plots][:2] == [
        {"loss", "penalty"},
        {"train_accuracy", "held_out_accuracy"},
    ]
    assert _spans(drawing) == [2, 2, 2]
    assert "epoch 2, the best on held-out images: cross-entropy 1.8, accuracy 10.0 %" in drawing.caption
    assert drawing.caption.endswith("50.0 % on held-out ones.")


def test_a_loss_over_magnitudes_is_drawn_on_an_axis_of_them(metrics: Any) -> None:
    assert type(_draw(metrics(10)).plots[0].y_scale).__name__ == "LinearScale"
    assert type(_draw(metrics(60)).plots[0].y_scale).__name__ == "LogScale"


@pytest.mark.parametrize(("seconds", "text"), [(1.0, "2 s on"), (90.0, "3 min on"), (9000.0, "5.0 h on")])
def test_a_single_or_short_training_has_whole_epochs_and_a_readable_duration(
    seconds: float, text: str, metrics: Any
) -> None:
    drawing = _draw(metrics(2, seconds=np.full(2, seconds)))
    assert text in drawing.caption
    ticker = drawing.plots[0].xaxis[0].ticker
    assert isinstance(ticker, FixedTicker)
    assert ticker.ticks == [1, 2]
    assert "1 epoch, 24 steps" in _draw(metrics(1)).caption


def test_a_loss_that_is_not_finite_is_told_and_drawn_as_far_as_it_goes(metrics: Any) -> None:
    drawing = _draw(metrics(4, loss=np.array([2.0, 1.0, np.nan, np.nan])))
    assert drawing.caption.endswith("The loss is not finite in 2 epochs, first in epoch 3.")
    assert drawing.plots[0].y_range.end == pytest.approx(2.16)
    nothing = _draw(metrics(2, loss=np.full(2, np.nan)))
    assert _lines(nothing.plots[0]) == {}


def test_the_report_draws_a_training_by_the_zoos_figure(metrics: Any, tmp_path: Path) -> None:
    assert plugin_registry().figures()["training"] is TRAINING_FIGURE
    dataset = metrics(3)
    TRAINING.validate(dataset)
    results = xr.DataTree.from_dict({"/training/ab12/training": dataset})
    results["training/ab12"].attrs["provenance"] = '{"analysis": "training", "models": [{"name": "tiny"}]}'
    path = write_report(results, xr.DataTree(), tmp_path / "r.html", title="A training")
    text = path.read_text(encoding="utf-8")
    assert "Kept are the weights of epoch 3, the last" in text
    assert "could not be drawn" not in text
