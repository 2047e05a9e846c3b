import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.capture.source import LiveSource
from outcrop.models.model import Layer
from outcrop.testing import ArrayModel, IndexData


def make_model(samples: int, *, fixed: int | None = None) -> ArrayModel:
    rng = np.random.default_rng(0)
    model = ArrayModel("net", {"a": rng.normal(size=(samples, 3)), "b": rng.normal(size=(samples, 2, 2, 2))})
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
