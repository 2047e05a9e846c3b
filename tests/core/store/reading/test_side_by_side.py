"""Layers of one stored model are read and reduced at the same time, and give what they give one after the other."""

import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from outcrop.capture import parallel
from outcrop.capture.accumulator import Accumulator
from outcrop.capture.engine import stream
from outcrop.capture.parallel import side_by_side
from outcrop.capture.source import LiveSource, bytes_per_sample
from outcrop.data import load_data
from outcrop.errors import AnalysisError, StudyError
from outcrop.models import load_model
from outcrop.models.model import Layer
from outcrop.numerics import (
    DirectionsAccumulator,
    GramAccumulator,
    ProjectionAccumulator,
    RemovalAccumulator,
)
from outcrop.store.reading.stored_source import StoredSource
from outcrop.store.reading.values import LayerValues
from outcrop.store.study import Study
from outcrop.store.writing.codec import Compression
from outcrop.testing import ArrayModel, IndexData

SAMPLES, GROUP = 96, 16
OpenStudy = Callable[..., Study]


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def stored(study: Study, widths: Sequence[int], compression: Compression | None = None) -> StoredSource:
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(SAMPLES, 6))
    arrays = {}
    for place, width in enumerate(widths):
        values = shared @ rng.normal(size=(6, width)) + 0.3 * rng.normal(size=(SAMPLES, width)) + place
        arrays[f"layer{place}"] = values.astype(np.float32)
    options: dict[str, Any] = {} if compression is None else {"compression": compression}
    study.capture(ArrayModel("net", arrays), IndexData(SAMPLES), layers="all", batch_size=8, **options)
    capture = study.activations["net"]
    return StoredSource(capture, tuple(capture.layers))


def streamed(source: StoredSource, *accumulators: Accumulator, **options: Any) -> None:
    order = np.random.default_rng(1).permutation(SAMPLES)
    stream([source], accumulators, order=lambda _: order, batch_size=GROUP, **options)


def masks() -> np.ndarray:
    ranks = np.random.default_rng(2).permutation(SAMPLES)
    return np.stack([ranks >= least for least in (0, 5, 20)])


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_what_they_give_together_is_what_they_give_one_after_the_other(
    open_study: OpenStudy, compression: Compression
) -> None:
    source = stored(open_study(), [300, 70, 120, 200, 90], compression)
    projections = {
        ("net", layer.name): np.random.default_rng(place).normal(size=SAMPLES)
        for place, layer in enumerate(source.layers)
    }
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        assert side_by_side([source], [GramAccumulator(group_size=GROUP)], GROUP)[1] == threads
        grams = GramAccumulator(group_size=GROUP, passes=2)
        kernels = GramAccumulator(group_size=GROUP, kernel="rbf", principal_component=False)
        removal = RemovalAccumulator(masks(), group_size=GROUP)
        directions = DirectionsAccumulator(projections)
        streamed(source, grams, kernels)
        streamed(source, removal, directions)
        found_directions = directions.finish()
        lengths = ProjectionAccumulator(found_directions)
        streamed(source, lengths)
        statistics, left = grams.finish(), removal.finish()["net"]
        assert [layer.name for _, layer in statistics.layers] == [layer.name for layer in source.layers]
        assert left.layers == source.layers
        found.append(
            [
                statistics.similarity,
                statistics.similarity_without_pc1,
                kernels.finish().similarity,
                left.similarity,
                left.similarity_without_pc1,
                left.pc_share,
                np.concatenate(list(found_directions.vectors.values())),
                lengths.finish().norms,
            ]
        )
    for one, other in zip(*found, strict=True):
        assert np.isfinite(one).all()
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-6)


def test_they_run_on_several_threads_and_are_taken_in_order_on_one(open_study: OpenStudy) -> None:
    source = stored(open_study(), [64] * 6)
    threads: dict[str, set[str]] = {"reduce": set(), "take": set()}
    taken: list[str] = []

    class Watching(RemovalAccumulator):
        def reduce(self, model: str, layer: Layer, sample_index: Any, values: Any) -> Any:
            threads["reduce"].add(threading.current_thread().name)
            return super().reduce(model, layer, sample_index, values)

        def take(self, model: str, layer: Layer, sample_index: Any, reduced: Any) -> None:
            threads["take"].add(threading.current_thread().name)
            taken.append(layer.name)
            super().take(model, layer, sample_index, reduced)

    steps: list[int] = []

    @contextmanager
    def progress(_title: str, total: int) -> Iterator[Callable[[int], None]]:
        yield steps.append
        assert sum(steps) == total == SAMPLES

    accumulator = Watching(masks(), group_size=GROUP)
    streamed(source, accumulator, progress=progress)
    assert len(threads["reduce"]) == 2
    assert threads["take"] == {threading.main_thread().name}
    assert taken == [layer.name for layer in source.layers] * (SAMPLES // GROUP)
    assert not any(one.subsets for one in accumulator._models.values())


@pytest.mark.parametrize(
    ("widths", "count", "expected"),
    [
        ([64] * 6, 2, [3, 3]),
        ([64] * 6, 4, [1, 2, 1, 2]),
        ([600, 64, 64, 64, 64], 2, [1, 4]),
        ([64, 64, 64, 64, 600], 2, [4, 1]),
        ([64, 600], 4, [1, 1]),
        ([64], 3, [1]),
    ],
)
def test_a_stored_model_is_split_into_runs_of_about_equal_size(
    open_study: OpenStudy, widths: list[int], count: int, expected: list[int]
) -> None:
    source = stored(open_study(), widths)
    parts = source.split(count)
    assert [layer for part in parts for layer in part.layers] == list(source.layers)
    assert [len(part.layers) for part in parts] == expected
    assert {part.name for part in parts} == {"net"}
    assert sum(part._budget for part in parts) <= source._budget
    for part in parts:
        share = sum(map(bytes_per_sample, part.layers)) / sum(map(bytes_per_sample, source.layers))
        assert part._budget == pytest.approx(source._budget * share, abs=1)
    largest = max(sum(map(bytes_per_sample, part.layers)) for part in parts)
    assert largest <= sum(map(bytes_per_sample, source.layers)) / count + max(map(bytes_per_sample, source.layers))


@pytest.mark.parametrize("threads", [1, 2])
def test_what_fits_into_memory_whole_is_read_once_in_parts_too(
    open_study: OpenStudy, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    source = stored(open_study(), [64] * 5, "zstd")
    source._budget = SAMPLES * sum(map(bytes_per_sample, source.layers))
    reads: list[str] = []
    rows = LayerValues.rows

    def counted(self: LayerValues, positions: Any, *rest: Any) -> Any:
        reads.append(self._layer)
        return rows(self, positions, *rest)

    monkeypatch.setattr(LayerValues, "rows", counted)
    torch.set_num_threads(threads)
    streamed(source, GramAccumulator(group_size=GROUP))
    assert sorted(reads) == sorted(layer.name for layer in source.layers)


def test_where_one_layer_is_most_of_the_work_all_threads_are_its(open_study: OpenStudy) -> None:
    source = stored(open_study(), [2000, 64])
    visited, at_once = side_by_side([source], [GramAccumulator(group_size=GROUP)], GROUP)
    assert list(visited) == [source]
    assert at_once == 1


def test_stored_models_run_side_by_side_whole(open_study: OpenStudy) -> None:
    source = stored(open_study(), [64, 64])
    visited, at_once = side_by_side([source, source], [GramAccumulator(group_size=GROUP)], GROUP)
    assert list(visited) == [source, source]
    assert at_once == 2


def test_a_stored_and_a_live_model_run_side_by_side(open_study: OpenStudy) -> None:
    source = stored(open_study(), [64, 90])
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(20, 70), torch.nn.Tanh(), torch.nn.Linear(70, 60)).eval()
    model = load_model(network, name="live", input_shape=(20,))
    images = load_data(np.random.default_rng(3).normal(size=(SAMPLES, 20)).astype(np.float32))
    sources = [source, LiveSource(model, model.layers, images)]
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        accumulator = GramAccumulator(group_size=GROUP)
        assert side_by_side(sources, [accumulator], GROUP) == (sources, threads)
        stream(sources, [accumulator], order=lambda _: np.arange(SAMPLES), batch_size=GROUP)
        found.append(accumulator.finish())
    one, other = found
    assert [(name, layer.name) for name, layer in one.layers] == [(name, layer.name) for name, layer in other.layers]
    assert {name for name, _ in one.layers} == {"net", "live"}
    np.testing.assert_allclose(one.similarity, other.similarity, rtol=2e-5, atol=1e-6)


def test_fewer_parts_than_threads_run_at_once_where_memory_is_short(
    open_study: OpenStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = stored(open_study(), [64] * 6)
    torch.set_num_threads(3)
    assert side_by_side([source], [GramAccumulator(group_size=GROUP)], GROUP)[1] == 3
    monkeypatch.setattr(parallel, "FORWARD_BYTES", 2 * GROUP * bytes_per_sample(source.layers[0]))
    visited, at_once = side_by_side([source], [GramAccumulator(group_size=GROUP)], GROUP)
    assert (len(visited), at_once) == (3, 2)
    grams, alone = GramAccumulator(group_size=GROUP), GramAccumulator(group_size=GROUP)
    streamed(source, grams)
    torch.set_num_threads(1)
    streamed(source, alone)
    np.testing.assert_allclose(grams.finish().similarity, alone.finish().similarity, rtol=2e-5, atol=1e-6)


def test_an_interrupt_ends_all_parts_and_the_next_run_is_whole(open_study: OpenStudy) -> None:
    source = stored(open_study(), [64] * 4)
    groups = iter(range(SAMPLES))

    class Interrupted(GramAccumulator):
        def end_batch(self) -> None:
            super().end_batch()
            if next(groups) == 2:
                raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        streamed(source, Interrupted(group_size=GROUP))
    assert threading.active_count() == before
    assert torch.get_num_threads() == 2
    assert next(groups) == 3
    found, alone = GramAccumulator(group_size=GROUP), GramAccumulator(group_size=GROUP)
    streamed(source, found)
    torch.set_num_threads(1)
    streamed(source, alone)
    np.testing.assert_allclose(found.finish().similarity, alone.finish().similarity, rtol=2e-5, atol=1e-6)


def test_what_cannot_be_read_ends_the_stream_with_its_name(open_study: OpenStudy, tmp_path: Path) -> None:
    source = stored(open_study(), [64] * 4)
    (folder,) = tmp_path.glob("s.zarr/**/layer3/values")
    shutil.rmtree(folder / "c.0.0") if (folder / "c.0.0").is_dir() else (folder / "c.0.0").unlink()
    before = threading.active_count()
    with pytest.raises(StudyError, match="Layer 'layer3' of 'net' cannot be read"):
        streamed(source, GramAccumulator(group_size=GROUP))
    assert threading.active_count() == before
    assert torch.get_num_threads() == 2


def test_masks_of_fewer_samples_are_refused_from_whatever_thread(open_study: OpenStudy) -> None:
    source = stored(open_study(), [64] * 4)
    with pytest.raises(AnalysisError, match="are of 50 samples, and sample"):
        streamed(source, RemovalAccumulator(masks()[:, :50], group_size=GROUP))
