"""Turn the values that a torch network computes into its layers: named, in order, each with its sample dimension."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from outcrop.models.block_outputs import block_paths
from outcrop.models.discovery import Owner, Value
from outcrop.models.execution import Key
from outcrop.models.kinds import class_name, dimension_names, joined_kind, module_kind
from outcrop.models.model import Layer, LayerKind

_REARRANGING = (nn.Identity, nn.modules.dropout._DropoutNd, nn.Unflatten)


@dataclass(frozen=True)
class CapturedLayer:
    """A layer, with where it appears in a run and where its samples are.

    Attributes:
        layer: What the user sees.
        key: Its first appearance in a run.
        sample_dimension: Which dimension grows with the batch.
        per_sample: How many entries of that dimension belong to one sample, such as windows.
    """

    layer: Layer
    key: Key
    sample_dimension: int
    per_sample: int

    def by_sample(self, value: Tensor) -> Tensor:
        """Return the value as (sample, ...)."""
        if self.sample_dimension:
            value = value.movedim(self.sample_dimension, 0)
        if self.per_sample != 1:
            value = value.reshape(value.shape[0] // self.per_sample, self.per_sample, *value.shape[1:])
        return value


@dataclass(frozen=True)
class Listing:
    """All layers of a network, and the other names that they answer to."""

    layers: tuple[CapturedLayer, ...]
    aliases: dict[str, str]

    def without(self, names: Collection[str]) -> "Listing":
        """Return a listing that lacks some layers; the indices close up."""
        kept = [captured for captured in self.layers if captured.layer.name not in names]
        layers = tuple(
            CapturedLayer(
                Layer(**{**vars(captured.layer), "index": index}),
                captured.key,
                captured.sample_dimension,
                captured.per_sample,
            )
            for index, captured in enumerate(kept)
        )
        return Listing(layers, {alias: name for alias, name in self.aliases.items() if name not in names})


def list_layers(two: Sequence[Value], three: Sequence[Value]) -> Listing:
    """Return the layers of a network from a run on a batch of two samples and one on three.

    A value whose size does not grow with the batch (a parameter, a bias table) is no layer, nor is one that
    a module without parameters has only reshaped.
    """
    two = _with_joins(two, three)
    shapes = {value.keys[0]: value.shape for value in three}
    found = [
        (value, *place)
        for value in two
        if (place := _sample_dimension(value.shape, shapes.get(value.keys[0], ()))) and not _is_layout(value)
    ]
    names = _unique_names([value for value, *_ in found])
    blocks = block_paths(two)
    layers: list[CapturedLayer] = []
    named: dict[int, tuple[tuple[int, ...], tuple[str, ...]]] = {}
    aliases: dict[str, str] = {}
    for index, (value, dimension, per_sample) in enumerate(found):
        key, kind, operation = _describe(value, blocks)
        name = names[key]
        shape = tuple(size for position, size in enumerate(value.shape) if position != dimension)
        if per_sample != 1:
            shape = (per_sample, *shape)
        dims = _dimensions(value, shape, operation, named, windows=per_sample != 1)
        named[value.index] = (shape, dims)
        layers.append(
            CapturedLayer(
                Layer(name, kind, index, shape, value.dtype, operation, dims), value.keys[0], dimension, per_sample
            )
        )
        aliases |= {names[other]: name for other in value.keys if names[other] != name}
    for alias, key in _plain_aliases(found):
        aliases.setdefault(alias, aliases.get(names[key], names[key]))
    listed = {captured.layer.name for captured in layers}
    return Listing(tuple(layers), {alias: name for alias, name in aliases.items() if alias not in listed})


def _with_joins(two: Sequence[Value], three: Sequence[Value]) -> list[Value]:
    """Return the values with their kind by what they join: only operands that grow with the batch count."""
    others = {value.keys[0]: value.operands for value in three}
    judged = []
    for value in two:
        pairs = zip(value.operands, others.get(value.keys[0], ()), strict=False)
        joins = sum(one != other for one, other in pairs) > 1
        kind = value.kind if value.from_module or value.kind == "input" else joined_kind(value.operation, joins=joins)
        judged.append(replace(value, joins=joins, kind=kind))
    return judged


def _sample_dimension(two: tuple[int, ...], three: tuple[int, ...]) -> tuple[int, int] | None:
    """Return which single dimension grows from a batch of two to one of three, and its size for one sample."""
    if len(two) != len(three):
        return None
    growing = [position for position, sizes in enumerate(zip(two, three, strict=True)) if sizes[0] != sizes[1]]
    if len(growing) != 1:
        return None
    position = growing[0]
    if two[position] * 3 != three[position] * 2:
        return None
    per_sample = two[position] // 2
    return (position, per_sample) if position == 0 or per_sample == 1 else None


def _is_layout(value: Value) -> bool:
    """Return whether modules without children and parameters have only rearranged or handed on what they were given."""
    return value.from_module and value.kind == "other" and all(_only_rearranges(owner) for owner in value.owners)


def _only_rearranges(owner: Owner) -> bool:
    module = owner.module
    if owner.path == "" or next(module.parameters(), None) is not None or next(module.children(), None) is not None:
        return False
    return isinstance(module, _REARRANGING) or not type(module).__module__.startswith("torch.nn.")


def _describe(value: Value, blocks: Collection[str]) -> tuple[Key, LayerKind, str]:
    """Return which of its raw names a value goes by, its kind and its operation."""
    made = [owner for owner in value.owners if owner.made_here and not (value.from_module and _hands_on(owner))]
    key, kind, operation = value.keys[0], value.kind, value.operation
    if value.from_module and made and made[0].key != key:
        operation = class_name(made[0].module)
    block = next((owner for owner in made if owner.path in blocks and owner.position == 0), None)
    if block is not None:
        return block.key, "block", operation
    leaf = next((owner for owner in made if next(owner.module.children(), None) is None and owner.path), None)
    if leaf is not None:
        key = leaf.key
        if kind == "other":
            kind = module_kind(leaf.module)
    elif made and value.from_module:
        key = made[0].key
    if kind != "input" and any(owner.path == "" for owner in made):
        kind = "output"
    return key, kind, operation


def _dimensions(
    value: Value,
    shape: tuple[int, ...],
    operation: str,
    named: Mapping[int, tuple[tuple[int, ...], tuple[str, ...]]],
    *,
    windows: bool,
) -> tuple[str, ...]:
    """Return names for the dimensions of one sample.

    What works on each number by itself keeps those it was given. Where none of what a function was given is an image,
    what it returns is none: tokens whose features are split among heads have three dimensions too, as have windows.
    Where that is not known, for what it was given had been reshaped, an image is square.
    """
    if value.kind == "input" and "int" in value.dtype and len(shape) == 1:
        return ("token",)
    given = [named[parent] for parent in value.parents if parent in named]
    if not value.from_module and value.kind in ("act", "add", "other"):
        for known, dims in given:
            if known == shape:
                return dims
    names = dimension_names(shape, value.kind, operation)
    if "y" not in names or value.kind == "input":
        return names
    images = not windows
    if images and not value.from_module and value.kind in ("act", "add", "other", "norm"):
        images = any("y" in dims for _, dims in given) if given else shape[1] == shape[2]
    return names if images else tuple(f"dim_{position}" for position in range(1, len(shape) + 1))


def _hands_on(owner: Owner) -> bool:
    return isinstance(owner.module, _REARRANGING)


def _unique_names(values: Iterable[Value]) -> dict[Key, str]:
    """Return raw names, numbered ``:0``, ``:1`` where a name belongs to more than one value."""
    carriers: defaultdict[str, dict[int, int]] = defaultdict(dict)
    keys = [(name, occurrence, value.index) for value in values for name, occurrence in value.keys]
    for name, occurrence, index in keys:
        carriers[name][index] = min(occurrence, carriers[name].get(index, occurrence))
    names: dict[Key, str] = {}
    for name, occurrence, index in keys:
        order = sorted(carriers[name], key=carriers[name].__getitem__)
        names[name, occurrence] = name if len(order) == 1 else f"{name}:{order.index(index)}"
    return names


def _plain_aliases(found: Iterable[tuple[Value, int, int]]) -> list[tuple[str, Key]]:
    """Return the single tensor of a tuple under the name of its module too: ``attention`` for ``attention.0``."""
    return [
        (owner.path or "output", owner.key)
        for value, *_ in found
        for owner in value.owners
        if owner.position == 0 and owner.key[1] == 0 and owner.key[0] != (owner.path or "output")
    ]
