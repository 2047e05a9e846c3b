"""Every error that outcrop raises on purpose, each also the builtin that a caller expects.

A message says in one line what was found, what was expected and what to do.
"""

import difflib
from collections.abc import Iterable


class OutcropError(Exception):
    """Base of all expected errors; the command line prints it as one line and exits with 1."""

    def __str__(self) -> str:
        # KeyError would show the repr of its message.
        return " ".join(str(argument) for argument in self.args)


class ModelNotFoundError(OutcropError, KeyError):
    """No model answers to the reference."""


class ModelLoadError(OutcropError, ValueError):
    """The model was found, and cannot be read or run."""


class LayerNotFoundError(OutcropError, KeyError):
    """A layer selection matches nothing."""


class InputError(OutcropError, ValueError):
    """Samples do not fit the inputs of a model."""


class DataNotFoundError(OutcropError, FileNotFoundError):
    """No data answers to the reference, or it holds no sample."""


class DataReadError(OutcropError, ValueError):
    """Data was found, and some of it cannot be read."""


class MissingDependencyError(OutcropError, ImportError):
    """An optional package is needed, or an installed one is broken."""


class PluginError(OutcropError, RuntimeError):
    """A plugin is broken; the original error is the cause."""


class PluginConflictError(PluginError):
    """Two plugins offer the same name."""


class AnalysisNotFoundError(OutcropError, KeyError):
    """No plugin offers the analysis."""


class AnalysisError(OutcropError, RuntimeError):
    """An analysis cannot be run as asked."""


class ParameterError(OutcropError, ValueError):
    """A parameter is unknown or out of its range."""


class SchemaError(OutcropError, ValueError):
    """A dataset does not satisfy its declared kind; lists every problem."""


class StudyError(OutcropError, ValueError):
    """A study cannot be opened, read or written as asked."""


class StudyNotFoundError(StudyError, FileNotFoundError):
    """No study at the given location."""


class StudyVersionError(StudyError):
    """The study was written by a newer outcrop."""


class StudyLockedError(StudyError):
    """Another process is writing to the study."""


class SampleNotFoundError(OutcropError, KeyError):
    """A selection of samples matches none."""


class ReportError(OutcropError, ValueError):
    """A report cannot be made of what the study holds."""


class ZooError(OutcropError, ValueError):
    """A zoo card, its file or its recipe is not as it should be."""


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """Return a sentence that suggests near names, or an empty string; begins with a space."""
    options = list(options)
    near = difflib.get_close_matches(name, options, n=3, cutoff=0.5)
    if not near:
        near = [option for option in options if name.lower() in option.lower()][:3]
    return f" Did you mean {' or '.join(repr(option) for option in near)}?" if near else ""
