"""Models that run at the same time give what they give one after the other."""

import threading
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import outcrop
from outcrop.capture import parallel
from outcrop.capture.accumulator import ReducingAccumulator
from outcrop.capture.engine import stream
from outcrop.capture.parallel import AHEAD, models_at_once
from outcrop.capture.source import LiveSource
from outcrop.data import load_data
from outcrop.models.model import Layer, Model
from outcrop.numerics import ComponentsAccumulator, GramAccumulator
from outcrop.testing import AccumulatorTests, ArrayModel, IndexData

SAMPLES = 90


@pytest.fixture(autouse=True)
def four_threads() -> Iterator[None]:
    """Give torch more threads than one, which is what several models share."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    assert torch.get_num_threads() == 4
    torch.set_num_threads(before)


class Recorder(ReducingAccumulator):
    """Remembers what it is given, and on which thread."""

    def __init__(self) -> None:
        self.taken: list[tuple[Any, ...]] = []
        self.reduced_on: dict[str, set[int]] = {}
        self.taken_on: set[int] = set()
        self.lead: list[int] = []
        self._reduced = self._ended = 0
        self.fail_at: tuple[str, int] | None = None

    def reduce(self, model: str, layer: Layer, sample_index: NDArray[np.int64], values: torch.Tensor) -> float:
        self.reduced_on.setdefault(model, set()).add(threading.get_ident())
        self.lead.append(int(sample_index[0]) // 16 - self._ended)
        if self.fail_at == (model, int(sample_index[0])):
            raise ValueError("no more")
        return float(values.double().sum())

    def take(self, model: str, layer: Layer, sample_index: NDArray[np.int64], reduced: float) -> None:
        self.taken_on.add(threading.get_ident())
        self.taken.append((model, layer.name, sample_index.tolist(), reduced))

    def end_batch(self) -> None:
        self._ended += 1
        self.taken.append(("end",))

    def merge(self, other: Self) -> None:
        self.taken += other.taken

    def finish(self) -> list[tuple[Any, ...]]:
        return self.taken


class TestRecorder(AccumulatorTests):
    def make(self) -> Recorder:
        return Recorder()

    def test_parts_may_be_merged_in_any_order(self) -> None:
        """Its result is a list in the order of what came."""


def network(seed: int, width: int = 6) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(inplace=True), nn.Identity(), nn.Flatten(), nn.LazyLinear(4))


def models(count: int = 3) -> list[Model]:
    made = []
    for seed in range(count):
        one = network(seed)
        one(torch.zeros(1, 3, 6, 6))
        made.append(outcrop.load_model(one, name=f"model{seed}", input_shape=(3, 6, 6)))
    return made


def sources(of: list[Model]) -> list[LiveSource]:
    data = load_data(np.random.default_rng(0).normal(size=(SAMPLES, 3, 6, 6)).astype(np.float32))
    return [LiveSource(model, model.layers, data) for model in of]


def streamed(of: list[Model], accumulator: Any, *, size: int = 16) -> Any:
    order = np.random.default_rng(1).permutation(SAMPLES)
    stream(sources(of), [accumulator], order=lambda _: order, batch_size=size)
    return accumulator.finish()


def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "MOST_MODELS", 1)


def test_accumulators_take_what_they_take_of_one_model_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    of, recorder = models(), Recorder()
    together = streamed(of, recorder)
    assert len(recorder.reduced_on) == 3
    assert recorder.taken_on == {threading.get_ident()}
    assert recorder.taken_on.isdisjoint(set().union(*recorder.reduced_on.values()))
    alone(monkeypatch)
    assert together == streamed(of, Recorder())


@pytest.mark.parametrize(
    "options",
    [{}, {"kernel": "rbf"}, {"kernel": "cosine"}, {"remove_input": True}, {"passes": 2}],
    ids=str,
)
def test_similarities_are_those_of_models_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    of = models()
    found = [streamed(of, GramAccumulator(group_size=16, **options)) for _ in range(2)]
    alone(monkeypatch)
    expected = streamed(of, GramAccumulator(group_size=16, **options))
    for name in ("similarity", "similarity_without_pc1", "groups", "standard_error", "pc_share", "feature_count"):
        first, again = (getattr(one, name) for one in found)
        np.testing.assert_array_equal(first, again, err_msg=name)  # whichever model was first
        np.testing.assert_allclose(first, getattr(expected, name), rtol=1e-4, atol=1e-6, err_msg=name)
    assert [(model, layer.name) for model, layer in found[0].layers] == [
        (model, layer.name) for model, layer in expected.layers
    ]


def test_no_model_runs_far_ahead_of_the_others() -> None:
    recorder, gate = Recorder(), threading.Event()
    of = models(2)
    visit = of[1].visit

    def slow(*arguments: Any) -> None:
        gate.wait(0.05)
        visit(*arguments)

    of[1].visit = slow  # type: ignore[method-assign]
    order = np.arange(SAMPLES)
    stream(sources(of), [recorder], order=lambda _: order, batch_size=16)
    assert 0 < max(recorder.lead) <= AHEAD


def test_an_error_in_one_model_ends_the_stream_and_leaves_nothing_running() -> None:
    recorder = Recorder()
    recorder.fail_at = ("model1", 32)
    order, before = np.arange(SAMPLES), threading.active_count()
    with pytest.raises(ValueError, match="no more"):
        stream(sources(models()), [recorder], order=lambda _: order, batch_size=16)
    assert threading.active_count() <= before
    assert torch.compiler.is_compiling() is False


def test_an_error_of_what_takes_ends_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    monkeypatch.setattr(recorder, "take", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        streamed(models(), recorder)


def test_threads_that_come_later_run_on_as_many_cores_as_before() -> None:
    streamed(models(), Recorder())
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert found == [4]


def at_once(of: list[Model], accumulator: Any = None) -> int:
    return models_at_once(sources(of), [accumulator or Recorder()], 16)


def test_as_many_run_at_once_as_there_are_models_and_threads() -> None:
    assert at_once(models(2)) == 2
    assert at_once(models(3)) == 3
    assert at_once(models(6)) == 4
    torch.set_num_threads(2)
    assert at_once(models(3)) == 2
    torch.set_num_threads(1)
    assert at_once(models(3)) == 1
    torch.set_num_threads(4)
    assert at_once(models(1)) == 1


def test_models_that_share_a_module_run_one_after_the_other() -> None:
    first, second = network(0), network(1)
    second[1] = first[1]
    for one in (first, second):
        one(torch.zeros(1, 3, 6, 6))
    of = [outcrop.load_model(one, name=f"m{place}", input_shape=(3, 6, 6)) for place, one in enumerate((first, second))]
    assert at_once(of) == 1
    assert of[0].parts() is not None


def test_models_whose_samples_depend_on_one_another_or_that_are_compiled_run_alone() -> None:
    one = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(108), nn.Linear(108, 3))
    batch = outcrop.load_model(one, name="batch", input_shape=(3, 6, 6), batch_norm="batch")
    assert batch.parts() is None
    wrapped = nn.Sequential(nn.Flatten(), torch.compile(nn.Linear(108, 3)))
    assert outcrop.load_model(wrapped, name="wrapped", input_shape=(3, 6, 6)).parts() is None
    within = nn.Sequential(nn.Flatten(), nn.Linear(108, 3))
    within[1].compile()
    assert outcrop.load_model(within, name="within", input_shape=(3, 6, 6)).parts() is None


def test_a_large_model_is_not_left_with_a_share_of_the_cores() -> None:
    small, large = models(1)[0], network(5, width=60)
    large(torch.zeros(1, 3, 6, 6))
    assert at_once([small, outcrop.load_model(large, name="large", input_shape=(3, 6, 6))]) == 1


def test_what_does_not_fit_in_memory_until_its_turn_is_not_made_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "BUDGET", 1 << 10)
    assert at_once(models()) == 1
    assert at_once(models(), GramAccumulator(group_size=16)) == 1


def test_other_sources_and_accumulators_are_fed_one_after_the_other() -> None:
    arrays = {"a": np.zeros((5, 2))}
    of = [ArrayModel(name, arrays) for name in ("first", "second")]
    data = IndexData(5)
    assert models_at_once([LiveSource(one, one.layers, data) for one in of], [Recorder()], 5) == 1
    plain = ComponentsAccumulator()
    assert models_at_once(sources(models(2)), [Recorder(), plain], 16) == 1
