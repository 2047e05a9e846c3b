"""What role a value plays in a torch network, told from the module class or function that computes it."""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from outcrop.models.activations import is_activation
from outcrop.models.attention import MAP, MAP_DIMENSIONS
from outcrop.models.model import LayerKind

# Functions that only move, view, select or create values: what they return is not a layer of its own.
IGNORED_OPERATIONS = frozenset(
    """alias arange as_strided as_tensor atleast_1d atleast_2d atleast_3d bfloat16 broadcast_tensors broadcast_to chunk
    clone contiguous copy copy_ cpu cuda detach dim double dropout dropout1d dropout2d dropout3d dsplit alpha_dropout
    empty empty_like expand expand_as eye feature_alpha_dropout feature_dropout flip float full full_like gather get
    getitem half hsplit index_select is_contiguous len linspace masked_fill masked_select meshgrid moveaxis movedim mT
    narrow new_empty new_full new_ones new_tensor new_zeros normal ones ones_like pad permute rand rand_like randint
    randn randn_like ravel repeat repeat_interleave requires_grad_ reshape reshape_as resolve_conj roll select set
    setitem size slice split split_with_sizes squeeze stride swapaxes swapdims swapdim T t take tensor
    tensor_split tile to transpose tril triu type type_as unbind unflatten unfold unsqueeze vander view view_as vsplit
    where zeros zeros_like""".split()  # noqa: SIM905 # a list literal would take a hundred lines
)

_REFLECTED = {
    f"{prefix}{name}": canonical
    for prefix in ("i", "r")
    for name, canonical in {
        "add": "add", "sub": "sub", "mul": "mul", "div": "div", "truediv": "div", "matmul": "matmul", "pow": "pow",
        "floordiv": "floordiv", "mod": "remainder", "and": "and", "or": "or", "xor": "xor",
    }.items()
}  # fmt: skip # one line per operator would take thirteen

_MODULE_TYPES: tuple[tuple[LayerKind, tuple[type[nn.Module], ...]], ...] = (
    ("conv", (nn.modules.conv._ConvNd,)),
    ("linear", (nn.Linear, nn.Bilinear)),
    ("norm", (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.LocalResponseNorm, nn.RMSNorm)),
    ("attention", (nn.MultiheadAttention,)),
)
_MODULE_NAMES: tuple[tuple[LayerKind, re.Pattern[str]], ...] = (
    ("attention", re.compile(r"Attention$|^Attn")),
    ("norm", re.compile(r"Norm(\d[dD])?$|^FrozenBatchNorm|^RmsNorm|^LayerNorm|^EvoNorm|^FilterResponseNorm")),
    ("pool", re.compile(r"Pool(ing)?(\d[dD])?$|^GlobalAvg")),
    ("conv", re.compile(r"Conv(Transpose)?\d[dD](Same|Fast|Ws)?$|^Conv1D$")),
    ("linear", re.compile(r"Linear$")),
)
_FEATURES_LAST = frozenset(("Linear", "linear", "LayerNorm", "layer_norm", "RMSNorm", "rms_norm"))
_PRODUCTS = frozenset(("matmul", "bmm", "baddbmm", "einsum"))
_FUNCTIONS: tuple[tuple[LayerKind, re.Pattern[str]], ...] = (
    ("add", re.compile(r"^(add|sum_all)$")),
    ("conv", re.compile(r"^conv(_transpose|_tbc)?\d?d?$|^convolution$")),
    ("linear", re.compile(r"^(linear|bilinear|addmm)$")),
    ("norm", re.compile(r"(^|_)norm$|^normalize$|^local_response_norm$")),
    ("attention", re.compile(r"attention|^(softmax|matmul|bmm|baddbmm|einsum)$")),
    ("pool", re.compile(r"pool\d?d?(_with_indices)?$|^(mean|amax)$")),
)


@lru_cache(maxsize=4096)
def operation_name(function: Callable[..., Any]) -> str:
    """Return the plain name of a torch function: ``add`` for ``+``, ``+=``, ``add_`` and ``torch.add``."""
    raw = getattr(function, "__name__", type(function).__name__)
    name = raw.strip("_")
    dunder = raw.startswith("__") and raw.endswith("__")
    return _REFLECTED.get(name, "div" if name == "truediv" else name) if dunder else name


@lru_cache(maxsize=4096)
def function_kind(operation: str) -> LayerKind:
    """Return the kind of what a function computes."""
    if is_activation(operation):
        return "act"
    return next((kind for kind, pattern in _FUNCTIONS if pattern.search(operation)), "other")


def joined_kind(operation: str, *, joins: bool) -> LayerKind:
    """Return the kind of what a function computes, given whether it joins two tensors of the samples.

    With a parameter or constant, an addition is a bias, and a product is a linear map.
    """
    kind = function_kind(operation)
    if joins:
        return kind
    if kind == "add":
        return "other"
    return "linear" if operation in _PRODUCTS else kind


def module_kind(module: nn.Module) -> LayerKind:
    """Return the kind of what a module computes: by its type, else by the name of its class."""
    for kind, types in _MODULE_TYPES:
        if isinstance(module, types):
            return kind
    return class_kind(class_name(module))


def class_name(module: nn.Module) -> str:
    """Return the name of a module's class, for TorchScript that of the class it was made from."""
    return str(module.original_name) if isinstance(module, torch.jit.ScriptModule) else type(module).__name__


def class_kind(name: str) -> LayerKind:
    """Return the kind of what a module computes, by the name of its class."""
    if is_activation(name):
        return "act"
    return next((kind for kind, pattern in _MODULE_NAMES if pattern.search(name)), "other")


def hides_its_operations(module: nn.Module) -> bool:
    """Return whether the functions that a module calls are its implementation and no layers of their own."""
    if isinstance(module, nn.MultiheadAttention):
        return True
    if next(module.children(), None) is not None:
        return False
    return type(module).__module__.startswith("torch.nn.") or module_kind(module) not in ("other", "attention")


def dimension_names(shape: tuple[int, ...], kind: LayerKind, operation: str) -> tuple[str, ...]:
    """Return names for the dimensions of one sample; images with channels last are told by their square sides.

    What works on the last dimension alone is no image with channels first, so windows, and heads that are normalised,
    get numbers.
    """
    numbered = tuple(f"dim_{position}" for position in range(1, len(shape) + 1))
    if operation == MAP and kind == "attention" and len(shape) == 3:
        return MAP_DIMENSIONS
    if operation == "scaled_dot_product_attention" and len(shape) == 3:
        return ("head", "token", "feature")
    if kind == "attention" and (len(shape) > 2 or operation in ("softmax", "matmul", "bmm", "baddbmm", "einsum")):
        return numbered
    if len(shape) == 1:
        return ("feature",)
    if len(shape) == 2:
        return ("channel", "x") if operation.endswith("1d") else ("token", "feature")
    if len(shape) == 3:
        if shape[0] == shape[1] and (shape[1] != shape[2] or operation in _FEATURES_LAST):
            return ("y", "x", "channel")
        return numbered if operation in _FEATURES_LAST else ("channel", "y", "x")
    return numbered
