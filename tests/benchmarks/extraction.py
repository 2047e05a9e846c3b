"""Images per second of a capture, against the bare forward pass, a hook with a writer thread, and torchlens.

    python tests/benchmarks/extraction.py --folder /disk/with/room

The job: the 8 block outputs of timm's ResNet-18 at 224 x 224 (1.5 GB of float32 for 512 images), in batches of 64, on
local disk. All in one process; each is compared with the bare passes before and after it, torchlens with the one before
it. Times of a capture are of all that it takes, from opening the study to the last byte: watching the network,
hashing the images, which a capture is keyed by, sample statistics, metadata, checksums, shards, ledger and fsync.
Bare passes are timed twice: as anyone runs them, and with the memory kept that outcrop keeps while it captures, which
spares a third of their time (capture/allocation.py). Install torchlens beside outcrop to have it compared.
"""

import argparse
import importlib.util
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import timm
import torch

import outcrop
from outcrop.capture.allocation import kept_memory
from outcrop.data import load_data
from outcrop.models import load_model

BLOCKS = [f"layer{stage}.{block}" for stage in range(1, 5) for block in range(2)]
BATCH = 64


def bare(network: torch.nn.Module, images: torch.Tensor, _folder: Path) -> None:
    """Run the network and keep nothing."""
    with torch.inference_mode():
        for start in range(0, len(images), BATCH):
            network(images[start : start + BATCH])


def bare_in_kept_memory(network: torch.nn.Module, images: torch.Tensor, folder: Path) -> None:
    """Run the network where freed memory stays at hand."""
    with kept_memory():
        bare(network, images, folder)


def captured(network: torch.nn.Module, images: torch.Tensor, folder: Path, *, compression: str = "none") -> None:
    """Capture into a new study."""
    study = outcrop.open(folder / "study.zarr", mode="a")
    model = load_model(network, name="resnet18")
    found = study.capture(
        model,
        load_data(images.numpy()),
        layers=BLOCKS,
        batch_size=BATCH,
        compression=compression,  # type: ignore[arg-type] # one of them
    )
    assert len(found) == len(BLOCKS)


def hooked(network: torch.nn.Module, images: torch.Tensor, folder: Path) -> None:
    """Clone in hooks, write raw files on a thread: no shards, no checksums, no resuming, no fsync."""
    queue: Queue[tuple[str, np.ndarray] | None] = Queue(16)

    def write() -> None:
        while (item := queue.get()) is not None:
            with (folder / item[0]).open("ab") as stored:
                stored.write(item[1].data)

    def hook(name: str) -> Callable[..., None]:
        def keep(_module: Any, _inputs: Any, output: torch.Tensor) -> None:
            queue.put((name, output.detach().clone().numpy()))

        return keep

    thread = threading.Thread(target=write)
    thread.start()
    handles = [network.get_submodule(name).register_forward_hook(hook(name)) for name in BLOCKS]
    try:
        bare(network, images, folder)
    finally:
        for handle in handles:
            handle.remove()
        queue.put(None)
        thread.join()


def torchlensed(network: torch.nn.Module, images: torch.Tensor, folder: Path) -> None:
    """Extract with torchlens."""
    import torchlens

    place = folder / "torchlens"
    torchlens.extract_dataset(network, images, BLOCKS, batch_size=BATCH, output_dir=place, progress=False)


def seconds(job: Callable[..., None], *arguments: Any, parent: Path) -> float:
    """Return how long a job takes in an empty folder, which is removed afterwards."""
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        start = time.perf_counter()
        job(*arguments, Path(folder))
        return time.perf_counter() - start


def check(network: torch.nn.Module, images: torch.Tensor, parent: Path) -> float:
    """Return the largest difference of captured values from those that hooks clone."""
    seen: dict[str, list[torch.Tensor]] = {name: [] for name in BLOCKS}
    handles = [
        network.get_submodule(name).register_forward_hook(lambda *a, name=name: seen[name].append(a[2].clone()))
        for name in BLOCKS
    ]
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        bare(network, images, Path(folder))
        for handle in handles:
            handle.remove()
        captured(network, images, Path(folder))
        stored = outcrop.open(Path(folder) / "study.zarr").activations["resnet18"]
        return max(float(np.abs(stored[name].values - torch.cat(seen[name]).numpy()).max()) for name in BLOCKS)


def main() -> int:
    """Print the table; 1 where a figure falls short of what the project promises."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="Where to write.")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--leave-out", nargs="*", default=[], metavar="JOB", help="Jobs that are not measured.")
    options = parser.parse_args()
    torch.manual_seed(0)
    network = timm.create_model("resnet18", pretrained=False).eval()
    images = torch.randn(options.images, 3, 224, 224)
    jobs: dict[str, tuple[Callable[..., None], int]] = {
        "outcrop": (captured, options.rounds),
        "bare, kept memory": (bare_in_kept_memory, options.rounds),
        "hook and thread": (hooked, options.rounds),
        "outcrop, zstd": (lambda *arguments: captured(*arguments, compression="zstd"), 1),
    }
    if importlib.util.find_spec("torchlens") is not None:
        # Last, because it wraps the functions of torch for the rest of the process.
        jobs["torchlens"] = (torchlensed, 1)
    jobs = {name: job for name, job in jobs.items() if name not in options.leave_out}
    free = shutil.disk_usage(options.folder).free >> 30
    print(f"{options.images} images, {torch.get_num_threads()} threads, free {free} GiB")
    print(f"largest difference from cloned values: {check(network, images[:BATCH], options.folder)}")
    ratios: dict[str, list[float]] = {name: [] for name in jobs}
    rates: dict[str, list[float]] = {name: [] for name in ("bare", *jobs)}
    for name, (job, rounds) in jobs.items():
        before = seconds(bare, network, images, parent=options.folder)
        seconds(job, network, images[:BATCH], parent=options.folder)  # imports, caches and memory
        for _ in range(rounds):
            taken = seconds(job, network, images, parent=options.folder)
            after = before if name == "torchlens" else seconds(bare, network, images, parent=options.folder)
            ratios[name].append((before + after) / 2 / taken)
            rates[name].append(options.images / taken)
            rates["bare"].append(options.images / after)
            before = after
    print(f"{'':18} {'images/s':>9} {'of bare, median':>16} {'lowest':>7} {'highest':>8}")
    print(f"{'bare':18} {statistics.median(rates['bare']):9.1f} {1:16.3f}")
    for name, found in ratios.items():
        middle = statistics.median(found)
        print(f"{name:18} {statistics.median(rates[name]):9.1f} {middle:16.3f} {min(found):7.3f} {max(found):8.3f}")
    of_bare = statistics.median(ratios["outcrop"])
    failed = of_bare < 0.9
    if "bare, kept memory" in ratios:
        of_kept = of_bare / statistics.median(ratios["bare, kept memory"])
        print(f"outcrop against the bare pass in kept memory: {of_kept:.3f}")
    if "torchlens" in ratios:
        against = of_bare / statistics.median(ratios["torchlens"])
        print(f"outcrop against torchlens: {against:.2f} times")
        failed |= against < 3
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
