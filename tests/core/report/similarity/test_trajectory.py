"""What is drawn of a training: strips over its steps, and maps at a few of them."""

import numpy as np
import pytest

from outcrop.report.figure import Run
from outcrop.report.runs import command
from outcrop.report.similarity.trajectory import MAPS, draw_trajectory

RUN = Run("tracking", "77aa01", {})


def image(drawing):
    return drawing.plots[0].renderers[0].data_source.data["image"][0]


def test_every_number_of_layers_is_a_strip_and_similarity_a_row_of_maps(make_trajectory):
    drawings = draw_trajectory(make_trajectory(range(0, 1000, 50)), RUN)
    assert [drawing.title for drawing in drawings] == [
        "Share of variance of the first principal component",
        "CKA of each layer with itself at the first step",
        "CKA between layers",
    ]
    assert [drawing.layout for drawing in drawings] == ["stack", "stack", "row"]
    assert "20 tracked steps on 512 samples in evaluation mode" in drawings[0].caption
    assert "batches of 256 samples" in drawings[0].caption


def test_what_was_not_compared_is_not_drawn(make_trajectory):
    drawings = draw_trajectory(make_trajectory(range(0, 1000, 50), first=False), RUN)
    assert len(drawings) == 2
    unknown = make_trajectory([0, 1])
    unknown["similarity_to_first"][:] = np.nan
    assert len(draw_trajectory(unknown, RUN)) == 2


@pytest.mark.parametrize(
    ("steps", "chosen"), [([7], [7]), ([0, 5, 9], [0, 5, 9]), (range(0, 101, 5), [0, 20, 40, 60, 80, 100])]
)
def test_maps_are_of_the_first_the_last_and_some_steps_between(make_trajectory, steps, chosen):
    maps = draw_trajectory(make_trajectory(list(steps)), RUN)[-1]
    titles = [plot.tags[0]["title"] for plot in maps.plots]
    assert titles == [f"Step {step}" for step in chosen]
    assert len(titles) <= MAPS
    assert sum(key.endswith("/similarity") for key in maps.assets) == len(chosen)


def test_steps_stand_where_they_are_on_an_axis_that_is_true_to_them(make_trajectory):
    trajectory = make_trajectory([0, 10, 20, 40])
    plot = draw_trajectory(trajectory, RUN)[0].plots[0]
    assert (plot.x_range.start, plot.x_range.end) == (0, 50)
    np.testing.assert_allclose(
        image(draw_trajectory(trajectory, RUN)[0]),
        trajectory["pc_share"].values[[0, 1, 2, 2, 3]].T,  # until step 40 stands what was seen at step 20
        rtol=1e-6,
    )


def test_steps_far_from_evenly_spaced_have_columns_of_one_width(make_trajectory):
    trajectory = make_trajectory([0, 1, 10, 100, 1000])
    drawing = draw_trajectory(trajectory, RUN)[0]
    np.testing.assert_allclose(image(drawing), trajectory["pc_share"].values.T, rtol=1e-6)
    labels = drawing.plots[0].xaxis[0].major_label_overrides
    assert list(labels.values()) == ["0", "1", "10", "100", "1,000"]


def test_many_steps_are_thinned_to_what_a_page_can_show(make_trajectory):
    drawing = draw_trajectory(make_trajectory(range(3000), layers=8), RUN)[0]
    assert image(drawing).shape == (8, 480)


def test_many_layers_are_labelled_by_their_modules(make_trajectory):
    plot = draw_trajectory(make_trajectory([0, 1], layers=109), RUN)[0].plots[0]
    labels = set(plot.yaxis[0].major_label_overrides.values())
    assert {"stage1", "stage2", "stage3"} <= labels
    assert len(labels) < 20


def test_a_training_is_repeated_by_a_tracker_in_its_loop():
    run = Run(
        "tracking",
        "77aa01",
        {},
        {
            "models": [{"name": "net"}],
            "selection": "block",
            "parameters": {"batch_size": 64, "mode": "training", "compare": ["first"], "steps": [1, 2]},
        },
    )
    assert command(run) == (
        "tracker = outcrop.Tracker(network, images, layers='block', name='net', study='study.zarr', batch_size=64, "
        "mode='training', compare=['first'])\ntracker(step)  # in the training loop"
    )


def test_a_tracker_of_a_model_that_normalises_by_the_batch_is_repeated_by_loading_it_so():
    recorded = {
        "models": [{"name": "net"}],
        "selection": "block",
        "parameters": {"batch_size": 64, "mode": "batch", "compare": []},
    }
    assert command(Run("tracking", "77aa01", {}, recorded)).startswith(
        "tracker = outcrop.Tracker(outcrop.load_model(network, name='net', batch_norm='batch'), images, "
        "layers='block', study='study.zarr', batch_size=64)\n"
    )
