"""An accumulator that is shown some samples and layers finds what it would find in a stream of these alone."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from outcrop import RestrictedAccumulator
from outcrop.analysis.context import Context
from outcrop.capture.accumulator import Accumulator
from outcrop.capture.engine import stream
from outcrop.capture.source import LiveSource
from outcrop.errors import AnalysisError, ParameterError
from outcrop.models.model import Layer
from outcrop.numerics import ComponentsAccumulator, DirectionsAccumulator, GramAccumulator
from outcrop.testing import AccumulatorTests, ArrayModel, IndexData, noise_layers, planted_block

KEYS = [("first", "layer0"), ("first", "layer3"), ("second", "layer1")]


class TestOfSomeSamplesAndLayers(AccumulatorTests):
    def make(self) -> RestrictedAccumulator:
        chosen = np.random.default_rng(4).random(120) < 0.4
        scores = np.where(chosen, np.random.default_rng(5).standard_normal(120), np.nan)
        return RestrictedAccumulator(DirectionsAccumulator(dict.fromkeys(KEYS, scores)), samples=chosen, layers=KEYS)


class Listing(Accumulator):
    """Lists what it is shown."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.values: list[torch.Tensor] = []

    def begin_pass(self, index: int) -> None:
        self.calls.append(("pass", index))

    def update(self, model: str, layer: Layer, sample_index: NDArray[np.int64], values: torch.Tensor) -> None:
        self.calls.append((layer.name, sample_index.tolist()))
        self.values.append(values)

    def end_batch(self) -> None:
        self.calls.append(("end",))

    def merge(self, other: "Listing") -> None:
        self.calls += other.calls

    def finish(self) -> list[tuple[object, ...]]:
        return self.calls


def fed(accumulator: Accumulator, samples: int = 6, *, group: int = 2, seed: int | None = None) -> Accumulator:
    model = ArrayModel("net", {name: np.arange(2.0 * samples).reshape(samples, 2) for name in ("a", "b")})
    order = np.arange(samples) if seed is None else np.random.default_rng(seed).permutation(samples)
    stream(
        [LiveSource(model, model.layers, IndexData(samples))], [accumulator], order=lambda _: order, batch_size=group
    )
    return accumulator


def test_chosen_samples_and_layers_are_shown_and_empty_groups_are_not() -> None:
    shown = np.array([True, False, False, False, True, True])
    restricted = RestrictedAccumulator(Listing(), samples=shown, layers=[("net", "b")])
    expected = [("pass", 0), ("b", [0]), ("end",), ("b", [4, 5]), ("end",)]
    assert fed(restricted).finish() == expected
    values = restricted.inner.values  # type: ignore[attr-defined] # of the list
    assert [one.tolist() for one in values] == [[[0, 1]], [[8, 9], [10, 11]]]


def test_a_group_that_holds_none_of_the_layers_is_not_shown() -> None:
    assert fed(RestrictedAccumulator(Listing(), layers=[("other", "b")])).finish() == [("pass", 0)]


def test_memory_order_is_kept_and_what_is_whole_is_not_copied() -> None:
    inner = Listing()
    restricted = RestrictedAccumulator(inner, samples=np.array([True, False, True, True]))
    values = torch.randn(4, 3, 5, 2).to(memory_format=torch.channels_last)
    layer = ArrayModel("net", {"a": np.zeros((4, 3, 5, 2))}).layers[0]
    restricted.update("net", layer, np.arange(4), values)
    restricted.update("net", layer, np.array([2, 3]), values[2:])
    assert inner.values[0].is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(inner.values[0], values[[0, 2, 3]])
    assert inner.values[1].data_ptr() == values[2:].data_ptr()


def test_both_halves_of_one_stream_find_what_each_finds_alone() -> None:
    arrays = planted_block(layers=3, start=1, stop=3, samples=100)
    first = np.random.default_rng(0).random(100) < 0.5
    model = ArrayModel("net", arrays)
    context = Context([LiveSource(model, model.layers, IndexData(100))], sample_count=100)
    halves = [RestrictedAccumulator(ComponentsAccumulator(count=2), samples=half) for half in (first, ~first)]
    context.stream(*halves, batch_size=16)
    for half, restricted in zip((first, ~first), halves, strict=True):
        alone = ArrayModel("net", {name: values[half] for name, values in arrays.items()})
        accumulator = ComponentsAccumulator(count=2)
        Context([LiveSource(alone, alone.layers, IndexData(int(half.sum())))], sample_count=int(half.sum())).stream(
            accumulator, batch_size=16
        )
        found, expected = restricted.finish(), accumulator.finish()
        assert found.sample_index.tolist() == np.flatnonzero(half).tolist()
        np.testing.assert_allclose(found.share[:, 0], expected.share[:, 0], rtol=1e-4)
        np.testing.assert_allclose(np.abs(found.projections), np.abs(expected.projections), atol=0.05)


def test_layers_alone_may_be_restricted_whatever_the_groups() -> None:
    models = [ArrayModel(name, noise_layers(layers=3, samples=24)) for name in ("one", "two")]
    sources = [LiveSource(model, model.layers, IndexData(24)) for model in models]
    restricted = RestrictedAccumulator(GramAccumulator(group_size=8), layers=[("one", "layer0"), ("two", "layer2")])
    assert restricted.group_size == 8
    stream(sources, [restricted], order=lambda _: np.arange(24), batch_size=8)
    assert [(model, layer.name) for model, layer in restricted.finish().layers] == [
        ("one", "layer0"),
        ("two", "layer2"),
    ]


def test_what_cannot_be_restricted_is_refused() -> None:
    half = np.arange(6) < 3
    with pytest.raises(
        ParameterError, match="GramAccumulator takes groups of 8 samples, which leaving samples out wou"
    ):
        RestrictedAccumulator(GramAccumulator(group_size=8), samples=half)
    with pytest.raises(ParameterError, match=r"one truth value for each; got int64 of shape \(6,\)"):
        RestrictedAccumulator(Listing(), samples=half.astype(int))
    with pytest.raises(ParameterError, match="None of 6 samples is shown; choose at least one"):
        RestrictedAccumulator(Listing(), samples=half & False)
    with pytest.raises(ParameterError, match="No layer is shown; name the model and the name of at least one"):
        RestrictedAccumulator(Listing(), layers=[])
    with pytest.raises(AnalysisError, match="Sample 4 came, and it is known of 3 samples only whether they are shown"):
        fed(RestrictedAccumulator(Listing(), samples=np.ones(3, dtype=bool)), seed=1)


def test_only_the_same_restrictions_are_merged() -> None:
    half = np.arange(6) < 3
    whole = RestrictedAccumulator(Listing())
    for other in (
        RestrictedAccumulator(Listing(), samples=half),
        RestrictedAccumulator(Listing(), layers=[("net", "a")]),
    ):
        with pytest.raises(AnalysisError, match="Only accumulators of the same samples and layers can be merged"):
            whole.merge(other)
        with pytest.raises(AnalysisError, match="Only accumulators of the same samples and layers can be merged"):
            other.merge(whole)
