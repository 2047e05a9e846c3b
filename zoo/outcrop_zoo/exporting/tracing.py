"""From a torch network to an ONNX graph, with torch's exporter."""

import re
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves

from outcrop.errors import ZooError
from outcrop.models.execution import named_tensors
from outcrop.models.torch_inputs import FOREIGN_ERRORS
from outcrop_zoo.exporting.state import Inputs


def trace(network: nn.Module, inputs: Inputs, *, name: str, output_name: str) -> onnx.ModelProto:
    """Return the graph of a network, for any number of samples.

    Args:
        network: In evaluation mode.
        inputs: What it is traced on.
        name: Of the model, for messages.
        output_name: Where it returns one tensor; several are named by their keys or positions.

    Raises:
        ZooError: The exporter cannot express the network, or not for any number of samples.
    """
    arguments: tuple[Tensor, ...] = () if inputs.keywords else tuple(inputs.tensors.values())
    keywords = dict(inputs.tensors) if inputs.keywords else {}
    sample = torch.export.Dim("sample")
    shapes: Any = {key: {0: sample} for key in keywords} if inputs.keywords else ({0: sample},)
    try:
        with torch.no_grad():
            outputs = _output_names(network(*arguments, **keywords), output_name, name)
        # The fused kernels lay their results out as no decomposition of them does, which breaks views of them.
        with sdpa_kernel(SDPBackend.MATH):
            traced = torch.export.export(network, arguments, keywords, dynamic_shapes=shapes, strict=False)
            program = torch.onnx.export(
                traced,
                dynamo=True,
                optimize=False,  # optimising folds batch norm into the convolutions
                input_names=list(inputs.tensors),
                output_names=outputs,
                verbose=False,
            )
    except (*FOREIGN_ERRORS, torch.onnx.OnnxExporterError) as error:
        if isinstance(error, ZooError):
            raise
        raise ZooError(
            f"{name!r} cannot be exported to ONNX: {_reason(error)}. Change that part of its forward pass, or wrap the "
            "network in a module without it."
        ) from error
    assert program is not None  # None is returned only when a file is written
    model: onnx.ModelProto = program.model_proto
    for value in (*model.graph.input, *model.graph.output):
        sizes = value.type.tensor_type.shape.dim
        if not sizes or not sizes[0].dim_param:
            found = sizes[0].dim_value if sizes else "no"
            raise ZooError(
                f"{name!r} has {found} samples in {value.name!r} whatever it is fed; the zoo keeps networks that take "
                "any number. Write the batch size as x.shape[0] or -1, and return one entry a sample."
            )
    return model


def _output_names(output: Any, output_name: str, name: str) -> list[str]:
    tensors = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
    named = dict(named_tensors(output))
    if not tensors or len(named) != len(tensors):
        found = ", ".join(dict.fromkeys(type(leaf).__name__ for leaf in tree_leaves(output)))
        raise ZooError(
            f"{name!r} returns {type(output).__name__} of {found}; expected one floating-point tensor, or a tuple or "
            "dict of them. Wrap it in a module that returns these."
        )
    if len(named) == 1:
        return [output_name]
    return [key.removeprefix(".") if re.match(r"\.\D", key) else f"{output_name}{key}" for key in named]


def _reason(error: BaseException) -> str:
    """Return the first line of what went wrong, which torch's exporter wraps in advice to its own developers."""
    while isinstance(error, torch.onnx.OnnxExporterError) and error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip(" -")]
    # Of violated constraints, the first line is a heading.
    told = next((line for line in lines if not line.startswith("Constraints violated")), type(error).__name__)
    return told.partition(" For more information")[0].rstrip(".")
