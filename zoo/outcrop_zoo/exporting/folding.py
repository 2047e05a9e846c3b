"""Make batch norms part of the convolutions and linear layers before them.

In evaluation mode a batch norm is ``(y - mean) * gamma / sqrt(variance + epsilon) + beta`` per channel, and ``y`` is
linear in the kernel: the kernel takes the factor, the bias the rest (https://arxiv.org/abs/1712.05877, section 3.2).
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from outcrop.errors import ZooError
from outcrop_zoo.exporting.scopes import module_paths

_UNCHANGING = {"Cast", "CastLike", "Expand", "Identity"}
"""What the exporter puts between a constant and a batch norm without weights of its own."""


def fold_batch_norm(model: onnx.ModelProto, name: str) -> tuple[str, ...]:
    """Fold every batch norm that follows a convolution or a linear layer, in place.

    What computed the input of a batch norm then computes its output, under the name of that. Arithmetic is in
    float64, rounded once. A batch norm stays where something else reads its input too, where the weights before it
    serve several places, and behind anything but ``Conv``, ``ConvTranspose`` and ``Gemm``.

    Args:
        model: As exported: with weights as initialisers.
        name: Of the model, for messages.

    Returns:
        Paths of the modules that were folded, in the order of the graph.

    Raises:
        ZooError: There is none that can be.
    """
    graph = _Folding(model)
    folded = []
    for node in [node for node in model.graph.node if node.op_type == "BatchNormalization"]:
        if graph.fold(node):
            paths = module_paths(node)
            folded.append(paths[-1] if paths else node.output[0])
    if not folded:
        count = sum(node.op_type == "BatchNormalization" for node in model.graph.node)
        raise ZooError(
            f"{name!r} has no batch norm behind a convolution or a linear layer ({count} elsewhere), so there is "
            "nothing to fold; export it with folded=False."
        )
    _drop_unread(model)
    return tuple(folded)


@dataclass(frozen=True)
class _Affine:
    """A batch norm as factor and shift of each channel, in float64."""

    factor: NDArray[np.float64]
    shift: NDArray[np.float64]

    def of_kernel(self, node: onnx.NodeProto, kernel: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the kernel of the node in front with the factor in it."""
        attributes = {attribute.name: attribute.i for attribute in node.attribute}
        if node.op_type == "ConvTranspose":  # (channel in, channel out of one group, ...)
            groups = attributes.get("group", 1)
            factor = self.factor.reshape(groups, 1, -1, *[1] * (kernel.ndim - 2))
            return (kernel.reshape(groups, -1, *kernel.shape[1:]) * factor).reshape(kernel.shape)
        if node.op_type == "Gemm" and not attributes.get("transB", 0):  # (feature in, feature out)
            return kernel * self.factor
        return kernel * self.factor.reshape(-1, *[1] * (kernel.ndim - 1))


class _Folding:
    """A graph under change: who computes and who reads what."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.weights = {initializer.name: initializer for initializer in self.graph.initializer}
        self.producers = {value: node for node in self.graph.node for value in node.output}
        self.readers = Counter(value for node in self.graph.node for value in _values_read(node))
        self.readers.update(output.name for output in self.graph.output)

    def fold(self, norm: onnx.NodeProto) -> bool:
        """Fold a batch norm into what computes its input; return whether it could be."""
        before = self.producers.get(norm.input[0])
        affine = self._affine(norm)
        if before is None or affine is None or not self._can_take(before):
            return False
        kernel = self.weights[before.input[1]]
        values = affine.of_kernel(before, numpy_helper.to_array(kernel).astype(np.float64))
        bias_name = before.input[2] if len(before.input) > 2 else ""
        given = self._constant(bias_name) if bias_name else None
        bias = affine.shift if given is None else affine.shift + affine.factor * given
        if bias_name not in self.weights:  # none, or zeros that the exporter computes
            bias_name = self._new_bias_name(kernel.name)
            self.weights[bias_name] = self.graph.initializer.add()
            del before.input[2:]
            before.input.append(bias_name)
        kernel.CopyFrom(numpy_helper.from_array(values.astype(np.float32), kernel.name))
        self.weights[bias_name].CopyFrom(numpy_helper.from_array(bias.astype(np.float32), bias_name))
        self._hand_over(before, norm)
        return True

    def _hand_over(self, before: onnx.NodeProto, norm: onnx.NodeProto) -> None:
        """Let a node compute the output of the batch norm behind it."""
        gone, kept = norm.input[0], norm.output[0]
        self.graph.node.remove(norm)
        for node in self.graph.node:  # shape and type of the two are the same
            for position, value in enumerate(node.input):
                if value == gone:
                    node.input[position] = kept
        before.output[0] = kept
        self.producers[kept] = before

    def _can_take(self, node: onnx.NodeProto) -> bool:
        if node.op_type not in {"Conv", "ConvTranspose", "Gemm"} or self.readers[node.output[0]] != 1:
            return False
        if any(attribute.name in {"alpha", "beta"} and attribute.f != 1 for attribute in node.attribute):
            return False
        weights = [name for name in node.input[1:] if name]
        alone = all(self.readers[name] == 1 for name in weights)
        return alone and weights[0] in self.weights and all(self._constant(name) is not None for name in weights)

    def _affine(self, norm: onnx.NodeProto) -> _Affine | None:
        constants = [self._constant(name) for name in norm.input[1:5]]
        training = any(attribute.name == "training_mode" and attribute.i for attribute in norm.attribute)
        if training or any(constant is None for constant in constants):
            return None
        gamma, beta, mean, variance = (constant for constant in constants if constant is not None)
        epsilon = next((attribute.f for attribute in norm.attribute if attribute.name == "epsilon"), 1e-5)
        factor = gamma / np.sqrt(variance + epsilon)
        return _Affine(factor, beta - mean * factor)

    def _constant(self, name: str) -> NDArray[np.float64] | None:
        while name not in self.weights:
            node = self.producers.get(name)
            if node is None:
                return None
            if node.op_type == "Constant":
                (value,) = node.attribute
                found = helper.get_attribute_value(value)
                tensor = isinstance(found, onnx.TensorProto)
                return np.asarray(numpy_helper.to_array(found) if tensor else found, dtype=np.float64)
            if node.op_type not in _UNCHANGING:
                return None
            name = node.input[0]
        return numpy_helper.to_array(self.weights[name]).astype(np.float64)

    def _new_bias_name(self, kernel: str) -> str:
        plain = f"{kernel.removesuffix('.weight')}.bias"
        return plain if plain not in self.weights else f"{kernel}.bias"


def _values_read(node: onnx.NodeProto) -> list[str]:
    """Return the inputs of which a node reads the entries: not those that give it a shape or a type alone."""
    if node.op_type == "Shape":
        return []
    return [value for value in (node.input[:1] if node.op_type == "CastLike" else node.input) if value]


def _drop_unread(model: onnx.ModelProto) -> None:
    """Remove the nodes, weights and shapes that only the folded batch norms used."""
    graph = model.graph
    needed = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    computed = {value for node in kept for value in node.output} | needed
    del graph.node[:]
    graph.node.extend(reversed(kept))
    for entries in (graph.initializer, graph.value_info):
        remaining = [entry for entry in entries if entry.name in computed]
        del entries[:]
        entries.extend(remaining)
