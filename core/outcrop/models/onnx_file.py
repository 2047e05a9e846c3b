"""What an ONNX file says: the graph, how images are prepared, class names; and a hash of what it computes."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import google.protobuf.message  # type: ignore[import-untyped]  # protobuf ships no types
import onnx
from onnx import numpy_helper

from outcrop.errors import ModelLoadError, ModelNotFoundError
from outcrop.models import preprocessing as images
from outcrop.models.graph import Graph
from outcrop.models.graph_layers import DEFAULT_IMAGE_SIZE, GraphInput, read_inputs
from outcrop.models.model import Preprocessing

CLASSES_KEY = "outcrop.classes"
"""Of the metadata of an ONNX file; its value is a JSON list of the names of the logits."""


def read_file(path: Path) -> onnx.ModelProto:
    """Return the model of a file; weights in other files stay there.

    Raises:
        ModelNotFoundError: There is no such file.
        ModelLoadError: It is not an ONNX model.
    """
    if path.is_dir():
        raise ModelLoadError(f"{path} is not an ONNX model: it is a folder; give the path of the file in it.")
    if not path.exists():
        raise ModelNotFoundError(f"There is no file {path}; give the path of an ONNX model.")
    content = path.read_bytes()
    if not content:
        raise ModelLoadError(f"{path} is not an ONNX model: it is empty.")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except google.protobuf.message.DecodeError as error:
        raise ModelLoadError(f"{path} is not an ONNX model: it is another kind of file, or truncated.") from error
    if not model.graph.output or not model.opset_import:
        raise ModelLoadError(f"{path} is not an ONNX model: it holds no graph.")
    return model


def image_preprocessing(metadata: Mapping[str, str], inputs: Sequence[GraphInput]) -> Preprocessing | None:
    """Return what is done to images: what the metadata says, else what the first input suggests.

    Raises:
        ModelLoadError: The metadata says something that is no recipe.
    """
    if images.METADATA_KEY in metadata:
        return images.read_recipe(metadata[images.METADATA_KEY]).preprocessing()
    if not inputs or inputs[0].channels_last is None:
        return None
    channels_last = inputs[0].channels_last
    sizes = inputs[0].sizes[1:3] if channels_last else inputs[0].sizes[2:4]
    height, width = (size if isinstance(size, int) else DEFAULT_IMAGE_SIZE for size in sizes)
    if inputs[0].sizes[3 if channels_last else 1] != 3:
        return None
    recipe = images.assumed_recipe(height, width, channels_last=channels_last)
    return recipe.preprocessing(note=" (assumed: the file says nothing of how images were prepared)")


def image_size(metadata: Mapping[str, str]) -> tuple[int, int] | None:
    """Return the height and width of images that the metadata states."""
    return images.read_recipe(metadata[images.METADATA_KEY]).size if images.METADATA_KEY in metadata else None


def class_names(metadata: Mapping[str, str]) -> tuple[str, ...] | None:
    """Return the names of the logits, where the metadata states them.

    Raises:
        ModelLoadError: The metadata is not a list of names.
    """
    if CLASSES_KEY not in metadata:
        return None
    try:
        names = json.loads(metadata[CLASSES_KEY])
    except json.JSONDecodeError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ModelLoadError(f"The model's metadata {CLASSES_KEY!r} is not a JSON list of names.")
    return tuple(names)


def fingerprint(graph: Graph) -> str:
    """Return a hash of all that determines a graph's values.

    Names of nodes, documentation, metadata and the place and encoding of weights are left out.
    """
    digest = hashlib.sha256()
    for imported in sorted(graph.model.opset_import, key=lambda entry: entry.domain):
        digest.update(f"{imported.domain or 'ai.onnx'} {imported.version}\n".encode())
    digest.update(repr([(given.name, given.element_type, given.sizes) for given in read_inputs(graph)]).encode())
    digest.update(repr(graph.outputs).encode())
    for node in graph.nodes:
        bare = onnx.NodeProto(op_type=node.op_type, domain=node.domain, input=node.input, output=node.output)
        bare.attribute.extend(sorted(node.attribute, key=lambda attribute: attribute.name))
        for attribute in bare.attribute:
            attribute.ClearField("doc_string")
        digest.update(bare.SerializeToString(deterministic=True))
    for name in sorted(graph.initializers):
        tensor = graph.tensor(name)
        digest.update(f"\n{name} {tensor.data_type} {list(tensor.dims)}\n".encode())
        digest.update(numpy_helper.to_array(tensor).tobytes())
    for name in sorted(graph.sparse_initializers):
        digest.update(graph.sparse_initializers[name].SerializeToString(deterministic=True))
    return digest.hexdigest()
