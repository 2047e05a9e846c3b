"""``python -m outcrop`` is the command."""

import subprocess
import sys

import pytest

import outcrop


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "outcrop", *arguments], capture_output=True, text=True, check=False, timeout=120
    )


def test_it_runs_commands() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"outcrop, version {outcrop.version()}\n"), done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("schemas", "pairwse"), 1, "Error: No result kind 'pairwse' is declared"),
        (("resuls",), 2, "No such command 'resuls'"),
    ],
)
def test_it_ends_as_the_command_does(arguments: tuple[str, ...], code: int, words: str) -> None:
    done = run(*arguments)
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr
