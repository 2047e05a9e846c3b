"""Watch a torch network run: every value of a module or function is seen at the moment it exists.

Forward hooks follow the modules, and a ``TorchFunctionMode`` sees the functions they call (residual additions,
``F.relu``, ``matmul``). Nothing is traced or compiled, so any network that runs can be watched, and a value is seen
before a later in-place operation can alter it.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode, _get_current_function_mode, _pop_mode_temporarily

from outcrop.models.attention import MAP, attention_weights, multi_head_weights
from outcrop.models.kinds import IGNORED_OPERATIONS, hides_its_operations, operation_name
from outcrop.models.module_hooks import module_hooks

Key = tuple[str, int]
"""Raw name of a value (module path or ``<module path>.<function>``, then the place in a tuple) and its occurrence."""


class Frame(NamedTuple):
    """A module whose forward is running."""

    path: str
    module: nn.Module
    hides: bool
    note: Any


class Watch(NamedTuple):
    """What is seen of a run beside the outputs of modules.

    Attributes:
        functions: The functions that modules call.
        attention_maps: The weights of fused attention, which are computed for it.
    """

    functions: bool = True
    attention_maps: bool = False


class Execution(TorchFunctionMode, ABC):
    """One watched run of a network; what is done with the values is up to the subclass."""

    def __init__(self, network: nn.Module, watch: Watch) -> None:
        super().__init__()
        self.network = network
        self.watch = watch
        self.frames: list[Frame] = []
        self._counts: Counter[str] = Counter()
        self._busy = False

    def run(self, arguments: Sequence[Tensor], keywords: Mapping[str, Tensor]) -> Any:
        """Return the output of the network; all hooks are removed afterwards, also upon errors."""
        functions = self if self.watch.functions else nullcontext()
        with module_hooks(self.network, self._enter, self._leave), torch.no_grad(), functions:
            return self.network(*arguments, **keywords)

    def wants(self, _key: Key, /) -> bool:
        """Return whether a value is of use, asked where it has to be computed for that alone."""
        return True

    def prepare(self, _arguments: Sequence[Any], _keywords: Mapping[str, Any], /) -> Any:
        """Return a note on the arguments of a module or function, made before it runs."""
        return None

    @abstractmethod
    def operation_value(self, key: Key, operation: str, value: Tensor, note: Any, /) -> None:
        """Take a value that a function has returned."""

    @abstractmethod
    def module_value(self, key: Key, frame: Frame, position: int, value: Tensor, /) -> None:
        """Take a value that a module has returned, the ``position``-th of its tensors."""

    def next_key(self, name: str) -> Key:
        """Return the name with how many times it has occurred before."""
        self._counts[name] += 1
        return name, self._counts[name] - 1

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        # The mode is off while this method runs; only the hooks below are called with the mode on.
        kwargs = kwargs or {}
        if self._busy or not self.frames:
            return function(*args, **kwargs)
        if any(frame.hides for frame in self.frames):
            return self._hidden(function, args, kwargs)
        operation = operation_name(function)
        if operation in IGNORED_OPERATIONS:
            return function(*args, **kwargs)
        note = self.prepare(args, kwargs)
        if self.watch.attention_maps and function is functional.scaled_dot_product_attention:
            key = self._operation_key(MAP)
            if self.wants(key):
                self.operation_value(key, MAP, attention_weights(*args, **kwargs), note)
        result = function(*args, **kwargs)
        if isinstance(result, Tensor | tuple):
            for suffix, value in named_tensors(result):
                self.operation_value(self._operation_key(operation + suffix), operation, value, note)
        return result

    def _hidden(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return what a function returns that is a part of how a module works."""
        own = self.watch.attention_maps and function is functional.multi_head_attention_forward
        if not own or any(frame.hides for frame in self.frames[:-1]):
            return function(*args, **kwargs)
        key = self._operation_key(MAP)
        if self.wants(key):
            self.operation_value(key, MAP, multi_head_weights(args, kwargs), self.prepare(args, kwargs))
        return function(*args, **kwargs)

    def _operation_key(self, operation: str) -> Key:
        path = self.frames[-1].path
        return self.next_key(f"{path}.{operation}" if path else operation)

    def _enter(self, path: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._busy = True
        self.frames.append(Frame(path, module, hides_its_operations(module), self.prepare(args, kwargs)))
        self._busy = False

    def _leave(self, _module: nn.Module, output: Any) -> None:
        self._busy = True
        frame = self.frames.pop()
        if not any(outer.hides for outer in self.frames):
            # What is done with a value may be thousands of calls, each of which would come by way of the mode.
            watching = _get_current_function_mode() is self  # type: ignore[no-untyped-call] # torch's is untyped
            with _pop_mode_temporarily() if watching else nullcontext():
                for position, (suffix, value) in enumerate(named_tensors(output)):
                    self.module_value(self.next_key((frame.path or "output") + suffix), frame, position, value)
        self._busy = False


def named_tensors(value: Any, suffix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield the floating-point tensors in nested tuples, lists and mappings, with their suffix (``.0``, ``.key``)."""
    if isinstance(value, Tensor):
        if value.is_floating_point() and value.layout == torch.strided and value.numel():
            yield suffix, value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from named_tensors(item, f"{suffix}.{name}")
    elif isinstance(value, tuple | list):
        for position, item in enumerate(value):
            yield from named_tensors(item, f"{suffix}.{position}")
