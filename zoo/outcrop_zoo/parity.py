"""Compare an ONNX graph with the torch network it came from, module by module."""

import ast
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from outcrop.errors import ZooError


def measure_parity(network: nn.Module, model: onnx.ModelProto, example: Tensor) -> dict[str, float]:
    """Return the relative error of every module's output by module path, and of the network's own under ``""``.

    A module's value in the graph is that of the last node under its path. Modules that compute nothing
    (``Identity``, dropout in evaluation mode) or return something else than one tensor are left out; of a
    module called several times the last call is compared.

    Args:
        network: In evaluation mode; the values are taken by hooks at the moment they exist.
        model: Its export; nodes carry ``pkg.torch.onnx.name_scopes``.
        example: Inputs (sample, ...).

    Returns:
        The largest absolute difference over the largest absolute value in torch.

    Raises:
        ZooError: A module's values have another shape in the graph.
    """
    expected = _torch_values(network, example)
    names = {path: name for path, name in _values_by_module(model).items() if path in expected}
    found = run_graph(model, example.numpy(), list(names.values()))
    errors = {}
    for path, values in zip(names, found, strict=True):
        if values.shape != expected[path].shape:
            raise ZooError(
                f"Module {path!r} returns {expected[path].shape} in torch, and {values.shape} in the ONNX graph; "
                "export a network whose modules end in what they return."
            )
        errors[path] = _relative_error(values, expected[path])
    return errors


def run_graph(
    model: onnx.ModelProto | bytes, inputs: NDArray[np.float32], values: Sequence[str] | None = None
) -> list[NDArray[Any]]:
    """Return the named values of a graph with one input, or its outputs, as ONNX Runtime computes them on the CPU."""
    if isinstance(model, onnx.ModelProto):
        copied = onnx.ModelProto()
        copied.CopyFrom(model)
        outputs = {output.name for output in copied.graph.output}
        copied.graph.output.extend(
            onnx.ValueInfoProto(name=name) for name in dict.fromkeys(values or ()) if name not in outputs
        )
        model = copied.SerializeToString()
    session = open_session(model)
    results: list[NDArray[Any]] = session.run(values, {session.get_inputs()[0].name: inputs})
    return results


def open_session(content: bytes) -> Any:
    """Return an ONNX Runtime session of a model's bytes on the CPU, with as many threads as torch uses."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


@torch.no_grad()
def _torch_values(network: nn.Module, example: Tensor) -> dict[str, NDArray[Any]]:
    values: dict[str, NDArray[Any]] = {}

    def keep(path: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:  # noqa: ARG001 - torch's signature
            if isinstance(output, Tensor):
                # Copied at once: an in-place operation may follow.
                values[path] = output.detach().clone().numpy()

        return hook

    handles = [module.register_forward_hook(keep(path)) for path, module in network.named_modules()]
    try:
        network(example)
    finally:
        for handle in handles:
            handle.remove()
    return values


def _values_by_module(model: onnx.ModelProto) -> dict[str, str]:
    """Return the name of the value that ends each module, by module path; ``""`` is the network."""
    last = {}
    for node in model.graph.node:
        scopes = next((entry.value for entry in node.metadata_props if entry.key == "pkg.torch.onnx.name_scopes"), "[]")
        # The first scope is the network itself, the last the operation.
        for path in ast.literal_eval(scopes)[1:-1]:
            # A module that is called again has the number of the call behind its path.
            last[re.sub(r"@\d+$", "", path)] = node.output[0]
    return {**last, "": model.graph.output[0].name}


def _relative_error(values: NDArray[Any], expected: NDArray[Any]) -> float:
    difference = float(np.abs(values.astype(np.float64) - expected).max())
    largest = float(np.abs(expected).max())
    if largest == 0:
        return 0.0 if difference == 0 else float("inf")
    return difference / largest
