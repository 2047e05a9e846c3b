"""Compare an ONNX graph with the torch network it came from, module by module."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as runtime_errors
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from outcrop.errors import ZooError
from outcrop.models.graph import Graph
from outcrop.models.runtime_messages import explain
from outcrop_zoo.exporting.scopes import module_paths

Array = NDArray[Any]

_RUNTIME_ERRORS = (
    runtime_errors.Fail,
    runtime_errors.InvalidArgument,
    runtime_errors.InvalidGraph,
    runtime_errors.NotImplemented,
    runtime_errors.RuntimeException,
)


def measure_parity(
    network: nn.Module,
    model: onnx.ModelProto,
    example: Tensor | Mapping[str, Tensor],
    *,
    keywords: bool = False,
    structure: onnx.ModelProto | None = None,
) -> dict[str, float]:
    """Return the relative error of every module's output by module path, and of the network's own under ``""``.

    A module's value in the graph is the last one of its shape that is read outside it. Modules that compute nothing
    (``Identity``, dropout in evaluation mode) or return several tensors are left out; of a module called several times
    the last call is compared. The network's own error is that of the worst of its outputs.

    Args:
        network: In evaluation mode; the values are taken by hooks at the moment they exist.
        model: Its export; nodes carry ``pkg.torch.onnx.name_scopes``.
        example: Inputs (sample, ...), by name where there are several.
        keywords: Whether the network takes the inputs by keyword.
        structure: The graph before operations were fused in it: where the values of the modules are looked up. Values
            that the fused graph does not compute are left out.

    Returns:
        The largest absolute difference over the largest absolute value in torch.

    Raises:
        ZooError: The graph does not run, or the values of a module have another shape in it.
    """
    inputs = {model.graph.input[0].name: example} if isinstance(example, Tensor) else dict(example)
    expected, outputs = _torch_values(network, inputs, keywords)
    computed = {value for node in model.graph.node for value in node.output}
    candidates = {
        path: [name for name in names if name in computed]
        for path, names in _values_by_module(structure or model).items()
        if path in expected
    }
    output_names = [output.name for output in model.graph.output]
    wanted = list(dict.fromkeys(name for names in candidates.values() for name in names))
    arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
    results = run_graph(model, arrays, [*output_names, *wanted])
    values = dict(zip([*output_names, *wanted], results, strict=True))
    errors = {}
    for path, names in candidates.items():
        if names:
            errors[path] = relative_error(
                _of_shape(path, [values[name] for name in names], expected[path]), expected[path]
            )
    pairs = zip(output_names, outputs, strict=True)
    own = [relative_error(_of_shape(f"output {name}", [values[name]], value), value) for name, value in pairs]
    return {**errors, "": float(np.max(own))}


def run_graph(
    model: onnx.ModelProto | bytes,
    inputs: Array | Mapping[str, Array],
    values: Sequence[str] | None = None,
) -> list[Array]:
    """Return the named values of a graph, or its outputs, as ONNX Runtime computes them on the CPU.

    Args:
        model: Parsed, or the bytes of a file.
        inputs: By name, or the only one.
        values: Any in the graph; of bytes, outputs only.

    Raises:
        ZooError: ONNX Runtime cannot run it on these inputs.
    """
    if isinstance(model, onnx.ModelProto):
        copied = onnx.ModelProto()
        copied.CopyFrom(model)
        outputs = {output.name for output in copied.graph.output}
        copied.graph.output.extend(
            onnx.ValueInfoProto(name=name) for name in dict.fromkeys(values or ()) if name not in outputs
        )
        model = copied.SerializeToString()
    try:
        session = open_session(model)
        named = inputs if isinstance(inputs, Mapping) else {session.get_inputs()[0].name: inputs}
        results: list[Array] = session.run(values, dict(named))
    except _RUNTIME_ERRORS as error:
        given = inputs.values() if isinstance(inputs, Mapping) else [inputs]
        shapes = ", ".join(str(array.shape) for array in given)
        raise ZooError(
            f"ONNX Runtime cannot run the graph on {shapes}: {explain(error)} Change that part of the network, or "
            "upgrade onnxruntime."
        ) from error
    return results


def open_session(content: bytes) -> Any:
    """Return an ONNX Runtime session of a model's bytes on the CPU, with as many threads as torch uses."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def relative_error(values: Array, expected: Array) -> float:
    """Return the largest absolute difference over the largest absolute value expected.

    Entries that are infinite or undefined in both alike agree; where they are in one only, the result is not finite.
    """
    if expected.size == 0:
        return 0.0
    found, wanted = values.astype(np.float64), expected.astype(np.float64)
    differing = ~((found == wanted) | (np.isnan(found) & np.isnan(wanted)))
    if not differing.any():
        return 0.0
    difference = float(np.abs(found[differing] - wanted[differing]).max())
    finite = wanted[np.isfinite(wanted)]
    largest = float(np.abs(finite).max()) if finite.size else 0.0
    return difference / largest if largest else float("inf")


@torch.no_grad()
def _torch_values(
    network: nn.Module, inputs: Mapping[str, Tensor], keywords: bool
) -> tuple[dict[str, Array], list[Array]]:
    """Return what each module handed on, and what the network returned."""
    values: dict[str, Array] = {}

    def keep(path: str) -> Any:
        def hook(module: nn.Module, arguments: Any, output: Any) -> None:  # noqa: ARG001 - torch's signature
            tensors = _tensors(output)
            if len(tensors) == 1:
                # Copied at once: an in-place operation may follow.
                values[path] = tensors[0].detach().clone().numpy()

        return hook

    handles = [module.register_forward_hook(keep(path)) for path, module in network.named_modules() if path]
    # A network may write into what it is given.
    given = {name: tensor.clone() for name, tensor in inputs.items()}
    try:
        output = network(**given) if keywords else network(*given.values())
    finally:
        for handle in handles:
            handle.remove()
    return values, [tensor.detach().numpy() for tensor in _tensors(output)]


def _tensors(output: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]


def _values_by_module(model: onnx.ModelProto) -> dict[str, list[str]]:
    """Return the values of each module that are read outside it or are outputs, the last one first, by module path.

    Where nothing is read outside, all its values are returned.
    """
    graph = Graph(model)
    paths = [module_paths(node) for node in graph.nodes]
    own: dict[str, list[str]] = {}
    leaving: dict[str, list[str]] = {}
    for index in reversed(range(len(graph.nodes))):
        for value in graph.nodes[index].output:
            if not graph.depends_on_data(value):  # arithmetic of shapes, which only the exporter knows
                continue
            for path in paths[index]:
                own.setdefault(path, []).append(value)
                readers = graph.consumers.get(value, ())
                if value in graph.outputs or any(path not in paths[reader] for reader in readers):
                    leaving.setdefault(path, []).append(value)
    return {**own, **leaving}


def _of_shape(path: str, found: Sequence[Array], expected: Array) -> Array:
    for values in found:
        if values.shape == expected.shape:
            return values
    raise ZooError(
        f"Module {path!r} returns {expected.shape} in torch, and {found[0].shape} in the ONNX graph; "
        "export a network whose modules end in what they return."
    )
