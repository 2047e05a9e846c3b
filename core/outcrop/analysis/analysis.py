"""What an analysis is: the class that a plugin implements."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import xarray as xr

    from outcrop.analysis.context import Context


class Parameters(BaseModel):
    """Base of an analysis' parameters: typed, validated, listed by ``outcrop plugins`` and settable with ``-p``."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Analysis(ABC):
    """One analysis of the representations of one or more models.

    Attributes:
        name: What users call it by; unique over all plugins.
        summary: One line.
        version: Raised whenever the numbers change; part of a result's identity.
        references: Papers, as URLs or DOIs.
        produces: Kind of every leaf of the result, by leaf name: ``{"pairwise": "pairwise", "blocks": "blocks"}``.
        optional: The same of leaves that only some parameters give.
        parameters: Class of the parameters.
        requires: Names of analyses whose results must exist first; the engine runs them.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    version: ClassVar[str]
    references: ClassVar[tuple[str, ...]] = ()
    produces: ClassVar[Mapping[str, str]]
    optional: ClassVar[Mapping[str, str]] = {}
    parameters: ClassVar[type[Parameters]] = Parameters
    requires: ClassVar[tuple[str, ...]] = ()

    def check(self, context: "Context", parameters: Parameters) -> None:  # noqa: B027 # few have anything to refuse
        """Refuse what the analysis cannot be run on; by default nothing.

        Called before anything is computed: results of the analyses that this one requires are not at hand yet.

        Raises:
            AnalysisError: What was found, what is needed and what to do, in one line.
        """

    @abstractmethod
    def run(self, context: "Context", parameters: Parameters) -> "Mapping[str, xr.Dataset] | xr.Dataset":
        """Return one dataset per leaf of ``produces`` (or the single one); the engine validates and stamps them.

        Those of ``optional`` may be among them.
        """
