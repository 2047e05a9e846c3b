"""The removal test on many wide layers: peak memory, and time against reading the layers once.

    python tests/benchmarks/dominant.py                                     # 10,000 samples, 100 layers of 16,384
    python tests/benchmarks/dominant.py --samples 2000 --layers 20 --stored 2   # a small run

Layers are made in place, float16: noise, and in the middle half a block that 5 % of the samples carry. The variance of
the noise falls with 1 over the rank of its principal component; ``--spectrum flat`` takes noise without leading
components, on which finding them takes longest. A few of the layers are written to a study too and read back: what one
reading of all of them takes is that, scaled. All of them do not fit into this much memory, so they are read from the
disk: the operating system is told to forget the files before; "again" leaves it what it remembers of the few. Every job
runs in a process of its own, whose peak memory is told; seconds of the processor beside those of the clock tell where
others were at work on the machine. Maps, masks and the test make the layers that they take, and read none. Passes are
those that the analysis ``dominant`` makes for one model once it knows where to look.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import outcrop
from outcrop import Context, Layer
from outcrop.analysis.references import Reference
from outcrop.capture.source import ActivationSource, Visit
from outcrop.numerics import GramAccumulator, RemovalAccumulator
from outcrop.store.reading.stored_source import StoredSource
from outcrop.testing import ArrayModel, IndexData
from outcrop_dominant.crossfit import Ranking, halves_by_batch
from outcrop_dominant.parameters import DominantParameters
from outcrop_dominant.removal import measure_removal

BANK = 2048
"""Rows of noise that samples are given, in another order for every layer."""

COMPONENTS = 512
"""Principal components of noise whose variance falls with their rank."""

JOBS = ("made", "read", "again", "drawn", "maps", "masks", "test")


def noise(rng: np.random.Generator, features: int, spectrum: str) -> NDArray[np.float32]:
    """Return rows of noise, of variance 1 on average over the features."""
    if spectrum == "flat":
        return rng.standard_normal((BANK, features), dtype=np.float32)
    components = min(COMPONENTS, features)
    variances = 1 / np.arange(1, components + 1, dtype=np.float32)
    scores = rng.standard_normal((BANK, components), dtype=np.float32) * np.sqrt(variances / variances.sum())
    return scores @ rng.standard_normal((components, features), dtype=np.float32)


class Planted(ActivationSource):
    """Layers that are made as they are asked for."""

    name = "planted"

    def __init__(self, samples: int, layers: int, features: int, spectrum: str) -> None:
        rng = np.random.default_rng(0)
        self.bank = torch.from_numpy(noise(rng, features, spectrum)).half()
        # Neighbours share a little, as they do in networks.
        self.rows = torch.from_numpy(rng.integers(BANK, size=(layers, samples)))
        self.carriers = torch.from_numpy(rng.permutation(samples) < samples // 20)
        self.block = range(layers // 4, 3 * layers // 4)
        self.layers = tuple(
            Layer(f"layer{index}", "block", index, (features,), "float16", "made", ("feature",))
            for index in range(layers)
        )
        self.chosen = self.layers

    def of_layers(self, names: Any) -> "Planted":
        """Return the same with some of the layers visited."""
        made = Planted.__new__(Planted)
        made.__dict__ |= self.__dict__
        made.layers = tuple(layer for layer in self.layers if layer.name in names)
        return made

    def uses(self) -> frozenset[int]:
        """Return nothing: making values changes nothing."""
        return frozenset()

    def split(self, count: int) -> "list[Planted]":
        """Return as many runs of the layers."""
        runs = np.array_split(np.arange(len(self.layers)), count)
        return [self.of_layers({self.layers[place].name for place in run}) for run in runs]

    def values(self, layer: Layer, index: NDArray[np.int64]) -> torch.Tensor:
        """Return the values of some samples."""
        chosen = torch.from_numpy(index)
        values = self.bank[self.rows[layer.index, chosen]]
        if layer.index in self.block:
            values[self.carriers[chosen]] += 12 * self.bank[layer.index]
        return values

    def groups(self, order: NDArray[np.int64], group_size: int) -> Iterator[tuple[NDArray[np.int64], Visit]]:
        """Yield groups of samples."""
        for start in range(0, len(order), group_size):
            chosen = order[start : start + group_size]

            def visit(visitor: Callable[[Layer, torch.Tensor], None], chosen: NDArray[np.int64] = chosen) -> None:
                for layer in self.layers:
                    visitor(layer, self.values(layer, chosen))

            yield chosen, visit


def reference(source: Planted) -> Reference:
    """Return where the block is."""
    inside = tuple(source.layers[index].name for index in source.block)
    names = tuple(layer.name for layer in source.layers)
    return Reference(source.name, inside, inside[len(inside) // 2], True, "", names)


def masks_of(context: Context, source: Planted, parameters: DominantParameters) -> NDArray[np.bool_]:
    """Return as many masks as the removal test has."""
    half = halves_by_batch(context.order(), parameters.batch_size)
    rng = np.random.default_rng(0)
    sizes = [source.carriers.numpy() + rng.random(context.sample_count), *rng.random((6, context.sample_count))]
    return np.concatenate([Ranking.by(one, half).kept(parameters.fractions) for one in sizes])


def visit_all(source: ActivationSource, order: NDArray[np.int64], batch_size: int) -> None:
    """Look at every layer of every sample."""
    for _, visit in source.groups(order, batch_size):
        visit(lambda _layer, _values: None)


def run_job(job: str, given: argparse.Namespace) -> dict[str, float]:
    """Return seconds, seconds of the processor and peak memory of one job."""
    source = Planted(given.samples, given.layers, given.features, given.spectrum)
    parameters = DominantParameters.model_validate({"batch_size": given.batch})
    context = Context([source], sample_count=given.samples)
    scale, extra = 1.0, {}
    if job in ("read", "again", "drawn"):
        study = outcrop.open(given.study, mode="r")
        stored = study.activations["planted"]
        source = StoredSource(stored, tuple(stored.layers))  # type: ignore[assignment]
        scale = given.layers / given.stored
    masks = masks_of(context, source, parameters) if job == "masks" else np.ones((1, 1), dtype=bool)
    began, used = time.perf_counter(), time.process_time()
    if job in ("made", "read", "again", "drawn"):
        order = context.order() if job in ("made", "drawn") else np.arange(given.samples)
        visit_all(source, order, given.batch)
    elif job == "maps":
        accumulator = GramAccumulator(group_size=given.batch)
        context.stream(accumulator, batch_size=given.batch)
        accumulator.finish()
    elif job == "masks":
        removing = RemovalAccumulator(masks, group_size=given.batch)
        context.stream(removing, batch_size=given.batch)
        removing.finish()
        extra = {"masks": float(len(np.unique(masks, axis=0)))}
    else:
        found = measure_removal(context, [reference(source)], parameters)
        is_block = found.models[0].evidence.is_block
        gone = [found.fractions[place] for place in np.flatnonzero(~is_block[found.models[0].draws["dominant"][0]])]
        extra = {"dissolved": min(gone, default=float("nan"))}
    seconds, processor = time.perf_counter() - began, time.process_time() - used
    peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 2**20  # type: ignore[index]
    return {"seconds": scale * seconds, "processor": scale * processor, "peak": peak, **extra}


def store(given: argparse.Namespace, path: Path) -> None:
    """Write some layers of the middle to a study."""
    source = Planted(given.samples, given.layers, given.features, given.spectrum)
    everything = np.arange(given.samples)
    first = given.layers // 2
    chosen = source.layers[first : first + given.stored]
    arrays = {layer.name: source.values(layer, everything).numpy() for layer in chosen}
    study = outcrop.open(path, mode="a")
    study.capture(ArrayModel("planted", arrays), IndexData(given.samples), layers="all", batch_size=given.batch)


def forget(path: Path) -> None:
    """Have the operating system drop files from its memory, so that they are read from the disk, where there is one."""
    for file in path.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main() -> None:
    """Run all jobs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("samples", 10_000), ("layers", 100), ("features", 16_384), ("batch", 256), ("stored", 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--spectrum", choices=("decaying", "flat"), default="decaying", help="of the noise")
    parser.add_argument("--jobs", default=",".join(JOBS), help="some of " + ", ".join(JOBS))
    parser.add_argument("--job", help=argparse.SUPPRESS)
    parser.add_argument("--study", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.job:
        print(json.dumps(run_job(given.job, given)))
        return
    size = given.samples * given.layers * given.features * 2 / 2**30
    print(f"{given.samples} samples x {given.layers} layers x {given.features} features, float16: {size:.1f} GiB")
    print(f"{given.spectrum} noise, {torch.get_num_threads()} threads\n")
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder) / "study.zarr"
        if {"read", "again", "drawn"} & set(given.jobs.split(",")):
            store(given, study)
        for job in given.jobs.split(","):
            if job in ("read", "drawn"):
                forget(study)
            command = [sys.executable, __file__, *sys.argv[1:], "--job", job, "--study", str(study)]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found[job] = json.loads(out.splitlines()[-1])
    words = {
        "made": "layers made, nothing done with them",
        "read": f"layers read from a study ({given.stored} of them, scaled)",
        "again": "the same from the operating system's memory",
        "drawn": "the same from the disk, in the order of a pass",
        "maps": "one map of all samples (GramAccumulator)",
        "masks": "maps of all masks (RemovalAccumulator)",
        "test": "the removal test: halves, components, ranks, maps",
    }
    print(f"{'':52s} seconds processor  of reading  of one map  peak GiB")
    for job, one in found.items():
        ratios = [
            f"{one['seconds'] / found[other]['seconds']:.2f}" if other in found else "" for other in ("read", "maps")
        ]
        print(
            f"{words[job]:52s} {one['seconds']:7.1f} {one['processor']:9.1f}  {ratios[0]:>10s}  {ratios[1]:>10s}  "
            f"{one['peak']:8.2f}"
        )
    for job, name in (("masks", "masks"), ("test", "dissolved")):
        if job in found:
            print(f"{job}: {name} {found[job][name]:g}")


if __name__ == "__main__":
    main()
