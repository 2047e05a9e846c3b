"""The ``blocks`` analysis."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from outcrop import Analysis, Parameters
from outcrop.errors import AnalysisError

if TYPE_CHECKING:
    import xarray as xr

    from outcrop import Context

LEAST_SAMPLES = 4


class BlocksParameters(Parameters):
    """Parameters of the ``blocks`` analysis."""

    batch_size: int = Field(
        256, ge=LEAST_SAMPLES, description="samples of a CKA batch; all samples where there are fewer"
    )
    passes: int = Field(1, ge=1, description="passes over the samples, each in another order")
    detect_on: Literal["auto", "block", "act", "all"] = Field(
        "auto",
        description="layers searched for blocks: outputs of network blocks, values after activations, or all; "
        "auto takes the first of these that leaves at least 4",
    )
    bootstrap: int = Field(1000, ge=0, description="bootstrap replicates over groups of batches; 0 for no intervals")
    confidence: float = Field(0.95, gt=0, lt=1, description="of the bootstrap intervals")
    kernel: Literal["linear", "rbf", "cosine"] = Field("linear", description="kernel that CKA compares")
    bandwidth: float = Field(
        0.5, gt=0, allow_inf_nan=False, description="of the rbf kernel, as a fraction of the median distance"
    )
    remove_input: bool = Field(
        False, description="whether to regress the input's similarity out of every layer's (dCKA)"
    )
    influence: bool = Field(
        False,
        description="whether to measure how much each sample carries of every interval's similarity, in another pass",
    )


class BlocksAnalysis(Analysis):
    """CKA between all layers of all models, and block structure with its evidence.

    Similarity is minibatch CKA with the unbiased HSIC1 estimator, by default with a linear kernel, as in Nguyen, Raghu
    and Kornblith 2021 (arXiv 2010.15327, section 2.2). A block is a contiguous interval of similar layers in which the
    first principal component's share of variance is raised and whose contrast to the other layers goes with that
    component (arXiv 2202.07184, sections 3 and 4, appendix C); without both, the interval is reported and not called a
    block. The map within each model is searched on its own.
    """

    name: ClassVar[str] = "blocks"
    summary: ClassVar[str] = "CKA between all layers, and blocks of layers that share a dominant principal component"
    version: ClassVar[str] = "1.1"
    references: ClassVar[tuple[str, ...]] = ("https://arxiv.org/abs/2202.07184", "https://arxiv.org/abs/2010.15327")
    produces: ClassVar[Mapping[str, str]] = {"pairwise": "pairwise", "per_layer": "per_layer", "blocks": "blocks"}
    optional: ClassVar[Mapping[str, str]] = {"influence": "influence"}
    parameters: ClassVar[type[Parameters]] = BlocksParameters

    def check(self, context: "Context", parameters: Parameters) -> None:
        """Refuse fewer than 4 samples, and the influence on similarity without the input's.

        Raises:
            AnalysisError: With what to do.
        """
        assert isinstance(parameters, BlocksParameters)
        if context.sample_count < LEAST_SAMPLES:
            raise AnalysisError(
                f"Analysis 'blocks' needs at least {LEAST_SAMPLES} samples, which unbiased CKA divides by; "
                f"the data has {context.sample_count}."
            )
        if parameters.influence and parameters.remove_input:
            raise AnalysisError(
                "The influence of a sample is not known for CKA with remove_input, whose regression it takes part in; "
                "leave one of the two out."
            )

    def run(self, context: "Context", parameters: Parameters) -> "Mapping[str, xr.Dataset]":
        """Return the leaves ``pairwise``, ``per_layer`` and ``blocks``, and ``influence`` where it is asked for."""
        from outcrop.numerics import GramAccumulator
        from outcrop_blocks.datasets import blocks_dataset, measure_of, pairwise_dataset, per_layer_dataset
        from outcrop_blocks.evaluation import evaluate
        from outcrop_blocks.influence import influence_dataset, measure_influence

        assert isinstance(parameters, BlocksParameters)
        batch_size = min(parameters.batch_size, context.sample_count)
        accumulator = GramAccumulator(
            group_size=batch_size,
            passes=parameters.passes,
            kernel=parameters.kernel,
            bandwidth=parameters.bandwidth,
            remove_input=parameters.remove_input,
        )
        context.stream(accumulator, batch_size=batch_size)
        statistics = accumulator.finish()
        evaluations = evaluate(
            statistics,
            detect_on=parameters.detect_on,
            replicates=parameters.bootstrap,
            confidence=parameters.confidence,
            rng=context.rng,
        )
        measure = measure_of(statistics, remove_input=parameters.remove_input)
        settings: dict[str, int | float | str] = {
            "sample_count": statistics.sample_count // parameters.passes,
            "skipped_samples": statistics.skipped_samples // parameters.passes,
            "batch_size": batch_size,
            "passes": parameters.passes,
            "confidence": parameters.confidence,
            "measure": measure,
        }
        leaves = {
            "pairwise": pairwise_dataset(statistics, measure=measure).assign_attrs(settings),
            "per_layer": per_layer_dataset(statistics).assign_attrs(settings),
            "blocks": blocks_dataset(evaluations).assign_attrs(settings),
        }
        if parameters.influence:
            found = measure_influence(context, evaluations, statistics, batch_size=batch_size)
            leaves["influence"] = influence_dataset(found, context.sample_count).assign_attrs(settings)
        return leaves
