"""Roles of values."""

import operator

import pytest
import timm.layers
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 # the field's own name for it

from outcrop.models.activations import is_activation
from outcrop.models.kinds import (
    dimension_names,
    function_kind,
    hides_its_operations,
    joined_kind,
    module_kind,
    operation_name,
)


@pytest.mark.parametrize(
    ("module", "kind"),
    [
        (nn.Conv2d(1, 1, 1), "conv"),
        (nn.ConvTranspose2d(1, 1, 1), "conv"),
        (nn.Linear(1, 1), "linear"),
        (nn.BatchNorm2d(1), "norm"),
        (nn.LayerNorm(1), "norm"),
        (nn.GroupNorm(1, 1), "norm"),
        (nn.ReLU(), "act"),
        (nn.LeakyReLU(), "act"),
        (nn.Hardswish(), "act"),
        (nn.MultiheadAttention(2, 1), "attention"),
        (nn.AdaptiveAvgPool2d(1), "pool"),
        (nn.MaxPool2d(2), "pool"),
        (nn.Flatten(), "other"),
        (timm.layers.LayerNorm2d(2), "norm"),
        (timm.layers.Swish(), "act"),
        (timm.layers.GELUTanh(), "act"),
        (timm.layers.SelectAdaptivePool2d(), "pool"),
        (timm.layers.ScaledStdConv2d(2, 2, 1), "conv"),
    ],
)
def test_the_kind_of_a_module(module, kind):
    assert module_kind(module) == kind


@pytest.mark.parametrize(
    ("function", "name", "kind"),
    [
        (torch.add, "add", "add"),
        (torch.Tensor.add_, "add", "add"),
        (torch.Tensor.__iadd__, "add", "add"),
        (F.relu, "relu", "act"),
        (torch.relu_, "relu", "act"),
        (F.gelu, "gelu", "act"),
        (F.softmax, "softmax", "attention"),
        (F.scaled_dot_product_attention, "scaled_dot_product_attention", "attention"),
        (torch.matmul, "matmul", "attention"),
        (F.conv2d, "conv2d", "conv"),
        (F.linear, "linear", "linear"),
        (F.layer_norm, "layer_norm", "norm"),
        (F.adaptive_avg_pool2d, "adaptive_avg_pool2d", "pool"),
        (torch.mean, "mean", "pool"),
        (torch.cat, "cat", "other"),
        (torch.Tensor.__rsub__, "sub", "other"),
    ],
)
def test_the_name_and_kind_of_a_function(function, name, kind):
    assert operation_name(function) == name
    assert function_kind(name) == kind


@pytest.mark.parametrize(
    ("operation", "joined", "alone"),
    [
        ("add", "add", "other"),
        ("matmul", "attention", "linear"),
        ("bmm", "attention", "linear"),
        ("einsum", "attention", "linear"),
        ("softmax", "attention", "attention"),
        ("relu", "act", "act"),
        ("cat", "other", "other"),
    ],
)
def test_the_kind_of_a_function_depends_on_whether_it_joins_two_values(operation, joined, alone):
    assert joined_kind(operation, joins=True) == joined
    assert joined_kind(operation, joins=False) == alone


def test_activations_are_known_by_their_torch_and_onnx_names():
    assert all(
        map(is_activation, ["relu", "ReLU", "Relu", "HardSwish", "LeakyRelu", "GELU", "SiLU", "Sigmoid", "tanh"])
    )
    assert not any(map(is_activation, ["add", "Conv", "Softmax", "BatchNormalization", "LayerNorm"]))


def test_only_leaves_that_wrap_a_function_hide_what_they_call():
    class Own(nn.Module):
        pass

    assert hides_its_operations(nn.ReLU())
    assert hides_its_operations(nn.MultiheadAttention(2, 1))
    assert hides_its_operations(timm.layers.LayerNorm2d(2))
    assert not hides_its_operations(Own())
    assert not hides_its_operations(nn.Sequential(nn.ReLU()))


@pytest.mark.parametrize(
    ("shape", "kind", "operation", "names"),
    [
        ((), "output", "sum", ()),
        ((10,), "linear", "Linear", ("feature",)),
        ((7, 64), "norm", "LayerNorm", ("token", "feature")),
        ((8, 100), "conv", "Conv1d", ("channel", "x")),
        ((64, 8, 8), "conv", "Conv2d", ("channel", "y", "x")),
        ((64, 8, 6), "conv", "Conv2d", ("channel", "y", "x")),
        ((8, 8, 64), "norm", "LayerNorm", ("y", "x", "channel")),
        ((8, 8, 8), "norm", "LayerNorm", ("y", "x", "channel")),
        ((8, 8, 8), "conv", "Conv2d", ("channel", "y", "x")),
        ((64, 49, 96), "linear", "Linear", ("dim_1", "dim_2", "dim_3")),
        ((64, 49, 288), "linear", "linear", ("dim_1", "dim_2", "dim_3")),
        ((3, 197, 64), "norm", "LayerNorm", ("dim_1", "dim_2", "dim_3")),
        ((3, 9, 9), "attention", "softmax", ("head", "token", "token_key")),
        ((3, 9, 9), "attention", "matmul", ("dim_1", "dim_2", "dim_3")),
        ((2, 3, 4, 5), "other", "cat", ("dim_1", "dim_2", "dim_3", "dim_4")),
    ],
)
def test_dimensions_are_named_by_what_they_are(shape, kind, operation, names):
    assert dimension_names(shape, kind, operation) == names


def test_operators_of_python_are_dispatched_under_their_plain_names():
    seen = []

    class Mode(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            seen.append(operation_name(function))
            return function(*args, **(kwargs or {}))

    x = torch.ones(2, 2)
    with Mode():
        for operation in (operator.add, operator.iadd, operator.sub, operator.mul, operator.truediv, operator.matmul):
            operation(x, x)
    assert seen == ["add", "add", "sub", "mul", "div", "matmul"]


def test_every_activation_that_a_graph_knows_is_told_by_name() -> None:
    from outcrop.models.activations import is_activation
    from outcrop.models.graph_roles import ACTIVATIONS

    assert {operation for operation in ACTIVATIONS if not is_activation(operation)} == set()
