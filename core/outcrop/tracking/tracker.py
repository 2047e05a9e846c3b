"""The tracker: called in a training loop, it looks at the network and leaves it as it was."""

import math
import warnings
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from outcrop.analysis.validation import annotate_result, validate_result
from outcrop.data import batches, load_data
from outcrop.errors import AnalysisError, OutcropError, ParameterError
from outcrop.models.model import Layer, Model
from outcrop.models.selection import Selection, select_layers
from outcrop.models.torch_ import TorchModel
from outcrop.numerics import GramAccumulator, GramStatistics
from outcrop.tracking.isolation import undisturbed
from outcrop.tracking.memory import GramMemory
from outcrop.tracking.storing import StoredTrajectory
from outcrop.tracking.trajectory import Moment, trajectory_dataset

if TYPE_CHECKING:
    import os

    import xarray as xr

    from outcrop.store.study import Study

Mode = Literal["evaluation", "training"]
Compared = Literal["first", "previous"]


class TrackingWarning(UserWarning):
    """What was tracked could not be stored yet; training goes on, and the next step tries again."""


class Tracker:
    """Follows the layers of a network while it trains: PC1's share of variance, and CKA of all layers with all.

    At every tracked step the network sees the same samples. It is left to the last bit as it was: modes, running
    statistics, gradients and random numbers (see :func:`outcrop.tracking.undisturbed`); training with a tracker gives
    the weights that training without it gives. Similarity is minibatch CKA (HSIC1, linear kernel; arXiv 2010.15327,
    equation 2), the share is that of the first principal component within batches (arXiv 2202.07184).

    In a study, what is tracked is one result of kind ``trajectory`` under ``results/tracking``, renewed as a whole at
    every tracked step: readers see the old one or the new one, and a training that is killed loses nothing tracked.

    Cost: a forward pass over the samples, and that of :class:`outcrop.numerics.GramAccumulator`; the samples
    stay in memory, ready for the network. What is written at a step grows with the steps before it, by 8 bytes for
    each pair of layers: 40 MB at the thousandth step of 70 layers, 2.6 GB of 570; so choose ``layers`` or ``every``.
    In training over several processes, track in one of them.

    Args:
        network: A module, wrapped (``DataParallel``, ``torch.compile``) or not; or a loaded torch model.
        images: Samples that the network sees: data, or what :func:`outcrop.load_data` takes. Arrays and tensors
            are given to the network as they are; pictures are preprocessed as the model states.
        layers: What :func:`outcrop.select_layers` takes.
        batch_size: Samples of a batch, the n of HSIC1.
        every: Of the steps that the tracker is called with, those are tracked that this divides.
        mode: ``evaluation``, or ``training``: with dropout (the same at every step) and statistics of the batch. Those
            without dropout: give ``outcrop.load_model(network, batch_norm="batch")`` as the network.
        compare: ``first``, ``previous`` or both: CKA of each layer with itself at that tracked step.
        study: Where to store: an open study, or a path, URL or store; None keeps it in memory.
        name: Of the model; by default the class of the network.
        resume: Whether to continue, after a restart, what the study holds of the same name, layers and samples. Steps
            from the first one tracked on are then replaced. The network of the first step is gone by then, so what
            compares with it is NaN, unless training starts at that step again.

    Raises:
        ParameterError: An option is out of its range.
        LayerNotFoundError: The selection matches nothing.
        AnalysisError: Fewer than 4 samples; or ``resume``, and the study holds nothing to continue.
        InputError: The samples do not fit the network.
    """

    def __init__(
        self,
        network: nn.Module | TorchModel,
        images: Any,
        *,
        layers: Selection = "block",
        batch_size: int = 256,
        every: int = 1,
        mode: Mode = "evaluation",
        compare: Collection[Compared] = (),
        study: "Study | str | os.PathLike[str] | None" = None,
        name: str | None = None,
        resume: bool = False,
    ) -> None:
        _check_options(every, mode, compare, study, resume)
        self.every = every
        self._compare = tuple(one for one in get_args(Compared) if one in compare)
        self._data = load_data(images)
        self._model = _model(network, self._data.read(0), name)
        # A model may have been loaded so that its batch norm takes the statistics of the batch.
        self.mode = mode if mode == "training" else self._model.mode
        self._batch_size = min(batch_size, len(self._data))
        # Made now, so that what does not fit is told before training begins.
        GramAccumulator(group_size=self._batch_size)
        model: Model = self._model
        with undisturbed(self._model.network):
            self.layers: tuple[Layer, ...] = select_layers(model, layers)
            self._batches = list(batches(self._data, self._model, batch_size=self._batch_size))
        self._memories: dict[str, GramMemory] = {}
        self._moments: list[Moment] = []
        self._resumed = False
        self._stored: StoredTrajectory | None = None
        if study is not None:
            selection = layers if isinstance(layers, str) else ""
            self._stored = StoredTrajectory(study, self._model, self.layers, self._data, selection, self._settings())
            if resume:
                self._moments = self._stored.resume()
                self._resumed = True

    @property
    def dataset(self) -> "xr.Dataset":
        """All that was tracked, of kind ``trajectory``: (step, layer) and (step, layer_a, layer_b).

        Raises:
            AnalysisError: Nothing was tracked yet.
        """
        if not self._moments:
            raise AnalysisError("Nothing was tracked yet; call the tracker with a step.")
        made = annotate_result(
            trajectory_dataset(self._moments, self._model.name, self.layers, self._attributes()), "trajectory"
        )
        validate_result(made)
        return made

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps that were tracked."""
        return tuple(moment.step for moment in self._moments)

    def __call__(self, step: int) -> bool:
        """Track a step if it is due, and return whether it was.

        Raises:
            ParameterError: The step does not come after the last one.
        """
        if step % self.every:
            return False
        self.update(step)
        return True

    def update(self, step: int) -> None:
        """Track a step, and store it where there is a study.

        Raises:
            ParameterError: The step is negative, or does not come after the last one.
            AnalysisError: Fewer than 4 samples.
        """
        if step < 0:
            raise ParameterError(f"The step is {step}; expected a whole number, 0 or above.")
        if self._resumed:
            self._moments = [moment for moment in self._moments if moment.step < step]
            self._resumed = False
        if self._moments and step <= self._moments[-1].step:
            raise ParameterError(
                f"Step {step} does not come after step {self._moments[-1].step}, which was tracked last; "
                "steps must increase."
            )
        self._moments.append(self._look(int(step)))
        if self._stored is not None:
            try:
                self.save()
            except (OutcropError, OSError) as error:
                warnings.warn(
                    f"Step {step} of {self._model.name!r} was tracked and could not be stored: {error} "
                    "The next tracked step, or save(), tries again.",
                    TrackingWarning,
                    stacklevel=2,
                )

    def save(self) -> None:
        """Store all that was tracked; called at every tracked step.

        Raises:
            AnalysisError: Nothing was tracked yet, or there is no study.
            StudyError: The study cannot be written to.
        """
        if self._stored is None:
            raise AnalysisError("The tracker has no study to save to; give it study=PATH.")
        self._stored.write(self.dataset)

    def _look(self, step: int) -> Moment:
        accumulator = GramAccumulator(group_size=self._batch_size)
        memory = GramMemory()
        names = [layer.name for layer in self.layers]
        with undisturbed(self._model.network, training=self.mode == "training"):
            for batch in self._batches:

                def keep(layer: Layer, values: Tensor, index: NDArray[np.int64] = batch.sample_index) -> None:
                    accumulator.update(self._model.name, layer, index, values)
                    if self._compare:
                        memory.update(layer.name, values)

                self._model.visit(batch.inputs, names, keep)
                accumulator.end_batch()
        statistics = accumulator.finish()
        values: dict[str, NDArray[Any]] = {
            "similarity": (statistics.similarity + statistics.similarity.T) / 2,
            "pc_share": _shares(statistics),
            "degenerate": statistics.degenerate,
            "non_finite_count": statistics.non_finite_count.astype(np.int64),
        }
        if self._compare:
            if not self._moments:
                self._memories["first"] = memory
            for name in self._compare:
                values[f"similarity_to_{name}"] = _similarities(memory, self._memories.get(name), statistics)
            self._memories["previous"] = memory
        return Moment(step, values)

    def _settings(self) -> dict[str, Any]:
        return {"batch_size": self._batch_size, "mode": self.mode, "compare": list(self._compare)}

    def _attributes(self) -> dict[str, Any]:
        used = len(self._data) - (len(self._data) % self._batch_size if len(self._data) % self._batch_size < 4 else 0)
        return {"sample_count": used, "batch_size": self._batch_size, "mode": self.mode}


def _model(network: nn.Module | TorchModel, sample: Any, name: str | None) -> TorchModel:
    if isinstance(network, TorchModel):
        return network
    wrapped = isinstance(network, nn.DataParallel | nn.parallel.DistributedDataParallel)
    module: nn.Module = network.module if wrapped else network  # type: ignore[assignment] # a Module it is
    shape = sample.shape if isinstance(sample, np.ndarray) else None
    with undisturbed(module):
        return TorchModel(module, name=name, input_shape=shape)


def _similarities(now: GramMemory, earlier: GramMemory | None, statistics: GramStatistics) -> NDArray[np.float64]:
    """Return each layer's similarity to itself at an earlier step; NaN where that is not known: before it, or lost."""
    if earlier is None:
        return np.full(len(statistics.layers), math.nan)
    return np.array(
        [
            math.nan if out else now.similarity(layer.name, earlier)
            for (_, layer), out in zip(statistics.layers, statistics.degenerate, strict=True)
        ]
    )


def _shares(statistics: GramStatistics) -> NDArray[np.float64]:
    assert statistics.pc_share is not None  # was asked for
    return statistics.pc_share


def _check_options(every: int, mode: str, compare: Collection[str], study: object, resume: bool) -> None:
    if every < 1:
        raise ParameterError(f"every is {every}; expected a whole number above 0.")
    if mode not in get_args(Mode):
        raise ParameterError(f"Unknown mode {mode!r}; expected {' or '.join(get_args(Mode))}.")
    unknown = [one for one in ([compare] if isinstance(compare, str) else compare) if one not in get_args(Compared)]
    if unknown or isinstance(compare, str):
        raise ParameterError(f"compare is {compare!r}; expected a list of any of {', '.join(get_args(Compared))}.")
    if resume and study is None:
        raise ParameterError("resume needs the study that holds what is to be continued; give study=PATH.")
