from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.capture import source as source_module
from outcrop.capture.buffers import GatheringBuffers
from outcrop.capture.engine import stream
from outcrop.capture.reductions import parse_reduction
from outcrop.capture.source import LiveSource, bytes_per_sample, forward_batch_size
from outcrop.errors import AnalysisError, InputError
from outcrop.models.model import Layer
from outcrop.numerics import GramAccumulator
from outcrop.testing import ArrayModel, IndexData


class FixedBatchModel(ArrayModel):
    """Takes batches of its own size only, as a graph with a fixed batch does, and counts them."""

    visits = 0

    def visit(self, inputs, layers, visitor):  # type: ignore[no-untyped-def] # the parent's
        assert self.batch_size in (None, len(inputs["sample"]))
        self.visits += 1
        super().visit(inputs, layers, visitor)


def make_model(samples: int, *, fixed: int | None = None) -> FixedBatchModel:
    rng = np.random.default_rng(0)
    model = FixedBatchModel("net", {"a": rng.normal(size=(samples, 3)), "b": rng.normal(size=(samples, 2, 2, 2))})
    model.batch_size = fixed
    return model


def collect(source: LiveSource, order: np.ndarray, group: int) -> list[tuple[list[int], dict[str, np.ndarray]]]:
    groups = []
    for chosen, visit in source.groups(order, group):
        seen: dict[str, np.ndarray] = {}

        def keep(layer: Layer, values: torch.Tensor, seen: dict[str, np.ndarray] = seen) -> None:
            assert layer.name not in seen
            seen[layer.name] = values.numpy().copy()

        visit(keep)
        groups.append((chosen.tolist(), seen))
    return groups


@settings(max_examples=30, deadline=None)
@given(
    samples=st.integers(1, 23), group=st.integers(1, 9), fixed=st.integers(1, 7), budget=st.sampled_from([1, 1 << 20])
)
def test_groups_hold_the_same_values_whatever_the_forward_batch_and_the_budget(
    samples: int, group: int, fixed: int, budget: int
) -> None:
    order = np.random.default_rng(samples).permutation(samples)
    data = IndexData(samples)
    free, bound = make_model(samples), make_model(samples, fixed=fixed)
    expected = collect(LiveSource(free, free.layers, data), order, group)
    found = collect(LiveSource(bound, bound.layers, data, memory_budget=budget), order, group)
    assert [chosen for chosen, _ in expected] == [order[i : i + group].tolist() for i in range(0, samples, group)]
    assert [chosen for chosen, _ in found] == [chosen for chosen, _ in expected]
    for (_, left), (_, right) in zip(expected, found, strict=True):
        assert list(left) == list(right) == ["a", "b"]
        for layer in left:
            np.testing.assert_array_equal(left[layer], right[layer])
    # Gathering costs no second forward pass, whatever the budget.
    assert bound.visits == sum(-(-len(chosen) // fixed) for chosen, _ in expected)


def test_nothing_of_what_was_spilled_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    model = make_model(9, fixed=4)
    groups = LiveSource(model, model.layers, IndexData(9), memory_budget=1).groups(np.arange(9), 9)
    ((_, visit),) = groups
    seen: list[int] = []
    visit(lambda _layer, _values: seen.append(len(list(tmp_path.iterdir()))))
    assert seen == [1, 1]
    assert list(tmp_path.iterdir()) == []


def test_layers_that_fit_nowhere_together_are_gathered_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outcrop.capture.source.spill_bytes", lambda: 0)
    model = make_model(9, fixed=4)
    ((_, seen),) = collect(LiveSource(model, model.layers, IndexData(9), memory_budget=1), np.arange(9), 9)
    assert list(seen) == ["a", "b"]
    assert model.visits == 2 * 3


def test_only_selected_layers_are_visited() -> None:
    model = make_model(5)
    groups = collect(LiveSource(model, model.layers[1:], IndexData(5)), np.arange(5), 5)
    assert [list(seen) for _, seen in groups] == [["b"]]


@pytest.mark.parametrize("fixed", [None, 4])
def test_values_come_in_the_order_asked_for(fixed: int | None) -> None:
    model = make_model(9, fixed=fixed)
    order = np.array([8, 0, 3, 5, 1])
    ((_, seen),) = collect(LiveSource(model, model.layers, IndexData(9)), order, 5)
    ((_, whole),) = collect(LiveSource(make_model(9), model.layers, IndexData(9)), np.arange(9), 9)
    np.testing.assert_array_equal(seen["a"], whole["a"][order])


@pytest.mark.parametrize("fixed", [None, 4])
def test_a_layer_with_other_rows_than_samples_is_refused_and_not_padded_with_garbage(fixed: int | None) -> None:
    class Halving(ArrayModel):
        def visit(self, inputs, layers, visitor):  # type: ignore[no-untyped-def] # the parent's
            super().visit(inputs, layers, lambda layer, values: visitor(layer, values[::2]))

    model = Halving("net", {"a": np.zeros((8, 3))})
    model.batch_size = fixed
    with pytest.raises(
        InputError, match=r"Layer 'a' of 'net' gave \d rows for \d samples; a layer must have one for each"
    ):
        collect(LiveSource(model, model.layers, IndexData(8)), np.arange(8), 8)


@pytest.mark.parametrize("text", ["spatial_mean", "positions:3,seed=5", "projection:2", "spatial_mean+float16"])
@pytest.mark.parametrize(("fixed", "budget"), [(None, 1 << 20), (4, 1 << 20), (4, 1)])
def test_values_are_reduced_before_they_are_gathered(text: str, fixed: int | None, budget: int) -> None:
    reduction = parse_reduction(text)
    assert reduction is not None
    model = make_model(9, fixed=fixed)
    live = LiveSource(model, model.layers, IndexData(9), memory_budget=budget, reduction=reduction)
    assert live.layers == tuple(reduction.reduced(layer) for layer in model.layers)
    whole = make_model(9)
    ((_, values),) = collect(LiveSource(whole, whole.layers, IndexData(9)), np.arange(9), 9)
    ((_, found),) = collect(live, np.arange(9), 9)
    for layer, reduced in zip(model.layers, live.layers, strict=True):
        expected = reduction.apply(layer, torch.from_numpy(values[layer.name])).numpy()
        np.testing.assert_array_equal(found[layer.name], expected)
        assert found[layer.name].shape[1:] == reduced.shape
        assert found[layer.name].nbytes == 9 * bytes_per_sample(reduced)


def test_visitors_are_given_reduced_layers_and_these_may_be_given_back() -> None:
    reduction = parse_reduction("projection:2")
    model = make_model(4)
    live = LiveSource(model, model.layers, IndexData(4), reduction=reduction)
    # A capture that is continued knows the layers as they are stored.
    again = LiveSource(model, live.layers[1:], IndexData(4), reduction=reduction)
    assert again.layers == live.layers[1:]
    seen: list[Layer] = []
    for _, visit in again.groups(np.arange(4), 2):
        visit(lambda layer, _values: seen.append(layer))
    assert seen == [live.layers[1]] * 2


def test_reduced_values_need_room_for_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outcrop.capture.source.spill_bytes", lambda: 0)
    model = make_model(8, fixed=4)
    for text, turns in (("none", 2), ("spatial_mean", 1)):
        model.visits = 0
        live = LiveSource(
            model,
            model.layers[1:] * 1 + model.layers[:1],
            IndexData(8),
            memory_budget=600,
            reduction=parse_reduction(text),
        )
        collect(live, np.arange(8), 8)
        assert model.visits == 2 * turns, text


@pytest.mark.parametrize("group", [8, 6])
def test_a_group_may_be_left_out_or_visited_twice(group: int) -> None:
    model = make_model(20, fixed=4)
    expected = collect(LiveSource(make_model(20), model.layers, IndexData(20)), np.arange(20), group)
    groups = LiveSource(model, model.layers, IndexData(20)).groups(np.arange(20), group)
    for (chosen, visit), (_, values) in zip(groups, expected, strict=True):
        if chosen[0] == 0:
            continue
        for _ in range(2):
            seen: dict[str, np.ndarray] = {}
            visit(lambda layer, found, seen=seen: seen.update({layer.name: found.numpy().copy()}))  # type: ignore[misc] # mypy's view of defaults
            np.testing.assert_array_equal(seen["b"], values["b"])


def test_only_a_smaller_last_group_of_a_network_fixed_at_the_group_size_is_padded() -> None:
    model = make_model(10, fixed=4)
    addresses = []
    for _, visit in LiveSource(model, model.layers, IndexData(10)).groups(np.arange(10), 4):
        visit(lambda _layer, values: addresses.append(len(values)))
    assert addresses == [4, 4, 4, 4, 2, 2]
    assert model.visits == 3


def test_forward_batches_are_equal_parts_of_a_group_where_they_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(4)  # its largest layer takes 64 bytes a sample
    for limit, wanted, expected in ((64 * 100, 256, 64), (64 * 100, 97, 97), (64 * 50, 97, 50), (1, 8, 1)):
        monkeypatch.setattr(source_module, "FORWARD_BYTES", limit)
        assert forward_batch_size(model, wanted) == expected


def test_a_network_whose_activations_do_not_fit_gives_the_values_of_one_that_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = make_model(11)
    expected = collect(LiveSource(model, model.layers, IndexData(11)), np.arange(11), 4)
    for limit in (64 * 2, 64 * 3):
        monkeypatch.setattr(source_module, "FORWARD_BYTES", limit)
        found = collect(LiveSource(model, model.layers, IndexData(11)), np.arange(11), 4)
        for (_, left), (_, right) in zip(expected, found, strict=True):
            np.testing.assert_array_equal(left["b"], right["b"])


def test_a_layer_whose_shape_changes_between_batches_is_refused() -> None:
    with GatheringBuffers(1 << 20) as buffers:
        buffers.of("a", torch.zeros(2, 3), 4)
        with pytest.raises(InputError, match=r"Layer 'a' has the shape \(3,\) per sample in one batch and \(5,\) in"):
            buffers.of("a", torch.zeros(2, 5), 4)


def test_room_is_used_again_and_grows() -> None:
    with GatheringBuffers(1 << 20) as buffers:
        first = buffers.of("a", torch.zeros(2, 3), 4)
        assert buffers.of("a", torch.zeros(2, 3), 3).data_ptr() == first.data_ptr()
        assert buffers.gathered("a", 3).shape == (3, 3)
        assert buffers.of("a", torch.zeros(2, 3), 5).shape == (5, 3)


def test_a_full_temporary_disk_is_an_error_and_no_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with (
        GatheringBuffers(0) as buffers,
        pytest.raises(AnalysisError, match=r"values of layer 'a' .* take 3.69e\+10 GB on .*: No space left on device"),
    ):
        # More than any disk holds; the tensor itself takes four bytes.
        buffers.of("a", torch.zeros(1).expand(1, 1 << 43), 1 << 20)
    assert list(tmp_path.iterdir()) == []


def test_room_on_the_temporary_disk_is_taken_before_it_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = pytest.importorskip("resource", reason="limits of the file size are of POSIX")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with GatheringBuffers(0) as buffers:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        try:
            with pytest.raises(AnalysisError, match=r"take 0.004 GB .*: File too large\. Set TMPDIR to a folder with"):
                buffers.of("a", torch.zeros(1, 1000), 1000)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_accumulators_cannot_tell_reduced_activations_from_such_that_were_small_to_begin_with() -> None:
    rng = np.random.default_rng(0)
    arrays = {f"layer{index}": rng.normal(size=(70, 3, 4, 4)) for index in range(3)}
    means = {name: values.mean(axis=(2, 3)) for name, values in arrays.items()}
    found = []
    for layers, text in ((arrays, "spatial_mean"), (means, "none")):
        model = ArrayModel("net", layers)
        live = LiveSource(model, model.layers, IndexData(70), reduction=parse_reduction(text))
        accumulator = GramAccumulator(group_size=32)
        stream([live], [accumulator], order=lambda _: np.arange(70), batch_size=32)
        found.append(accumulator.finish())
    np.testing.assert_allclose(found[0].similarity, found[1].similarity, rtol=1e-10, atol=1e-12)
    assert [layer.shape for _, layer in found[0].layers] == [(3,)] * 3
