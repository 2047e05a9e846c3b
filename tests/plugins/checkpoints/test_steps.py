"""Which step each checkpoint is of."""

import pytest

from outcrop.errors import AnalysisError
from outcrop_checkpoints.steps import Series, order_checkpoints


@pytest.mark.parametrize(
    ("names", "steps", "series"),
    [
        (["net@0", "net@120"], None, Series("net", ("net@0", "net@120"), (0, 120))),
        (["net@100", "net@20"], None, Series("net", ("net@20", "net@100"), (20, 100))),
        (["a18-epoch009", "a18-epoch100"], None, Series("a18-epoch", ("a18-epoch009", "a18-epoch100"), (9, 100))),
        (["3", "12"], None, Series("12", ("3", "12"), (3, 12))),
        (["early", "late"], None, Series("late", ("early", "late"), (0, 1))),
        (["resnet18", "resnet50x2"], None, Series("resnet50x2", ("resnet18", "resnet50x2"), (0, 1))),
        (["net@01", "net@1"], None, Series("net@1", ("net@01", "net@1"), (0, 1))),
        (["net@9", "net@3"], [0, 7], Series("net", ("net@9", "net@3"), (0, 7))),
        (["b", "a"], [5, 600], Series("a", ("b", "a"), (5, 600))),
    ],
)
def test_steps_come_from_what_is_given_then_names_then_positions(names, steps, series):
    assert order_checkpoints(names, steps) == series


def test_steps_that_do_not_fit_are_refused():
    with pytest.raises(AnalysisError, match="compares checkpoints of one training; got 'net' only. Give two or more"):
        order_checkpoints(["net"], None)
    with pytest.raises(AnalysisError, match="There are 3 steps for 2 checkpoints; give one for each"):
        order_checkpoints(["a", "b"], [1, 2, 3])
    with pytest.raises(
        AnalysisError, match="Step 5 follows step 5; give checkpoints and steps in the order of training"
    ):
        order_checkpoints(["a", "b"], [5, 5])
