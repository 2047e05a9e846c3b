"""Turn a torch network into an ONNX file that keeps its modules, its batch norm and its parameters' names."""

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from outcrop.errors import ZooError
from outcrop.models.onnx_file import CLASSES_KEY
from outcrop.models.preprocessing import METADATA_KEY as PREPROCESSING_KEY
from outcrop.models.preprocessing import ImageRecipe
from outcrop_zoo.cards import Parity
from outcrop_zoo.parity import measure_parity

PARITY_TOLERANCE = 1e-4

# Everything else that the exporter attaches to a node repeats the source code, with the paths of this machine.
_KEPT_NODE_METADATA = {"pkg.torch.onnx.name_scopes", "pkg.torch.onnx.class_hierarchy"}


@dataclass(frozen=True)
class Export:
    """An exported network.

    Attributes:
        content: The bytes of the ONNX file.
        model: The same, parsed.
        opset: Version of the ONNX operators.
        layers: Modules without children that compute something.
        parity: Agreement with torch.
    """

    content: bytes
    model: onnx.ModelProto
    opset: int
    layers: int
    parity: Parity


def export_network(
    network: nn.Module,
    example: Tensor,
    *,
    name: str,
    classes: Sequence[str] | None = None,
    preprocessing: ImageRecipe | None = None,
    half: bool = True,
    input_name: str = "image",
    output_name: str = "logits",
    tolerance: float = PARITY_TOLERANCE,
) -> Export:
    """Return the ONNX form of a network that takes one tensor and returns one.

    Batch norm stays an operation of its own, every parameter and buffer of the state dict is an initialiser under
    its own name, nodes carry their module path, and any number of samples can be fed at once. The bytes depend on
    the network and the versions of torch and onnx only. The network itself is not changed.

    Args:
        network: What to export; it is put in evaluation mode, in a copy.
        example: Inputs (sample, ...) of at least two samples, on which parity with torch is measured.
        name: Written into the file as ``outcrop.card``.
        classes: Names of the outputs, written as ``outcrop.classes``.
        preprocessing: Written as ``outcrop.preprocessing``.
        half: Store kernels and matrices in float16, each with a cast to float32 behind it. Vectors and batch
            statistics stay in float32: they are small, and statistics overflow.
        input_name: Of the graph.
        output_name: Of the graph.
        tolerance: Largest relative difference from torch, over the outputs of all modules.

    Raises:
        ZooError: A weight does not fit float16, a parameter was lost, or the graph does not agree with torch.
    """
    network = _rounded(network, half=half)
    model = _exported(network, example, input_name, output_name)
    lost = _float_state(network).keys() - {initializer.name for initializer in model.graph.initializer}
    if lost:
        raise ZooError(
            f"The export of {name!r} lost {len(lost)} parameters, such as {min(lost)!r}; the zoo keeps all by name. "
            "Remove parameters that the forward pass does not use."
        )
    _strip(model)
    if half:
        _store_half(model, {key for key, value in _float_state(network).items() if value.ndim > 1})
    properties = {"outcrop.card": name}
    if classes is not None:
        properties[CLASSES_KEY] = json.dumps(list(classes))
    if preprocessing is not None:
        properties[PREPROCESSING_KEY] = preprocessing.model_dump_json()
    helper.set_model_props(model, properties)
    onnx.checker.check_model(model, full_check=True)
    content = model.SerializeToString(deterministic=True)
    errors = measure_parity(network, model, example)
    worst = max(errors, key=lambda key: _nan_last(errors[key]))
    if not errors[worst] <= tolerance:
        raise ZooError(
            f"The export of {name!r} does not agree with torch: {worst or 'the output'} differs by {errors[worst]:.2g} "
            f"relative to its largest value; at most {tolerance:.0e} is accepted. The file was not written."
        )
    leaves = {path for path, module in network.named_modules() if not any(module.children())}
    return Export(
        content=content,
        model=model,
        opset=next(entry.version for entry in model.opset_import if entry.domain == ""),
        layers=len(leaves & errors.keys()),
        parity=Parity(largest_relative_error=errors[worst], modules=len(errors) - 1, samples=len(example)),
    )


def _rounded(network: nn.Module, *, half: bool) -> nn.Module:
    """Return a contiguous copy on the CPU in evaluation mode, its kernels rounded to what float16 holds."""
    copied = copy.deepcopy(network).cpu().float().to(memory_format=torch.contiguous_format).eval()
    if half:
        for key, value in _float_state(copied).items():
            if value.ndim > 1:
                rounded = value.half()
                if not torch.isfinite(rounded).all():
                    raise ZooError(
                        f"The weight {key!r} reaches {float(value.abs().max()):.3g}, beyond float16 (65504) or not "
                        "finite. Export with half=False, or train with a smaller learning rate."
                    )
                value.copy_(rounded)
    return copied


def _float_state(network: nn.Module) -> dict[str, Tensor]:
    return {key: value for key, value in network.state_dict().items() if value.is_floating_point()}


def _exported(network: nn.Module, example: Tensor, input_name: str, output_name: str) -> onnx.ModelProto:
    program = torch.onnx.export(
        network,
        (example,),
        dynamo=True,
        optimize=False,  # optimising folds batch norm into the convolutions
        dynamic_shapes=({0: torch.export.Dim("sample")},),
        input_names=[input_name],
        output_names=[output_name],
        verbose=False,
    )
    assert program is not None  # None is returned only when a file is written
    return program.model_proto


def _strip(model: onnx.ModelProto) -> None:
    """Remove stack traces, source lines and what else repeats the graph."""
    graph = model.graph
    for node in graph.node:
        kept = [entry for entry in node.metadata_props if entry.key in _KEPT_NODE_METADATA]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
        node.ClearField("doc_string")
    initializers = {initializer.name for initializer in graph.initializer}
    shapes = [value for value in graph.value_info if value.name not in initializers]
    del graph.value_info[:]
    graph.value_info.extend(shapes)
    for item in (*graph.value_info, *graph.input, *graph.output, *graph.initializer, graph, model):
        del item.metadata_props[:]
        item.ClearField("doc_string")


def _store_half(model: onnx.ModelProto, names: set[str]) -> None:
    """Turn initialisers into float16 under the same names, and cast them back to float32 for the nodes."""
    graph = model.graph
    casts = []
    for initializer in graph.initializer:
        if initializer.name in names:
            values = numpy_helper.to_array(initializer).astype(np.float16)
            initializer.CopyFrom(numpy_helper.from_array(values, initializer.name))
            casts.append(
                helper.make_node(
                    "Cast",
                    [initializer.name],
                    [f"{initializer.name}.float32"],
                    f"{initializer.name}.cast",
                    to=TensorProto.FLOAT,
                )
            )
    for node in graph.node:
        for position, value in enumerate(node.input):
            if value in names:
                node.input[position] = f"{value}.float32"
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend(casts + nodes)


def _nan_last(error: float) -> float:
    return float("inf") if np.isnan(error) else error
