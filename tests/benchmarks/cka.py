"""CKA of all layers with all layers against pytorch-cka: time, peak memory, and who is right.

    python tests/benchmarks/cka.py                    # needs pytorch-cka beside outcrop
    python tests/benchmarks/cka.py --device cuda      # instead: all layers of ResNet-50 at 224 x 224 on a GPU

The job: two of timm's ResNet-18 on 1,024 images of 64 x 64 in batches of 128, 61 layers each, and all pairs of five
such networks. All times are of one process, round after round, and of everything the job takes: finding the layers,
too. The floor is one ``X @ X.T`` in float32 for each layer and batch. Memory is each job's peak beyond that of the bare
forward passes, in a process of its own. Truth is the CKA of the same batches in float64, from values that hooks clone.
"""

import argparse
import importlib.util
import itertools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import timm
import torch
from torch.utils.data import DataLoader, TensorDataset

from outcrop.capture.engine import stream
from outcrop.capture.source import LiveSource
from outcrop.data import load_data
from outcrop.models import load_model
from outcrop.numerics import GramAccumulator, GramStatistics, unbiased_hsic

IMAGES, SIDE, BATCH, FIVE = 1024, 64, 128, 5
COLUMNS = ("seconds", "of the peer's", "beyond bare", "of the floor")


def networks(count: int) -> list[torch.nn.Module]:
    """Return networks of different seeds."""
    made = []
    for seed in range(count):
        torch.manual_seed(seed)
        # By default the last norm of every block gives zeros before training, of which there is no similarity.
        made.append(timm.create_model("resnet18", pretrained=False, zero_init_last=False).eval())
    return made


def pictures() -> torch.Tensor:
    return torch.randn(IMAGES, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def compared_layers(network: torch.nn.Module) -> list[str]:
    """Return the layers that are outputs of modules, so that the peer sees them too."""
    modules = dict(network.named_modules())
    model = load_model(network, name="any", input_shape=(3, SIDE, SIDE))
    return [layer.name for layer in model.layers if layer.name in modules]


def bare(models: Sequence[torch.nn.Module], images: torch.Tensor, _layers: Sequence[str]) -> None:
    """Run the networks and keep nothing."""
    with torch.inference_mode():
        for model, start in itertools.product(models, range(0, len(images), BATCH)):
            model(images[start : start + BATCH])


def ours(
    models: Sequence[torch.nn.Module], images: torch.Tensor, layers: Sequence[str], *, components: bool = False
) -> GramStatistics:
    """Return all layers with all layers of all models, from one pass."""
    data = load_data(images.numpy())
    loaded = [
        load_model(model, name=f"model{place}", input_shape=(3, SIDE, SIDE)) for place, model in enumerate(models)
    ]
    sources = [LiveSource(model, tuple(map(model.layer, layers)), data) for model in loaded]
    accumulator = GramAccumulator(group_size=BATCH, principal_component=components)
    stream(sources, [accumulator], order=lambda _: np.arange(len(images)), batch_size=BATCH)
    return accumulator.finish()


def theirs(models: Sequence[torch.nn.Module], images: torch.Tensor, layers: Sequence[str]) -> list[torch.Tensor]:
    """Return what pytorch-cka finds for every two models."""
    import cka

    loader = DataLoader(TensorDataset(images), batch_size=BATCH)
    return [
        cka.compute_cka(first, second, loader, layers=list(layers), device="cpu", progress=False)[0]
        for first, second in itertools.combinations(models, 2)
    ]


def features(model: torch.nn.Module, images: torch.Tensor, layers: Sequence[str]) -> list[torch.Tensor]:
    """Return the flattened values of one batch, cloned before anything can overwrite them."""
    seen: dict[str, torch.Tensor] = {}
    handles = [
        model.get_submodule(name).register_forward_hook(
            lambda *a, name=name: seen.__setitem__(name, a[2].detach().clone().flatten(1))
        )
        for name in layers
    ]
    with torch.inference_mode():
        model(images)
    for handle in handles:
        handle.remove()
    return [seen[name] for name in layers]


def floor(models: Sequence[torch.nn.Module], images: torch.Tensor, layers: Sequence[str]) -> float:
    """Return the seconds of one product for each layer and batch, of features as they come out of the networks."""
    taken = 0.0
    for model in models:
        of_batch = features(model, images[:BATCH], layers)
        start = time.perf_counter()
        for _ in range(0, len(images), BATCH):
            for found in of_batch:
                torch.mm(found, found.T)
        taken += time.perf_counter() - start
    return taken


def truth(models: Sequence[torch.nn.Module], images: torch.Tensor, layers: Sequence[str]) -> np.ndarray:
    """Return minibatch CKA in float64 of the layers of the first model with those of the second."""
    total = np.zeros((2 * len(layers), 2 * len(layers)))
    for start in range(0, len(images), BATCH):
        grams = []
        for model in models:
            for found in features(model, images[start : start + BATCH], layers):
                wide = found.double()
                wide -= wide.mean(0)
                grams.append((wide @ wide.T).numpy())
        for first, left in enumerate(grams):
            for second in range(first, len(grams)):
                total[first, second] += unbiased_hsic(left, grams[second])
    total = np.triu(total) + np.triu(total, 1).T
    own = np.sqrt(np.diag(total))
    return (total / own[:, None] / own)[: len(layers), len(layers) :]


def seconds(job: Callable[[], object]) -> float:
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


def peak(job: str) -> float:
    """Return the peak memory of a job in a process of its own, in bytes."""
    done = subprocess.run(
        [sys.executable, __file__, "--peak-of", job], capture_output=True, text=True, check=True, timeout=600
    )
    return float(done.stdout.split()[-1])


def own_peak() -> float:
    """Return the peak memory of this process in bytes; ``getrusage`` would count that of the one it was forked from."""
    status = Path("/proc/self/status").read_text("ascii")
    return 1024.0 * int(status.partition("VmHWM:")[2].split()[0])


def on_gpu() -> int:
    """Print the throughput of all layers of ResNet-50 against the bare forward pass, on a GPU; 1 below 0.7."""
    network = timm.create_model("resnet50", pretrained=False).eval().cuda()
    images = torch.randn(1024, 3, 224, 224)
    model = load_model(network, name="resnet50", input_shape=(3, 224, 224))
    data = load_data(images.numpy())

    def forward() -> None:
        with torch.inference_mode():
            for start in range(0, len(images), 256):
                network(images[start : start + 256].cuda())
        torch.cuda.synchronize()

    def compare() -> None:
        accumulator = GramAccumulator(group_size=256, principal_component=False)
        order = np.arange(len(images))
        stream([LiveSource(model, model.layers, data)], [accumulator], order=lambda _: order, batch_size=256)
        accumulator.finish()

    forward(), compare()
    ratios = [seconds(forward) / seconds(compare) for _ in range(5)]
    middle = statistics.median(ratios)
    print(f"{len(model.layers)} layers of ResNet-50, batch 256, {torch.cuda.get_device_name()}")
    print(f"of the bare forward pass, median of 5: {middle:.3f} ({min(ratios):.3f} to {max(ratios):.3f})")
    return int(middle < 0.7)


def main() -> int:
    """Print the tables; 1 where a figure falls short of what the project promises."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--peak-of", choices=("bare", "ours", "ours with components", "theirs"))
    options = parser.parse_args()
    if options.device == "cuda":
        return on_gpu()
    images = pictures()
    jobs: dict[str, Callable[[Sequence[torch.nn.Module]], object]] = {
        "bare": lambda models: bare(models, images, layers),
        "theirs": lambda models: theirs(models, images, layers),
        "ours": lambda models: ours(models, images, layers),
        "ours with components": lambda models: ours(models, images, layers, components=True),
    }
    if options.peak_of is not None:
        models = networks(2)
        layers = compared_layers(models[0])
        jobs[options.peak_of](models)
        print(own_peak())
        return 0
    if importlib.util.find_spec("cka") is None:
        raise SystemExit("Install pytorch-cka beside outcrop: it is what this compares with.")
    five = networks(FIVE)
    two, layers = five[:2], compared_layers(five[0])
    print(f"{len(layers)} layers, {IMAGES} images of {SIDE} x {SIDE}, {torch.get_num_threads()} threads")
    expected = truth(two, images, layers)
    own = ours(two, images, layers)
    cross = own.similarity[: len(layers), len(layers) :]
    print(f"largest error, outcrop      {np.abs(cross - expected).max():.2e}")
    print(f"largest error, pytorch-cka  {np.abs(theirs(two, images, layers)[0].numpy() - expected).max():.2e}")
    times: dict[str, list[float]] = {name: [] for name in (*jobs, "floor")}
    for _ in range(options.rounds):
        times["floor"].append(floor(two, images, layers))
        for name, job in jobs.items():
            times[name].append(seconds(lambda job=job: job(two)))  # type: ignore[misc] # bound at once
    rounds = {name: np.array(found) for name, found in times.items()}
    figures = {
        name: (
            rounds[name],
            rounds[name] / rounds["theirs"],
            rounds[name] - rounds["bare"],
            (rounds[name] - rounds["bare"]) / rounds["floor"],
        )
        for name in jobs
    }
    print(f"\ntwo models, median of {options.rounds} rounds (least to most); floor {np.median(rounds['floor']):.2f} s")
    print(f"{'':24}" + "".join(f"{column:>22}" for column in COLUMNS))
    for name, columns in figures.items():
        shown = [f"{np.median(one):.2f} ({one.min():.2f} to {one.max():.2f})" for one in columns]
        print(f"{name:24}" + "".join(f"{one:>22}" for one in shown), flush=True)
    against = [seconds(lambda: theirs(five, images, layers)) / seconds(lambda: ours(five, images, layers))
               for _ in range(2)]  # fmt: skip
    print(f"\nall pairs of {FIVE} models: {statistics.median(against):.2f} times as fast ({min(against):.2f} at least)")
    peaks = {name: peak(name) for name in jobs}
    print("\npeak memory, two models")
    for name in jobs:
        print(f"{name:24}{peaks[name] / 1e6:10.0f} MB{(peaks[name] - peaks['bare']) / 1e6:10.0f} MB beyond bare")
    failed = [
        text
        for text, wrong in {
            "slower than pytorch-cka": float(np.median(figures["ours"][1])) > 1,
            "less than 3.5 times as fast for five": statistics.median(against) < 3.5,
            "more than 1.2 times the floor beyond the bare passes": float(np.median(figures["ours"][3])) > 1.2,
            "more than half of its peak memory": peaks["ours"] - peaks["bare"] > (peaks["theirs"] - peaks["bare"]) / 2,
        }.items()
        if wrong
    ]
    print("\n" + ("falls short: " + "; ".join(failed) if failed else "all as promised"))
    return int(bool(failed))


if __name__ == "__main__":
    sys.path.pop(0)  # this folder, which has a module of the peer's name
    sys.exit(main())
