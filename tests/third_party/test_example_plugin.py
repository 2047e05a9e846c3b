"""A plugin of someone else's: built, installed beside outcrop, listed, run, validated and reported."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import onnx
import pytest
import xarray as xr
from numpy.typing import NDArray

SOURCE = Path(__file__).parent / "example_plugin"
Outcrop = Callable[..., str]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plugin built into a wheel by its own build backend, and unpacked as installers unpack a pure wheel."""
    folder = tmp_path_factory.mktemp("third_party")
    shutil.copytree(SOURCE, folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    build = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", build, str(folder)], cwd=folder / "source", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with ZipFile(folder / done.stdout.splitlines()[-1]) as wheel:
        wheel.extractall(folder / "site")
    return folder / "site"


@pytest.fixture(scope="module")
def outcrop(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcrop:
    folder = tmp_path_factory.mktemp("work")

    def run(*arguments: str, module: str = "outcrop.cli.main:main") -> str:
        name, _, function = module.partition(":")
        program = f"import sys; sys.argv[0] = 'outcrop'; from {name} import {function}; sys.exit({function}())"
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(site), "OUTCROP_STRICT": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def network(first: NDArray[np.float32], second: NDArray[np.float32]) -> onnx.ModelProto:
    nodes = [
        onnx.helper.make_node("MatMul", ["input", "first"], ["hidden"], name="hidden"),
        onnx.helper.make_node("Relu", ["hidden"], ["active"], name="active"),
        onnx.helper.make_node("MatMul", ["active", "second"], ["output"], name="output"),
    ]
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["sample", width])
        for name, width in (("input", 4), ("output", 2))
    ]
    weights = [onnx.numpy_helper.from_array(first, "first"), onnx.numpy_helper.from_array(second, "second")]
    graph = onnx.helper.make_graph(nodes, "net", ends[:1], ends[1:], weights)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)


@pytest.fixture(scope="module")
def study(outcrop: Outcrop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study in which ``outcrop run`` has stored the plugin's result on a network that is a user's own."""
    folder = tmp_path_factory.mktemp("study")
    rng = np.random.default_rng(0)
    samples, first, second = (rng.normal(size=size).astype(np.float32) for size in ((70, 4), (4, 3), (3, 2)))
    onnx.save(network(first, second), folder / "net.onnx")
    np.save(folder / "samples.npy", samples)
    hidden = samples @ first
    values = {"hidden": hidden, "active": np.maximum(hidden, 0), "output": np.maximum(hidden, 0) @ second}
    norms = {name: float(np.linalg.norm(found, axis=1).mean()) for name, found in values.items()}
    (folder / "truth.json").write_text(json.dumps(norms))
    outcrop(
        "run", "mean-norm", "--model", f"onnx:{folder / 'net.onnx'}", "--data", str(folder / "samples.npy"),
        "--study", str(folder / "s.zarr"),
    )  # fmt: skip
    return folder / "s.zarr"


def test_it_is_listed_with_what_it_offers(outcrop: Outcrop) -> None:
    listed = {plugin["name"]: plugin for plugin in json.loads(outcrop("plugins", "--json"))["plugins"]}
    assert listed["mean_norm"] == {
        "name": "mean_norm",
        "distribution": "outcrop-mean-norm",
        "version": "1.0",
        "module": "outcrop_mean_norm",
        "offers": {"analyses": ["mean-norm"], "schemas": ["mean_norm.per_layer"]},
        "status": "loaded",
        "errors": [],
    }


def test_its_kind_is_among_the_schemas(outcrop: Outcrop) -> None:
    assert "mean_norm.per_layer" in outcrop("schemas")
    schema = json.loads(outcrop("schemas", "mean_norm.per_layer"))
    assert "mean_norm" in schema["properties"]["data_vars"]["properties"]


def test_its_analysis_runs_on_a_users_own_network_and_data(study: Path) -> None:
    [run] = sorted((study / "results" / "mean-norm").glob("*/"))
    stored = xr.open_zarr(study, group=f"results/mean-norm/{run.name}/per_layer", consolidated=False)
    found = dict(zip(stored["name"].values.tolist(), stored["mean_norm"].values.tolist(), strict=True))
    truth = json.loads((study.parent / "truth.json").read_text())
    assert {name: found[name] for name in truth} == pytest.approx(truth, rel=1e-5)
    assert stored.attrs["kind"] == "mean_norm.per_layer"
    assert stored["mean_norm"].attrs["long_name"] == "mean Euclidean norm of a sample"


def test_its_result_is_in_the_report(outcrop: Outcrop, study: Path) -> None:
    outcrop("report", str(study), "-o", str(study.parent / "s.html"))
    assert "mean-norm" in (study.parent / "s.html").read_text("utf-8")


def test_it_passes_the_suite_that_the_kit_gives_its_author(outcrop: Outcrop) -> None:
    listed = outcrop("-q", "-p", "no:cacheprovider", str(SOURCE / "tests"), module="pytest:main")
    assert "11 passed" in listed
