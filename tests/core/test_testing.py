"""The testing kit: it passes an analysis that keeps its word, and fails every way not to."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import outcrop.testing
from outcrop import Accumulator, Analysis, Context, Layer, Parameters
from outcrop.errors import AnalysisError, InputError, OutcropError
from outcrop.testing import (
    AccumulatorTests,
    AnalysisTests,
    ArrayModel,
    IndexData,
    difference,
    noise_layers,
    planted_block,
    rotated,
    run_planted,
)


class Gathered(Accumulator):
    """Keeps everything, in sample order."""

    def __init__(self) -> None:
        self.parts: dict[tuple[str, str], dict[int, Any]] = {}

    def update(self, model: str, layer: Layer, sample_index: NDArray[np.int64], values: Any) -> None:
        found = self.parts.setdefault((model, layer.name), {})
        found.update(zip(sample_index.tolist(), values.flatten(1).numpy().copy(), strict=True))

    def merge(self, other: "Gathered") -> None:
        for key, found in other.parts.items():
            self.parts.setdefault(key, {}).update(found)

    def finish(self) -> dict[tuple[str, str], NDArray[Any]]:
        return {key: np.stack([found[index] for index in sorted(found)]) for key, found in self.parts.items()}


class Share(Analysis):
    """Variance share of the first principal component: what a careful analysis looks like."""

    name = "share"
    summary = "Variance share of the first principal component."
    version = "1"
    produces: ClassVar[Mapping[str, str]] = {"per_layer": "per_layer"}

    accumulator: ClassVar[type[Gathered]] = Gathered

    def run(self, context: Context, parameters: Parameters) -> xr.Dataset:
        if context.sample_count < 2:
            raise AnalysisError("A variance needs 2 samples; got 1.")
        gathered = self.accumulator()
        context.stream(gathered, batch_size=32)
        layers = [(model, layer) for model, chosen in context.models.items() for layer in chosen]
        found = gathered.finish()
        arrays = [np.asarray(found[model, layer.name], np.float64) for model, layer in layers]
        shares = [self.share(values, context) for values in arrays]
        return xr.Dataset(
            {
                "pc_share": ("layer", shares),
                "degenerate": ("layer", [self.is_degenerate(values) for values in arrays]),
                "non_finite_count": ("layer", [int((~np.isfinite(values)).sum()) for values in arrays]),
            },
            {
                "model": ("layer", [model for model, _ in layers]),
                "name": ("layer", [layer.name for _, layer in layers]),
                "depth": ("layer", [layer.index for _, layer in layers]),
                "layer_kind": ("layer", [layer.kind for _, layer in layers]),
            },
        )

    def is_degenerate(self, values: NDArray[np.float64]) -> bool:
        return bool((values == values[0]).all())

    def share(self, values: NDArray[np.float64], context: Context) -> float:
        if self.is_degenerate(values) or not np.isfinite(values).all():
            return math.nan
        powers = np.linalg.svd(values - values.mean(axis=0), compute_uv=False) ** 2
        return float(powers[0] / powers.sum())


class TestShare(AnalysisTests):
    analysis = Share
    invariances = ("orthogonal", "sample_order", "scaling", "shift")


class TestGathered(AccumulatorTests):
    def make(self) -> Accumulator:
        return Gathered()


def suite(analysis: type[Analysis], *, invariances: tuple[str, ...] = TestShare.invariances) -> AnalysisTests:
    made = AnalysisTests()
    made.analysis = analysis  # type: ignore[misc] # a class variable of subclasses; here one instance stands for one
    made.invariances = invariances  # type: ignore[misc] # as above
    return made


def test_a_wrong_kind_is_noticed() -> None:
    class Wrong(Share):
        produces: ClassVar[Mapping[str, str]] = {"per_layer": "pairwise"}

    with pytest.raises(OutcropError, match="similarity: expected float64"):
        suite(Wrong).test_the_result_satisfies_its_declared_kinds()


def test_an_optional_leaf_may_come_and_one_that_is_not_declared_may_not() -> None:
    class Optional(Share):
        optional: ClassVar[Mapping[str, str]] = {"again": "per_layer"}

        def run(self, context: Context, parameters: Parameters) -> Any:
            found = super().run(context, parameters)
            return {"per_layer": found, "again": found}

    class Undeclared(Optional):
        optional: ClassVar[Mapping[str, str]] = {}

    suite(Optional).test_the_result_satisfies_its_declared_kinds()
    with pytest.raises(AnalysisError, match="returned again, per_layer; it declares per_layer"):
        suite(Undeclared).test_the_result_satisfies_its_declared_kinds()


def test_randomness_without_the_seed_is_noticed() -> None:
    class Unseeded(Share):
        def share(self, values: NDArray[np.float64], context: Context) -> float:
            return float(np.random.default_rng().random())

    with pytest.raises(AssertionError, match="pc_share"):
        suite(Unseeded).test_the_same_seed_gives_the_same_result()


def test_the_contexts_own_generator_is_seeded() -> None:
    class Seeded(Share):
        def share(self, values: NDArray[np.float64], context: Context) -> float:
            return float(context.rng.random())

    suite(Seeded).test_the_same_seed_gives_the_same_result()


def test_changing_activations_in_place_is_noticed() -> None:
    class Greedy(Gathered):
        def update(self, model: str, layer: Layer, sample_index: NDArray[np.int64], values: Any) -> None:
            super().update(model, layer, sample_index, values)
            values.sub_(values.mean(dim=0))

    class InPlace(Share):
        accumulator: ClassVar[type[Gathered]] = Greedy

    with pytest.raises(AssertionError, match="the values of 'layer0' were changed in place"):
        suite(InPlace).test_activations_are_not_changed_in_place()


def test_a_result_that_depends_on_precision_is_noticed() -> None:
    class Typed(Gathered):
        def update(self, model: str, layer: Layer, sample_index: NDArray[np.int64], values: Any) -> None:
            super().update(model, layer, sample_index, values * (2.0 if layer.dtype == "float32" else layer.index))

    class Precise(Share):
        accumulator: ClassVar[type[Gathered]] = Typed

        def share(self, values: NDArray[np.float64], context: Context) -> float:
            return float(np.abs(values).max() / 1e3)

    with pytest.raises(AssertionError):
        suite(Precise).test_single_precision_gives_the_result_of_double_precision()


def test_an_invariance_that_does_not_hold_is_noticed() -> None:
    class Uncentred(Share):
        def share(self, values: NDArray[np.float64], context: Context) -> float:
            powers = np.linalg.svd(values, compute_uv=False) ** 2
            return float(powers[0] / powers.sum())

    with pytest.raises(AssertionError, match="declared invariant to 'shift', yet the result changes by 0"):
        suite(Uncentred).test_declared_invariances_hold_and_no_others()


def test_an_invariance_that_is_not_declared_is_noticed() -> None:
    with pytest.raises(AssertionError, match=r"invariant to 'shift'.*which is not declared"):
        suite(
            Share, invariances=("orthogonal", "sample_order", "scaling")
        ).test_declared_invariances_hold_and_no_others()


def test_an_invariance_that_does_not_exist_is_noticed() -> None:
    with pytest.raises(AssertionError, match=r"'affine'.* are none of"):
        suite(Share, invariances=("affine",)).test_declared_invariances_hold_and_no_others()


def test_an_error_of_several_lines_is_noticed() -> None:
    class Verbose(Share):
        def run(self, context: Context, parameters: Parameters) -> xr.Dataset:
            raise AnalysisError("First,\nsecond.")

    with pytest.raises(AssertionError, match="an error of several lines"):
        suite(Verbose).test_a_single_sample_gives_a_valid_result_or_a_readable_error()


def test_an_unexpected_error_on_one_sample_is_noticed() -> None:
    class Careless(Share):
        def run(self, context: Context, parameters: Parameters) -> xr.Dataset:
            raise ZeroDivisionError

    with pytest.raises(AnalysisError, match="'share' .*failed: ZeroDivisionError") as caught:
        suite(Careless).test_a_single_sample_gives_a_valid_result_or_a_readable_error()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_constant_layer_that_is_not_reported_is_noticed() -> None:
    class Silent(Share):
        def is_degenerate(self, values: NDArray[np.float64]) -> bool:
            return False

        def share(self, values: NDArray[np.float64], context: Context) -> float:
            return 0.0

    with pytest.raises(AssertionError, match="a constant layer is not reported as degenerate"):
        suite(Silent).test_a_constant_layer_is_reported_and_touches_no_other()


def test_nan_that_is_not_counted_is_noticed() -> None:
    class Replacing(Gathered):
        def update(self, model: str, layer: Layer, sample_index: NDArray[np.int64], values: Any) -> None:
            super().update(model, layer, sample_index, values.nan_to_num())

    class Hiding(Share):
        accumulator: ClassVar[type[Gathered]] = Replacing

    with pytest.raises(AssertionError, match=r"values are NaN; the result counts \[0\]"):
        suite(Hiding).test_a_layer_with_nan_is_reported_and_touches_no_other()


def test_nan_that_spreads_to_other_layers_is_noticed() -> None:
    class Spreading(Share):
        def run(self, context: Context, parameters: Parameters) -> xr.Dataset:
            found = super().run(context, parameters)
            return found.assign(pc_share=found["pc_share"] * (1 + 0 * found["pc_share"].sum(skipna=False)))

    with pytest.raises(AssertionError, match="other layers' numbers change by inf"):
        suite(Spreading).test_a_layer_with_nan_is_reported_and_touches_no_other()


def test_a_merge_that_forgets_is_noticed() -> None:
    class Forgetting(Gathered):
        def merge(self, other: "Gathered") -> None:
            """Drop what the other has seen."""

    class Suite(AccumulatorTests):
        def make(self) -> Accumulator:
            return Forgetting()

    with pytest.raises(AssertionError):
        Suite().test_two_halves_merged_give_the_result_of_the_whole()


def test_a_result_that_depends_on_the_order_of_merging_is_noticed() -> None:
    class Listing(Gathered):
        def finish(self) -> Any:
            return [np.stack(list(found.values())) for found in self.parts.values()]

    class Suite(AccumulatorTests):
        def make(self) -> Accumulator:
            return Listing()

    Suite().test_two_halves_merged_give_the_result_of_the_whole()
    with pytest.raises(AssertionError):
        Suite().test_parts_may_be_merged_in_any_order()


def test_an_accumulator_without_numbers_is_noticed() -> None:
    class Empty(Gathered):
        def finish(self) -> Any:
            return "done"

    class Suite(AccumulatorTests):
        def make(self) -> Accumulator:
            return Empty()

    with pytest.raises(AssertionError, match="holds no number that could be compared"):
        Suite().test_two_halves_merged_give_the_result_of_the_whole()


def test_an_array_model_shows_the_values_of_the_samples_asked_for() -> None:
    import torch

    arrays = {"first": np.arange(12.0).reshape(4, 3), "second": np.arange(64).reshape(4, 4, 2, 2)}
    model = ArrayModel("net", arrays, kinds={"first": "conv"})
    seen: dict[str, Any] = {}
    model.visit(
        {"sample": torch.tensor([3, 1])}, ["first", "second"], lambda layer, values: seen.update({layer.name: values})
    )
    assert seen["first"].tolist() == arrays["first"][[3, 1]].tolist()
    assert seen["second"].shape == (2, 4, 2, 2)
    assert [layer.kind for layer in model.layers] == ["conv", "block"]
    assert [layer.dims for layer in model.layers] == [("feature",), ("channel", "y", "x")]
    assert model.forward({"sample": torch.tensor([0])}).shape == (1, 4, 2, 2)
    seen["first"][:] = 0
    assert arrays["first"][3].tolist() == [9, 10, 11]


def test_an_array_models_fingerprint_is_that_of_its_values() -> None:
    values = noise_layers()
    assert ArrayModel("a", values).fingerprint == ArrayModel("b", noise_layers()).fingerprint
    values["layer0"][0, 0] += 1
    assert ArrayModel("a", values).fingerprint != ArrayModel("a", noise_layers()).fingerprint


def test_an_array_model_refuses_what_it_cannot_look_up() -> None:
    import torch

    with pytest.raises(InputError, match=r"must have one number of samples; got \{'a': 2, 'b': 3\}"):
        ArrayModel("net", {"a": np.zeros((2, 1)), "b": np.zeros((3, 1))})
    with pytest.raises(InputError, match="got no layer"):
        ArrayModel("net", {})
    with pytest.raises(InputError, match="has samples 0 to 1; got index 2"):
        ArrayModel("net", {"a": np.zeros((2, 1))}).forward({"sample": torch.tensor([2])})


def test_index_data_holds_its_own_positions() -> None:
    data = IndexData(5)
    assert [int(np.asarray(data.read(index))) for index in range(len(data))] == [0, 1, 2, 3, 4]
    assert list(data.sample_ids) == ["0", "1", "2", "3", "4"]


def test_a_planted_block_has_a_dominant_component_of_few_samples_inside_and_none_outside() -> None:
    layers = planted_block(layers=8, start=2, stop=6, samples=200, share=0.05)
    for index, values in enumerate(layers.values()):
        projections, powers, _ = np.linalg.svd(values - values.mean(axis=0), full_matrices=False)
        share = powers[0] ** 2 / (powers**2).sum()
        inside = 2 <= index < 6
        assert share > 0.7 if inside else share < 0.2
        if inside:
            largest = np.sort(projections[:, 0] ** 2)[::-1]
            assert largest[:10].sum() > 0.9


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
def test_a_rotation_keeps_distances(seed: int) -> None:
    values = noise_layers(layers=1, samples=20, seed=seed)["layer0"]
    before, after = values @ values.T, rotated(values, seed) @ rotated(values, seed).T
    np.testing.assert_allclose(after, before, atol=1e-4)
    assert np.abs(rotated(values, seed) - values).max() > 0.1


def test_the_difference_of_results_is_relative_and_counts_what_is_not_a_number() -> None:
    plain = run_planted(Share, {"net": noise_layers()})
    changed = {"per_layer": plain["per_layer"].assign(pc_share=plain["per_layer"]["pc_share"] + 0.01)}
    unnamed = {"per_layer": plain["per_layer"].assign_coords(name=("layer", list("abcde")))}
    missing = {"per_layer": plain["per_layer"].assign(pc_share=plain["per_layer"]["pc_share"] * np.nan)}
    fewer = {"per_layer": plain["per_layer"].isel(layer=slice(1, None))}
    assert difference(plain, plain) == 0
    assert difference(plain, changed) == pytest.approx(0.01)
    assert difference(plain, {}) == math.inf
    assert difference(plain, unnamed) == math.inf
    assert difference(plain, missing) == math.inf
    assert difference(plain, fewer) == math.inf


def test_the_kit_says_what_it_does_not_have() -> None:
    with pytest.raises(AttributeError, match=r"module 'outcrop\.testing' has no attribute 'AnalysisTest'"):
        outcrop.testing.AnalysisTest  # noqa: B018 - the access is what raises


def test_every_tool_of_the_kit_can_be_had_from_its_front() -> None:
    assert all(hasattr(outcrop.testing, name) for name in outcrop.testing.__all__)
    assert Path(outcrop.testing.__file__ or "").parent.name == "testing"
