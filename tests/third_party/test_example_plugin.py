"""A plugin of someone else's: built, installed beside outcrop, listed, run, validated and reported."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import distributions
from pathlib import Path

import numpy as np
import onnx
import pytest
import xarray as xr
from numpy.typing import NDArray

SOURCE = Path(__file__).parent / "example_plugin"
Outcrop = Callable[..., str]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plugin built into a wheel by its own build backend, which needs no network."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(SOURCE, folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    command(folder / "source", "pip", "wheel", "--no-deps", "--no-index", "--no-build-isolation", "-w", folder, ".")
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that pip has installed the wheel into; what it depends on is installed already."""
    folder = tmp_path_factory.mktemp("third_party") / "site"
    command(wheel.parent, "pip", "install", "--no-deps", "--no-index", "--no-compile", "--target", folder, wheel)
    return folder


def command(folder: Path, module: str, *arguments: object) -> None:
    """Run a module of this environment, with its work kept out of the user's folders."""
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=folder,
        env={
            **os.environ,
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_CACHE_DIR": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def outcrop(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcrop:
    folder = tmp_path_factory.mktemp("work")

    def run(*arguments: str, module: str = "outcrop.cli.main:main") -> str:
        name, _, function = module.partition(":")
        program = f"import sys; sys.argv[0] = 'outcrop'; from {name} import {function}; sys.exit({function}())"
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            cwd=folder,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH")))),
                "OUTCROP_STRICT": "1",
            },
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


def test_it_is_installed_as_a_distribution_of_its_own(site: Path) -> None:
    [installed] = [found for found in distributions(path=[str(site)]) if found.name == "outcrop-mean-norm"]
    assert installed.version == "1.0"
    assert installed.read_text("INSTALLER").strip() == "pip"
    assert [(entry.group, entry.name) for entry in installed.entry_points] == [("outcrop", "mean_norm")]
    assert installed.requires == ["outcrop"]
    assert {str(path) for path in installed.files if path.suffix == ".py"} == {"outcrop_mean_norm.py"}


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
    assert "13 passed" in listed
