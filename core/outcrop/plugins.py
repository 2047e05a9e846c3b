"""The plugin host: finds plugins by entry point, isolates the broken ones, and answers who offers what.

Every plugin gets a pluggy manager of its own, so that one that fails to import, to register or to answer a hook
takes nothing else down with it, and so that an offer is always known by the distribution that made it.

A name has one owner. One that outcrop has itself stays outcrop's, and one that two plugins offer is nobody's: it
raises when it is asked for. Either way the plugins are listed as broken, and all their other offers work.
"""

import functools
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pluggy

from outcrop import hookspecs
from outcrop.errors import AnalysisNotFoundError, PluginConflictError, PluginError, did_you_mean
from outcrop.offers import HOOKS, own_names, read_offers
from outcrop.plugin_records import Broken, PluginRecord, Stage

if TYPE_CHECKING:
    import click

    from outcrop.analysis.analysis import Analysis
    from outcrop.data.dataset import Data
    from outcrop.models.model import Model
    from outcrop.report.figure import Figure
    from outcrop.stimuli import StimulusFamily
    from outcrop_schemas import Kind

GROUP = "outcrop"


class PluginRegistry:
    """All plugins of the process and what they offer. Hooks are called when first asked for, once each."""

    def __init__(self, entries: Iterable[EntryPoint], *, block: Collection[str] = (), strict: bool = False) -> None:
        self._entries = {entry.name: entry for entry in entries}
        self._blocked = {name for name, entry in self._entries.items() if {name, _distribution(entry)} & set(block)}
        self._strict = strict
        self._managers: dict[str, pluggy.PluginManager] = {}
        self._offers: dict[str, dict[str, dict[str, Any]]] = {}
        self._contested: dict[str, dict[str, str]] = {}
        self._broken: list[Broken] = []
        for name, entry in self._entries.items():
            if name not in self._blocked:
                self._register(name, entry)

    @classmethod
    def load(
        cls,
        entries: Iterable[EntryPoint] | None = None,
        *,
        block: Collection[str] | None = None,
        strict: bool | None = None,
    ) -> "PluginRegistry":
        """Return a registry of the installed plugins.

        Args:
            entries: Entry points to use instead of the installed ones of group ``outcrop``.
            block: Plugins or distributions to leave out; by default those that ``OUTCROP_BLOCK`` lists.
            strict: Whether a broken plugin is an error at once; by default whether ``OUTCROP_STRICT`` is set.

        Raises:
            PluginConflictError: Two distributions ship a plugin of the same name.
            PluginError: A plugin is broken, and ``strict``.
        """
        entries = list(entry_points(group=GROUP) if entries is None else entries)
        if block is None:
            block = {part.strip() for part in os.environ.get("OUTCROP_BLOCK", "").split(",")} - {""}
        if strict is None:
            strict = os.environ.get("OUTCROP_STRICT", "0") not in {"", "0"}
        counts = Counter(entry.name for entry in entries if _distribution(entry) not in block)
        for name in sorted(name for name, count in counts.items() if count > 1 and name not in block):
            owners = [_distribution(entry) for entry in entries if entry.name == name]
            raise PluginConflictError(_conflict("plugin", name, owners))
        blocked_last = sorted(entries, key=lambda entry: _distribution(entry) in block, reverse=True)
        registry = cls(blocked_last, block=block, strict=strict)
        if strict:
            registry.broken()
        return registry

    def _register(self, name: str, entry: EntryPoint) -> None:
        stage: Stage = "import"
        try:
            plugin = entry.load()
            stage = "register"
            manager = pluggy.PluginManager(GROUP)
            manager.add_hookspecs(hookspecs)
            manager.register(plugin, name)
            _check_hooks(manager, plugin)
        except (Exception, SystemExit) as error:  # noqa: BLE001 # the plugin boundary: anything may fail in there
            self._break(Broken(name, _distribution(entry), stage, None, error))
        else:
            self._managers[name] = manager

    def _break(self, broken: Broken) -> None:
        self._broken.append(broken)
        if self._strict:
            raise PluginError(f"Broken {broken}; OUTCROP_STRICT makes that fatal.") from broken.error

    def _collect(self, hook: str) -> dict[str, dict[str, Any]]:
        """Return the offers of a hook, by plugin and name."""
        if hook not in self._offers:
            self._offers[hook] = {}
            for plugin, manager in self._managers.items():
                try:
                    values = getattr(manager.hook, hook)()
                    self._offers[hook][plugin] = read_offers(hook, values[0] if values else None)
                except (Exception, SystemExit) as error:  # noqa: BLE001 # the plugin boundary, as above
                    self._break(self._collected(plugin, hook, error))
            self._settle(hook)
        return self._offers[hook]

    def _settle(self, hook: str) -> None:
        """Record as broken whoever offers a name that is outcrop's own or another plugin's as well."""
        offered, own = self._offers[hook], own_names(hook)
        owners: dict[str, list[str]] = {}
        for plugin, offers in offered.items():
            for name in offers:
                owners.setdefault(name, []).append(plugin)
        contested = {
            name: _conflict(HOOKS[hook].noun, name, [self._title(plugin) for plugin in plugins])
            for name, plugins in owners.items()
            if len(plugins) > 1 and name not in own
        }
        self._contested[hook] = contested
        for name, plugins in owners.items():
            for plugin in plugins:
                if name in own:
                    del offered[plugin][name]
                    message = (
                        f"It offers the {HOOKS[hook].noun} {name!r}, which outcrop has itself, and outcrop's is used; "
                        "ask its author for another name."
                    )
                    self._break(self._collected(plugin, hook, PluginConflictError(message)))
                elif name in contested:
                    self._break(self._collected(plugin, hook, PluginConflictError(contested[name])))

    def _merge(self, hook: str) -> dict[str, Any]:
        """Return the offers of a hook by name, without those that two plugins claim."""
        return {
            name: offer
            for offers in self._collect(hook).values()
            for name, offer in offers.items()
            if name not in self._contested[hook]
        }

    def _title(self, plugin: str) -> str:
        return f"{_distribution(self._entries[plugin])} (plugin {plugin!r})"

    def _collected(self, plugin: str, hook: str, error: BaseException) -> Broken:
        return Broken(plugin, _distribution(self._entries[plugin]), "collect", hook, error)

    def provider(self, hook: str, offer: object) -> str | None:
        """Return who made an offer, as ``plugin 'blocks' of outcrop``, or None where no plugin did."""
        for plugin, offers in self._collect(hook).items():
            if any(one is offer for one in offers.values()):
                return f"plugin {plugin!r} of {_distribution(self._entries[plugin])}"
        return None

    def analyses(self) -> "dict[str, type[Analysis]]":
        """Return all analyses by name."""
        return self._merge("outcrop_analyses")

    def analysis(self, name: str) -> "type[Analysis]":
        """Return an analysis by name.

        Raises:
            AnalysisNotFoundError: No plugin offers it; near names and broken plugins are named.
            PluginConflictError: Two plugins offer it.
            PluginError: The plugin of that name is broken; the original error is the cause.
        """
        analyses = self.analyses()
        if name not in analyses:
            self.raise_if_broken("outcrop_analyses", name)
            raise AnalysisNotFoundError(
                f"No analysis {name!r}.{did_you_mean(name, analyses)} "
                f"Installed: {', '.join(sorted(analyses)) or 'none'}."
                f"{self.hint('outcrop_analyses')}"
            )
        return analyses[name]

    def model_sources(self) -> "dict[str, Callable[[str], Model]]":
        """Return model loaders by scheme."""
        return self._merge("outcrop_model_sources")

    def data_sources(self) -> "dict[str, Callable[[str], Data]]":
        """Return data loaders by scheme."""
        return self._merge("outcrop_data_sources")

    def stimuli(self) -> "dict[str, StimulusFamily]":
        """Return families of synthetic stimuli by name."""
        return self._merge("outcrop_stimuli")

    def zoo_cards(self) -> tuple[Path, ...]:
        """Return the folders of zoo cards."""
        return tuple(self._merge("outcrop_zoo_cards").values())

    def figures(self) -> "dict[str, Figure]":
        """Return figures for plugins' result kinds by name."""
        return self._merge("outcrop_figures")

    def schemas(self) -> "dict[str, Kind]":
        """Return all result kinds by name: outcrop's own, then those of plugins."""
        from outcrop_schemas import KINDS

        return dict(KINDS) | self._merge("outcrop_schemas")

    def replications(self) -> dict[str, Callable[..., Any]]:
        """Return replications of papers' claims by name."""
        return self._merge("outcrop_replications")

    def commands(self) -> "dict[str, click.Command]":
        """Return commands for the command line by name."""
        return self._merge("outcrop_commands")

    def broken(self) -> list[Broken]:
        """Return everything that failed, after asking every plugin for everything."""
        for hook in HOOKS:
            self._collect(hook)
        return list(self._broken)

    def broken_for(self, hook: str) -> list[Broken]:
        """Return what failed and might have answered a hook."""
        self._collect(hook)
        return [broken for broken in self._broken if broken.hook in {None, hook}]

    def raise_if_broken(self, hook: str, name: str) -> None:
        """Raise if two plugins claim a name, or a broken plugin of that name might have answered a hook.

        Raises:
            PluginConflictError: Both offer it.
            PluginError: The plugin is broken; the original error is the cause.
        """
        self._collect(hook)
        if name in self._contested[hook]:
            raise PluginConflictError(self._contested[hook][name])
        for broken in self.broken_for(hook):
            if name in {broken.plugin, broken.distribution}:
                raise PluginError(f"{name!r} is not available: broken {broken}.") from broken.error

    def hint(self, hook: str) -> str:
        """Return a sentence that names the plugins that cannot answer a hook, or an empty string."""
        broken = [str(one) for one in self.broken_for(hook) if not isinstance(one.error, PluginConflictError)]
        text = f" Not loaded, and might offer it: {'; '.join(broken)}." if broken else ""
        return text + (f" Blocked by OUTCROP_BLOCK: {', '.join(sorted(self._blocked))}." if self._blocked else "")

    def plugins(self) -> list[PluginRecord]:
        """Return a record of every installed plugin, in name order."""
        broken = self.broken()
        records = []
        for name, entry in sorted(self._entries.items()):
            offers = {
                hook.removeprefix(f"{GROUP}_"): tuple(self._offers[hook][name])
                for hook in HOOKS
                if self._offers[hook].get(name)
            }
            errors = tuple(str(one) for one in broken if one.plugin == name)
            status: Literal["loaded", "broken", "blocked"] = "broken" if errors else "loaded"
            if name in self._blocked:
                status = "blocked"
            version = entry.dist.version if entry.dist else "unknown"
            records.append(PluginRecord(name, _distribution(entry), version, entry.value, offers, status, errors))
        return records


@functools.cache
def plugin_registry() -> PluginRegistry:
    """Return the registry of the installed plugins; one per process."""
    return PluginRegistry.load()


def _distribution(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else "an unknown distribution"


def _conflict(what: str, name: str, owners: list[str]) -> str:
    return (
        f"The {what} {name!r} is offered by both {' and '.join(owners)}. "
        "Uninstall one of them, or leave one out with OUTCROP_BLOCK=<distribution or plugin>."
    )


def _check_hooks(manager: pluggy.PluginManager, plugin: object) -> None:
    """Refuse a plugin that implements no hook, or one that does not exist (most often a misspelling)."""
    callers = manager.get_hookcallers(plugin) or []
    known = [caller.name for caller in callers if caller.name in HOOKS]
    for caller in callers:
        if caller.name not in HOOKS:
            raise PluginError(f"There is no hook {caller.name!r}.{did_you_mean(caller.name, HOOKS)}")
    manager.check_pending()
    if not known:
        raise PluginError("It implements no hook; decorate its functions with @outcrop.hookimpl.")
