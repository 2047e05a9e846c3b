"""The ``dominant`` analysis."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from outcrop import Analysis, Parameters
from outcrop.errors import AnalysisError
from outcrop_dominant.parameters import DominantParameters

if TYPE_CHECKING:
    import xarray as xr

    from outcrop import Context


class DominantAnalysis(Analysis):
    """Which few samples dominate the layers of a network, what they share, and what goes when they do.

    Samples with large projections on a layer's first principal component carry the block structure: their activations
    are long and point one way, and without them both the component's share and the block are gone (Nguyen, Raghu and
    Kornblith 2022, arXiv 2202.07184, section 4).

    Every layer's samples are split by the modes of their projections (leaf ``dominance``) and the layers' sets compared
    (``overlap``), over all models: seeds and checkpoints are models side by side. Each model is then judged at one
    layer, that of the largest share in its block or, without a block, in the longest interval of similar layers
    (``references``): samples are left out by their rank there and the block is weighed again (``removal``, with
    ``removal_layers`` and ``removal_maps``), and what the dominant samples have in common is looked for
    (``association``, where statistics of the samples are known).

    The history of a sample over checkpoints is a selection of ``dominance``, of which every checkpoint is a model:
    ``dominance[["norm", "projection"]].sel(sample=17).where(dominance["name"] == "stage3.2", drop=True)``.
    """

    name: ClassVar[str] = "dominant"
    summary: ClassVar[str] = "the few samples that dominate the layers of a block, what they share, and the block's end"
    version: ClassVar[str] = "1.0"
    references: ClassVar[tuple[str, ...]] = ("https://arxiv.org/abs/2202.07184",)
    produces: ClassVar[Mapping[str, str]] = {
        "references": "dominance_reference",
        "dominance": "dominance",
        "overlap": "overlap",
        "removal": "removal",
        "removal_layers": "removal_layers",
        "removal_maps": "removal_maps",
    }
    optional: ClassVar[Mapping[str, str]] = {"association": "association"}
    parameters: ClassVar[type[Parameters]] = DominantParameters
    requires: ClassVar[tuple[str, ...]] = ("blocks", "components")

    def check(self, context: "Context", parameters: Parameters) -> None:
        """Refuse too few samples, and a reference that matches no layer.

        Raises:
            AnalysisError: With how many are needed, or what layers there are.
        """
        from outcrop.analysis.references import check_reference

        assert isinstance(parameters, DominantParameters)
        check_reference(context.models, parameters.reference)
        if context.sample_count < parameters.needed_samples:
            raise AnalysisError(
                f"Analysis 'dominant' needs at least {parameters.needed_samples} samples, of which "
                f"{parameters.top_fraction:.3g} can be dominant and which leave enough for CKA once "
                f"{max(parameters.fractions):.3g} of each half are removed; the data has {context.sample_count}."
            )

    def run(self, context: "Context", parameters: Parameters) -> "Mapping[str, xr.Dataset]":
        """Return the leaves that :class:`DominantAnalysis` describes.

        Raises:
            AnalysisError: A fraction leaves too few samples of every batch.
        """
        from outcrop.analysis.references import find_references
        from outcrop_dominant.association import association_dataset
        from outcrop_dominant.datasets import dominance_dataset, overlap_dataset, references_dataset
        from outcrop_dominant.removal import removal_leaves
        from outcrop_dominant.sets import DominanceMeasurement, known_projections, select_members

        assert isinstance(parameters, DominantParameters)
        blocks = context.result("blocks", "blocks")
        batch_size = min(parameters.batch_size, context.sample_count)
        known = known_projections(context, top_fraction=parameters.top_fraction)
        references = find_references(context.models, blocks, known.shares_by_layer(), layer=parameters.reference)
        selected = select_members(references, known, pooled=parameters.pooled)
        measurement = DominanceMeasurement(context, known)
        removal = removal_leaves(context, references, parameters, beside=measurement)
        dominance = measurement.finish(batch_size=batch_size)
        settings = {"sample_count": len(dominance.sample_index), "top_fraction": parameters.top_fraction}
        leaves = {
            "references": references_dataset(blocks, references, dominance, selected).assign_attrs(
                settings, pooled=parameters.pooled
            ),
            "dominance": dominance_dataset(context, dominance).assign_attrs(settings),
            "overlap": overlap_dataset(context, dominance, top_fraction=parameters.top_fraction).assign_attrs(settings),
            **removal,
        }
        members = selected.members_by_position(dominance.sample_index, context.sample_count)
        shared = association_dataset(context, references, members, parameters)
        if shared is not None:
            leaves["association"] = shared
        else:
            why = "nothing is known of the samples" if references else "no layer tells samples apart"
            leaves["references"].attrs["association"] = f"not looked for: {why}"
        return leaves
