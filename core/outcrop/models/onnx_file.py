"""What an ONNX file says: the graph, how images are prepared, class names; and a hash of what it computes."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import google.protobuf.message  # type: ignore[import-untyped]  # protobuf ships no types
import onnx
from onnx import numpy_helper

from outcrop.errors import ModelLoadError, ModelNotFoundError
from outcrop.models import preprocessing as images
from outcrop.models.graph import FLOAT_TYPES, Graph
from outcrop.models.graph_layers import DEFAULT_IMAGE_SIZE, GraphInput, read_inputs
from outcrop.models.model import Preprocessing
from outcrop.models.reference import Reference, parse_reference

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


def state_recipe(graph: Graph, options: str, *, label: str) -> None:
    """Write into the metadata of a graph how images are prepared, as if its file said so; the file stays as it is.

    Args:
        graph: Of a network of colour images.
        options: Such as ``mean=0.5,0.5,0.5&std=0.25,0.25,0.25&size=224&resize=256``.
        label: Of the file, for messages.

    Raises:
        ModelLoadError: An option is unknown or wrong, or the network takes no colour images.
    """
    # A question mark in the name of the file would end it.
    known = ("mean", "std", "size", "resize", "batch_norm")
    reference = parse_reference(f"{label.replace('?', '')}?{options}", known)
    if "batch_norm" in reference.options:
        raise ModelLoadError(
            f"{label!r} is an ONNX file, whose batch norm is fixed in its graph; leave batch_norm out, or load the "
            "torch network that it was exported from."
        )
    if not {"mean", "std"} <= reference.options.keys():
        raise ModelLoadError(f"Options of {label!r} state only a part of how images are prepared; write mean and std.")
    mean, std = (_channel_numbers(reference, option) for option in ("mean", "std"))
    if min(std) <= 0:
        raise ModelLoadError(f"Option std={reference.options['std']} of {label!r} divides by zero or less.")
    inputs = read_inputs(graph)
    first = inputs[0] if inputs else None
    if first is None or len(first.sizes) != 4 or first.element_type not in FLOAT_TYPES:
        raise ModelLoadError(f"{label!r} takes no images, so mean and std do not apply; leave them out.")
    channels_last = first.channels_last is True
    *_, channels = first.sizes if channels_last else first.sizes[:2]
    if isinstance(channels, int) and channels != 3:
        raise ModelLoadError(f"{label!r} takes images of {channels} channels; mean and std prepare those of 3.")
    fixed = first.sizes[1:3] if channels_last else first.sizes[2:4]
    stated = reference.number("size", 0) or None
    for size in fixed:
        if isinstance(size, int) and stated not in (None, size):
            raise ModelLoadError(f"Option size={stated} of {label!r} does not fit: the network takes {size} pixels.")
    height, width = (size if isinstance(size, int) else stated or DEFAULT_IMAGE_SIZE for size in fixed)
    recipe = images.assumed_recipe(height, width, channels_last=channels_last)
    resize = reference.number("resize", 0) or recipe.resize
    recipe = recipe.model_copy(update={"mean": mean, "std": std, "resize": resize})
    kept = [entry for entry in graph.model.metadata_props if entry.key != images.METADATA_KEY]
    entry = onnx.StringStringEntryProto(key=images.METADATA_KEY, value=recipe.model_dump_json())
    del graph.model.metadata_props[:]
    graph.model.metadata_props.extend([*kept, entry])


def _channel_numbers(reference: Reference, option: str) -> tuple[float, float, float]:
    text = reference.options[option]
    try:
        red, green, blue = (float(number) for number in text.split(","))
    except ValueError:
        red = math.nan
    if not math.isfinite(red) or not math.isfinite(green + blue):
        raise ModelLoadError(
            f"Option {option}={text} of {reference.name!r} is not three numbers, one per channel; "
            f"write {option}=0.5,0.5,0.5."
        )
    return red, green, blue


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
