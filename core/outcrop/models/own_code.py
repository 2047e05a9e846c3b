"""Tell a user's own code from that of libraries, and what a piece of it refers to."""

import dis
import sys
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

_LIBRARIES = frozenset({"builtins", "torch", "torchvision", "timm", "transformers", "numpy"})
_MISSING = object()


@cache
def is_library(module: str | None) -> bool:
    """Return whether a Python module is part of Python or installed, so that its names stand for its content."""
    if module is None or module.partition(".")[0] in _LIBRARIES:
        return True
    loaded = sys.modules.get(module)
    if loaded is None or module == "__main__":
        return False
    file = getattr(loaded, "__file__", None)
    if file is None:
        return module.partition(".")[0] in sys.stdlib_module_names
    path = Path(file)
    installed = not {"site-packages", "dist-packages"}.isdisjoint(path.parts)
    return installed or path.is_relative_to(sysconfig.get_path("stdlib"))


def code_text(code: CodeType) -> str:
    """Return what a piece of code does, without where it stands: names, instructions and flags."""
    return f"{code.co_argcount} {code.co_kwonlyargcount} {code.co_flags} {code.co_names!r} {code.co_code.hex()}"


def referred_globals(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield the global values that a function and those defined inside it use, by dotted name.

    The name goes on through modules that are no library's: of ``helpers.scale(x)``, the function is yielded.
    """
    found: dict[str, Any] = {}
    for code in _nested(function.__code__):
        instructions = list(dis.get_instructions(code))
        for position, instruction in enumerate(instructions):
            if instruction.opname not in ("LOAD_GLOBAL", "LOAD_NAME"):
                continue
            name = str(instruction.argval)
            value = function.__globals__.get(name, _MISSING)
            for following in instructions[position + 1 :]:
                if not isinstance(value, ModuleType) or is_library(value.__name__):
                    break
                if following.opname not in ("LOAD_ATTR", "LOAD_METHOD"):
                    break
                name, value = f"{name}.{following.argval}", getattr(value, str(following.argval), _MISSING)
            if value is not _MISSING:
                found[name] = value
    yield from sorted(found.items())


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)
