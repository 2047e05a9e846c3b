"""Export a torch network, and refuse what does not agree with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from torch import Tensor, nn

from outcrop.errors import ZooError
from outcrop.models.preprocessing import ImageRecipe
from outcrop_zoo.cards import ModelInput, Parity
from outcrop_zoo.exporting.file import FileFacts, add_initializers, share_names, store_half, strip, write_metadata
from outcrop_zoo.exporting.folding import fold_batch_norm
from outcrop_zoo.exporting.parity import measure_parity
from outcrop_zoo.exporting.state import Inputs, float_state, half_names, prepared_copy, round_to_half, shared_names
from outcrop_zoo.exporting.tracing import trace

PARITY_TOLERANCE = 1e-4
_LARGEST_FILE = 2**31 - 2**20  # of what protobuf can hold, the last part is left to the graph

Unused = Literal["keep", "drop"]


@dataclass(frozen=True)
class Export:
    """An exported network.

    Attributes:
        content: The bytes of the ONNX file.
        model: The same, parsed.
        opset: Version of the ONNX operators.
        layers: Modules without children that compute something.
        parity: Agreement with torch.
        name: Written into the file as ``outcrop.card``.
        source: The reference it was exported from, where it was loaded from one.
        inputs: Of the graph; shapes are those of one sample.
        outputs: Names, in the order of the graph.
        parameters: Trained numbers of the network, those that the forward pass does not use included.
        preprocessing: As written into the file.
        classes: As written into the file.
        unused: Parameters and statistics that the forward pass does not use.
        folded: Paths of the batch norms that became part of what is before them.
        batch_norms: Batch norms left in the graph.
    """

    content: bytes
    model: onnx.ModelProto
    opset: int
    layers: int
    parity: Parity
    name: str
    source: str | None
    inputs: tuple[ModelInput, ...]
    outputs: tuple[str, ...]
    parameters: int
    preprocessing: ImageRecipe | None
    classes: tuple[str, ...] | None
    unused: tuple[str, ...]
    folded: tuple[str, ...]
    batch_norms: int


def export_network(
    network: nn.Module,
    example: Tensor | Mapping[str, Tensor],
    *,
    name: str,
    classes: Sequence[str] | None = None,
    preprocessing: ImageRecipe | None = None,
    source: str | None = None,
    half: bool = True,
    folded: bool = False,
    unused: Unused = "keep",
    input_name: str = "image",
    output_name: str = "logits",
    tolerance: float = PARITY_TOLERANCE,
) -> Export:
    """Return the ONNX form of a network.

    Batch norm stays an operation of its own, every parameter and buffer of the state dict is an initialiser under
    its own name, nodes carry their module path, and any number of samples can be fed at once. Values of all modules
    are compared with torch on the examples, and on the first of them alone. The bytes depend on the network and the
    versions of torch and onnx only. The network itself is not changed.

    Args:
        network: What to export; it is put in evaluation mode, in a copy on the CPU in float32.
        example: Inputs (sample, ...) of at least two samples, on which parity with torch is measured. A mapping where
            the network takes several: they are passed by keyword, and the graph has inputs of these names.
        name: Written into the file as ``outcrop.card``.
        classes: Names of the outputs, written as ``outcrop.classes``.
        preprocessing: Written as ``outcrop.preprocessing``.
        source: Where the network is from, written as ``outcrop.source``.
        half: Store trained kernels and matrices in float16, each with a cast to float32 behind it. Vectors and
            buffers stay in float32: they are small, statistics overflow, and a rounded rotation is none. Torch runs the
            rounded weights too.
        folded: Make every batch norm that follows a convolution or a linear layer a part of it, in float64: fewer
            operations for whoever runs the network. Do not compare or interpolate the weights of such a file, nor look
            for the convolution's own output in it. Batch norms behind anything else stay.
        unused: Whether parameters that the forward pass does not use, such as auxiliary heads, stay in the file as
            initialisers that no node reads (``keep``: the state dict is complete), or not (``drop``: a smaller file).
        input_name: Of the graph, where ``example`` is a tensor.
        output_name: Of the graph, where the network returns one tensor; several are named by their keys or positions.
        tolerance: Largest relative difference from torch, over the outputs of the network and all its modules.

    Raises:
        ZooError: The network cannot be exported or takes a fixed number of samples only, a weight does not fit
            float16, there is no batch norm to fold, or the graph does not agree with torch.
    """
    _check_request(network, name=name, half=half, folded=folded)
    copied = prepared_copy(network)
    if half:
        round_to_half(copied)
    inputs = Inputs.of(example, input_name, name)
    model = trace(copied, inputs, name=name, output_name=output_name)
    strip(model)
    state = float_state(copied)
    shared = shared_names(copied)
    share_names(model, shared)
    stored = {initializer.name for initializer in model.graph.initializer}
    lost = {key: value for key, value in state.items() if key not in stored and key not in shared}
    if unused == "keep":
        add_initializers(model, lost)
    complete = onnx.ModelProto()
    complete.CopyFrom(model)
    gone = fold_batch_norm(model, name) if folded else ()
    if half:
        store_half(model, half_names(copied))
    write_metadata(model, FileFacts(name, source, classes, preprocessing, shared, gone))
    onnx.checker.check_model(model, full_check=True)
    errors = measure_parity(copied, model, inputs.tensors, keywords=inputs.keywords, structure=complete)
    alone = measure_parity(copied, model, inputs.first(), keywords=inputs.keywords, structure=complete)
    parity = _checked({path: _worse(errors[path], alone[path]) for path in errors}, name, len(inputs), tolerance)
    leaves = {path for path, module in copied.named_modules() if not any(module.children())}
    return Export(
        content=model.SerializeToString(deterministic=True),
        model=model,
        opset=next(entry.version for entry in model.opset_import if entry.domain == ""),
        layers=len(leaves & errors.keys()),
        parity=parity,
        name=name,
        source=source,
        inputs=tuple(ModelInput(name=key, shape=shape, dtype=dtype) for key, shape, dtype in inputs.described()),
        outputs=tuple(output.name for output in model.graph.output),
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        preprocessing=preprocessing,
        classes=tuple(classes) if classes is not None else None,
        unused=tuple(lost),
        folded=gone,
        batch_norms=sum(node.op_type == "BatchNormalization" for node in model.graph.node),
    )


def _check_request(network: nn.Module, *, name: str, half: bool, folded: bool) -> None:
    if half and folded:
        raise ZooError(
            f"The export of {name!r} was asked for folded and in float16: folded kernels would be rounded after they "
            "were made, and could not be held to torch's values. Choose one of the two."
        )
    tensors = [*network.named_parameters(), *network.named_buffers()]
    halved = half_names(network) if half else set()
    size = sum(tensor.numel() * (2 if key in halved else 4) for key, tensor in tensors)
    if size > _LARGEST_FILE:
        remedy = "Export a smaller network." if half else "Store it in float16 (half=True), or export a smaller one."
        raise ZooError(f"The weights of {name!r} take {size / 1e9:.1f} GB; one ONNX file holds 2 GB. {remedy}")


def _checked(errors: Mapping[str, float], name: str, samples: int, tolerance: float) -> Parity:
    worst = max(errors, key=lambda path: np.nan_to_num(errors[path], nan=np.inf))
    if not errors[worst] <= tolerance:
        raise ZooError(
            f"The export of {name!r} does not agree with torch: {worst or 'the output'} differs by {errors[worst]:.2g} "
            f"relative to its largest value; at most {tolerance:.0e} is accepted. The file was not written."
        )
    return Parity(largest_relative_error=errors[worst], modules=len(errors) - 1, samples=samples)


def _worse(first: float, second: float) -> float:
    return float(np.maximum(first, second))  # NaN is the worst of all
