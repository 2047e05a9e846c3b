"""Trainings that are killed outright, in a process of their own, in the middle of an epoch."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from outcrop_zoo.build import build
from outcrop_zoo.cards import read_card
from outcrop_zoo.recipes import recipes

NAME = "resnet8-patches-quick"

# Four optimiser steps an epoch; the sixth is in the middle of the second.
PROGRAM = """
import os, signal, sys
from torch.optim.optimizer import register_optimizer_step_post_hook
from outcrop.cli.main import main

steps = []

def count(*_):
    steps.append(1)
    if len(steps) == 6:
        os.kill(os.getpid(), signal.SIGKILL)

register_optimizer_step_post_hook(count)
sys.argv = ["outcrop", "zoo", "build", *sys.argv[1:]]
main()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_the_smallest_recipe_built_twice_or_killed_and_resumed_gives_the_same_file(tmp_path: Path) -> None:
    folder, checkpoints = tmp_path / "killed", tmp_path / "checkpoints"
    arguments = [NAME, "--folder", str(folder), "--checkpoints", str(checkpoints), "--threads", "1"]
    killed = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not folder.exists()
    assert sorted(path.name for path in checkpoints.iterdir()) == [f"{NAME}.lock", f"{NAME}.pt"]
    recipe = recipes()[NAME]
    resumed = build(recipe, folder=folder, checkpoints=checkpoints, threads=1, device="cpu")
    whole = build(recipe, folder=tmp_path / "whole", threads=1, device="cpu")
    assert resumed.sha256 == whole.sha256
    assert (folder / f"{NAME}.onnx").read_bytes() == (tmp_path / "whole" / f"{NAME}.onnx").read_bytes()
    assert read_card(folder / f"{NAME}.json").training == resumed.training
