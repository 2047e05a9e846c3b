"""The ``probes`` analysis."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, field_validator

from outcrop import Analysis, Parameters
from outcrop.errors import did_you_mean

if TYPE_CHECKING:
    import xarray as xr

    from outcrop import Context, StimulusFamily

ALL = "all"


def installed_families() -> "dict[str, StimulusFamily]":
    """Return all families of stimuli, by name and version, as parameters hold them."""
    from outcrop.plugins import plugin_registry

    return {family.identity: family for family in plugin_registry().stimuli().values()}


class ProbesParameters(Parameters):
    """Parameters of the ``probes`` analysis."""

    families: tuple[str, ...] | str = Field(
        ALL,
        validate_default=True,
        description="families of stimuli, by name, separated by commas; all that are installed by default",
    )
    steps: int = Field(6, ge=2, le=17, description="values of each channel in the grid of solid colours")
    dominant_count: int = Field(3, ge=1, le=64, description="dominant samples that stimuli are made of")
    top_fraction: float = Field(
        0.05, gt=0, le=0.5, description="share of samples that count as dominant: those of the largest projection"
    )
    reference: str = Field(
        "auto",
        min_length=1,
        description="layer at which projections are compared, by name or glob; auto takes the one of the largest "
        "first component inside each model's block, or else inside its longest interval of similar layers",
    )
    search: bool = Field(
        True, description="whether to search for the colour, and the level of every family, that excites most"
    )
    batch_size: int = Field(256, ge=1, description="samples of a forward pass; fewer where they would not fit")

    @field_validator("families")
    @classmethod
    def _named_with_versions(cls, given: tuple[str, ...] | str) -> tuple[str, ...]:
        # Versions, so that a result is computed anew where the stimuli of a family have changed.
        installed = installed_families()
        if given == ALL:
            return tuple(sorted(installed))
        asked = [part.strip() for part in given.split(",")] if isinstance(given, str) else list(given)
        by_name = {family.name: identity for identity, family in installed.items()}
        unknown = [name for name in asked if name not in installed and name not in by_name]
        if unknown or not asked:
            raise ValueError(
                f"there is no family of stimuli {unknown[0] if unknown else ''!r}."
                f"{did_you_mean(unknown[0], by_name) if unknown else ''} "
                f"Installed: {', '.join(sorted(by_name)) or 'none'}"
            )
        return tuple(sorted({by_name.get(name, name) for name in asked}))


class ProbesAnalysis(Analysis):
    """What synthetic samples provoke in the layers of networks, and whether they excite blocks as real ones do.

    Every family of stimuli is shown to every model. A layer's response is measured by its norm and by where it lies on
    the first principal component of the real samples, in the features, beside the real samples' own. A solid image of
    the colour that dominant images have at their corner can excite a block more than these images do (Nguyen, Raghu and
    Kornblith 2022, arXiv 2202.07184, section 5, figure 6); here whole families are compared, and the colour and the
    statistic that excite most are searched for.

    Models must be at hand, in evaluation mode. Cost: two passes over the real samples beside those of ``blocks`` and
    ``components``, one over some 500 stimuli, and up to some 1,000 more up to the reference layer of each model.
    """

    name: ClassVar[str] = "probes"
    summary: ClassVar[str] = "responses to synthetic samples: colours, patterns, tokens, and what excites blocks most"
    version: ClassVar[str] = "1.1"
    references: ClassVar[tuple[str, ...]] = ("https://arxiv.org/abs/2202.07184",)
    produces: ClassVar[Mapping[str, str]] = {"response": "probe_response", "verdict": "probe_verdict"}
    parameters: ClassVar[type[Parameters]] = ProbesParameters
    requires: ClassVar[tuple[str, ...]] = ("blocks", "components")

    def check(self, context: "Context", parameters: Parameters) -> None:
        """Refuse models that cannot be shown stimuli, samples that no family makes stimuli for, and unknown layers.

        Raises:
            AnalysisError: A model is only stored, or not in evaluation mode; samples are of another kind; or the
                reference matches no layer.
        """
        from outcrop_probes.probing import check_probing

        assert isinstance(parameters, ProbesParameters)
        check_probing(context, parameters, _families(parameters))

    def run(self, context: "Context", parameters: Parameters) -> "Mapping[str, xr.Dataset]":
        """Return the leaves ``response`` and ``verdict``.

        Raises:
            AnalysisError: No layer tells samples apart.
        """
        from outcrop_probes.probing import probe

        assert isinstance(parameters, ProbesParameters)
        return probe(context, parameters, _families(parameters))


def _families(parameters: ProbesParameters) -> "list[StimulusFamily]":
    installed = installed_families()
    return [installed[name] for name in parameters.families]
