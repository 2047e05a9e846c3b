"""The rule by which the modules of a network are blocks; torch networks and exported graphs share it."""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import dataclass

_NAMED = re.compile(r"Block|Bottleneck|Layer|Residual")
_MISNAMED = re.compile(r"Norm|Embed|Scale|Drop|Act\d?d?$|Stage|ModuleList")


@dataclass(frozen=True)
class Container:
    """A module with children and parameters that hands on a value it has made.

    Attributes:
        path: Where it is: ``layer1.0``.
        kind: Equal for modules of one class.
        class_name: Of that class, without its package; empty where it is not known.
        residual: Whether it hands on an addition or concatenation made in its own forward, or an activation or norm
            of one.
    """

    path: str
    kind: object
    class_name: str
    residual: bool


def blocks_among(containers: Iterable[Container]) -> frozenset[str]:
    """Return the paths of the containers that are blocks.

    A candidate has two of three signs: it, or another of its class, is residual; its class is called a block,
    bottleneck or layer; there are several of its class. One that holds several candidates of one class is a stage and
    no block, unless it alone is residual: a dense block hands on what its layers add to. Of the rest, the outermost.
    """
    known = tuple(containers)
    residual = {container.kind for container in known if container.residual}
    paths: defaultdict[object, set[str]] = defaultdict(set)
    for container in known:
        paths[container.kind].add(container.path)
    candidates = {
        container.path: container.kind
        for container in known
        if (container.kind in residual) + _is_named(container.class_name) + (len(paths[container.kind]) > 1) >= 2
    }
    joining = {container.path for container in known if container.residual}
    return _outermost_without_stages(candidates, joining, residual)


def _is_named(class_name: str) -> bool:
    return _NAMED.search(class_name) is not None and _MISNAMED.search(class_name) is None


def _outermost_without_stages(
    candidates: Mapping[str, object], joining: Collection[str], residual: Set[object]
) -> frozenset[str]:
    kept: dict[str, object] = {}
    for path in sorted(candidates, key=lambda path: -path.count(".")):
        inner = Counter(kind for other, kind in kept.items() if other.startswith(path + "."))
        alone = path in joining and residual.isdisjoint(inner)
        if not inner or max(inner.values()) == 1 or alone:
            kept[path] = candidates[path]
    return frozenset(path for path in kept if not any(path.startswith(other + ".") for other in kept))
