"""What is known of an installed plugin, working or broken."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Stage = Literal["import", "register", "collect"]
"""When a plugin failed: on import, on registration, or when asked what it offers."""


@dataclass(frozen=True)
class Broken:
    """A plugin, or one hook of it, that failed.

    Attributes:
        plugin: Entry-point name.
        distribution: What ships it.
        stage: Where it failed: on import, on registration, or when asked what it offers.
        hook: The hook that failed, at stage ``collect``.
        error: The original error.
    """

    plugin: str
    distribution: str
    stage: Stage
    hook: str | None
    error: BaseException

    def __str__(self) -> str:
        where = f"{self.stage}, {self.hook}" if self.hook else self.stage
        reason = " ".join(str(self.error).split())
        return f"plugin {self.plugin!r} of {self.distribution} ({where}: {type(self.error).__name__}: {reason})"


@dataclass(frozen=True)
class PluginRecord:
    """One installed plugin.

    Attributes:
        name: Entry-point name.
        distribution: What ships it.
        version: Of the distribution.
        module: What the entry point names.
        offers: Names offered, by hook without its prefix: ``{"analyses": ("blocks",)}``.
        status: ``loaded``, ``broken`` (all or some of its hooks) or ``blocked``.
        errors: What went wrong, one line each.
    """

    name: str
    distribution: str
    version: str
    module: str
    offers: Mapping[str, tuple[str, ...]]
    status: Literal["loaded", "broken", "blocked"]
    errors: tuple[str, ...] = ()
