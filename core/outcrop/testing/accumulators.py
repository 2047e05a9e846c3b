"""The suite that every accumulator must pass: what it returns does not depend on where its values come from."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from outcrop.capture.accumulator import Accumulator
from outcrop.capture.engine import stream
from outcrop.capture.source import ActivationSource, LiveSource
from outcrop.testing.arrays import ArrayModel, IndexData
from outcrop.testing.planted import Layers, noise_layers


class AccumulatorTests:
    """Tests inherited by the tests of an accumulator.

    Attributes:
        batch_size: Samples of a group.
        tolerance: Difference up to which two numbers count as one, relative to each and to the largest beside it: the
            rounding of float64 sums, which another order of the sums changes.
    """

    batch_size: ClassVar[int] = 32
    tolerance: ClassVar[float] = 1e-10

    @abstractmethod
    def make(self) -> Accumulator:
        """Return a fresh accumulator."""

    def activations(self) -> dict[str, Layers]:
        """Return the activations to accumulate, by model and layer; the last group of samples is a smaller one."""
        return {"first": noise_layers(samples=120), "second": noise_layers(layers=3, samples=120, seed=1)}

    def without_order(self, result: Any) -> Any:
        """Return the result without what may depend on the order in which parts are merged; all of it by default."""
        return result

    def models(self) -> list[ArrayModel]:
        """Return the models of the activations."""
        return [ArrayModel(name, arrays) for name, arrays in self.activations().items()]

    def test_stored_activations_give_the_result_of_live_ones(self, tmp_path: Path) -> None:
        import outcrop
        from outcrop.store.reading.stored_source import StoredSource

        study = outcrop.open(tmp_path / "study.zarr", mode="a")
        models = self.models()
        for model in models:
            study.capture(model, IndexData(model.sample_count), layers="all", batch_size=50)
        stored = [StoredSource(study.activations[model.name], model.layers) for model in models]
        shuffled = np.random.default_rng(0).permutation(models[0].sample_count)
        for order in (np.sort(shuffled), shuffled):
            self._agree(self._fed(_live(models), order).finish(), self._fed(stored, order).finish())

    def test_networks_of_another_batch_size_give_the_same_result(self) -> None:
        fixed = self.models()
        for size, model in enumerate(fixed, start=7):
            model.batch_size = size
        self._agree(self._whole(_live(self.models())), self._whole(_live(fixed)))

    def test_two_halves_merged_give_the_result_of_the_whole(self) -> None:
        first, *others = self._parts(2)
        for other in others:
            first.merge(other)
        self._agree(self._whole(_live(self.models())), first.finish())

    def test_parts_may_be_merged_in_any_order(self) -> None:
        whole = self.without_order(self._whole(_live(self.models())))
        for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
            parts = self._parts(3)
            # As a tree of workers does it, and with one that had nothing to do.
            parts[order[1]].merge(parts[order[2]])
            parts[order[0]].merge(parts[order[1]])
            merged = self.make()
            merged.merge(parts[order[0]])
            merged.merge(self.make())
            self._agree(whole, self.without_order(merged.finish()))

    def _parts(self, count: int) -> list[Accumulator]:
        """Return accumulators of consecutive samples, which begin where a group of the whole does."""
        models = self.models()
        samples = models[0].sample_count
        groups = -(-samples // self.batch_size)
        assert groups >= count, f"{samples} samples are fewer than {count} groups of {self.batch_size}"
        ends = [min(samples, index * groups // count * self.batch_size) for index in range(count + 1)]
        return [self._fed(_live(models), np.arange(*window)) for window in pairwise(ends)]

    def _fed(self, sources: Sequence[ActivationSource], order: NDArray[np.int64]) -> Accumulator:
        accumulator = self.make()
        stream(sources, [accumulator], order=lambda _: order, batch_size=self.batch_size)
        return accumulator

    def _whole(self, sources: Sequence[ActivationSource]) -> Any:
        return self._fed(sources, np.arange(self.models()[0].sample_count)).finish()

    def _agree(self, first: Any, second: Any) -> None:
        one, other = _numbers(first), _numbers(second)
        assert one, "the result holds no number that could be compared"
        assert one.keys() == other.keys()
        for path, values in one.items():
            known = np.abs(values[np.isfinite(values)])
            scale = float(known.max()) if known.size else 0.0
            np.testing.assert_allclose(
                other[path], values, rtol=self.tolerance, atol=self.tolerance * scale, err_msg=path or "result"
            )


def _live(models: Sequence[ArrayModel]) -> list[ActivationSource]:
    return [LiveSource(model, model.layers, IndexData(model.sample_count)) for model in models]


def _numbers(value: Any, path: str = "") -> dict[str, NDArray[Any]]:
    """Return all arrays and numbers of a result by their path, whatever they are nested in."""
    if is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, Mapping):
        items = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, list | tuple):
        items = [(str(index), item) for index, item in enumerate(value)]
    else:
        array = np.asarray(value)
        return {path: array} if array.dtype.kind in "fciub" else {}
    return {name: array for key, item in items for name, array in _numbers(item, f"{path}/{key}").items()}
