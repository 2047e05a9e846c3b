"""Peak memory of the analysis ``blocks`` on a live ResNet-164, beyond that of the bare forward pass.

    python tests/benchmarks/memory.py

All 576 layers of the network on batches of 256 images of 32 x 32. Each of the two runs in a process of its own, whose
peak resident memory the operating system reports; the network, the images and the imports are the same in both.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

LIMIT = 1.5e9


def run(part: str, depth: int, batch: int, samples: int) -> None:
    """Run one of the two and print its peak memory in bytes, and the number of layers."""
    import numpy as np
    import torch

    import outcrop
    import outcrop.store.study
    from outcrop.data import load_data
    from outcrop.models import load_model
    from outcrop_zoo.architectures import CifarResNet

    torch.manual_seed(0)
    network = CifarResNet(depth).eval()
    images = np.random.default_rng(0).normal(size=(samples, 3, 32, 32)).astype(np.float32)
    model = load_model(network, name="resnet", input_shape=(3, 32, 32))
    count = len(model.layers)
    if part == "bare":
        with torch.inference_mode():
            for start in range(0, samples, batch):
                network(torch.from_numpy(images[start : start + batch]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            study = outcrop.open(Path(folder) / "s.zarr", mode="a")
            study.run("blocks", models=[model], data=load_data(images), layers="all", parameters={"batch_size": batch})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"peak": peak, "layers": count}))


def main() -> int:
    """Print both peaks and their difference; 1 where it is above the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=164)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--part", choices=["bare", "blocks"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        run(options.part, options.depth, options.batch, options.samples)
        return 0
    found = {}
    for part in ("bare", "blocks"):
        output = subprocess.run(
            [sys.executable, __file__, "--part", part, "--depth", str(options.depth), "--batch", str(options.batch),
             "--samples", str(options.samples)],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        found[part] = json.loads(output.stdout.splitlines()[-1])
        print(f"{part:7} peak {found[part]['peak'] / 1e9:.2f} GB, {found[part]['layers']} layers")
    beyond = found["blocks"]["peak"] - found["bare"]["peak"]
    print(f"beyond the bare forward pass: {beyond / 1e9:.2f} GB (at most {LIMIT / 1e9} GB)")
    return int(beyond > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
