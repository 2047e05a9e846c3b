"""ONNX models on ONNX Runtime: any value of the graph, batch by batch, without touching the file."""

import math
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor

from outcrop.errors import InputError, ModelLoadError
from outcrop.models import runtime_
from outcrop.models.graph import Graph, ValueType
from outcrop.models.graph_layers import fixed_batch_size, read_inputs, read_layers
from outcrop.models.model import Layer, Model, Preprocessing, Visitor
from outcrop.models.onnx_file import class_names, fingerprint, image_preprocessing, image_size, read_file, state_recipe
from outcrop.models.segments import Segment, build, cut

MEMORY_BUDGET = 512 << 20
"""Bytes of visited values that are held at a time."""

_CACHED_PLANS = 4
_CACHED_WEIGHTS = 2 << 30  # bytes of the sessions of these plans, each of which holds weights of its own


def load_onnx(
    source: str | Path | onnx.ModelProto,
    *,
    name: str | None = None,
    device: str = "auto",
    preprocessing: Preprocessing | None = None,
    memory_budget: int = MEMORY_BUDGET,
) -> "OnnxModel":
    """Return an ONNX model from a file or from memory.

    Weights in files beside the model stay there: models beyond 2 GB load from their path.

    Args:
        source: Path, or a model in memory, which is not modified.
        name: Short name; None takes the file's.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        preprocessing: Of images; None takes what the file's metadata says, or what its input suggests.
        memory_budget: Bytes of visited values that are held at a time.

    Raises:
        ModelNotFoundError: There is no such file.
        ModelLoadError: It is not an ONNX model, or ONNX Runtime cannot run it.
    """
    if isinstance(source, onnx.ModelProto):
        label = source.graph.name or "model"
        return OnnxModel(
            Graph(source), name=name or label, source=f"onnx:<{label}>", device=device, preprocessing=preprocessing,
            memory_budget=memory_budget,
        )  # fmt: skip
    path = Path(source).expanduser()
    graph = Graph(read_file(path), folder=path.resolve().parent)
    return OnnxModel(
        graph, name=name or path.stem, source=f"onnx:{source}", device=device, preprocessing=preprocessing,
        memory_budget=memory_budget,
    )  # fmt: skip


def load_onnx_reference(reference: str, *, name: str | None = None, device: str = "auto") -> "OnnxModel":
    """Return an ONNX model from a path, with options for images that the file says nothing of.

    ``net.onnx?mean=0.485,0.456,0.406&std=0.229,0.224,0.225&size=224&resize=256`` resizes the shorter side to 256,
    crops 224 x 224 pixels, scales them to [0, 1] and normalises; without ``resize`` the shorter side is that of the
    crop. A file whose name holds the question mark itself comes first.

    Args:
        reference: What follows ``onnx:``.
        name: Short name; None takes the file's.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        ModelNotFoundError: There is no such file.
        ModelLoadError: It is not an ONNX model, ONNX Runtime cannot run it, or the options do not fit.
    """
    place, mark, options = reference.rpartition("?")
    if not mark or Path(reference).expanduser().exists() or not (options == "" or "=" in options):
        return load_onnx(reference, name=name, device=device)
    path = Path(place).expanduser()
    graph = Graph(read_file(path), folder=path.resolve().parent)
    if options:
        state_recipe(graph, options, label=path.name)
    return OnnxModel(graph, name=name or path.stem, source=f"onnx:{reference}", device=device)


class OnnxModel(Model):
    """A model that ONNX Runtime runs.

    Layers answer to their name, and to the names of the graph's values and nodes.

    Args:
        graph: Of the network.
        name: Short name.
        source: The reference it was loaded from.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        preprocessing: Of images; None takes what the metadata says, or what the input suggests.
        memory_budget: Bytes of visited values that are held at a time.

    Raises:
        ModelLoadError: ONNX Runtime cannot run the network, it has no outputs or no layers.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        name: str,
        source: str,
        device: str = "auto",
        preprocessing: Preprocessing | None = None,
        memory_budget: int = MEMORY_BUDGET,
    ) -> None:
        self.name = name
        self.source = source
        self.memory_budget = memory_budget
        if not graph.outputs:
            raise ModelLoadError(f"Model {name!r} returns nothing: its graph declares no output. Export it with one.")
        self._graph = graph
        self._device = runtime_.resolve_device(device)
        self._plans: OrderedDict[Any, list[tuple[Segment, Any]]] = OrderedDict()
        self._types: dict[str, ValueType] = {}
        self._inputs = read_inputs(graph)
        self.inputs = tuple(given.spec for given in self._inputs)
        self.batch_size = fixed_batch_size(self._inputs)
        metadata = {entry.key: entry.value for entry in graph.model.metadata_props}
        self.preprocessing = preprocessing or image_preprocessing(metadata, self._inputs)
        self.classes = class_names(metadata)
        self._plan((), 1)  # refuses at once what cannot run
        found = read_layers(graph, self._inputs, self._probe, image_size(metadata))
        self._types = found.types
        self._quantised = found.quantised
        self._values = found.values
        self._aliases = found.aliases
        self.layers = found.layers
        if not self.layers:
            raise ModelLoadError(
                f"Model {name!r} has no layers: no value is a floating-point tensor with the sample first."
            )

    @property
    def device(self) -> str:
        """Where the network runs, such as ``cpu`` or ``cuda:0``."""
        return self._device

    @cached_property
    def fingerprint(self) -> str:
        """Return a hash of weights and graph, wherever the weights lie and whoever wrote the file."""
        return fingerprint(self._graph)

    def layer(self, name: str) -> Layer:
        """Return a layer by its name, or by the name of its value or node in the graph.

        Raises:
            LayerNotFoundError: No such layer; near names are suggested.
        """
        if name not in self._by_name and name in self._aliases:
            name = self._aliases[name]
        return super().layer(name)

    def value_name(self, layer: str) -> str:
        """Return the name of a layer's value in the graph.

        Raises:
            LayerNotFoundError: No such layer; near names are suggested.
        """
        return self._values[self.layer(layer).name]

    def check_inputs(self, inputs: Mapping[str, Tensor]) -> None:
        """Compare a batch with what the model takes.

        Raises:
            InputError: An input is missing, or has another shape, type or number of samples.
        """
        super().check_inputs(inputs)
        for spec in self.inputs:
            given = inputs[spec.name]
            if self.batch_size is not None and len(given) != self.batch_size:
                raise InputError(
                    f"Model {self.name!r} is fixed at {self.batch_size} samples per batch; got {len(given)}. "
                    "Export it with an open batch size, or feed it as many."
                )
            if given.is_floating_point() != getattr(torch, spec.dtype).is_floating_point:
                raise InputError(
                    f"Model {self.name!r} takes {spec.name!r} as {spec.dtype}; "
                    f"the data is {str(given.dtype).removeprefix('torch.')}. Convert it."
                )

    def visit(self, inputs: Mapping[str, Tensor], layers: Collection[str], visitor: Visitor) -> None:
        """Run one batch and call ``visitor(layer, values)`` for each of the named layers, in execution order.

        The graph runs in consecutive segments whose visited values fit the memory budget; nothing is computed twice,
        and nothing beyond the last of the layers.
        """
        chosen = {self.layer(name).name for name in layers}
        wanted = {self._values[name]: self._by_name[name] for name in chosen}
        self.check_inputs(inputs)
        prepared = self._prepare(inputs)
        for given in self._inputs:
            if given.name in wanted:
                visitor(wanted[given.name], self._values_of(given.name, prepared[given.name]))
        computed = tuple(sorted(name for name in wanted if name in self._graph.producer))
        if not computed:
            return
        held = dict(prepared)
        for segment, session in self._plan(computed, len(next(iter(prepared.values())))):
            values = runtime_.run_session(
                session, {name: held[name] for name in segment.inputs}, segment.outputs, device=self._device
            )
            held.update((name, value) for name, value in values.items() if value is not None)
            values.clear()
            for name in segment.wanted:
                visitor(wanted[name], self._values_of(name, held[name]))
                if name in segment.last_use:
                    del held[name]
            for name in segment.last_use:
                held.pop(name, None)

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the (first) output of the network for one batch."""
        self.check_inputs(inputs)
        prepared = self._prepare(inputs)
        first = self._graph.outputs[0]
        [(segment, session)] = self._plan((), 1)
        values = runtime_.run_session(
            session, {name: prepared[name] for name in segment.inputs}, [first], device=self._device
        )
        output = values[first]
        if output is None:
            raise InputError(f"The output {first!r} of model {self.name!r} is not a tensor; export it with one.")
        return output

    def _values_of(self, name: str, values: Tensor) -> Tensor:
        """Return values as (sample, ...), integers as what they stand for."""
        if name in self._quantised:
            values = self._quantised[name].dequantise(values)
        return values.unsqueeze(1) if values.dim() == 1 else values

    def _prepare(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {
            spec.name: inputs[spec.name].detach().to(self._device, getattr(torch, spec.dtype)).contiguous()
            for spec in self.inputs
        }

    def _plan(self, wanted: tuple[str, ...], batch_size: int) -> list[tuple[Segment, Any]]:
        """Return the segments that compute some values, with their sessions; all outputs where none are named."""
        sizes = {self._values[layer.name]: batch_size * _bytes(layer) for layer in self.layers} if wanted else {}
        segments = cut(
            self._graph,
            wanted or self._graph.outputs,
            value_bytes=sizes,
            memory_budget=self.memory_budget,
            crossable=self._types.keys(),
        )
        # Batches of another size often cut alike, and may then share their sessions.
        key = tuple(segment.outputs for segment in segments)
        if key not in self._plans:
            self._let_go(keep=max(1, min(_CACHED_PLANS, _CACHED_WEIGHTS // max(1, self._graph.weight_bytes))) - 1)
            self._plans[key] = [(segment, self._session(segment, self._device)) for segment in segments]
        self._plans.move_to_end(key)
        return self._plans[key]

    def _let_go(self, *, keep: int) -> None:
        """Close the sessions of all plans but those used last."""
        while len(self._plans) > keep:
            self._plans.popitem(last=False)

    def _session(self, segment: Segment, device: str) -> Any:
        model = build(self._graph, segment, self._types)
        return runtime_.create_session(model, folder=self._graph.folder, device=device)

    def _probe(self, sizes: Mapping[str, Sequence[int]], names: Sequence[str]) -> dict[str, ValueType]:
        """Return the types of values, found by running the network on noise."""
        if self._graph.weight_bytes > _CACHED_WEIGHTS:
            self._let_go(keep=0)
        [segment] = cut(self._graph, set(names), value_bytes={}, memory_budget=0)
        generator = torch.Generator().manual_seed(0)
        inputs = {}
        for given in self._inputs:
            # One is a token of every vocabulary and true of every mask.
            noise = torch.rand(tuple(sizes[given.name]), generator=generator)
            dtype = runtime_.TORCH_TYPES[given.element_type]
            inputs[given.name] = noise.to(dtype) if dtype.is_floating_point else torch.ones_like(noise, dtype=dtype)
        values = runtime_.run_session(
            self._session(segment, "cpu"), {name: inputs[name] for name in segment.inputs}, names, device="cpu"
        )
        return {
            name: ValueType(runtime_.element_type(value), tuple(value.shape))
            for name, value in values.items()
            if value is not None
        }


def _bytes(layer: Layer) -> int:
    return int(getattr(torch, layer.dtype).itemsize) * math.prod(layer.shape)
