"""Everything that an analysis may use."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from outcrop.capture.accumulator import Accumulator
from outcrop.capture.engine import stream
from outcrop.capture.source import ActivationSource
from outcrop.errors import AnalysisError
from outcrop.models.model import Layer
from outcrop.progress import Progress, silent

if TYPE_CHECKING:
    import xarray as xr


class Context:
    """The models, data, randomness and earlier results of one run.

    Args:
        sources: Selected layers of every model.
        sample_count: Number of samples of the data.
        seed: Determines every random choice of the run.
        progress: Where to report.
        results: Returns a leaf of an earlier result, by analysis and leaf name.

    Attributes:
        models: Selected layers by model name, in the order that the models were given.
        modes: Of each model: ``evaluation``, or ``batch`` where batch norm takes its statistics from the batch.
        sample_count: Number of samples.
        seed: Of this run.
        rng: A generator of its own for the analysis; the order of samples does not draw from it.
    """

    def __init__(
        self,
        sources: Sequence[ActivationSource],
        *,
        sample_count: int,
        seed: int = 0,
        progress: Progress = silent,
        results: "Callable[[str, str], xr.Dataset] | None" = None,
    ) -> None:
        self._sources = tuple(sources)
        self._progress = progress
        self._results = results
        self.models: Mapping[str, tuple[Layer, ...]] = {source.name: source.layers for source in self._sources}
        self.modes: Mapping[str, str] = {source.name: source.mode for source in self._sources}
        self.sample_count = sample_count
        self.seed = seed
        self.rng = np.random.default_rng([seed, 0xA11A])

    def stream(
        self,
        *accumulators: Accumulator,
        batch_size: int,
        shuffle: bool = True,
        models: Sequence[str] | None = None,
    ) -> None:
        """Feed accumulators with all selected layers of all models until none needs another pass.

        Args:
            accumulators: What the activations are reduced to.
            batch_size: Samples of a group; the last group has what remains.
            models: Names of those that see each group of samples, one after the other in this order; by default all, as
                they were given.
            shuffle: Draw a fresh permutation for every pass, from the seed. Data is often sorted by class, and
                estimators over groups assume samples drawn without replacement from all of it.

        Raises:
            AnalysisError: There is no such model, or none is named, or one twice.
        """
        chosen = list(self.models) if models is None else list(models)
        unknown = [name for name in chosen if name not in self.models]
        if unknown:
            raise AnalysisError(f"There is no model {unknown[0]!r} to stream; the run is of {', '.join(self.models)}.")
        if not chosen or len(set(chosen)) < len(chosen):
            named = ", ".join(map(repr, chosen)) or "none"
            raise AnalysisError(f"The models to stream are {named}; name one or more of them, and each once.")
        by_name = {source.name: source for source in self._sources}
        stream(
            [by_name[name] for name in chosen],
            accumulators,
            order=lambda index: self._order(index) if shuffle else np.arange(self.sample_count),
            batch_size=batch_size,
            progress=self._progress,
        )

    def layer_coordinates(self, dimension: str = "layer", suffix: str = "") -> "dict[str, tuple[str, list[Any]]]":
        """Return the coordinates of all selected layers of all models along one flat dimension, as the kinds declare.

        Args:
            dimension: Name of the dimension.
            suffix: Of the coordinates' names: ``_a`` and ``_b`` for the two sides of a ``pairwise`` result.
        """
        layers = [(model, layer) for model, chosen in self.models.items() for layer in chosen]
        columns: dict[str, list[Any]] = {
            "model": [model for model, _ in layers],
            "name": [layer.name for _, layer in layers],
            "depth": [layer.index for _, layer in layers],
            "layer_kind": [layer.kind for _, layer in layers],
        }
        return {f"{name}{suffix}": (dimension, column) for name, column in columns.items()}

    def result(self, analysis: str, leaf: str) -> "xr.Dataset":
        """Return a leaf of the result of an analysis that this one requires.

        Raises:
            AnalysisError: The analysis did not declare that it requires the other.
        """
        if self._results is None:
            raise AnalysisError(
                f"No result of {analysis!r} is at hand: name it in the analysis' 'requires' and run it through a study."
            )
        return self._results(analysis, leaf)

    def _order(self, index: int) -> NDArray[np.int64]:
        return np.random.default_rng([self.seed, index]).permutation(self.sample_count)
