"""Follow the calls of the modules of a network, whatever wraps them, for as long as it is watched."""

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

Enter = Callable[[str, nn.Module, tuple[Any, ...], dict[str, Any]], None]
"""Takes the path of a module, the module, and what it was called with."""

Leave = Callable[[nn.Module, Any], None]
"""Takes a module and what it returned."""

_WRAPPED = re.compile(r"(^|\.)_orig_mod(?=\.|$)")


@contextmanager
def module_hooks(network: nn.Module, enter: Enter, leave: Leave) -> Iterator[None]:
    """Call ``enter`` and ``leave`` around every call of a module of the network; all hooks go at the end.

    What ``torch.compile`` has wrapped runs uncompiled meanwhile, under its own path. A TorchScript module is followed
    as a whole: its inside runs outside Python.
    """
    scripted: dict[int, str] = {}
    with ExitStack() as stack:
        stack.enter_context(uncompiled())
        for path, module in _modules(network):
            if isinstance(module, torch.jit.ScriptModule):
                scripted[id(module)] = path
                continue

            def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], path: str = path) -> None:
                enter(path, module, args, kwargs)

            def after(module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
                leave(module, output)

            stack.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
            stack.callback(module.register_forward_hook(after).remove)
        if scripted:
            _follow_all(scripted, enter, leave, stack)
        yield


def scripted_paths(network: nn.Module) -> tuple[str, ...]:
    """Return the paths of the TorchScript modules and functions that a network holds."""
    return tuple(
        name
        for path, module in _modules(network)
        for name in ([path] if isinstance(module, torch.jit.ScriptModule) else _scripted_functions(path, module))
    )


def is_compiled(module: nn.Module) -> bool:
    """Return whether ``torch.compile`` has a hand in a module, or TorchScript."""
    return (
        isinstance(module, torch.jit.ScriptModule) or _wraps_compiled(module) or module._compiled_call_impl is not None
    )


def _wraps_compiled(module: nn.Module) -> bool:
    return "_orig_mod" in module._modules


def _scripted_functions(path: str, module: nn.Module) -> Iterator[str]:
    for name, value in vars(module).items():
        if isinstance(value, torch.jit.ScriptFunction):
            yield f"{path}.{name}" if path else name


def _modules(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules that Python calls, each once, by their path without the wrappers of ``torch.compile``."""
    hidden: tuple[str, ...] = ()
    for path, module in network.named_modules():
        if path.startswith(hidden):
            continue
        if isinstance(module, torch.jit.ScriptModule):
            hidden += (f"{path}." if path else "",)
        elif _wraps_compiled(module):
            continue
        yield _WRAPPED.sub("", path).removeprefix("."), module


def _follow_all(scripted: Mapping[int, str], enter: Enter, leave: Leave, stack: ExitStack) -> None:
    """Follow modules that refuse hooks of their own through those that torch calls for any module."""

    def before(module: nn.Module, args: Any) -> None:
        if id(module) in scripted:
            enter(scripted[id(module)], module, args, {})

    def after(module: nn.Module, _args: Any, output: Any) -> None:
        if id(module) in scripted:
            leave(module, output)

    stack.callback(register_module_forward_pre_hook(before).remove)
    stack.callback(register_module_forward_hook(after).remove)


def uncompiled() -> Any:
    """Let what ``torch.compile`` has wrapped run as it is, in the whole process."""
    # Without its compiler imported, which takes seconds, torch has compiled nothing.
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()
