"""The suite that every accumulator must pass: what it returns does not depend on where its values come from."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
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
        tolerance: Relative and absolute difference up to which two numbers count as one.
    """

    batch_size: ClassVar[int] = 32
    tolerance: ClassVar[float] = 1e-6

    @abstractmethod
    def make(self) -> Accumulator:
        """Return a fresh accumulator."""

    def activations(self) -> dict[str, Layers]:
        """Return the activations to accumulate, by model and layer."""
        return {"first": noise_layers(samples=128), "second": noise_layers(layers=3, samples=128, seed=1)}

    def models(self) -> list[ArrayModel]:
        """Return the models of the activations."""
        return [ArrayModel(name, arrays) for name, arrays in self.activations().items()]

    def test_stored_activations_give_the_result_of_live_ones(self, tmp_path: Path) -> None:
        import outcrop
        from outcrop.store.activations import StoredSource

        study = outcrop.open(tmp_path / "study.zarr", mode="a")
        models = self.models()
        for model in models:
            study.capture(model, IndexData(model.sample_count), layers="all", batch_size=50)
        stored = [StoredSource(study.activations[model.name], model.layers) for model in models]
        self._agree(self._whole(_live(models)), self._whole(stored))

    def test_two_halves_merged_give_the_result_of_the_whole(self) -> None:
        models = self.models()
        count = models[0].sample_count
        # The second half begins where a group of the whole does, so that both see the same groups.
        half = count // 2 // self.batch_size * self.batch_size
        first = self._fed(_live(models), np.arange(half))
        first.merge(self._fed(_live(models), np.arange(half, count)))
        self._agree(self._whole(_live(models)), first.finish())

    def _fed(self, sources: Sequence[ActivationSource], order: NDArray[np.int64]) -> Accumulator:
        accumulator = self.make()
        stream(sources, [accumulator], order=lambda _: order, batch_size=self.batch_size)
        return accumulator

    def _whole(self, sources: Sequence[ActivationSource]) -> Any:
        return self._fed(sources, np.arange(self.models()[0].sample_count)).finish()

    def _agree(self, first: Any, second: Any) -> None:
        one, other = _numbers(first), _numbers(second)
        assert one, "the result holds no number that could be compared"
        assert list(one) == list(other)
        for path, values in one.items():
            np.testing.assert_allclose(
                values, other[path], rtol=self.tolerance, atol=self.tolerance, err_msg=path or "result"
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
