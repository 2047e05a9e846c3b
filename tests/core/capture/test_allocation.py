"""Memory that is kept while a network runs; each case in a process of its own, since it is told for all of it."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

COUNT = """
import resource
import torch
from outcrop.capture.allocation import kept_memory

torch.set_num_threads(1)

def faults(megabytes=48):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.empty(megabytes << 20, dtype=torch.uint8).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    with open("/proc/self/statm") as told:
        return int(told.read().split()[1]) * resource.getpagesize()

faults()
usual = faults()
with kept_memory(largest=30 << 20):
    with kept_memory(largest=16 << 20):
        limited = faults(24)
    faults(24)
    below = faults(24)
with kept_memory():
    faults()  # until what aligns the blocks has found its place
    with kept_memory():
        kept = faults()
    still_kept = faults()
    within = resident()
after = faults(200)  # more than any hole that is left in the heap, which would be used again
print(usual, kept, still_kept, after, within - resident(), limited, below)
"""

needs_glibc = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="other C libraries cannot be told how to allocate"
)


def counted(environment: dict[str, str] | None = None) -> list[int]:
    """Return page faults: usual, within contexts, behind the inner one, behind both; the bytes then given back.

    And page faults of smaller blocks: above the least of two limits, and below the other one.
    """
    done = subprocess.run(
        [sys.executable, "-c", COUNT], capture_output=True, text=True, check=True,
        env={"PATH": "/usr/bin", "HOME": str(Path.home()), **(environment or {})},
    )  # fmt: skip
    return [int(number) for number in done.stdout.split()]


@needs_glibc
def test_memory_is_used_again_and_given_back() -> None:
    usual, kept, still_kept, after, given_back, *_ = counted()
    assert usual > 10_000
    assert kept < usual / 10
    assert still_kept < usual / 10
    assert after > usual
    assert given_back > 40 << 20


@needs_glibc
def test_of_several_limits_the_least_holds_until_its_context_ends() -> None:
    usual, *_, limited, below = counted()
    assert limited > usual / 4
    assert below < usual / 20


@needs_glibc
@pytest.mark.parametrize(
    "environment",
    [{"MALLOC_MMAP_THRESHOLD_": "65536"}, {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=65536"}],
    ids=["variable", "tunable"],
)
def test_what_the_environment_says_stays(environment: dict[str, str]) -> None:
    usual, kept, *_ = counted(environment)
    assert kept > usual / 2 > 5_000
