import numpy as np
import pytest
import torch

from outcrop.errors import AnalysisError
from outcrop.models.model import Layer
from outcrop.numerics import GramAccumulator


def layer(name, index=0):
    return Layer(name, "block", index, (1,), "float32", "array", ("feature",))


def test_layers_come_in_topological_order_whatever_order_they_ran_in():
    index = np.arange(8)
    accumulator = GramAccumulator(group_size=8)
    for model in ("second", "first"):
        for name, position in (("late", 7), ("early", 2)):
            accumulator.update(model, layer(name, position), index, torch.randn(8, 3))
    accumulator.end_batch()
    found = accumulator.finish()
    assert [(model, inner.name) for model, inner in found.layers] == [
        ("second", "early"),
        ("second", "late"),
        ("first", "early"),
        ("first", "late"),
    ]


def test_samples_that_do_not_fit_are_refused():
    accumulator = GramAccumulator(group_size=8)
    index = np.arange(8)
    with pytest.raises(AnalysisError, match="gives 7 rows for 8 samples"):
        accumulator.update("m", layer("a"), index, torch.randn(7, 2))
    with pytest.raises(AnalysisError, match="gives a single number for 8 samples"):
        accumulator.update("m", layer("a"), index, torch.tensor(1.0))
    accumulator.update("m", layer("a"), index, torch.randn(8, 2))
    with pytest.raises(AnalysisError, match="'b' of model 'm' comes with other samples"):
        accumulator.update("m", layer("b"), index[::-1].copy(), torch.randn(8, 2))
    with pytest.raises(AnalysisError, match="'a' of model 'm' came twice"):
        accumulator.update("m", layer("a"), index, torch.randn(8, 2))


def test_layers_that_come_and_go_are_refused():
    accumulator = GramAccumulator(group_size=8)
    for name in ("a", "b"):
        accumulator.update("m", layer(name), np.arange(8), torch.randn(8, 2))
    accumulator.end_batch()
    with pytest.raises(AnalysisError, match="'c' of model 'm' gave no values for earlier samples"):
        accumulator.update("m", layer("c"), np.arange(8), torch.randn(8, 2))
    accumulator.update("m", layer("a"), np.arange(8), torch.randn(8, 2))
    with pytest.raises(AnalysisError, match="'b' of model 'm' gave values for earlier samples and none"):
        accumulator.end_batch()
