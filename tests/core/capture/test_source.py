from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.capture.source import LiveSource
from outcrop.errors import InputError
from outcrop.models.model import Layer
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
