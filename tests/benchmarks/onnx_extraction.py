"""Images per second of a capture through ONNX Runtime, against a bare session that returns the same outputs.

    python tests/benchmarks/onnx_extraction.py --folder /disk/with/room

The job: the 8 block outputs of timm's ResNet-18 at 224 x 224, exported to ONNX with an open batch size, in batches of
64. The bare session has the same values declared as outputs, runs the same batches, and throws them away; the capture
stores them, with everything that belongs to it. Bare before and after each capture, all in one process.
"""

import argparse
import io
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import timm
import torch

import outcrop
from outcrop.data import load_data
from outcrop.models import load_model, select_layers
from outcrop.models.onnx_ import OnnxModel

BATCH = 64


def exported() -> onnx.ModelProto:
    """Return timm's ResNet-18 as an ONNX graph with an open batch size."""
    torch.manual_seed(0)
    network = timm.create_model("resnet18", pretrained=False).eval()
    program = torch.onnx.export(
        network,
        (torch.zeros(2, 3, 224, 224),),
        dynamo=True,
        optimize=False,
        verbose=False,
        input_names=["image"],
        dynamic_shapes={"x": {0: torch.export.Dim("batch")}},
    )
    assert program is not None
    content = io.BytesIO()
    onnx.save_model(program.model_proto, content)
    return onnx.load_from_string(content.getvalue())


def bare_session(graph: onnx.ModelProto, values: list[str]) -> onnxruntime.InferenceSession:
    """Return a session of the same graph that has some of its values as outputs."""
    changed = onnx.ModelProto()
    changed.CopyFrom(graph)
    del changed.graph.output[:]
    changed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in values)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(changed.SerializeToString(), options, providers=["CPUExecutionProvider"])


def bare(session: onnxruntime.InferenceSession, images: np.ndarray) -> float:
    """Return the seconds of all batches."""
    start = time.perf_counter()
    for first in range(0, len(images), BATCH):
        session.run(None, {"image": images[first : first + BATCH]})
    return time.perf_counter() - start


def captured(model: OnnxModel, images: np.ndarray, parent: Path) -> float:
    """Return the seconds of a capture into a new study."""
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        start = time.perf_counter()
        study = outcrop.open(Path(folder) / "study.zarr", mode="a")
        study.capture(model, load_data(images), layers="block", batch_size=BATCH)
        return time.perf_counter() - start


def main() -> int:
    """Print the table; 1 where the capture is slower than 0.9 of the bare session."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="Where to write.")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    graph = exported()
    model = load_model(graph, name="resnet18")
    assert isinstance(model, OnnxModel)
    blocks = select_layers(model, "block")
    values = [model.value_name(layer.name) for layer in blocks]
    session = bare_session(graph, values)
    images = np.random.default_rng(0).normal(size=(options.images, 3, 224, 224)).astype(np.float32)
    print(f"{len(blocks)} block outputs: {', '.join(layer.name for layer in blocks)}")
    free = shutil.disk_usage(options.folder).free >> 30
    print(f"{options.images} images, {torch.get_num_threads()} threads, free {free} GiB")
    expected = dict(zip(values, session.run(None, {"image": images[:8]}), strict=True))
    differences = []
    model.visit(
        {"image": torch.from_numpy(images[:8])},
        [layer.name for layer in blocks],
        lambda layer, found: differences.append(
            float(np.abs(found.numpy() - expected[model.value_name(layer.name)]).max())
        ),
    )
    print(f"largest difference from the bare session's values: {max(differences)}")
    captured(model, images[: 2 * BATCH], options.folder)
    bare(session, images)
    before = bare(session, images)
    ratios, rates, own = [], [], []
    for _ in range(options.rounds):
        taken = captured(model, images, options.folder)
        after = bare(session, images)
        ratios.append((before + after) / 2 / taken)
        rates.append(options.images / after)
        own.append(options.images / taken)
        before = after
    middle = statistics.median(ratios)
    print(f"{'':14} {'images/s':>9} {'of bare, median':>16} {'lowest':>7} {'highest':>8}")
    print(f"{'bare session':14} {statistics.median(rates):9.1f} {1:16.3f}")
    print(f"{'outcrop':14} {statistics.median(own):9.1f} {middle:16.3f} {min(ratios):7.3f} {max(ratios):8.3f}")
    return int(middle < 0.9)


if __name__ == "__main__":
    sys.exit(main())
