"""The ``components`` analysis under the suite that every plugin can inherit."""

from collections.abc import Mapping
from typing import Any, ClassVar

from outcrop.testing import AnalysisTests
from outcrop_components.analysis import ComponentsAnalysis


class TestComponents(AnalysisTests):
    analysis = ComponentsAnalysis
    parameters: ClassVar[Mapping[str, Any]] = {"batch_size": 32}
    # Projections and norms grow with the features, and lie along the samples.
    invariances = ("orthogonal", "shift")


class TestWithoutMaps(AnalysisTests):
    analysis = ComponentsAnalysis
    parameters: ClassVar[Mapping[str, Any]] = {"batch_size": 32, "map_without": False, "count": 3}
    invariances = ("orthogonal", "shift")
