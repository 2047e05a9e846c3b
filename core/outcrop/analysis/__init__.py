"""What an analysis is, what it is given, and how one is run, validated and stamped."""

from outcrop.analysis.analysis import Analysis, Parameters
from outcrop.analysis.context import Context

__all__ = ["Analysis", "Context", "Parameters"]
