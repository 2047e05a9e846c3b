"""Everything that an analysis may use."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from outcrop.capture.accumulator import Accumulator
from outcrop.capture.engine import stream
from outcrop.capture.source import ActivationSource, LiveSource
from outcrop.errors import AnalysisError, did_you_mean
from outcrop.models.model import Layer, Model
from outcrop.progress import Progress, silent

if TYPE_CHECKING:
    import xarray as xr

    from outcrop.data.dataset import Data


class Context:
    """The models, data, randomness and earlier results of one run.

    Args:
        sources: Selected layers of every model.
        sample_count: Number of samples of the data.
        seed: Determines every random choice of the run.
        progress: Where to report.
        results: Returns a leaf of an earlier result, by analysis and leaf name.
        data: The samples themselves, where they are at hand.
        described: Returns what is known of the samples; by default it is found out from ``data``.
        live: Models at hand by name, whose activations may come from a study; those of live sources are by default.

    Raises:
        AnalysisError: The data has another number of samples.

    Attributes:
        models: Selected layers by model name, in the order that the models were given.
        modes: Of each model: ``evaluation``, or ``batch`` where batch norm takes its statistics from the batch.
        data: The samples themselves; None where only stored activations are at hand.
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
        data: "Data | None" = None,
        described: "Callable[[], xr.Dataset | None] | None" = None,
        live: Mapping[str, Model] | None = None,
    ) -> None:
        if data is not None and len(data) != sample_count:
            raise AnalysisError(
                f"Data {data.name!r} has {len(data)} samples and the activations {sample_count}; "
                "give the data that the activations are of."
            )
        self._sources = tuple(sources)
        self._progress = progress
        self._results = results
        self._describe = described
        self._described: xr.Dataset | None = None
        self._live = {source.name: source.model for source in self._sources if isinstance(source, LiveSource)}
        self._live |= dict(live or {})
        self.models: Mapping[str, tuple[Layer, ...]] = {source.name: source.layers for source in self._sources}
        self.modes: Mapping[str, str] = {source.name: source.mode for source in self._sources}
        self.data = data
        self.sample_count = sample_count
        self.seed = seed
        self.rng = np.random.default_rng([seed, 0xA11A])

    def stream(
        self,
        *accumulators: Accumulator,
        batch_size: int,
        shuffle: bool = True,
        models: Sequence[str] | None = None,
        layers: Mapping[str, Collection[str]] | None = None,
        data: "Data | None" = None,
    ) -> None:
        """Feed accumulators with the selected layers of all models until none needs another pass.

        Args:
            accumulators: What the activations are reduced to.
            batch_size: Samples of a group; the last group has what remains.
            models: Names of those that see each group of samples, one after the other in this order; by default all, as
                they were given, or those of ``layers``.
            shuffle: Draw a fresh permutation for every pass, from the seed. Data is often sorted by class, and
                estimators over groups assume samples drawn without replacement from all of it.
            layers: Names of the layers to visit, by model, of those selected; no other is computed beyond what these
                need, or read. All layers of a model that is in ``models`` and not here.
            data: Other samples than those of the run, such as stimuli, which go through the same networks with the
                models' own preprocessing. Accumulators are given positions in these.

        Raises:
            AnalysisError: There is no such model or layer, or none is named, or a model twice; or the data is other
                than that of the run, and a model is at hand as stored activations only.
            DataNotFoundError: The data has no sample.
        """
        sources = [self._source(name, layers) for name in self._chosen(models, layers)]
        count = self.sample_count
        if data is not None:
            from outcrop.data.content import refuse_empty

            count = len(data)
            refuse_empty(count, data.name)
            sources = [self._over(source, data) for source in sources]
        stream(
            sources,
            accumulators,
            order=lambda index: self._order(index, count) if shuffle else np.arange(count),
            batch_size=batch_size,
            progress=self._progress,
        )

    def order(self, index: int = 0) -> NDArray[np.int64]:
        """Return positions of all samples in the order in which pass ``index`` of a shuffled stream shows them."""
        return self._order(index, self.sample_count)

    def is_live(self, model: str) -> bool:
        """Return whether a model is at hand itself, so that it can be shown other samples."""
        return model in self._live

    def described(self) -> "xr.Dataset | None":
        """Return what is known of the samples, in the order of their positions; None where nothing is.

        Along ``sample``, a coordinate of ids: ``label`` (position in the attribute ``classes``), statistics by name
        with ``long_name`` and ``units``, and ``thumbnail`` (sample, y, x, channel), each where it is known. Where no
        study knows it, every sample is read, once.

        Raises:
            DataReadError: A sample cannot be read.
        """
        if self._describe is None and self.data is not None:
            from outcrop.data.description import described_data

            data = self.data
            self._describe = lambda: described_data(data, progress=self._progress)
        if self._described is None and self._describe is not None:
            self._described = self._describe()
        return self._described

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

    def _chosen(self, models: Sequence[str] | None, layers: Mapping[str, Collection[str]] | None) -> list[str]:
        named = list(layers or ())
        # Models keep the order in which they were given, whatever that of the layers.
        chosen = [name for name in self.models if layers is None or name in named]
        chosen = list(models) if models is not None else chosen
        unknown = [name for name in [*chosen, *named] if name not in self.models]
        if unknown:
            raise AnalysisError(f"There is no model {unknown[0]!r} to stream; the run is of {', '.join(self.models)}.")
        if not chosen or len(set(chosen)) < len(chosen):
            words = ", ".join(map(repr, chosen)) or "none"
            raise AnalysisError(f"The models to stream are {words}; name one or more of them, and each once.")
        return chosen

    def _source(self, model: str, layers: Mapping[str, Collection[str]] | None) -> ActivationSource:
        source = next(source for source in self._sources if source.name == model)
        if layers is None or model not in layers:
            return source
        known = [layer.name for layer in self.models[model]]
        unknown = [name for name in layers[model] if name not in known]
        if unknown or not layers[model]:
            what = f"no layer {unknown[0]!r}" if unknown else "no layer named"
            near = did_you_mean(unknown[0], known) if unknown else ""
            raise AnalysisError(
                f"There is {what} to stream of model {model!r};{near} name some of the {len(known)} that were selected."
            )
        return source.of_layers(layers[model])

    def _over(self, source: ActivationSource, data: "Data") -> ActivationSource:
        model = self._live.get(source.name)
        if model is None:
            raise AnalysisError(
                f"Model {source.name!r} is at hand as stored activations, which cannot see new samples: "
                "give the model itself."
            )
        if isinstance(source, LiveSource) and source.model is model:
            return source.over(data)
        return LiveSource(model, source.layers, data)

    def _order(self, index: int, count: int) -> NDArray[np.int64]:
        return np.random.default_rng([self.seed, index]).permutation(count)
