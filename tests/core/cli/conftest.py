import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


@pytest.fixture
def outcrop_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Runs the command line in this process, through the same edge as the installed script."""
    from outcrop.cli.main import main

    def call(*arguments: object) -> Answer:
        monkeypatch.setattr("sys.argv", ["outcrop", *map(str, arguments)])
        with warnings.catch_warnings():
            # As in a process of its own: warnings are shown, not raised.
            warnings.simplefilter("default")
            with pytest.raises(SystemExit) as caught:
                main()
        written = capsys.readouterr()
        return Answer(int(caught.value.code or 0), written.out, written.err)

    return call


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of 12 photographs in two class folders."""
    rng = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for index in range(6):
            Image.fromarray(rng.integers(0, 255, (40, 48, 3), dtype=np.uint8)).save(folder / f"{index}.png")
    return tmp_path / "photos"


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    """A network of one convolution and five residual blocks for 16x16 images."""
    rng = np.random.default_rng(0)
    weights = [numpy_helper.from_array(rng.normal(size=(4, 3, 3, 3)).astype(np.float32), "stem")]
    nodes = [helper.make_node("Conv", ["image", "stem"], ["stem_out"], pads=[1, 1, 1, 1])]
    value = "stem_out"
    for block in range(5):
        name = f"block{block}"
        weights.append(numpy_helper.from_array(rng.normal(size=(4, 4, 3, 3)).astype(np.float32) / 6, f"{name}_weight"))
        nodes += [
            helper.make_node("Conv", [value, f"{name}_weight"], [f"{name}_conv"], pads=[1, 1, 1, 1]),
            helper.make_node("Add", [f"{name}_conv", value], [f"{name}_add"]),
            helper.make_node("Relu", [f"{name}_add"], [f"{name}_relu"]),
        ]
        value = f"{name}_relu"
    nodes.append(helper.make_node("GlobalAveragePool", [value], ["pooled"]))
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 16, 16])],
        [helper.make_tensor_value_info("pooled", TensorProto.FLOAT, ["batch", 4, 1, 1])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = tmp_path / "net.onnx"
    onnx.save(model, path)
    return path
