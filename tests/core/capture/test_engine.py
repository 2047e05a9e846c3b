from typing import Any, Self

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from outcrop.analysis.context import Context
from outcrop.capture.accumulator import Accumulator
from outcrop.capture.source import LiveSource
from outcrop.errors import AnalysisError
from outcrop.models.model import Layer
from outcrop.testing import ArrayModel, IndexData


class Recorder(Accumulator):
    """Remembers every call."""

    def __init__(self, passes: int = 1, group_size: int | None = None) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self._passes = passes
        self.group_size = group_size

    def begin_pass(self, index: int) -> None:
        self.calls.append(("pass", index))

    def update(self, model: str, layer: Layer, sample_index: NDArray[np.int64], values: torch.Tensor) -> None:
        self.calls.append((model, layer.name, sample_index.tolist(), values.shape[0]))

    def end_batch(self) -> None:
        self.calls.append(("end",))

    def needs_pass(self) -> bool:
        return sum(call[0] == "pass" for call in self.calls) < self._passes

    def merge(self, other: Self) -> None:
        self.calls += other.calls

    def finish(self) -> list[tuple[Any, ...]]:
        return self.calls


def context(samples: int = 5, *, seed: int = 0) -> Context:
    arrays = {"a": np.zeros((samples, 2)), "b": np.zeros((samples, 3))}
    data = IndexData(samples)
    models = [ArrayModel("first", arrays), ArrayModel("second", arrays)]
    return Context([LiveSource(m, m.layers, data) for m in models], sample_count=samples, seed=seed)


def test_every_model_sees_a_group_before_the_group_ends() -> None:
    recorder = Recorder()
    context().stream(recorder, batch_size=3, shuffle=False)
    assert recorder.calls == [
        ("pass", 0),
        ("first", "a", [0, 1, 2], 3),
        ("first", "b", [0, 1, 2], 3),
        ("second", "a", [0, 1, 2], 3),
        ("second", "b", [0, 1, 2], 3),
        ("end",),
        ("first", "a", [3, 4], 2),
        ("first", "b", [3, 4], 2),
        ("second", "a", [3, 4], 2),
        ("second", "b", [3, 4], 2),
        ("end",),
    ]


def test_only_those_that_want_another_pass_get_one() -> None:
    once, thrice = Recorder(), Recorder(3)
    context().stream(once, thrice, batch_size=5)
    assert [call for call in once.calls if call[0] == "pass"] == [("pass", 0)]
    assert [call for call in thrice.calls if call[0] == "pass"] == [("pass", 0), ("pass", 1), ("pass", 2)]


def test_every_pass_is_another_permutation_that_the_seed_determines() -> None:
    def orders(seed: int) -> list[list[int]]:
        recorder = Recorder(2)
        context(50, seed=seed).stream(recorder, batch_size=50)
        return [call[2] for call in recorder.calls if call[:2] == ("first", "a")]

    first = orders(0)
    assert all(sorted(order) == list(range(50)) for order in first)
    assert first[0] != first[1]
    assert orders(0) == first
    assert orders(1) != first


def test_groups_of_another_size_than_an_accumulator_takes_are_refused() -> None:
    with pytest.raises(AnalysisError, match="Recorder takes groups of 4 samples; the stream was asked for 3"):
        context().stream(Recorder(group_size=4), batch_size=3)


def test_progress_counts_every_sample_of_every_model() -> None:
    from contextlib import contextmanager

    said: list[Any] = []

    @contextmanager
    def progress(description: str, total: int, *, unit: str = "samples") -> Any:
        said.append((description, total, unit))
        yield said.append

    data = IndexData(5)
    model = ArrayModel("net", {"a": np.zeros((5, 2))})
    Context([LiveSource(model, model.layers, data)], sample_count=5, progress=progress).stream(Recorder(), batch_size=3)
    assert said == [("net", 5, "samples"), 3, 2]


def test_a_result_that_was_not_required_is_refused() -> None:
    with pytest.raises(AnalysisError, match="No result of 'blocks' is at hand: name it in the analysis' 'requires'"):
        context().result("blocks", "pairwise")


def test_models_may_be_fed_in_another_order_and_some_left_out() -> None:
    recorder = Recorder()
    context().stream(recorder, batch_size=5, models=["second", "first"])
    assert [call[0] for call in recorder.calls] == ["pass", "second", "second", "first", "first", "end"]
    recorder = Recorder()
    context().stream(recorder, batch_size=5, models=["second"])
    assert {call[0] for call in recorder.calls} == {"pass", "second", "end"}
    with pytest.raises(AnalysisError, match="There is no model 'third' to stream; the run is of first, second"):
        context().stream(recorder, batch_size=5, models=["first", "third"])
    for wrong, named in (([], "none"), (["first", "first"], "'first', 'first'")):
        with pytest.raises(AnalysisError, match=f"models to stream are {named}; name one or more of them, and each on"):
            context().stream(recorder, batch_size=5, models=wrong)
