"""Where a training runs, and what makes it come out the same there every time."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from outcrop.capture.allocation import kept_memory
from outcrop.errors import ZooError

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


def choose_device(device: str | None) -> str:
    """Return a device that works here: the one that is asked for, else CUDA where there is any, else the CPU.

    Raises:
        ZooError: The device is unknown, or not here.
    """
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ZooError(f"There is no device {device!r} to train on ({reason}). Leave it out, or say 'cpu'.") from error
    return device


@contextmanager
def reproducible(device: str) -> Iterator[None]:
    """Make a training on a device depend on its seeds only, and leave torch's settings and global generator as found.

    On the CPU nothing needs to be set, and freed memory is kept at hand, which changes no number. On CUDA the
    deterministic algorithms are taken where there are any; where not, torch warns.
    """
    kind = torch.device(device).type
    # torch.manual_seed seeds all of them, whichever device is trained on.
    used = kind == "cuda" or torch.cuda.is_initialized()  # type: ignore[no-untyped-call] # torch's
    seeded = list(range(torch.cuda.device_count())) if used else []
    if kind == "cpu":
        with torch.random.fork_rng(devices=seeded), kept_memory():
            yield
        return
    if kind != "cuda":
        with torch.random.fork_rng(devices=seeded):
            yield
        return
    # Read by cuBLAS when it is first used; without it, matrix products may differ from run to run.
    os.environ.setdefault(_WORKSPACE, ":4096:8")
    before = (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled())
    convolutions = (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    try:
        with torch.random.fork_rng(devices=seeded):
            yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = convolutions
