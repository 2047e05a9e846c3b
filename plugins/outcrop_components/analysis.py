"""The ``components`` analysis."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from outcrop import Analysis, Parameters
from outcrop.errors import AnalysisError

if TYPE_CHECKING:
    import xarray as xr

    from outcrop import Context

LEAST_SAMPLES = 4
LEAST_VECTORS = 8


class ComponentsParameters(Parameters):
    """Parameters of the ``components`` analysis."""

    count: int = Field(8, ge=1, le=64, description="principal components whose shares of variance are told")
    tolerance: float = Field(
        1e-4,
        ge=1e-12,
        lt=1,
        description="residual, as a share of the variance it holds, that the first component needs",
    )
    maximum_passes: int = Field(
        12, ge=2, description="passes over the samples at most; what has not converged by then says so"
    )
    batch_size: int = Field(
        256, ge=LEAST_SAMPLES, description="samples of a CKA batch; all samples where there are fewer"
    )
    map_without: bool = Field(
        True, description="whether to map similarity without the first components too, which takes a pass of its own"
    )


class ComponentsAnalysis(Analysis):
    """Principal components of every layer over all samples, and which samples carry them.

    What the first component of a layer holds, over all samples at once and not within batches, which overstate it:
    its share of variance, where every sample lies on it, how many samples carry it, how far the layers' first
    components are the same, and the similarity that is left without them (Nguyen, Raghu and Kornblith 2022,
    arXiv 2202.07184, section 4 and appendix C).
    """

    name: ClassVar[str] = "components"
    summary: ClassVar[str] = "principal components of every layer over all samples, and the samples that carry them"
    version: ClassVar[str] = "1.0"
    references: ClassVar[tuple[str, ...]] = ("https://arxiv.org/abs/2202.07184", "https://arxiv.org/abs/2010.15327")
    produces: ClassVar[Mapping[str, str]] = {
        "pairwise": "pairwise",
        "per_layer": "per_layer",
        "projections": "projections",
    }
    parameters: ClassVar[type[Parameters]] = ComponentsParameters

    def check(self, context: "Context", parameters: Parameters) -> None:
        """Refuse fewer than 4 samples.

        Raises:
            AnalysisError: With how many there are.
        """
        assert isinstance(parameters, ComponentsParameters)
        if context.sample_count < LEAST_SAMPLES:
            raise AnalysisError(
                f"Analysis 'components' needs at least {LEAST_SAMPLES} samples, which unbiased CKA divides by; "
                f"the data has {context.sample_count}."
            )

    def run(self, context: "Context", parameters: Parameters) -> "Mapping[str, xr.Dataset]":
        """Return the leaves ``pairwise``, ``per_layer`` and ``projections``."""
        from outcrop.numerics import ComponentsAccumulator, GramAccumulator
        from outcrop_components.datasets import pairwise_dataset, per_layer_dataset, projections_dataset

        assert isinstance(parameters, ComponentsParameters)
        batch_size = min(parameters.batch_size, context.sample_count)
        accumulator = ComponentsAccumulator(
            count=parameters.count,
            vectors=max(parameters.count, LEAST_VECTORS),
            tolerance=parameters.tolerance,
            maximum_passes=parameters.maximum_passes,
            seed=context.seed,
        )
        if parameters.map_without:
            context.stream(accumulator, batch_size=batch_size)
            components = accumulator.finish()
            grams = GramAccumulator(group_size=batch_size, projections=components.projections_by_layer())
            context.stream(grams, batch_size=batch_size)
        else:
            grams = GramAccumulator(group_size=batch_size, principal_component=False)
            context.stream(accumulator, grams, batch_size=batch_size)
            components = accumulator.finish()
        similarity = grams.finish()
        settings: dict[str, int | float] = {
            "sample_count": len(components.sample_index),
            "skipped_samples": similarity.skipped_samples,
            "batch_size": batch_size,
            "passes": int(components.passes.max()),
            "tolerance": parameters.tolerance,
        }
        return {
            "pairwise": pairwise_dataset(components, similarity).assign_attrs(settings),
            "per_layer": per_layer_dataset(components).assign_attrs(settings),
            "projections": projections_dataset(components).assign_attrs(settings),
        }
