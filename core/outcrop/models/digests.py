"""Digests of what a torch network is made of: weights, options, functions and classes, by content."""

import enum
import functools
import hashlib
import logging
import pickle
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, MethodWrapperType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from outcrop.models.own_code import code_text, is_library, referred_globals

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_BOOKKEEPING = frozenset(vars(nn.Module())) | {"_compiled_call_impl"}
# Where a network came from: timm's configuration holds addresses and paths, transformers' names and versions.
_PROVENANCE = frozenset(
    """pretrained_cfg default_cfg name_or_path _name_or_path _commit_hash transformers_version
    _is_hf_initialized""".split()  # noqa: SIM905 # a list literal would take eight lines
)
_UNUSED_MEMBERS = frozenset(("__init__", "__repr__", "__str__", "extra_repr"))  # they leave their traces in the options
_MEMBERS = (FunctionType, staticmethod, classmethod, property, functools.cached_property, functools.partialmethod)
_NAMED: tuple[type, ...] = (
    torch.dtype, torch.layout, torch.memory_format, torch._ops.OpOverload, torch._ops.OpOverloadPacket,
    np.dtype, re.Pattern, PurePath, range, slice,
)  # fmt: skip # one a line would take ten
_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...), type(NotImplemented))


class Digester:
    """Digests values by their content, however they nest; equal in every process and for equal copies.

    A digest is made of the digests of the parts. No identity enters it: a module that is used twice equals two modules
    with the same weights, and addresses, devices and the order of sets have no influence.

    Args:
        weights: Whether parameters, and modules inside other values, count.
        skipped: Attributes that do not count: identity of the module, and name.
    """

    def __init__(self, *, weights: bool = True, skipped: Iterable[tuple[int, str]] = ()) -> None:
        self._weights = weights
        self._skipped = frozenset(skipped)
        self._known: dict[int, tuple[Any, bytes]] = {}  # holds the objects too, or their identities would be reused
        self._open: dict[int, int] = {}

    def digest(self, value: Any) -> bytes:
        """Return the digest of any value."""
        if isinstance(value, _PLAIN):
            return _hash(type(value).__name__, repr(value).encode())
        if not self._weights and isinstance(value, nn.Module | nn.Parameter):
            return _hash("weights")
        if id(value) in self._known:
            return self._known[id(value)][1]
        if id(value) in self._open:  # a cycle: how far up it closes tells it from others
            return _hash("cycle", str(len(self._open) - self._open[id(value)]).encode())
        self._open[id(value)] = len(self._open)
        try:
            made = self._digest(value)
        finally:
            del self._open[id(value)]
        self._known[id(value)] = (value, made)
        return made

    def attributes(self, module: nn.Module) -> dict[str, bytes]:
        """Return the digests of what a module holds by itself: options, buffers and parameters, in order of names."""
        options = {name: value for name, value in vars(module).items() if name not in _BOOKKEEPING}
        if isinstance(module, torch.fx.GraphModule):
            # Its graph is told by its code; the rest is how it came about.
            options = {name: value for name, value in options.items() if not name.startswith("_") and name != "meta"}
        held = {**options, **module._buffers, **module._parameters}
        kept = (name for name in sorted(held) if name not in _PROVENANCE and (id(module), name) not in self._skipped)
        return {name: self.digest(held[name]) for name in kept}

    def _digest(self, value: Any) -> bytes:
        if isinstance(value, Tensor | np.ndarray | np.generic):
            return _tensor_digest(value if isinstance(value, Tensor) else np.asarray(value))
        if isinstance(value, nn.Module):
            return self._module(value)
        if isinstance(value, Mapping):
            return self._parts("mapping", type(value), *(item for pair in value.items() for item in pair))
        if isinstance(value, Sequence) and not isinstance(value, range):
            return self._parts("sequence", type(value), *value)
        if isinstance(value, set | frozenset):
            return _hash("set", *sorted(map(self.digest, value)))
        if isinstance(value, type):
            return self._class(value)
        if callable(value) or isinstance(value, _MEMBERS):
            made = self._callable(value)
            if made is not None:
                return made
        return self._object(value)

    def _parts(self, tag: str, *parts: Any) -> bytes:
        return _hash(tag, *map(self.digest, parts))

    def _module(self, module: nn.Module) -> bytes:
        if isinstance(module, torch.jit.ScriptModule):
            code, constants = module.code_with_constants
            return self._parts("script", code, constants.const_mapping, dict(module.state_dict()))
        text = [module.code] if isinstance(module, torch.fx.GraphModule) else []
        hooks = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
        held = [part for name, digest in self.attributes(module).items() for part in (name.encode(), digest)]
        return _hash("module", self._parts("", type(module), text, hooks, dict(module._modules)), *held)

    def _class(self, kind: type) -> bytes:
        """Digest a class by name, and by its members and those of its bases where they are no library's."""
        own = [base for base in kind.__mro__ if not is_library(base.__module__)]
        members = [
            (name, value)
            for base in own
            for name, value in sorted(vars(base).items())
            if name not in _UNUSED_MEMBERS and (isinstance(value, _MEMBERS) or not _is_machinery(name, value))
        ]
        return self._parts("class", kind.__module__, kind.__qualname__, len(own), members)

    def _callable(self, value: Any) -> bytes | None:
        """Digest a function or what wraps one; None where the value is an object with a ``__call__`` of its own."""
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, CodeType):
            return self._code(value)
        if isinstance(value, functools.partial):
            return self._parts("partial", value.func, value.args, value.keywords)
        if isinstance(value, MethodType):
            return self._parts("method", value.__func__, value.__self__)
        if isinstance(value, staticmethod | classmethod):
            return self._parts(type(value).__name__, value.__func__)
        if isinstance(value, property):
            return self._parts("property", value.fget)
        if isinstance(value, functools.cached_property | functools.partialmethod):
            return self._parts("wrapped", value.func)
        if isinstance(value, torch.jit.ScriptFunction):
            return self._parts("script", value.code)
        if isinstance(getattr(value, "__wrapped__", None), FunctionType):  # functools.lru_cache
            return self._parts("wrapped", value.__wrapped__)
        if isinstance(value, BuiltinFunctionType | MethodWrapperType) or hasattr(value, "__objclass__"):
            bound = getattr(value, "__self__", None)
            owner = None if isinstance(bound, ModuleType | type) else bound  # of plain functions: where they are
            return self._parts("builtin", getattr(value, "__module__", None), value.__qualname__, owner)
        return None

    def _function(self, function: FunctionType) -> bytes:
        library = is_library(function.__module__)
        name = (function.__module__, function.__name__, function.__qualname__)
        if library and "<" not in function.__qualname__:
            return self._parts("function", name)
        cells = [_content(cell) for cell in function.__closure__ or ()]
        globals_ = [] if library else list(referred_globals(function))
        defaults = (function.__defaults__, function.__kwdefaults__)
        # Its name does not matter: what it does is all here.
        return self._parts("function", self._code(function.__code__), defaults, cells, globals_)

    def _code(self, code: CodeType) -> bytes:
        constants = [
            self._code(constant) if isinstance(constant, CodeType) else self.digest(constant)
            for constant in code.co_consts
        ]
        return _hash("code", code_text(code).encode(), *constants)

    def _object(self, value: Any) -> bytes:
        kind = type(value)
        if isinstance(value, torch.device):
            return _hash("device")  # where a network runs does not change what it computes
        if isinstance(value, ModuleType | logging.Logger):
            return self._parts("named", kind.__name__, getattr(value, "__name__", None) or getattr(value, "name", None))
        if isinstance(value, enum.Enum):
            return self._parts("enum", kind.__qualname__, value.name)
        if isinstance(value, _NAMED) or kind.__module__ == "builtins":
            return self._parts("named", kind.__name__, _ADDRESS.sub("", str(value)))
        slots = (name for base in kind.__mro__ for name in _slots(base))
        state = {name: getattr(value, name) for name in slots if hasattr(value, name)} | getattr(value, "__dict__", {})
        held = [(name, item) for name, item in sorted(state.items()) if name not in _PROVENANCE]
        return self._parts("object", kind, held or _reduced(value))


def _hash(tag: str, *parts: bytes) -> bytes:
    digest = hashlib.sha256(tag.encode())
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()


def _tensor_digest(value: Tensor | np.ndarray[Any, Any]) -> bytes:
    """Digest the bytes where they are: contiguous values of the processor's memory are not copied."""
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            return _hash("objects", repr(value.tolist()).encode())
        head = f"{value.dtype.str} {value.shape}"
        return _with_bytes(head, np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
    if nn.parameter.is_lazy(value) or value.is_meta:
        return _hash("tensor without values", str(value.dtype).encode())
    plain = value.detach()
    head = f"{value.dtype} {tuple(value.shape)}"
    if plain.is_quantized:
        plain = plain.dequantize()
    if plain.layout != torch.strided:
        plain = plain.to_dense()
    plain = plain.cpu().resolve_conj().resolve_neg().contiguous().flatten()
    return _with_bytes(head, plain.view(torch.uint8).numpy().data)


def _with_bytes(head: str, content: memoryview) -> bytes:
    digest = hashlib.sha256(f"tensor {head}\n".encode())
    digest.update(content)
    return digest.digest()


def _reduced(value: Any) -> Any:
    """Return what pickle would keep of an object without attributes, such as ``operator.itemgetter(1)``."""
    try:
        made = value.__reduce_ex__(2)
    except (TypeError, ValueError, RuntimeError, AttributeError, pickle.PicklingError):
        return None
    return made if isinstance(made, str) else made[:3]


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None


def _is_machinery(name: str, value: Any) -> bool:
    """Return whether Python itself put something into a class."""
    dunder = name.startswith("__") and name.endswith("__")
    return dunder or name == "_abc_impl" or hasattr(value, "__objclass__")


def _slots(kind: type) -> Iterable[str]:
    slots = vars(kind).get("__slots__", ())
    names: Iterable[str] = (slots,) if isinstance(slots, str) else slots
    return [name for name in names if name not in ("__dict__", "__weakref__")]
