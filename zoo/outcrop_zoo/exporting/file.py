"""What is done to a traced graph before it is a file of the zoo."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from outcrop.models.onnx_file import CLASSES_KEY
from outcrop.models.preprocessing import METADATA_KEY as PREPROCESSING_KEY
from outcrop.models.preprocessing import ImageRecipe

# Everything else that the exporter attaches to a node repeats the source code, with the paths of this machine.
_KEPT_NODE_METADATA = {"pkg.torch.onnx.name_scopes", "pkg.torch.onnx.class_hierarchy"}


@dataclass(frozen=True)
class FileFacts:
    """What a file says of itself, each under ``outcrop.`` and its name.

    Attributes:
        card: Name of the model.
        source: Reference that it was exported from.
        classes: Names of the logits.
        preprocessing: How an image becomes the input.
        shared_parameters: Name of the initialiser, for parameters that are another one by a second name.
        folded: Paths of batch norms that are part of what is before them.
    """

    card: str
    source: str | None
    classes: Sequence[str] | None
    preprocessing: ImageRecipe | None
    shared_parameters: Mapping[str, str]
    folded: Sequence[str]


def write_metadata(model: onnx.ModelProto, facts: FileFacts) -> None:
    """Write what is known. Not the version of outcrop: the same weights are the same file in every release."""
    properties = {"outcrop.card": facts.card}
    if facts.source is not None:
        properties["outcrop.source"] = facts.source
    if facts.classes is not None:
        properties[CLASSES_KEY] = json.dumps(list(facts.classes))
    if facts.preprocessing is not None:
        properties[PREPROCESSING_KEY] = facts.preprocessing.model_dump_json()
    if facts.shared_parameters:
        properties["outcrop.shared_parameters"] = json.dumps(dict(facts.shared_parameters))
    if facts.folded:
        properties["outcrop.folded"] = json.dumps(list(facts.folded))
    helper.set_model_props(model, properties)


def strip(model: onnx.ModelProto) -> None:
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


def add_initializers(model: onnx.ModelProto, tensors: Mapping[str, Tensor]) -> None:
    """Add weights that no node reads."""
    model.graph.initializer.extend(
        numpy_helper.from_array(tensor.detach().numpy(), name) for name, tensor in tensors.items()
    )


def share_names(model: onnx.ModelProto, shared: Mapping[str, str]) -> None:
    """Let weights of several names go by the first of them, whichever the exporter chose."""
    graph = model.graph
    present = {initializer.name: initializer for initializer in graph.initializer}
    renamed: dict[str, str] = {}
    for other, first in shared.items():
        if other in present:
            renamed[other] = first
            if first in present:
                graph.initializer.remove(present[other])
            else:
                present[first] = present.pop(other)
                present[first].name = first
    for node in graph.node:
        for position, value in enumerate(node.input):
            if value in renamed:
                node.input[position] = renamed[value]


def store_half(model: onnx.ModelProto, names: Collection[str]) -> None:
    """Turn initialisers into float16 under the same names, and cast them back to float32 for the nodes."""
    graph = model.graph
    read = {value for node in graph.node for value in node.input}
    casts = []
    for initializer in graph.initializer:
        if initializer.name in names:
            values = numpy_helper.to_array(initializer).astype(np.float16)
            initializer.CopyFrom(numpy_helper.from_array(values, initializer.name))
            if initializer.name in read:
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
