"""Kill captures with SIGKILL, resume them, and compare every stored byte with an uninterrupted capture's.

    python tests/benchmarks/kills.py --kills 100

A capture runs in a process of its own that notes, in memory shared with this one, which steps of writing it is in. Each
kill waits for a step drawn at random (or for no step: any moment), for a random occurrence of it, and a random fraction
of a millisecond more. The killed capture is then resumed, and perhaps killed again, until it is finished; then the
next begins. Fails where one is refused, where a data array differs by a byte, or where a file is left over.
"""

import argparse
import collections
import contextlib
import functools
import hashlib
import mmap
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

STEPS = ["forward pass", "shard append", "shard seal", "ledger commit", "array metadata", "consolidation", "data set"]
SAMPLES, BATCH, SECOND_CALL = 150, 8, "kind:act"
# Bytes of the shared memory, one for each step, since the network and the writing thread are each in one of their own.
_WITHIN, _OCCURRED = 0, len(STEPS)


def capture(location: Path, compression: str) -> None:
    """Capture a small network in two calls, of which the second adds layers."""
    import numpy as np
    import torch
    from torch import nn

    import outcrop
    from outcrop.data import load_data
    from outcrop.models import load_model

    torch.set_num_threads(1)
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for width_in, width in [(3, 16), (16, 16), (16, 32)]:
        layers += [nn.Conv2d(width_in, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))
    images = np.random.default_rng(0).random((SAMPLES, 3, 16, 16), dtype=np.float32)
    study = outcrop.open(location, mode="a")
    model = load_model(network, name="net", input_shape=(3, 16, 16))
    options: dict[str, Any] = {"batch_size": BATCH, "compression": compression}
    study.capture(model, load_data(images), layers="kind:conv,kind:norm,output", **options)
    study.capture(model, load_data(images), layers=SECOND_CALL, **options)


def note_steps(shared: mmap.mmap) -> None:
    """Wrap the steps of writing so that each tells while it lasts, and how often it has begun."""
    from outcrop.models import torch_
    from outcrop.store import study
    from outcrop.store.writing import captures, chunking, entries, shards

    def noting(step: str, function: Callable[..., Any]) -> Callable[..., Any]:
        number = STEPS.index(step)

        @functools.wraps(function)
        def noted(*args: Any, **kwargs: Any) -> Any:
            shared[_OCCURRED + number] = min(255, shared[_OCCURRED + number] + 1)
            shared[_WITHIN + number] = 1
            try:
                return function(*args, **kwargs)
            finally:
                shared[_WITHIN + number] = 0

        return noted

    def note(owner: Any, name: str, step: str) -> None:
        setattr(owner, name, noting(step, getattr(owner, name)))

    note(torch_.TorchModel, "visit", "forward pass")
    note(shards.LocalShards, "_append", "shard append")
    note(shards.LocalShards, "_finish", "shard seal")
    note(captures, "write_record", "ledger commit")
    note(entries, "write_record", "ledger commit")
    note(captures, "_create_arrays", "array metadata")
    note(study, "consolidate", "consolidation")
    note(study, "write_data", "data set")
    # Small shards, so that even this small capture fills many; some writes past the page cache, some through it.
    entries.DirectWriter = functools.partial(entries.DirectWriter, smallest=1 << 13)
    chunking.choose_chunking = functools.partial(chunking.choose_chunking, chunk_bytes=1 << 14, shard_bytes=1 << 17)


@contextlib.contextmanager
def child(location: Path, compression: str, shared: mmap.mmap, log: Path) -> Iterator[int]:
    """Run a capture in a forked process; yields its id."""
    shared[:] = bytes(len(shared))
    pid = os.fork()
    if pid == 0:
        status = 1
        with log.open("w") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            try:
                note_steps(shared)
                capture(location, compression)
                status = 0
            except BaseException:  # noqa: BLE001 - a process of its own, which ends here and whose parent shows this
                import traceback

                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
    yield pid


def finished(pid: int) -> int | None:
    """Return the status of a process that has ended."""
    ended, status = os.waitpid(pid, os.WNOHANG)
    return status if ended else None


def kill_at(pid: int, shared: mmap.mmap, step: str | None, occurrence: int, delay: float) -> tuple[str, int] | int:
    """Kill a process in a step and return in which it was; or its status, where it ended before."""
    number = STEPS.index(step) if step is not None else None
    start = time.perf_counter()
    while True:
        if number is None:
            if time.perf_counter() - start > delay * 2000:
                break
        elif shared[_WITHIN + number] and shared[_OCCURRED + number] >= occurrence:
            until = time.perf_counter() + delay
            while time.perf_counter() < until:
                pass
            break
        status = finished(pid)
        if status is not None:
            return status
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if os.WIFEXITED(status):
        return status
    within = [name for index, name in enumerate(STEPS) if shared[_WITHIN + index]]
    return (step if step in within else next(iter(within), "between steps")), 0


def stored(location: Path) -> dict[str, str]:
    """Return a hash of every file by its path; of the root, which tells when the study was made, the name only."""
    found = {}
    for file in sorted(location.rglob("*")):
        if file.is_file():
            name = str(file.relative_to(location))
            found[name] = "root" if name == "zarr.json" else hashlib.sha256(file.read_bytes()).hexdigest()
    return found


def run(kills: int, *, seed: int, folder: Path, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Return the counts of a series of kills."""
    # Imported before forking; nothing may run here, since threads do not survive a fork.
    import outcrop.data
    import outcrop.models.torch_
    import outcrop.store.study  # noqa: F401

    generator = random.Random(seed)
    shared = mmap.mmap(-1, 64)
    log = folder / "log"
    counts: collections.Counter[str] = collections.Counter()
    done = resumed = refused = different = orphans = 0
    expected = {}
    for compression in ("none", "zstd"):
        whole = folder / f"whole-{compression}.zarr"
        with child(whole, compression, shared, log) as pid:
            _, status = os.waitpid(pid, 0)
        if status:
            raise SystemExit(f"The uninterrupted capture failed:\n{log.read_text()}")
        expected[compression] = stored(whole)
    captures = 0
    while done < kills:
        compression = ("none", "none", "zstd")[captures % 3]
        location = folder / "killed.zarr"
        captures += 1
        while True:
            step = generator.choice([*STEPS, None])
            limit = {"shard append": 150, "forward pass": 30, "ledger commit": 20, "shard seal": 60}.get(str(step), 2)
            if done < kills:
                with child(location, compression, shared, log) as pid:
                    outcome = kill_at(pid, shared, step, generator.randint(1, limit), generator.random() * 1e-3)
            else:
                with child(location, compression, shared, log) as pid:
                    _, outcome = os.waitpid(pid, 0)
            if isinstance(outcome, tuple):
                counts[outcome[0]] += 1
                done += 1
                resumed += 1
                continue
            if outcome:
                refused += 1
                say(f"refused: {log.read_text().strip().splitlines()[-1]}")
            break
        found = stored(location)
        orphans += len(found.keys() - expected[compression].keys())
        lacking = expected[compression].keys() - found.keys()
        changed = [name for name, value in expected[compression].items() if found.get(name, value) != value]
        different += len(lacking) + len(changed)
        for name in [*lacking, *changed, *(found.keys() - expected[compression].keys())][:5]:
            say(f"differs: {name}")
        shutil.rmtree(location)
        for left in folder.glob(".killed*"):
            left.unlink()
    return {
        "kills": done, "captures finished": captures, "refused": refused, "files that differ": different,
        "orphan files": orphans, "data files compared": len(expected["none"]), "by step": dict(counts),
    }  # fmt: skip


def main() -> int:
    """Print the counts; 1 where anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="outcrop-kills-") as folder:
        counts = run(options.kills, seed=options.seed, folder=Path(folder))
    by_step = counts.pop("by step")
    for name, count in counts.items():
        print(f"{name:22} {count:6}")
    for name in [*STEPS, "between steps"]:
        print(f"  killed in {name:16} {by_step.get(name, 0):3}")
    print(f"{time.perf_counter() - start:.0f} s")
    return int(bool(counts["refused"] or counts["files that differ"] or counts["orphan files"]))


if __name__ == "__main__":
    sys.exit(main())
