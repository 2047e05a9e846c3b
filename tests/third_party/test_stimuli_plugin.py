"""Someone else's family of stimuli: found by its entry point, listed, shown to a network, searched and reported."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import onnx
import pytest
import xarray as xr

SOURCE = Path(__file__).parent / "stimuli_plugin"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as an installer leaves it: the module, and beside it what the distribution says of itself."""
    folder = tmp_path_factory.mktemp("site")
    project = tomllib.loads((SOURCE / "pyproject.toml").read_text("utf-8"))["project"]
    shutil.copy(SOURCE / "outcrop_checkerboard.py", folder)
    record = folder / "outcrop_checkerboard-1.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    entries = project["entry-points"]["outcrop"]
    lines = "".join(f"{name} = {module}\n" for name, module in entries.items())
    (record / "entry_points.txt").write_text(f"[outcrop]\n{lines}")
    return folder


def outcrop(site: Path, *arguments: str) -> str:
    program = "import sys; sys.argv[0] = 'outcrop'; from outcrop.cli.main import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
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


def network(rng: np.random.Generator) -> onnx.ModelProto:
    """Return a network of images of 8 x 8 pixels: four layers, one after the other."""
    nodes = [onnx.helper.make_node("Flatten", ["image"], ["flat"], name="flat")]
    weights, before = [], "flat"
    for place, width in enumerate((192, 16, 16, 16)):
        weights.append(onnx.numpy_helper.from_array(rng.normal(size=(width, 16)).astype(np.float32) / 9, f"w{place}"))
        nodes.append(onnx.helper.make_node("MatMul", [before, f"w{place}"], [f"sum{place}"], name=f"sum{place}"))
        nodes.append(onnx.helper.make_node("Relu", [f"sum{place}"], [f"act{place}"], name=f"act{place}"))
        before = f"act{place}"
    image = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["sample", 3, 8, 8])
    output = onnx.helper.make_tensor_value_info(before, onnx.TensorProto.FLOAT, ["sample", 16])
    graph = onnx.helper.make_graph(nodes, "net", [image], [output], weights)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)


def test_it_is_listed_with_what_it_offers(site: Path) -> None:
    listed = {plugin["name"]: plugin for plugin in json.loads(outcrop(site, "plugins", "--json"))["plugins"]}
    assert listed["checkerboard"]["distribution"] == "outcrop-checkerboard"
    assert listed["checkerboard"]["offers"] == {"stimuli": ["checkerboard"]}
    assert listed["checkerboard"]["status"] == "loaded"


def test_its_stimuli_are_shown_and_its_parameter_is_searched(site: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    onnx.save(network(rng), tmp_path / "net.onnx")
    np.save(tmp_path / "images.npy", rng.integers(0, 256, (24, 8, 8, 3), dtype=np.uint8))
    outcrop(
        site, "run", "probes", "--model", f"onnx:{tmp_path / 'net.onnx'}", "--data", str(tmp_path / "images.npy"),
        "--layers", "act", "--study", str(tmp_path / "s.zarr"), "-p", "families=checkerboard,mean",
    )  # fmt: skip
    [run] = sorted((tmp_path / "s.zarr" / "results" / "probes").glob("*/"))
    group = f"results/probes/{run.name}"
    response = xr.open_zarr(tmp_path / "s.zarr", group=f"{group}/response", consolidated=False)
    own = response["stimulus"].values[response["family"].values == "checkerboard"]
    assert own.tolist() == [f"checkerboard: squares of {side} pixels" for side in (1, 2, 3, 4)]
    assert np.isfinite(response["norm"].values).all()
    verdict = xr.open_zarr(tmp_path / "s.zarr", group=f"{group}/verdict", consolidated=False)
    assert verdict["statistic"].values.tolist() == ["checkerboard"]
    tree = xr.open_datatree(tmp_path / "s.zarr", engine="zarr", consolidated=False)
    provenance = json.loads(tree[group].attrs["provenance"])
    assert provenance["parameters"]["families"] == ["checkerboard@1.0", "mean@1.0"]
