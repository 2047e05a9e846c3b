"""Models that run at the same time give what they give one after the other."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import pytest
import threadpoolctl
import torch
from numpy.typing import NDArray
from torch import nn

import outcrop
from outcrop.capture import parallel
from outcrop.capture.accumulator import ReducingAccumulator
from outcrop.capture.engine import stream
from outcrop.capture.parallel import AHEAD, sources_at_once
from outcrop.capture.source import LiveSource
from outcrop.data import load_data
from outcrop.errors import AnalysisError
from outcrop.models.model import Layer, Model
from outcrop.numerics import ComponentsAccumulator, GramAccumulator, InfluenceAccumulator, SeriesAccumulator
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
        self.at: Callable[[str, str, int], None] = lambda *_: None

    def reduce(self, model: str, layer: Layer, sample_index: NDArray[np.int64], values: torch.Tensor) -> float:
        self.reduced_on.setdefault(model, set()).add(threading.get_ident())
        self.lead.append(int(sample_index[0]) // 16 - self._ended)
        self.at(model, layer.name, int(sample_index[0]))
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
    monkeypatch.setattr(parallel, "MOST_AT_ONCE", 1)


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


def test_numpys_products_keep_to_their_models_share_of_the_threads() -> None:
    def limits() -> list[int]:
        return [one["num_threads"] for one in threadpoolctl.threadpool_info() if one["user_api"] == "blas"]

    recorder = Recorder()
    found: list[list[int]] = []
    recorder.at = lambda *_: found.append(limits())
    with threadpoolctl.threadpool_limits(3, user_api="blas"):
        streamed(models(), recorder)
        assert limits() == [3] * len(limits())
    share = 4 // at_once(models())
    assert found
    assert all(one == [share] * len(one) for one in found)


def in_order(of: list[Model], *accumulators: Any, **options: Any) -> None:
    order = np.arange(SAMPLES)
    stream(sources(of), accumulators, order=lambda _: order, batch_size=16, **options)


def test_an_error_of_one_model_ends_another_one_at_its_next_layer_and_closes_its_batches() -> None:
    recorder, failed = Recorder(), threading.Event()
    later: list[str] = []

    def at(model: str, layer: str, first: int) -> None:
        if (model, first) == ("model0", 32):
            failed.set()
            raise ValueError("no more")
        if model == "model1" and first >= 16 and failed.wait(5):
            time.sleep(0.05)
            later.append(layer)

    recorder.at = at
    before = threading.active_count()
    with pytest.raises(ValueError, match="no more"):
        in_order(models(2), recorder)
    assert len(later) <= 1
    assert threading.active_count() <= before


def test_an_interrupt_waits_for_the_models_that_are_running_even_where_another_one_follows() -> None:
    recorder, main = Recorder(), threading.main_thread().ident
    assert main is not None

    def at(model: str, _layer: str, first: int) -> None:
        if (model, first) == ("model0", 32):
            for _ in range(2):
                signal.pthread_kill(main, signal.SIGINT)
                time.sleep(0.1)

    recorder.at = at
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        in_order(models(2), recorder)
    assert threading.active_count() <= before


def test_progress_counts_every_sample_of_every_model_once() -> None:
    told: list[tuple[str, int]] = []
    steps: list[int] = []

    @contextmanager
    def progress(description: str, total: int, *, unit: str = "samples") -> Iterator[Callable[[int], None]]:
        told.append((description, total))
        assert unit == "samples"
        yield steps.append

    in_order(models(3), GramAccumulator(group_size=16, passes=2), progress=progress)
    assert told == [("model0, model1, model2", 270), ("model0, model1, model2 (pass 2)", 270)]
    assert sum(steps) == 2 * 270
    assert sorted(set(steps)) == [30, 48]


def test_a_model_that_gives_fewer_groups_than_the_others_is_an_error() -> None:
    of = sources(models(2))
    groups = of[1].groups
    of[1].groups = lambda order, size: groups(order[:40], size)  # type: ignore[method-assign]
    with pytest.raises(AnalysisError, match="'model1' gave fewer groups of samples than the others; all models must"):
        stream(of, [Recorder()], order=lambda _: np.arange(SAMPLES), batch_size=16)


def test_a_model_without_layers_takes_part_with_nothing() -> None:
    order, recorder, of = np.arange(SAMPLES), Recorder(), sources(models(3))
    of[2].layers = ()
    stream(of, [recorder], order=lambda _: order, batch_size=16)
    assert {entry[0] for entry in recorder.taken} == {"model0", "model1", "end"}


def test_weights_that_two_models_share_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = network(0), network(1)
    for one in (first, second):
        one(torch.zeros(1, 3, 6, 6))
    second[0].weight = first[0].weight
    of = [outcrop.load_model(one, name=f"model{i}", input_shape=(3, 6, 6)) for i, one in enumerate((first, second))]
    assert at_once(of) == 2
    together = streamed(of, Recorder())
    alone(monkeypatch)
    assert together == streamed(of, Recorder())


def test_one_network_under_two_names_runs_once_at_a_time() -> None:
    one = network(0)
    one(torch.zeros(1, 3, 6, 6))
    of = [outcrop.load_model(one, name=name, input_shape=(3, 6, 6)) for name in ("first", "second")]
    assert at_once(of) == 1
    assert at_once([of[0], of[0]]) == 1


def test_what_holds_for_the_calling_thread_alone_is_not_lost() -> None:
    of = models(2)
    assert at_once(of) == 2
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert at_once(of) == 1
    with torch.device("cpu"):
        assert at_once(of) == 1


def test_products_of_lower_precision_are_not_mixed_with_full_ones() -> None:
    of, before = models(2), torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        assert at_once(of) == 1
    finally:
        torch.set_float32_matmul_precision(before)


def test_no_more_networks_run_at_once_than_have_room(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 4 * 3 * 6 * 6
    for count in (3, 2, 1):
        monkeypatch.setattr(parallel, "FORWARD_BYTES", count * 16 * largest)
        assert at_once(models(3)) == count


def test_a_compiler_that_is_imported_meanwhile_is_not_told_to_rest_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo import eval_frame

    recorder, entered, left = Recorder(), threading.Event(), threading.Event()
    of, last = models(2), SAMPLES // 16 * 16
    visits = [model.visit for model in of]

    def first(inputs: Any, *arguments: Any) -> None:
        visits[0](inputs, *arguments)
        if entered.is_set():
            left.set()

    def second(inputs: Any, *arguments: Any) -> None:
        if len(inputs["input"]) == SAMPLES - last:
            entered.wait(5)
        visits[1](inputs, *arguments)

    def at(model: str, layer: str, start: int) -> None:
        sys.modules["torch._dynamo"] = imported
        if start == last and layer != of[0].layers[0].name:  # which comes before the network runs
            if model == "model0":
                entered.set()
                time.sleep(0.2)
            else:
                left.wait(5)

    of[0].visit, of[1].visit = first, second  # type: ignore[method-assign]
    recorder.at = at
    visited, order = sources(of), np.arange(SAMPLES)
    imported = sys.modules["torch._dynamo"]
    monkeypatch.delitem(sys.modules, "torch._dynamo")
    stream(visited, [recorder], order=lambda _: order, batch_size=16)
    assert eval_frame._stance.stance == "default"


@pytest.mark.parametrize("kind", ["series", "influence"])
def test_what_follows_blocks_and_trainings_is_that_of_models_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    of = models(2)

    def found() -> dict[str, Any]:
        if kind == "series":
            return vars(streamed(of, SeriesAccumulator(["model1", "model0"], of[0].layers, group_size=16)))
        keys = [("model0", layer.name) for layer in of[0].layers[1:]]
        keys.append(("model1", of[1].layers[2].name))
        (influence,) = streamed(of, InfluenceAccumulator([keys], group_size=16))
        return vars(influence)

    together = found()
    alone(monkeypatch)
    expected = found()
    assert together.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(together[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def at_once(of: list[Model], accumulator: Any = None) -> int:
    return sources_at_once(sources(of), [accumulator or Recorder()], 16)


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
    assert sources_at_once([LiveSource(one, one.layers, data) for one in of], [Recorder()], 5) == 1
    plain = ComponentsAccumulator()
    assert sources_at_once(sources(models(2)), [Recorder(), plain], 16) == 1
