"""Check every captured value of a network against a source that shares no code with outcrop.

Torch: a copy of the network whose modules work out of place runs under a ``TorchDispatchMode``; every captured layer
must be, in order, the output of an operation of its own (of the right kind, where its name tells), and layers named
after a module must equal what a plain forward hook on that module of the copy was given. ONNX: sessions of ONNX
Runtime on the untouched graph, without optimisation, that declare a few of its values as outputs.
"""

import copy
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import version_converter
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from outcrop.models import LAYER_KINDS, Layer, Model, TorchModel
from outcrop.models.onnx_ import OnnxModel

TOLERANCE = 1e-5
"""Largest deviation of a value, as a part of the largest magnitude of its layer."""

_ORIGINS = (
    (r"^Conv\d|conv\d?d?$", r"convolution"),
    (r"^BatchNorm|batch_norm$", r"batch_norm"),
    (r"^LayerNorm|layer_norm$", r"layer_norm|permute"),
    (r"^ReLU6?$|^relu6?$|[Hh]ard[Tt]anh", r"relu|clamp|threshold|hardtanh"),
    (r"^GELU|gelu$", r"gelu|mul"),
    (r"^SiLU|^silu$", r"silu|mul"),
    (r"^add$", r"\.add_?\."),
    (r"^(Linear|linear)$", r"addmm|\.mm|linear|matmul|bmm|\.add|view"),
)
"""Which dispatched operations a layer may come from, by the operation that outcrop says computes it."""


@dataclass
class Verdict:
    """What the check of one network has shown.

    Attributes:
        network: Its name.
        layers: Number of layers listed.
        kinds: How many of each kind.
        how: What the values were compared with.
        checked: Number of layers whose values were compared.
        worst: Largest deviation found, as a part of the largest magnitude of the layer.
        failures: What went wrong, one line each.
        unheld: Computing operations of the network whose output no layer holds, with how often.
        fell_back: Whether operations between modules could not be seen.
        seconds: Of listing, capturing and checking.
    """

    network: str
    layers: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    how: str = ""
    checked: int = 0
    worst: float = 0.0
    failures: list[str] = field(default_factory=list)
    unheld: Counter[str] = field(default_factory=Counter)
    fell_back: bool = False
    seconds: float = 0.0

    def compare(self, layer: str, found: Tensor, expected: Tensor, source: str) -> None:
        """Note the deviation of a layer from what it should be."""
        deviation = relative_error(found, expected)
        self.worst = max(self.worst, deviation)
        if not deviation <= TOLERANCE:
            self.failures.append(f"{layer}: deviates by {deviation:.1e} from {source}")


Captured = Sequence[tuple[Layer, Tensor]]


def capture(model: Model, inputs: Mapping[str, Tensor]) -> Captured:
    """Return all layers with a copy of their values, in the order in which they are visited."""
    found: list[tuple[Layer, Tensor]] = []
    model.visit(
        inputs, [layer.name for layer in model.layers], lambda layer, values: found.append((layer, values.clone()))
    )
    return found


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Return the largest deviation as a part of the largest magnitude; infinite where shapes or NaNs differ."""
    if found.shape != expected.shape:
        return float("inf")
    found, expected = found.double(), expected.double()
    if not torch.equal(found.isnan(), expected.isnan()):
        return float("inf")
    scale = float(expected.nan_to_num(0).abs().max())
    deviation = float((found - expected).nan_to_num(0).abs().max())
    return 0.0 if deviation == 0 else deviation / scale if scale else float("inf")


def enliven(network: nn.Module, *, seed: int = 0) -> nn.Module:
    """Give constant weights and batch-norm statistics random values, so that no two layers are equal by accident."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.is_floating_point() and parameter.numel() > 1 and float(parameter.std()) == 0:
                if float(parameter.flatten()[0]) == 0:
                    parameter.normal_(std=0.1, generator=generator)
                else:
                    parameter.uniform_(0.5, 1.5, generator=generator)
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
                assert module.running_var is not None
                module.running_mean.normal_(std=0.3, generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
    return network.eval()


def out_of_place(network: nn.Module) -> nn.Module:
    """Return a copy whose modules never work in place."""
    twin = copy.deepcopy(network).eval()
    for module in twin.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment] # a plain attribute, which torch types as a module
    return twin


class DispatchTrace(TorchDispatchMode):
    """Shows every floating-point output of every dispatched operation, the moment it exists."""

    def __init__(self, take: Callable[[str, Tensor], None]) -> None:
        super().__init__()
        self._take = take

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for place, value in enumerate(tree_leaves(result)):
            if isinstance(value, Tensor) and value.is_floating_point() and value.numel():
                self._take(str(func) if place == 0 else f"{func} [{place}]", value)
        return result


def check_torch(network: nn.Module, inputs: Mapping[str, Tensor], captured: Captured, verdict: Verdict) -> None:
    """Compare captured values with a dispatch-level trace and with module outputs of an out-of-place copy."""
    twin = out_of_place(network)
    verdict.how = "dispatch trace + module hooks"
    outputs: defaultdict[str, list[Tensor]] = defaultdict(list)
    handles = [
        module.register_forward_hook(lambda _module, _args, output, path=path: _note(outputs[path], output))
        for path, module in twin.named_modules()
    ]
    layers = list(captured)
    for layer, values in [entry for entry in layers if entry[0].kind == "input"]:
        verdict.compare(layer.name, values, inputs[layer.name], "the input")
    pending = [entry for entry in layers if entry[0].kind != "input"]
    position = 0

    def take(operation: str, value: Tensor) -> None:
        nonlocal position
        if position < len(pending):
            layer, values = pending[position]
            if _may_come_from(layer.operation, operation):
                deviation = _closest(values, value)
                if deviation <= TOLERANCE:
                    verdict.worst = max(verdict.worst, deviation)
                    position += 1
                    return
        if "[" not in operation and _computes(operation):
            verdict.unheld[operation.split(".")[1]] += 1

    with torch.no_grad(), DispatchTrace(take):
        twin(*inputs.values())
    for handle in handles:
        handle.remove()
    verdict.checked = len(layers) - len(pending) + position
    if position < len(pending):
        missed = pending[position][0]
        verdict.failures.append(
            f"{missed.name} ({missed.operation}): no operation after those of the layers before gave its values; "
            f"{len(pending) - position} of {len(layers)} layers unmatched"
        )
    _check_modules(captured, outputs, dict(twin.named_modules()), verdict)


def _note(into: list[Tensor], output: Any) -> None:
    tensors = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor) and leaf.is_floating_point()]
    if tensors:
        into.append(tensors[0].clone())


def _check_modules(
    captured: Captured,
    outputs: Mapping[str, list[Tensor]],
    modules: Mapping[str, nn.Module],
    verdict: Verdict,
) -> None:
    for layer, values in captured:
        path, _, call = layer.name.partition(":")
        if path not in modules and path.endswith(".0") and path[:-2] in modules:
            path = path[:-2]  # the first of a tuple
        if path not in modules or not outputs[path]:
            continue
        expected = outputs[path][int(call or 0)]
        deviation = _closest(values, expected)
        verdict.worst = max(verdict.worst, deviation if deviation < float("inf") else 0)
        if deviation > TOLERANCE:
            verdict.failures.append(f"{layer.name}: deviates by {deviation:.1e} from what the module returned")


def _may_come_from(said: str, operation: str) -> bool:
    return all(re.search(origin, operation) for name, origin in _ORIGINS if re.search(name, said))


def _computes(operation: str) -> bool:
    return (
        re.search(
            r"\.(convolution|native_batch_norm|cudnn_batch_norm|relu|gelu|silu|hardswish|add|mul|addmm|mm|bmm|"
            r"native_layer_norm|native_group_norm|mean|max_pool2d\w*|avg_pool2d|_softmax|cat)_?\.",
            operation,
        )
        is not None
    )


def _closest(values: Tensor, value: Tensor) -> float:
    """Return the deviation of a captured value (sample, ...) from a tensor of the network, wherever its samples are."""
    if values.numel() != value.numel():
        return float("inf")
    if values.shape == value.shape:
        return relative_error(values, value)
    # Samples first, and windows beside their sample, as a capture has them.
    return min(
        (relative_error(values, value.movedim(axis, 0).reshape(values.shape)) for axis in range(value.dim())),
        default=float("inf"),
    )


def check_onnx(
    path: Path, inputs: Mapping[str, Tensor], captured: Captured, model: OnnxModel, verdict: Verdict
) -> None:
    """Compare captured values with those of sessions that declare a few outputs each."""
    values = {alias: layer.name for layer, _ in captured for alias in [layer.name]}
    proto = onnx.load(path)
    made = [name for node in proto.graph.node for name in node.output if name]
    graph_names = {}
    for name in made:
        try:
            graph_names.setdefault(model.layer(name).name, name)
        except LookupError:
            continue
    verdict.how = "sessions of 12 outputs, not optimised"
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = torch.get_num_threads()
    found = {layer.name: tensor for layer, tensor in captured}
    names = [name for name in values.values() if name in graph_names]
    arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
    for given in inputs:
        if given in found:
            verdict.compare(given, found[given], inputs[given], "the input")
            verdict.checked += 1
    for start in range(0, len(names), 12):
        some = names[start : start + 12]
        part = _with_outputs(proto, [graph_names[name] for name in some])
        session = onnxruntime.InferenceSession(part.SerializeToString(), options, providers=["CPUExecutionProvider"])
        for name, expected in zip(some, session.run(None, arrays), strict=True):
            verdict.compare(name, found[name], _samples_first(expected), "a session of its own")
            verdict.checked += 1
    missed = [layer.name for layer, _ in captured if layer.name not in names and layer.name not in inputs]
    verdict.failures += [f"{name}: found under no name in the graph" for name in missed]


def check_reference(path: Path, inputs: Mapping[str, Tensor], captured: Captured, verdict: Verdict) -> None:
    """Compare captured values with those of ONNX's reference evaluator, which is slow; names must be the graph's.

    The graph is brought to opset 15 first: the evaluator runs the batch norm of opset 9 in training mode, and a softmax
    before opset 13 along the last axis.
    """
    proto = version_converter.convert_version(onnx.load(path), 15)
    made = {name for node in proto.graph.node for name in node.output}
    chosen = [(layer.name, values) for layer, values in captured if layer.name in made]
    evaluator = ReferenceEvaluator(_with_outputs(proto, [name for name, _ in chosen]))
    results = evaluator.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
    for (name, values), expected in zip(chosen, results, strict=True):
        verdict.compare(name, values, _samples_first(expected), "onnx.reference")
    verdict.how += f", onnx.reference ({len(chosen)})"


def _with_outputs(proto: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    del changed.graph.output[:]
    changed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return changed


def _samples_first(values: Any) -> Tensor:
    tensor = torch.from_numpy(np.array(values))
    return tensor.unsqueeze(1) if tensor.dim() == 1 else tensor


def examine_torch(name: str, network: nn.Module, shape: tuple[int, ...], *, samples: int = 2) -> Verdict:
    """List and capture all layers of a torch network, and check them."""
    start = time.perf_counter()
    verdict = Verdict(name)
    model = TorchModel(enliven(network), name=name, input_shape=shape)
    inputs = {model.inputs[0].name: torch.randn(samples, *shape, generator=torch.Generator().manual_seed(7))}
    captured = capture(model, inputs)
    _describe(verdict, model, captured)
    verdict.fell_back = getattr(model, "unseen", None) is not None
    check_torch(network, inputs, captured, verdict)
    with torch.no_grad():
        bare = next(leaf for leaf in tree_leaves(network(*inputs.values())) if isinstance(leaf, Tensor))
    verdict.compare("forward", model.forward(inputs), bare, "the network itself")
    verdict.seconds = time.perf_counter() - start
    return verdict


def examine_onnx(name: str, path: Path, *, reference: bool = False) -> Verdict:
    """List and capture all layers of an ONNX graph of images, and check them."""
    start = time.perf_counter()
    verdict = Verdict(name)
    from outcrop.models.onnx_ import load_onnx

    model = load_onnx(path, device="cpu")
    [spec] = model.inputs
    shape = (model.batch_size or 2, *(size or 32 for size in spec.shape))
    inputs = {spec.name: torch.randn(shape, generator=torch.Generator().manual_seed(7))}
    captured = capture(model, inputs)
    _describe(verdict, model, captured)
    check_onnx(path, inputs, captured, model, verdict)
    if reference:
        check_reference(path, inputs, captured, verdict)
    verdict.seconds = time.perf_counter() - start
    return verdict


def _describe(verdict: Verdict, model: Model, captured: Captured) -> None:
    verdict.layers = len(model.layers)
    verdict.kinds = Counter(layer.kind for layer in model.layers)
    if [layer for layer, _ in captured] != list(model.layers):
        verdict.failures.append("the layers visited are not those listed, in their order")
    wrong = sorted(verdict.kinds.keys() - set(LAYER_KINDS))
    if wrong or not verdict.kinds.keys() & {"conv", "linear"} or "input" not in verdict.kinds:
        verdict.failures.append(f"kinds are missing or unknown: {dict(verdict.kinds)}")
    for layer, values in captured:
        if tuple(values.shape[1:]) != layer.shape or len(layer.dims) != len(layer.shape):
            verdict.failures.append(f"{layer.name}: captured as {tuple(values.shape)}, listed as {layer.shape}")
