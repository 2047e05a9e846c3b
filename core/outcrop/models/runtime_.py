"""ONNX Runtime: which device it runs on, sessions, and its errors in plain words."""

import importlib.metadata
import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import onnx
import onnxruntime
import torch
from onnxruntime.capi import onnxruntime_pybind11_state as _state

from outcrop.errors import InputError, MissingDependencyError, ModelLoadError
from outcrop.models.graph import elements
from outcrop.models.runtime_messages import explain

RUNTIME_ERRORS: tuple[type[Exception], ...] = tuple(
    getattr(_state, name)
    for name in (
        "EPFail", "EngineError", "Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "ModelLoaded", "NoModel",
        "NoSuchFile", "NotImplemented", "RuntimeException",
    )
)  # fmt: skip
"""What ONNX Runtime raises; its exceptions share no base of their own."""
_RUN_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    *RUNTIME_ERRORS,
)  # a run on bound tensors fails with the builtin

WEIGHT_LIMIT = (1 << 31) - (1 << 27)
"""Bytes of weights that a serialised model can hold: what protobuf allows, less the rest of any graph."""

_ELEMENT_TYPES: Mapping[torch.dtype, int] = {
    torch.float32: onnx.TensorProto.FLOAT,
    torch.float16: onnx.TensorProto.FLOAT16,
    torch.bfloat16: onnx.TensorProto.BFLOAT16,
    torch.float64: onnx.TensorProto.DOUBLE,
    torch.bool: onnx.TensorProto.BOOL,
    **{getattr(torch, name): getattr(onnx.TensorProto, name.upper()) for name in (
        "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    )},
}  # fmt: skip
TORCH_TYPES: Mapping[int, torch.dtype] = {number: dtype for dtype, number in _ELEMENT_TYPES.items()}
"""Of the ONNX element types that a tensor of torch can hold."""

_CPU_DISTRIBUTION = "onnxruntime"
_GPU_DISTRIBUTION = "onnxruntime-gpu"


class RuntimeConflictWarning(UserWarning):
    """Two distributions of ONNX Runtime overwrite each other."""


def check_runtime(distributions: Collection[str] | None = None) -> str | None:
    """Return a warning where ``onnxruntime`` and ``onnxruntime-gpu`` are both installed, otherwise None.

    Both fill the same package folder: what was installed last wins, and a GPU may silently stay idle.

    Args:
        distributions: Names of installed distributions; None asks the environment.
    """
    if distributions is None:
        distributions = {name for name in (_CPU_DISTRIBUTION, _GPU_DISTRIBUTION) if _is_installed(name)}
    if not {_CPU_DISTRIBUTION, _GPU_DISTRIBUTION} <= set(distributions):
        return None
    return (
        "Both onnxruntime and onnxruntime-gpu are installed; they overwrite each other, and the GPU may stay unused. "
        "Repair: pip uninstall onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu"
    )


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


@cache
def _warn_once() -> None:
    message = check_runtime()
    if message is not None:
        warnings.warn(message, RuntimeConflictWarning, stacklevel=4)


def resolve_device(device: str) -> str:
    """Return ``cpu`` or ``cuda:N``, where a network is to run.

    Args:
        device: ``auto`` takes the first GPU that both torch and ONNX Runtime can use; ``cpu``, ``cuda``, ``cuda:N``.

    Raises:
        InputError: No such device.
        MissingDependencyError: A GPU is asked for, and the installed ONNX Runtime or torch cannot use one.
    """
    if device == "cpu":
        return device
    if device != "auto" and not re.fullmatch(r"cuda(:\d+)?", device):
        raise InputError(f"ONNX models run on 'cpu', 'cuda' or 'cuda:N', or on 'auto'; got device {device!r}.")
    graphics = torch.cuda.is_available()
    offered = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if device != "auto" or graphics:
        _warn_once()
    if graphics and offered:
        return "cuda:0" if device in ("auto", "cuda") else device
    if device == "auto":
        return "cpu"
    reason = (
        "torch finds no CUDA device" if not graphics else "the installed onnxruntime has none: install onnxruntime-gpu"
    )
    raise MissingDependencyError(f"Device {device!r} needs a GPU, and {reason}.")


def create_session(
    model: onnx.ModelProto, *, folder: Path | None, device: str, weight_limit: int = WEIGHT_LIMIT
) -> Any:
    """Return a session of a model in memory.

    Graph optimisation is left on: a value that is a declared output is never fused away.

    Args:
        model: Complete, but for weights in files; emptied of its weights where it is too large to be serialised.
        folder: Where those files lie.
        device: ``cpu`` or ``cuda:N``.
        weight_limit: Bytes from which on weights are handed over one by one.

    Raises:
        ModelLoadError: ONNX Runtime refuses the model; names the operator that it cannot run.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # only what is fatal: refusals arrive as exceptions
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    if device == "cpu":
        _share_arena()
        options.add_session_config_entry("session.use_env_allocators", "1")
        # Patterns are blocks that fit one session only; the arena would keep one of each.
        options.enable_mem_pattern = False
        # Between runs, what is done with the values needs the cores.
        options.add_session_config_entry("session.force_spinning_stop", "1")
    if folder is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    weights = _hand_over_weights(model, options) if _weight_bytes(model) > weight_limit else []
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=_providers(device))
    except RUNTIME_ERRORS as error:
        raise ModelLoadError(f"ONNX Runtime cannot run the model: {explain(error)}") from error
    if weights:
        _handed_over[session] = weights
    return session


_handed_over: WeakKeyDictionary[Any, list[Any]] = WeakKeyDictionary()
"""Weights that a session reads from memory that is not its own; they live as long as it does."""


@cache
def _share_arena() -> None:
    """Let all sessions take their memory from one arena.

    An arena never gives memory back: one per session would hold the peaks of all segments of a network at
    once, and none would cost a page fault for every page of every value, a third of the speed.
    """
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    no_limit, as_requested, default = 0, 1, -1
    try:
        onnxruntime.create_and_register_allocator(
            memory, onnxruntime.OrtArenaCfg(no_limit, as_requested, default, default)
        )
    except _RUN_ERRORS:
        return  # the program has registered one already, which serves as well


def _weight_bytes(model: onnx.ModelProto) -> int:
    # A message beyond the limit cannot tell its own size.
    return sum(
        elements(tensor) * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
        for tensor in model.graph.initializer
        if tensor.data_location != onnx.TensorProto.EXTERNAL
    )


def _hand_over_weights(model: onnx.ModelProto, options: Any) -> list[Any]:
    """Move weights out of a model into the options of its session; return what has to outlive the session."""
    names, arrays, values = [], [], []
    for tensor in model.graph.initializer:
        if tensor.HasField("raw_data") and len(tensor.raw_data) > 1024:
            names.append(tensor.name)
            arrays.append(np.ascontiguousarray(onnx.numpy_helper.to_array(tensor)))
            values.append(onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(arrays[-1], tensor.data_type))
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="handed over in memory")
    options.add_external_initializers(names, values)
    return [arrays, values]


def _providers(device: str) -> list[Any]:
    if device == "cpu":
        return ["CPUExecutionProvider"]
    _preload_libraries()
    options = {
        "device_id": device.partition(":")[2],
        # Rounding to ten bits would be a silent change of every value.
        "use_tf32": "0",
        "arena_extend_strategy": "kSameAsRequested",
        # The default measures every algorithm anew for each shape.
        "cudnn_conv_algo_search": "HEURISTIC",
    }
    return [("CUDAExecutionProvider", options), "CPUExecutionProvider"]


@cache
def _preload_libraries() -> None:
    """Let ONNX Runtime use the CUDA libraries that came with torch, the way its documentation describes."""
    preload = getattr(onnxruntime, "preload_dlls", None)
    if preload is not None:
        preload()


def run_session(
    session: Any, inputs: Mapping[str, torch.Tensor], outputs: Sequence[str], *, device: str
) -> dict[str, torch.Tensor | None]:
    """Run a session and return its outputs on its device; None for what is not a tensor.

    Args:
        session: Of :func:`create_session`.
        inputs: Tensors by name.
        outputs: Names of the session's outputs.
        device: Of the session.

    Raises:
        InputError: The network fails on these inputs.
    """
    kind, _, number = device.partition(":")
    binding = session.io_binding()
    # Bound by address: these tensors have to live until the run is over.
    held = {name: value.to(device).contiguous() for name, value in inputs.items()}
    for name, value in held.items():
        shape = tuple(value.shape)
        binding.bind_input(name, kind, int(number or 0), element_type(value), shape, value.data_ptr())
    for name in outputs:
        binding.bind_output(name, kind, int(number or 0))
    try:
        if kind == "cuda":
            torch.cuda.current_stream(device).synchronize()
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()
    except _RUN_ERRORS as error:
        raise InputError(f"The network fails on this batch: {explain(error)}") from error
    held.clear()
    # One OrtValue keeps all outputs of its run alive; a tensor keeps its own memory only.
    return {
        name: _to_tensor(value) if value.is_tensor() else None
        for name, value in zip(outputs, binding.get_outputs(), strict=True)
    }


def _to_tensor(value: Any) -> torch.Tensor:
    """Return an output as a tensor that shares its memory."""
    if value.device_name().lower() == "cpu" and value.data_type() != "tensor(bfloat16)":
        return torch.from_numpy(value.numpy())
    # numpy knows neither GPUs nor bfloat16.
    tensor: torch.Tensor = torch.utils.dlpack.from_dlpack(value._get_c_value())
    return tensor


def element_type(value: torch.Tensor) -> int:
    """Return the ONNX element type of a tensor."""
    return _ELEMENT_TYPES[value.dtype]
