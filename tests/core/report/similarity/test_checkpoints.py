"""What is drawn of a checkpoint series: two maps a step, in one scale of colours."""

import base64

import numpy as np
import pytest

from outcrop.analysis.validation import annotate_result, validate_result
from outcrop.report.figure import Run
from outcrop.report.page import write_report
from outcrop.report.similarity.checkpoints import chosen_steps
from outcrop.report.similarity.trajectory import draw_trajectory

RUN = Run("checkpoints", "4be2", {})


def unpacked(asset):
    codes = np.frombuffer(base64.b64decode(asset["codes"]), "<u2")
    values = np.where(codes == 65535, np.nan, asset["low"] + asset["step"] * codes)
    assert not asset["symmetric"]
    return values.reshape(asset["rows"], asset["columns"])


def test_a_series_has_strips_and_one_figure_of_two_maps_a_step(make_series):
    series = make_series([0, 10, 100, 1000], layers=12)
    validate_result(annotate_result(series, "trajectory"))
    drawings = draw_trajectory(series, RUN)
    assert [drawing.title for drawing in drawings] == [
        "Share of variance of the first principal component",
        "CKA of each layer with itself at the last step",
        "CKA between layers, and with those of the last step",
    ]
    assert drawings[0].caption.startswith("4 checkpoints on 512 samples in evaluation mode")
    assert "as it will in the end" in drawings[1].caption
    assert drawings[2].caption.startswith("4 steps of the training, a column each; 12 layers")
    image = drawings[1].plots[0].renderers[0].data_source.data["image"][0]
    np.testing.assert_allclose(image, series["similarity_to_last"].values.diagonal(axis1=1, axis2=2).T, rtol=1e-6)


def test_every_cell_shows_the_map_of_its_step_with_layers_of_the_step_to_the_right(make_series):
    series = make_series([0, 10, 100, 1000], layers=12)
    [plot], assets = draw_trajectory(series, RUN)[-1].plots, draw_trajectory(series, RUN)[-1].assets
    key = "checkpoints/4be2/series/resnet"
    cells = plot.renderers[0].data_source.tags[0]["cells"]
    for name, within, to_last in (
        ("similarity", "similarity", "similarity_to_last"),
        ("standard_error", "standard_error", "standard_error_to_last"),
    ):
        matrix = unpacked(assets[f"{key}/{name}"])
        for cell in cells:
            (top, bottom), (left, right) = cell["rows"], cell["columns"]
            step, below = round(cell["x"]), round(cell["y"])
            wanted = series[to_last].values[step].T if below else series[within].values[step]
            np.testing.assert_allclose(matrix[top:bottom, left:right], wanted, atol=2e-5)
    assert sorted((round(cell["x"]), round(cell["y"])) for cell in cells) == [(x, y) for x in range(4) for y in (0, 1)]
    rows, columns = assets[f"{key}/rows"], assets[f"{key}/columns"]
    assert (rows["models"][0], rows["models"][-1]) == ("same step", "step 1,000")
    assert (columns["models"][0], columns["models"][-1]) == ("step 0", "step 1,000")
    assert columns["names"][12:24] == series["name"].values.tolist()


def test_other_batch_norm_is_said(make_series):
    series = make_series([0, 1])
    series.attrs["mode"] = "batch"
    assert "with batch norm's statistics of the batch, layers from" in draw_trajectory(series, RUN)[0].caption


def test_of_many_steps_some_are_chosen_evenly(make_series):
    assert chosen_steps(3, 6).tolist() == [0, 1, 2]
    assert chosen_steps(21, 6).tolist() == [0, 4, 8, 12, 16, 20]
    assert chosen_steps(1, 6).tolist() == [0]
    drawing = draw_trajectory(make_series(range(21)), RUN)[-1]
    assert drawing.caption.startswith("6 of 21 steps of the training")
    assert drawing.plots[0].tags[0]["columns"] == 6


def test_the_page_counts_every_checkpoint_as_a_model(make_series, make_results, data, tmp_path):
    results = make_results([("checkpoints", "4be2", {"trajectory": make_series([0, 5, 9])}, "2026-03-04T12:30:00")])
    page = write_report(results, data, tmp_path / "r.html", title="A training").read_text("utf-8")
    assert "<b>90</b> layers" in page


@pytest.mark.parametrize("missing", ["standard_error", "standard_error_to_last"])
def test_errors_are_shown_only_where_both_maps_have_them(make_series, missing):
    drawing = draw_trajectory(make_series([0, 1]).drop_vars(missing), RUN)[-1]
    assert not any(key.endswith("standard_error") for key in drawing.assets)
