"""Read what a plugin's hook returned: every offer by its name, or an error that says what was found and expected."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outcrop.errors import PluginError

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.\-]*")
_ANALYSIS_ATTRIBUTES = ("name", "summary", "version", "produces")


def read_offers(hook: str, value: object) -> dict[str, Any]:
    """Return the offers of one hook call by name; what identifies an offer depends on the hook.

    Args:
        hook: Name of the hook, such as ``outcrop_analyses``.
        value: What the plugin's implementation returned; None is nothing offered.

    Raises:
        PluginError: The value is not what the hook promises, or offers one name twice.
    """
    if value is None:
        return {}
    return HOOKS[hook].read(hook, value)


def own_names(hook: str) -> frozenset[str]:
    """Return the names that outcrop has itself among what a hook offers; a plugin cannot take them."""
    return frozenset(HOOKS[hook].own())


def _refuse(hook: str, found: object, expected: str) -> PluginError:
    return PluginError(f"{hook}() returned {_describe(found)}; expected {expected}.")


def _describe(found: object) -> str:
    if isinstance(found, type):
        return f"the class {found.__name__}"
    text = repr(found)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(found).__name__})"


def _items(hook: str, value: object, expected: str) -> Sequence[object]:
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise _refuse(hook, value, f"a list of {expected}")
    return value


def _by_name(hook: str, named: Sequence[tuple[object, Any]]) -> dict[str, Any]:
    offers: dict[str, Any] = {}
    for name, offer in named:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise _refuse(hook, name, "names of letters, digits, '_', '-' and '.', that begin with a letter")
        if name in offers:
            raise PluginError(f"{hook}() offers {name!r} twice; names must be unique.")
        offers[name] = offer
    return offers


def _read_callables(hook: str, value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _refuse(hook, value, "a mapping of names to functions")
    for name, offer in value.items():
        if not callable(offer):
            raise _refuse(hook, offer, f"a function for {name!r}")
    return _by_name(hook, list(value.items()))


def _read_analyses(hook: str, value: object) -> dict[str, Any]:
    from outcrop.analysis.analysis import Analysis

    expected = "subclasses of outcrop.Analysis"
    named: list[tuple[object, Any]] = []
    for item in _items(hook, value, expected):
        if not isinstance(item, type) or not issubclass(item, Analysis):
            raise _refuse(hook, item, expected)
        missing = [attribute for attribute in _ANALYSIS_ATTRIBUTES if not getattr(item, attribute, None)]
        missing += sorted(getattr(item, "__abstractmethods__", ()))
        if missing:
            raise PluginError(f"{hook}() returned the class {item.__name__}, which lacks {', '.join(missing)}.")
        named.append((item.name, item))
    return _by_name(hook, named)


def _read_stimuli(hook: str, value: object) -> dict[str, Any]:
    from outcrop.stimuli import StimulusFamily

    families = _items(hook, value, "stimulus families")
    for item in families:
        if not isinstance(item, StimulusFamily):
            raise _refuse(hook, item, "instances of outcrop.StimulusFamily")
    return _by_name(hook, [(item.name, item) for item in families if isinstance(item, StimulusFamily)])


def _read_folders(hook: str, value: object) -> dict[str, Any]:
    offers: dict[str, Any] = {}
    for item in _items(hook, value, "folders"):
        if not isinstance(item, str | Path) or not Path(item).is_dir():
            raise _refuse(hook, item, "paths of existing folders")
        offers[str(item)] = Path(item)
    return offers


def _read_commands(hook: str, value: object) -> dict[str, Any]:
    import click

    commands = _items(hook, value, "click commands")
    for item in commands:
        if not isinstance(item, click.Command):
            raise _refuse(hook, item, "instances of click.Command")
    return _by_name(hook, [(item.name, item) for item in commands if isinstance(item, click.Command)])


def _read_kinds(hook: str, value: object) -> dict[str, Any]:
    from outcrop_schemas import Kind

    kinds = _items(hook, value, "result kinds")
    for item in kinds:
        if not isinstance(item, Kind):
            raise _refuse(hook, item, "instances of outcrop_schemas.Kind")
    return _by_name(hook, [(item.name, item) for item in kinds if isinstance(item, Kind)])


def _read_figures(hook: str, value: object) -> dict[str, Any]:
    from outcrop.report.figure import Figure

    figures = _items(hook, value, "figures")
    for item in figures:
        if not isinstance(item, Figure):
            raise _refuse(hook, item, "instances of outcrop.report.figure.Figure")
    return _by_name(hook, [(item.kind, item) for item in figures if isinstance(item, Figure)])


def _own_models() -> Iterable[str]:
    from outcrop.models.sources import OWN_LOADERS

    return OWN_LOADERS


def _own_data() -> Iterable[str]:
    from outcrop.data.sources import OWN_LOADERS

    return OWN_LOADERS


def _own_commands() -> Iterable[str]:
    from outcrop.cli.main import COMMANDS

    return COMMANDS


def _own_kinds() -> Iterable[str]:
    from outcrop_schemas import KINDS

    return KINDS


@dataclass(frozen=True)
class Hook:
    """How the answers to a hook are read.

    Attributes:
        noun: What one offer is called in messages.
        read: Turns what an implementation returned into offers by name.
        own: Names that outcrop has itself and no plugin can take.
    """

    noun: str
    read: Callable[[str, object], dict[str, Any]]
    own: Callable[[], Iterable[str]] = tuple


HOOKS: Mapping[str, Hook] = {
    "outcrop_analyses": Hook("analysis", _read_analyses),
    "outcrop_model_sources": Hook("model source", _read_callables, _own_models),
    "outcrop_data_sources": Hook("data source", _read_callables, _own_data),
    "outcrop_stimuli": Hook("stimulus family", _read_stimuli),
    "outcrop_zoo_cards": Hook("folder of zoo cards", _read_folders),
    "outcrop_figures": Hook("figure", _read_figures, _own_kinds),
    "outcrop_schemas": Hook("result kind", _read_kinds, _own_kinds),
    "outcrop_replications": Hook("replication", _read_callables),
    "outcrop_commands": Hook("command", _read_commands, _own_commands),
}
"""All hooks there are."""
