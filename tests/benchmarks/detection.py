"""Print how often a planted block is detected, and how often one is seen where there is none.

    python tests/benchmarks/detection.py [--seeds 20] [--batch-size 128]

Networks of 14 layers and 512 samples, streamed in batches. A block of 6 layers is planted, at another place from seed
to seed: ``s d v'`` on a few samples, ``s`` in units of the distance of a typical sample from the mean.
``interval``: an interval of similar layers is exactly the planted one; ``overlap``: one overlaps it; ``called``: what
is called a block is exactly the planted interval; ``amiss``: something else is called a block. Thresholds are the
defaults, which were never tuned.
"""

import argparse
import sys
import time
from collections.abc import Iterable

import torch

from outcrop.testing import run_planted
from outcrop.testing.networks import WITHOUT_BLOCK, Layers, network_with_block
from outcrop_blocks.analysis import BlocksAnalysis

LENGTH = 6
STRENGTHS = (2, 3, 4, 6, 8, 12)
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
COLUMNS = ("interval", "overlap", "called", "amiss")


def main() -> int:
    """Print all tables; return 1 where a network without a block is said to have one."""
    parser = argparse.ArgumentParser(description="Detection rates of planted blocks.")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=128)
    options = parser.parse_args()
    torch.set_num_threads(1)
    begun = time.perf_counter()
    for ground in ("noise", "drift", "residual", "shared"):
        print(f"\nBlock on {ground}, carried by 5 % of the samples, {options.seeds} seeds")
        _head("strength")
        for strength in STRENGTHS:
            _row(
                f"{strength:g}",
                (
                    _outcome(_planted(seed, ground, strength, 0.05), _start(seed), options.batch_size)
                    for seed in range(options.seeds)
                ),
            )
    print(f"\nBlock on noise, strength 6, {options.seeds} seeds")
    _head("carried by")
    for share in SHARES:
        _row(
            f"{100 * share:g} %",
            (
                _outcome(_planted(seed, "noise", 6, share), _start(seed), options.batch_size)
                for seed in range(options.seeds)
            ),
        )
    print(f"\nNo block, {options.seeds} seeds: similar layers found, and called a block")
    false = 0
    for name, network in WITHOUT_BLOCK.items():
        found = [_detect(network(seed), options.batch_size) for seed in range(options.seeds)]
        called = sum(any(is_block for _, _, is_block in intervals) for intervals in found)
        false += called
        print(f"{name:>24} {sum(map(bool, found)):>9} {called:>9}")
    print(f"\n{time.perf_counter() - begun:.0f} s")
    return 1 if false else 0


def _start(seed: int) -> int:
    return 1 + seed % 7


def _planted(seed: int, ground: str, strength: float, share: float) -> Layers:
    start = _start(seed)
    return network_with_block(
        seed,
        ground=ground,
        strength=strength,
        share=share,
        start=start,
        stop=start + LENGTH,  # type: ignore[arg-type]
    )


def _detect(layers: Layers, batch_size: int) -> list[tuple[int, int, bool]]:
    """Return first layer, the one behind the last, and whether it is a block, of every interval."""
    parameters = {"batch_size": batch_size, "bootstrap": 0}
    blocks = run_planted(BlocksAnalysis, {"net": layers}, parameters=parameters)["blocks"]
    rows = zip(*(blocks[name].values.tolist() for name in ("first_depth", "last_depth", "is_block")), strict=True)
    return [(first, last + 1, is_block) for first, last, is_block in rows]


def _outcome(layers: Layers, start: int, batch_size: int) -> tuple[bool, ...]:
    found = _detect(layers, batch_size)
    stop = start + LENGTH
    exact = [(first, behind) == (start, stop) for first, behind, _ in found]
    called = [is_block for _, _, is_block in found]
    return (
        any(exact),
        any(first < stop and behind > start for first, behind, _ in found),
        any(one and is_block for one, is_block in zip(exact, called, strict=True)),
        any(is_block and not one for one, is_block in zip(exact, called, strict=True)),
    )


def _head(label: str) -> None:
    print(f"{label:>12} " + " ".join(f"{name:>9}" for name in COLUMNS))


def _row(label: str, outcomes: Iterable[tuple[bool, ...]]) -> None:
    counts = [sum(column) for column in zip(*outcomes, strict=True)]
    print(f"{label:>12} " + " ".join(f"{count:>9}" for count in counts), flush=True)


if __name__ == "__main__":
    sys.exit(main())
