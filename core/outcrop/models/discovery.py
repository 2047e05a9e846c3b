"""Find out what a torch network computes: every value once, whatever number of modules hand it on."""

import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from outcrop.models.execution import Execution, Frame, Key, Watch
from outcrop.models.kinds import class_name, function_kind, module_kind
from outcrop.models.model import LayerKind


class Owner(NamedTuple):
    """A module call that returned a value as the ``position``-th tensor of its output."""

    key: Key
    path: str
    module: nn.Module
    position: int
    made_here: bool


@dataclass
class Value:
    """A tensor that exists at one moment of a run.

    Attributes:
        index: Position among all values, in execution order.
        keys: Raw names, that of the first appearance first.
        operation: Function or module class that computes it.
        kind: By the operation alone.
        shape: With all dimensions.
        container: Path of the innermost module with children that was running.
        parents: Indices of the values that the operation took.
        operands: Extents of the tensors that the operation took: their shapes, with 1 where they only repeat.
        joins: Whether two or more of these belong to the samples; told from two runs, by :func:`list_layers`.
        from_module: The module itself is the origin; no function was seen.
        owners: Module calls that returned it, the innermost first.
    """

    index: int
    keys: list[Key]
    operation: str
    kind: LayerKind
    shape: tuple[int, ...]
    dtype: str
    container: str = ""
    parents: tuple[int, ...] = ()
    operands: tuple[tuple[int, ...], ...] = ()
    joins: bool = False
    from_module: bool = False
    owners: list[Owner] = field(default_factory=list)


class _Note(NamedTuple):
    entry: int
    parents: tuple[int, ...]
    operands: tuple[tuple[int, ...], ...]


class Discovery(Execution):
    """A watched run that lists the values; equal tensors (same object, same version) are one value.

    Attributes:
        values: In execution order.
        vectorised: Names of operations inside ``torch.vmap``, where a value shows one sample instead of the batch.
    """

    def __init__(self, network: nn.Module, watch: Watch) -> None:
        super().__init__(network, watch)
        self.values: list[Value] = []
        self.vectorised: set[str] = set()
        self._seen: dict[int, tuple[weakref.ref[Tensor], int, int]] = {}

    def add_input(self, name: str, tensor: Tensor) -> None:
        """Take an input as a value, before the run."""
        self._add(self.next_key(name), tensor, name, "input", _Note(0, (), ()))

    def prepare(self, arguments: Sequence[Any], keywords: Mapping[str, Any], /) -> _Note:
        """Return which values the arguments are, before an in-place operation can alter them."""
        tensors = list(_tensors((*arguments, *keywords.values())))
        found = (self._find(tensor) for tensor in tensors)
        operands = tuple(_extent(tensor) for tensor in tensors)
        return _Note(len(self.values), tuple(index for index in found if index is not None), operands)

    def operation_value(self, key: Key, operation: str, value: Tensor, note: _Note, /) -> None:
        """Take a value that a function has returned."""
        if torch._C._functorch.is_batchedtensor(value):
            self.vectorised.add(key[0])
        known = self._find(value)
        if known is None:
            self._add(key, value, operation, function_kind(operation), note)
        else:
            self.values[known].keys.append(key)

    def module_value(self, key: Key, frame: Frame, position: int, value: Tensor, /) -> None:
        """Take a value that a module has returned; mostly known from within, then the module is one of its owners."""
        note: _Note = frame.note
        known = self._find(value)
        if known is None:
            made = self._add(key, value, class_name(frame.module), module_kind(frame.module), note)
            made.from_module = True
            known = made.index
        else:
            self.values[known].keys.append(key)
        self.values[known].owners.append(Owner(key, frame.path, frame.module, position, known >= note.entry))

    def _find(self, tensor: Tensor) -> int | None:
        reference, version, index = self._seen.get(id(tensor), (None, 0, 0))
        known = reference is not None and reference() is tensor and version == tensor._version
        return index if known else None

    def _add(self, key: Key, tensor: Tensor, operation: str, kind: LayerKind, note: _Note) -> Value:
        containers = (frame.path for frame in reversed(self.frames) if next(frame.module.children(), None) is not None)
        value = Value(
            index=len(self.values),
            keys=[key],
            operation=operation,
            kind=kind,
            shape=tuple(tensor.shape),
            dtype=str(tensor.dtype).removeprefix("torch."),
            container=next(containers, ""),
            parents=note.parents,
            operands=note.operands,
        )
        self.values.append(value)
        self._seen[id(tensor)] = (weakref.ref(tensor), tensor._version, value.index)
        return value


def _tensors(arguments: Sequence[Any]) -> Iterator[Tensor]:
    for argument in arguments:
        if isinstance(argument, Tensor):
            yield argument
        elif isinstance(argument, tuple | list):
            yield from _tensors(argument)


def _extent(tensor: Tensor) -> tuple[int, ...]:
    """Return the shape with 1 for dimensions along which ``expand`` repeats the same values."""
    if tensor.layout != torch.strided:
        return tuple(tensor.shape)
    return tuple(1 if stride == 0 else size for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
