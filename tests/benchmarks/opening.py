"""How long a study of 500 layers takes to open: outcrop in a fresh process, and plain xarray beside it.

    python tests/benchmarks/opening.py [--layers 500] [--samples 256]

Prints seconds. A fresh process first imports what it needs; that is counted apart.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

READ = """
import sys, time
begin = time.perf_counter()
import outcrop
import dask.array
import outcrop.store.study
imported = time.perf_counter()
study = outcrop.open(sys.argv[1])
opened = time.perf_counter()
capture = study.activations["net"]
names = list(capture)
listed = time.perf_counter()
lazy = capture[names[len(names) // 2]]
one = time.perf_counter()
every = dict(capture)
all_layers = time.perf_counter()
again = study.activations["net"][names[7]]
cached = time.perf_counter()
values = lazy.to_numpy()
read = time.perf_counter()
assert len(every) == int(sys.argv[2]) and lazy.chunks is not None and values.shape[0] == int(sys.argv[3])
print(imported - begin, opened - imported, listed - opened, one - listed, all_layers - one, cached - all_layers,
      read - cached)
"""

TREE = """
import sys, time
import xarray, zarr
begin = time.perf_counter()
tree = xarray.open_datatree(sys.argv[1], engine="zarr")
print(time.perf_counter() - begin)
"""


def make(place: Path, layers: int, samples: int) -> None:
    """Write a study whose layers have the shapes of a ResNet's at 32x32, scaled down."""
    import numpy as np

    import outcrop
    from outcrop.testing import ArrayModel, IndexData

    rng = np.random.default_rng(0)
    arrays = {f"layer{index // 100}.{index}.Conv": rng.normal(size=(samples, 8, 4, 4)) for index in range(layers)}
    model = ArrayModel("net", {name: values.astype(np.float32) for name, values in arrays.items()})
    outcrop.open(place, mode="a").capture(model, IndexData(samples), layers="all", batch_size=64)


def run(script: str, *arguments: object) -> list[float]:
    """Return the numbers that a script prints, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    return [float(number) for number in done.stdout.split()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=500)
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "s.zarr"
        make(place, options.layers, options.samples)
        runs = [run(READ, place, options.layers, options.samples) for _ in range(options.repeats)]
        trees = [run(TREE, place)[0] for _ in range(options.repeats)]
    print(f"{options.layers} layers of {options.samples} samples; the least of {options.repeats} fresh processes")
    steps = ["import", "open", "list layers", "one lazy layer", "all lazy layers", "a layer again", "read one layer"]
    best = [min(found) for found in zip(*runs, strict=True)]
    for step, seconds in zip(steps, best, strict=True):
        print(f"  {step:<18}{seconds:8.3f} s")
    print(f"open, list and one lazy layer: {min(sum(found[1:4]) for found in runs):.3f} s (wanted: under 0.5)")
    print(f"xarray.open_datatree, all nodes: {min(trees):.3f} s")


if __name__ == "__main__":
    main()
