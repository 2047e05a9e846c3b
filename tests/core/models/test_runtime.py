"""ONNX Runtime's devices, sessions and errors."""

import gc
import subprocess
import sys
import textwrap

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from outcrop.errors import InputError, MissingDependencyError, ModelLoadError
from outcrop.models import runtime_


def single(node: onnx.NodeProto, *, opset: int = 20, domain: str = "", ir_version: int = 9) -> onnx.ModelProto:
    graph = helper.make_graph(
        [node],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("n", 64))],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(np.eye(64, dtype=np.float32) * 2, "w")],
    )
    imports = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=imports, ir_version=ir_version)


PRODUCT = helper.make_node("MatMul", ["x", "w"], ["y"])


def test_two_distributions_of_the_runtime_are_reported_with_the_repair() -> None:
    warning = runtime_.check_runtime({"onnxruntime", "onnxruntime-gpu", "torch"})
    assert warning is not None
    assert "pip uninstall onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu" in warning


@pytest.mark.parametrize("distributions", [{"onnxruntime"}, {"onnxruntime-gpu"}, set()])
def test_one_distribution_of_the_runtime_is_fine(distributions: set[str]) -> None:
    assert runtime_.check_runtime(distributions) is None


def test_the_environment_is_asked_where_no_distributions_are_given() -> None:
    installed = {name for name in ("onnxruntime", "onnxruntime-gpu") if runtime_._is_installed(name)}
    assert installed
    assert runtime_.check_runtime() == runtime_.check_runtime(installed)


def test_two_installed_distributions_warn_once_where_a_gpu_is_asked_for(tmp_path: object) -> None:
    # Distributions are told by their metadata: two folders of it on the path stand for two installations.
    for name in ("onnxruntime", "onnxruntime_gpu"):
        folder = tmp_path / f"{name}-1.0.dist-info"  # type: ignore[operator]  # pytest's path
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n")
    script = textwrap.dedent(
        f"""
        import sys, warnings
        sys.path.insert(0, {str(tmp_path)!r})
        from outcrop.errors import OutcropError
        from outcrop.models import runtime_
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for device in ("cpu", "cuda", "cuda"):
                try:
                    runtime_.resolve_device(device)
                except OutcropError:
                    pass
        assert [entry.category for entry in caught] == [runtime_.RuntimeConflictWarning], caught
        """
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_devices_are_resolved() -> None:
    graphics = torch.cuda.is_available()
    assert runtime_.resolve_device("cpu") == "cpu"
    assert runtime_.resolve_device("auto") == ("cuda:0" if graphics else "cpu")


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(InputError, match=r"run on 'cpu', 'cuda' or 'cuda:N', or on 'auto'; got device 'tpu'"):
        runtime_.resolve_device("tpu")


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MissingDependencyError, match=r"Device 'cuda' needs a GPU, and torch finds no CUDA device"):
        runtime_.resolve_device("cuda")


def test_a_runtime_without_gpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(runtime_.onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(MissingDependencyError, match=r"the installed onnxruntime has none: install onnxruntime-gpu"):
        runtime_.resolve_device("cuda:1")
    assert runtime_.resolve_device("auto") == "cpu"


def test_outputs_share_the_memory_of_the_runtime_and_outlive_the_session() -> None:
    session = runtime_.create_session(single(PRODUCT), folder=None, device="cpu")
    x = torch.randn(3, 64)
    y = runtime_.run_session(session, {"x": x}, ["y"], device="cpu")["y"]
    del session
    gc.collect()
    torch.full((1000, 1000), float("nan"))
    assert y is not None
    torch.testing.assert_close(y, 2 * x)


def test_weights_beyond_the_limit_of_one_message_are_handed_over_and_live_as_long_as_the_session() -> None:
    session = runtime_.create_session(single(PRODUCT), folder=None, device="cpu", weight_limit=1000)
    gc.collect()
    # Memory that were given back too early would be taken by these.
    squatters = [np.full((64, 64), np.nan, np.float32) for _ in range(100)]
    x = torch.randn(3, 64)
    torch.testing.assert_close(runtime_.run_session(session, {"x": x}, ["y"], device="cpu")["y"], 2 * x)
    assert len(squatters) == 100
    before = len(runtime_._handed_over)
    del session
    gc.collect()
    assert len(runtime_._handed_over) == before - 1


def test_an_arena_that_the_program_has_registered_before_serves_as_well() -> None:
    script = """
        import onnxruntime
        from outcrop.models import runtime_
        runtime_._share_arena.__wrapped__()
        runtime_._share_arena.__wrapped__()
        """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)


def test_a_session_uses_as_many_threads_as_torch() -> None:
    session = runtime_.create_session(single(PRODUCT), folder=None, device="cpu")
    assert session.get_session_options().intra_op_num_threads == torch.get_num_threads()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (single(helper.make_node("Nothing", ["x"], ["y"])), r"there is no operator Nothing in opset 20\.$"),
        (
            single(helper.make_node("Own", ["x"], ["y"], domain="my.ops"), domain="my.ops"),
            r"the operator my\.ops:Own is not one it knows\.$",
        ),
        (
            single(helper.make_node("Relu", ["x"], ["y"]), opset=3),
            r"it has no implementation of the operator Relu \(version 1\) for these types\.$",
        ),
        (
            single(PRODUCT, opset=99),
            r"opset 99 of ai\.onnx is newer than the installed onnxruntime, which knows up to \d+; upgrade",
        ),
        (
            single(PRODUCT, ir_version=99),
            r"IR version 99 is newer than the installed onnxruntime, which reads up to \d+",
        ),
    ],
)
def test_refusals_are_one_plain_line(model: onnx.ModelProto, words: str) -> None:
    with pytest.raises(ModelLoadError, match=r"^ONNX Runtime cannot run the model: " + words) as caught:
        runtime_.create_session(model, folder=None, device="cpu")
    assert "\n" not in str(caught.value)


def test_a_failing_run_is_explained_without_source_files() -> None:
    model = single(helper.make_node("Reshape", ["x", "s"], ["y"]))
    model.graph.initializer.append(numpy_helper.from_array(np.array([3, 5]), "s"))
    session = runtime_.create_session(model, folder=None, device="cpu")
    with pytest.raises(InputError, match=r"fails on this batch: .*Reshape.*cannot be reshaped") as caught:
        runtime_.run_session(session, {"x": torch.zeros(2, 64)}, ["y"], device="cpu")
    assert "\n" not in str(caught.value)
    assert ".h:" not in str(caught.value)


def test_no_noise_reaches_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelLoadError):
        runtime_.create_session(single(helper.make_node("Nothing", ["x"], ["y"])), folder=None, device="cpu")
    runtime_.create_session(single(PRODUCT), folder=None, device=runtime_.resolve_device("auto"))
    assert capfd.readouterr().err == ""
