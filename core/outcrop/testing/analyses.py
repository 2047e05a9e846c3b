"""The suite that every analysis must pass, in-tree or not: subclass it, name the analysis, run pytest."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from outcrop.capture.source import ActivationSource, LiveSource
from outcrop.errors import OutcropError
from outcrop.models.model import Layer, Visitor
from outcrop.testing.arrays import ArrayModel, IndexData
from outcrop.testing.planted import Layers, noise_layers, planted_block, rotated
from outcrop.testing.running import Result, difference, responding, run_on_sources, run_planted

if TYPE_CHECKING:
    from torch import Tensor

    from outcrop.analysis.analysis import Analysis
    from outcrop.data.dataset import Data

TRANSFORMATIONS = ("orthogonal", "sample_order", "scaling", "shift")
"""What a result may be invariant to: rotations, isotropic scalings and shifts of every layer's features (each layer its
own), and another order of the samples."""


class AnalysisTests:
    """Tests inherited by the tests of an analysis.

    Attributes:
        analysis: The class under test.
        parameters: Given to it in every test; make it cheap on some hundred samples.
        invariances: Which of ``TRANSFORMATIONS`` leave the result as it is. Those not named must change it.
        tolerance: Relative difference up to which two results count as one.
    """

    analysis: "ClassVar[type[Analysis]]"
    parameters: ClassVar[Mapping[str, Any]] = {}
    invariances: ClassVar[tuple[str, ...]] = ()
    tolerance: ClassVar[float] = 1e-4

    def activations(self) -> dict[str, Layers]:
        """Return the activations to analyse, by model and layer; override it where the analysis wants others."""
        return {"planted": planted_block(), "noise": noise_layers(samples=128)}

    def data(self, samples: int) -> "Data | None":  # noqa: ARG002 - for those who override it
        """Return what the activations are of, where the analysis looks at samples or shows the models others.

        Models then answer other samples as :class:`outcrop.testing.RespondingModel` does.
        """
        return None

    def run(self, activations: Mapping[str, Mapping[str, NDArray[Any]]], seed: int = 0) -> Result:
        """Return the result on given activations."""
        data = self.data(_sample_count(activations))
        return run_planted(self.analysis, activations, parameters=self.parameters, seed=seed, data=data)

    def run_on(self, sources: Sequence[ActivationSource], *, alone: bool = False) -> Result:
        """Return the result on the suite's activations from other sources, without data and models where alone."""
        activations = self.activations()
        samples = _sample_count(activations)
        data = None if alone else self.data(samples)
        live = None if data is None else responding(activations, data)
        return run_on_sources(
            self.analysis, sources, sample_count=samples, parameters=self.parameters, data=data, live=live
        )

    def test_the_result_satisfies_its_declared_kinds(self) -> None:
        result = self.run(self.activations())
        kinds = {leaf: dataset.attrs["kind"] for leaf, dataset in result.items()}
        declared = {**self.analysis.optional, **self.analysis.produces}
        assert self.analysis.produces.items() <= kinds.items() <= declared.items()

    def test_the_same_seed_gives_the_same_result(self) -> None:
        first, second = self.run(self.activations(), seed=7), self.run(self.activations(), seed=7)
        for leaf, dataset in first.items():
            xr.testing.assert_identical(dataset, second[leaf])

    def test_activations_are_not_changed_in_place(self) -> None:
        models = [_GuardedModel(name, arrays) for name, arrays in self.activations().items()]
        sources = [LiveSource(model, model.layers, IndexData(model.sample_count)) for model in models]
        self.run_on(sources)
        changed = [layer for model in models for layer in model.changed]
        assert not changed, f"the values of {changed[0]!r} were changed in place"

    def test_single_precision_gives_the_result_of_double_precision(self) -> None:
        single = self.activations()
        double = {
            model: {layer: values.astype(np.float64) for layer, values in arrays.items()}
            for model, arrays in single.items()
        }
        assert difference(self.run(single), self.run(double)) <= self.tolerance

    def test_declared_invariances_hold_and_no_others(self) -> None:
        unknown = sorted(set(self.invariances) - set(TRANSFORMATIONS))
        assert not unknown, f"{unknown} are none of {TRANSFORMATIONS}"
        activations = self.activations()
        plain = self.run(activations)
        for name in TRANSFORMATIONS:
            found = difference(plain, self.run(transform(activations, name)))
            if name in self.invariances:
                assert found <= self.tolerance, f"declared invariant to {name!r}, yet the result changes by {found:g}"
            else:
                assert found > self.tolerance, f"invariant to {name!r} ({found:g}), which is not declared"

    def test_stored_activations_give_the_result_of_live_ones(self, tmp_path: Path) -> None:
        import outcrop
        from outcrop.store.reading.stored_source import StoredSource

        study = outcrop.open(tmp_path / "study.zarr", mode="a")
        models = [ArrayModel(name, arrays) for name, arrays in self.activations().items()]
        for model in models:
            study.capture(model, IndexData(model.sample_count), layers="all", batch_size=50)
        sources = [StoredSource(study.activations[model.name], model.layers) for model in models]
        assert difference(self.run(self.activations()), self.run_on(sources)) <= self.tolerance
        if self.data(models[0].sample_count) is not None:
            self._explained(lambda: self.run_on(sources, alone=True))

    def test_a_single_sample_gives_a_valid_result_or_a_readable_error(self) -> None:
        self._valid_or_explained(
            {
                model: {layer: values[:1] for layer, values in arrays.items()}
                for model, arrays in self.activations().items()
            }
        )

    def test_a_constant_layer_is_reported_and_touches_no_other(self) -> None:
        constant = self.activations()
        model, layer = _middle(constant)
        constant[model][layer] = np.full_like(constant[model][layer], 0.1)
        result = self._valid_or_explained(constant)
        for dataset in _over_layers(result):
            if "similarity" in dataset and "layer_a" in dataset["similarity"].dims:
                similarity = _of_layer(dataset["similarity"], dataset, model, layer)
                assert np.isnan(similarity).all(), "similarity with a constant layer is not NaN"
            if "degenerate" in dataset:
                flags = _of_layer(dataset["degenerate"], dataset, model, layer)
                assert flags.all(), "a constant layer is not reported as degenerate"
        self._others_agree(result, model, layer)

    def test_a_layer_with_nan_is_reported_and_touches_no_other(self) -> None:
        spoilt = self.activations()
        model, layer = _middle(spoilt)
        spoilt[model][layer] = spoilt[model][layer].copy()
        spoilt[model][layer].flat[::101] = np.nan
        count = int(np.isnan(spoilt[model][layer]).sum())
        result = self._valid_or_explained(spoilt)
        for dataset in _over_layers(result):
            if "non_finite_count" in dataset:
                found = _of_layer(dataset["non_finite_count"], dataset, model, layer).ravel().tolist()
                assert found == [count], f"{count} values are NaN; the result counts {found}"
        self._others_agree(result, model, layer)

    def _valid_or_explained(self, activations: dict[str, Layers]) -> Result | None:
        return self._explained(lambda: self.run(activations))

    def _explained(self, run: Callable[[], Result]) -> Result | None:
        """Return the result, which has been validated, or None where a one-line error of outcrop's explains why not."""
        try:
            return run()
        except OutcropError as error:
            if error.__cause__ is not None and not isinstance(error.__cause__, OutcropError):
                # The engine has wrapped what the analysis did not foresee.
                raise
            message = str(error)
        assert message, "an error without a message"
        assert "\n" not in message, f"an error of several lines: {message}"
        return None

    def _others_agree(self, result: Result | None, model: str, layer: str) -> None:
        if result is not None:
            plain = self.run(self.activations())
            found = difference(_without(plain, model, layer), _without(result, model, layer))
            assert found <= self.tolerance, f"other layers' numbers change by {found:g}"


def transform(activations: Mapping[str, Layers], name: str) -> dict[str, Layers]:
    """Return activations after one of ``TRANSFORMATIONS``, every layer with numbers of its own."""
    rng = np.random.default_rng(11)
    order = rng.permutation(len(next(iter(next(iter(activations.values())).values()))))

    def change(values: NDArray[np.float32]) -> NDArray[np.float32]:
        if name == "orthogonal":
            return rotated(values, int(rng.integers(1 << 30)))
        if name == "scaling":
            return values * np.float32(rng.uniform(0.3, 3))
        if name == "shift":
            return values + rng.normal(scale=3, size=values.shape[1:]).astype(np.float32)
        return values[order]

    return {model: {layer: change(values) for layer, values in arrays.items()} for model, arrays in activations.items()}


class _GuardedModel(ArrayModel):
    """Remembers where a visitor changes the values that it is shown: behind it, a live network would use them."""

    def __init__(self, name: str, arrays: Layers) -> None:
        super().__init__(name, arrays)
        self.changed: list[str] = []

    def visit(self, inputs: "Mapping[str, Tensor]", layers: Collection[str], visitor: Visitor) -> None:
        def guarded(layer: Layer, values: "Tensor") -> None:
            before = values.clone()
            visitor(layer, values)
            if not bool((values == before).all()):
                self.changed.append(layer.name)

        super().visit(inputs, layers, guarded)


def _sample_count(activations: Mapping[str, Mapping[str, NDArray[Any]]]) -> int:
    return len(next(iter(next(iter(activations.values())).values())))


def _middle(activations: dict[str, Layers]) -> tuple[str, str]:
    model = next(iter(activations))
    layers = list(activations[model])
    return model, layers[len(layers) // 2]


def _over_layers(result: Result | None) -> list[xr.Dataset]:
    return [dataset for dataset in (result or {}).values() if {"name", "name_a"} & set(dataset.coords)]


def _rows(dataset: xr.Dataset, model: str, layer: str) -> NDArray[np.bool_]:
    suffix = "_a" if "name_a" in dataset.coords else ""
    models, names = dataset[f"model{suffix}"].values, dataset[f"name{suffix}"].values
    # Where every step is a model of its own, all of them have the same layers.
    own = np.asarray(models == model) | ("checkpoint" in dataset.coords)
    rows: NDArray[np.bool_] = own & np.asarray(names == layer)
    return rows


def _of_layer(array: xr.DataArray, dataset: xr.Dataset, model: str, layer: str) -> NDArray[Any]:
    """Return the entries of a layer of a model, along whichever dimension its layers lie."""
    at: dict[str, NDArray[np.bool_]] = {
        dim: _rows(dataset, model, layer) for dim in ("layer", "layer_a") if dim in array.dims
    }
    if "checkpoint" in dataset.coords and "step" in array.dims:
        at["step"] = np.asarray(dataset["checkpoint"].values == model)
    return np.asarray(array.isel({dim: np.flatnonzero(rows) for dim, rows in at.items()}).values)


def _without(result: Result, model: str, layer: str) -> Result:
    """Return the leaves that run over layers, without one of them."""
    kept: Result = {}
    for leaf, dataset in result.items():
        dims = [dim for dim in ("layer", "layer_a", "layer_b") if dim in dataset.dims]
        if dims:
            keep = np.flatnonzero(~_rows(dataset, model, layer))
            kept[leaf] = dataset.isel(dict.fromkeys(dims, keep))
    return kept
