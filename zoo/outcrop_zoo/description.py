"""The card of an ONNX file: what it says of itself, what is counted in it, and what its owner adds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch

from outcrop import Model, version
from outcrop.errors import ZooError
from outcrop.models.graph_layers import DEFAULT_IMAGE_SIZE
from outcrop.models.preprocessing import METADATA_KEY, ImageRecipe, read_recipe
from outcrop_zoo.cards import Card, FileSource, ModelInput, Parity, UrlSource
from outcrop_zoo.files import sha256

_ANY_LENGTH = 16  # of a dimension that is open, and not one of an image
_STATISTICS = slice(3, 5)  # running mean and variance among the inputs of BatchNormalization


@dataclass(frozen=True)
class Labels:
    """What a file cannot say; fields are those of a card.

    Attributes:
        classes: Names of the logits, where the file does not state them.
        layers: Modules that compute something, where they were counted in torch; else layers of the graph are.
    """

    family: str = "own"
    architecture: str = "unknown"
    data: str = "unknown"
    licence: str = "NOASSERTION"
    references: tuple[str, ...] = ()
    depth: int | None = None
    width: int | None = None
    seed: int | None = None
    classes: tuple[str, ...] | None = None
    layers: int | None = None


def describe(
    path: Path,
    *,
    name: str,
    source: FileSource | UrlSource,
    labels: Labels,
    preprocessing: ImageRecipe | None = None,
    origin: str | None = None,
    parity: Parity | None = None,
) -> Card:
    """Return a card for an ONNX file that was checked and run.

    Args:
        path: Of the file, which may lie elsewhere than the source says.
        name: Of the card.
        source: Of the card.
        labels: What the file cannot say.
        preprocessing: Of images, where the file does not state it.
        origin: What the file was exported from.
        parity: Of that export.

    Raises:
        ZooError: The graph is not valid, keeps weights in other files, or returns values that are not finite; or the
            classes are not those of its outputs.
        ModelLoadError: It is no ONNX file, or does not run.
    """
    from outcrop.models.onnx_ import load_onnx

    graph = check_graph(path)
    model = load_onnx(path, name=name)
    outputs = check_runs(model, path)
    classes = _classes(model.classes, labels.classes, outputs.shape[-1], path)
    metadata = {entry.key: entry.value for entry in graph.metadata_props}
    if METADATA_KEY in metadata:
        preprocessing = read_recipe(metadata[METADATA_KEY])
    given = model.inputs[0]
    return Card(
        name=name,
        family=labels.family,
        architecture=labels.architecture,
        width=labels.width,
        depth=labels.depth,
        seed=labels.seed,
        data=labels.data,
        licence=labels.licence,
        references=labels.references,
        opset=graph_opset(graph),
        input=ModelInput(name=given.name, shape=given.shape, dtype=given.dtype),
        preprocessing=preprocessing,
        classes=classes,
        layers=labels.layers or sum(layer.kind != "input" for layer in model.layers),
        parameters=count_parameters(graph),
        size=path.stat().st_size,
        sha256=sha256(path),
        source=source,
        origin=origin,
        parity=parity,
        outcrop=version(),
    )


def check_graph(path: Path) -> onnx.ModelProto:
    """Return the model of a file after ONNX's checker looked at it.

    Raises:
        ZooError: It is not valid, or keeps weights in other files.
        ModelLoadError: It is no ONNX file.
    """
    from outcrop.models.onnx_file import read_file

    model = read_file(path)
    if any(onnx.external_data_helper.uses_external_data(tensor) for tensor in model.graph.initializer):
        raise ZooError(
            f"{path} keeps its weights in other files, which its sha256 does not cover; load it with onnx.load and "
            "write it with onnx.save, which makes one file."
        )
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ZooError(
            f"{path} is not a valid ONNX graph: {str(error).partition(chr(10))[0]}. Build or export it again."
        ) from error
    return model


def graph_opset(model: onnx.ModelProto) -> int | None:
    """Return the version of the ONNX operators that a graph is written in."""
    return next((entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), None)


def check_runs(model: Model, what: object) -> torch.Tensor:
    """Run a model on samples of zeros, and return what it returns.

    Raises:
        ZooError: It returns values that are not finite.
        ModelLoadError: It does not run.
    """
    samples = getattr(model, "batch_size", None) or 2
    outputs = model.forward(
        {
            given.name: torch.zeros(samples, *_sizes(given.shape), dtype=getattr(torch, given.dtype))
            for given in model.inputs
        }
    )
    if not torch.isfinite(outputs).all():
        raise ZooError(f"{what} returns values that are not finite on an input of zeros. Build or export it again.")
    return outputs


def count_parameters(model: onnx.ModelProto) -> int:
    """Return how many numbers a graph was trained to: floats among its weights, without running statistics."""
    running = {
        name for node in model.graph.node if node.op_type == "BatchNormalization" for name in node.input[_STATISTICS]
    }
    floats = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE}
    total = 0
    for tensor in model.graph.initializer:
        if tensor.data_type in floats and tensor.name not in running:
            count = 1
            for size in tensor.dims:
                count *= size
            total += count
    return total


def _classes(
    stated: tuple[str, ...] | None, given: tuple[str, ...] | None, outputs: int, path: Path
) -> tuple[str, ...] | None:
    """Return the classes of a file: those it states, else those its owner names."""
    if stated is not None and given is not None and stated != given:
        raise ZooError(f"{path} states {len(stated)} classes itself, which are not those given; leave them away.")
    if given is not None and len(given) != outputs:
        raise ZooError(f"{path} has {outputs} outputs, and {len(given)} classes were named; give one name for each.")
    return stated or given


def _sizes(shape: Sequence[int | None]) -> list[int]:
    """Return the shape of one sample, open sizes filled in."""
    usual = DEFAULT_IMAGE_SIZE if len(shape) == 3 else _ANY_LENGTH
    return [usual if size is None else size for size in shape]
