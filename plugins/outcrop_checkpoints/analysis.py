"""The ``checkpoints`` analysis."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from outcrop import Analysis, Parameters
from outcrop.errors import AnalysisError

if TYPE_CHECKING:
    import xarray as xr

    from outcrop import Context, Layer

LEAST_SAMPLES = 4


def _split(value: Any) -> Any:
    """Return ``0,120,240`` or ``[0, 120, 240]``, as the command line gives it, as a list."""
    return (
        [part.strip() for part in value.strip().removeprefix("[").removesuffix("]").split(",")]
        if isinstance(value, str)
        else value
    )


class CheckpointsParameters(Parameters):
    """Parameters of the ``checkpoints`` analysis."""

    steps: Annotated[tuple[Annotated[int, Field(ge=0)], ...] | None, BeforeValidator(_split)] = Field(
        None,
        description="training step of each model, increasing (0,120,240); by default the last number of their names, "
        "else their positions",
    )
    batch_size: int = Field(
        256, ge=LEAST_SAMPLES, description="samples of a CKA batch; all samples where there are fewer"
    )
    passes: int = Field(1, ge=1, description="passes over the samples, each in another order")


class CheckpointsAnalysis(Analysis):
    """The layers of a network at several steps of its training: CKA within each step, and with the last step.

    Similarity is minibatch CKA with the unbiased HSIC1 estimator and a linear kernel (arXiv 2010.15327, section 2.2);
    the share of variance of the first principal component is taken within batches (arXiv 2202.07184, sections 4 and 5).
    One pass over the data does for all checkpoints, and the Gram matrices of two of them are held at a time.

    The paper runs batch norm in training mode when it follows a training: load every checkpoint with
    ``batch_norm="batch"`` (``?batch_norm=batch``) for that; statistics are then those of each CKA batch.
    """

    name: ClassVar[str] = "checkpoints"
    summary: ClassVar[str] = "CKA between the layers of each checkpoint of a training, and with those of the last"
    version: ClassVar[str] = "1.0"
    references: ClassVar[tuple[str, ...]] = ("https://arxiv.org/abs/2202.07184", "https://arxiv.org/abs/2010.15327")
    produces: ClassVar[Mapping[str, str]] = {"trajectory": "trajectory"}
    parameters: ClassVar[type[Parameters]] = CheckpointsParameters

    def check(self, context: "Context", parameters: Parameters) -> None:
        """Refuse what is no series of checkpoints, and fewer than 4 samples.

        Raises:
            AnalysisError: Fewer than two checkpoints or 4 samples, steps that do not fit them, or checkpoints that
                differ in their layers or in the mode that they run in.
        """
        from outcrop_checkpoints.steps import order_checkpoints

        assert isinstance(parameters, CheckpointsParameters)
        series = order_checkpoints(list(context.models), parameters.steps)
        common_layers({name: context.models[name] for name in series.checkpoints})
        _common_mode(context.modes)
        if context.sample_count < LEAST_SAMPLES:
            raise AnalysisError(
                f"Analysis 'checkpoints' needs at least {LEAST_SAMPLES} samples, which unbiased CKA divides by; "
                f"the data has {context.sample_count}."
            )

    def run(self, context: "Context", parameters: Parameters) -> "Mapping[str, xr.Dataset]":
        """Return the leaf ``trajectory``."""
        from outcrop.numerics import SeriesAccumulator
        from outcrop_checkpoints.datasets import trajectory_dataset
        from outcrop_checkpoints.steps import order_checkpoints

        assert isinstance(parameters, CheckpointsParameters)
        series = order_checkpoints(list(context.models), parameters.steps)
        layers = common_layers({name: context.models[name] for name in series.checkpoints})
        mode = _common_mode(context.modes)
        batch_size = min(parameters.batch_size, context.sample_count)
        accumulator = SeriesAccumulator(series.checkpoints, layers, group_size=batch_size, passes=parameters.passes)
        # The others are held against the last one, which therefore comes first.
        *others, last = series.checkpoints
        context.stream(accumulator, batch_size=batch_size, models=[last, *others])
        statistics = accumulator.finish()
        settings: dict[str, int | str] = {
            "sample_count": statistics.sample_count // parameters.passes,
            "skipped_samples": statistics.skipped_samples // parameters.passes,
            "batch_size": batch_size,
            "passes": parameters.passes,
            "mode": mode,
        }
        return {"trajectory": trajectory_dataset(series, layers, statistics).assign_attrs(settings)}


def common_layers(models: "Mapping[str, tuple[Layer, ...]]") -> "tuple[Layer, ...]":
    """Return the layers that all checkpoints have.

    Raises:
        AnalysisError: They differ; the first difference is named.
    """
    names = list(models)
    last = models[names[-1]]
    for name in names[:-1]:
        for mine, other in zip(models[name], last, strict=False):
            if (mine.name, mine.shape) != (other.name, other.shape):
                raise AnalysisError(
                    f"Checkpoints must be of one network: {name!r} has layer {mine.name!r} of shape {mine.shape} where "
                    f"{names[-1]!r} has {other.name!r} of shape {other.shape}."
                )
        if len(models[name]) != len(last):
            longer, shorter = (name, names[-1]) if len(models[name]) > len(last) else (names[-1], name)
            extra = models[longer][len(models[shorter])]
            raise AnalysisError(
                f"Checkpoints must be of one network: {longer!r} has layer {extra.name!r}, which {shorter!r} lacks."
            )
    return last


def _common_mode(modes: Mapping[str, str]) -> str:
    found = {mode: name for name, mode in modes.items()}
    if len(found) > 1:
        (one, first), (other, second) = list(found.items())[:2]
        raise AnalysisError(
            f"Checkpoints must run in one mode: {first!r} runs in {one!r} and {second!r} in {other!r}. Load all "
            "of them with the same batch_norm."
        )
    return next(iter(found))
