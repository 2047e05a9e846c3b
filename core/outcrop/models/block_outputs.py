"""Tell the blocks of a network: the repeated containers that hand on the states of a residual stream."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from torch import nn

from outcrop.models.activations import is_activation
from outcrop.models.discovery import Owner, Value

_NAMED = re.compile(r"Block|Bottleneck|Layer|Residual")
_MISNAMED = re.compile(r"Norm|Embed|Scale|Drop|Act\d?d?$|Stage|ModuleList")


def block_paths(values: Sequence[Value]) -> frozenset[str]:
    """Return the module paths of the blocks.

    A container with parameters is a candidate if its output is a residual addition or concatenation made in its own
    forward (or an activation or norm of one), if another module of its class is such, or if its class is called a
    block, bottleneck or layer. One that holds several candidates of one class is a stage and no block;
    of the rest, the outermost.
    """
    calls = [(owner, value) for value in values for owner in value.owners if owner.made_here and _is_container(owner)]
    residual = {type(owner.module) for owner, value in calls if _is_residual(owner, value, values)}
    instances = Counter({kind: len(paths) for kind, paths in _paths_by_class(calls).items()})
    candidates = {
        owner.path: type(owner.module)
        for owner, _ in calls
        # Two of three signs: what it does, its name, that there are several.
        if (type(owner.module) in residual) + _is_named(owner.module) + (instances[type(owner.module)] > 1) >= 2
    }
    return _outermost_without_stages(candidates)


def _is_container(owner: Owner) -> bool:
    return (
        owner.path != ""
        and owner.position == 0
        and type(owner.module) is not nn.Sequential
        and next(owner.module.children(), None) is not None
        and next(owner.module.parameters(), None) is not None
    )


def _is_named(module: nn.Module) -> bool:
    name = type(module).__name__
    return _NAMED.search(name) is not None and _MISNAMED.search(name) is None


def _is_residual(owner: Owner, value: Value, values: Sequence[Value]) -> bool:
    def joined_here(other: Value) -> bool:
        return other.joins and other.container == owner.path and other.operation in ("add", "cat", "concat")

    if joined_here(value):
        return True
    passes_on = is_activation(value.operation) or value.kind in ("act", "norm")
    return passes_on and any(joined_here(values[parent]) for parent in value.parents)


def _paths_by_class(calls: Iterable[tuple[Owner, Value]]) -> Mapping[type[nn.Module], set[str]]:
    paths: defaultdict[type[nn.Module], set[str]] = defaultdict(set)
    for owner, _ in calls:
        paths[type(owner.module)].add(owner.path)
    return paths


def _outermost_without_stages(candidates: Mapping[str, type[nn.Module]]) -> frozenset[str]:
    kept: dict[str, type[nn.Module]] = {}
    for path in sorted(candidates, key=lambda path: -path.count(".")):
        inner = Counter(kind for other, kind in kept.items() if other.startswith(path + "."))
        if not inner or max(inner.values()) == 1:
            kept[path] = candidates[path]
    return frozenset(path for path in kept if not any(path.startswith(other + ".") for other in kept))
