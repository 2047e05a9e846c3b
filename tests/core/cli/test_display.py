import json
import sys
from pathlib import Path

import numpy as np
import pytest

from outcrop.cli.display import progress, rate_text, show_json, show_table, size_text
from outcrop.cli.options import _split_name, parse_parameters
from outcrop.errors import ParameterError


def test_sizes_read_as_people_write_them() -> None:
    assert [size_text(size) for size in (0, 999, 1500, 2.5e6, 7e9, 3e12)] == [
        "0 B",
        "999 B",
        "1.5 kB",
        "2.5 MB",
        "7.0 GB",
        "3.0 TB",
    ]


def test_slow_work_is_rated_in_seconds_a_step() -> None:
    assert rate_text(31.4, "samples") == "31 samples/s"
    assert rate_text(0.05, "epochs") == "20.0 s a step"
    assert rate_text(0, "samples") == ""


def test_what_json_does_not_know_becomes_null(capsys: pytest.CaptureFixture[str]) -> None:
    show_json({"a": float("nan"), "b": np.array([1.0, np.inf]), "c": np.float32(2)})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [1.0, None], "c": 2.0}


def test_a_table_shows_missing_values_and_truth_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    show_table([{"a": float("nan"), "b": True}, {"a": 0.5, "b": None}], {"a": "number", "b": "truth"})
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [["number", "truth"], ["-", "yes"], ["0.500"]]


def test_markup_in_names_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["net[bold]x", "layer[conv]", "x[/y]", ":smile:", "[link=a]b[/link]"]
    show_table([{"name": name} for name in names], {"name": "[red]name"}, title="[b]title")
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == ["[b]title", "[red]name", *names]


def test_what_goes_to_a_pipe_is_not_folded(capsys: pytest.CaptureFixture[str]) -> None:
    show_table([{"name": "x" * 3000, "note": "a word " * 100}], {"name": "name", "note": "note"})
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_progress_without_a_terminal_says_a_line_after_two_seconds_and_every_ten(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 1.0, 2.0, 11.0, 12.5, 13.0])
    monkeypatch.setattr("outcrop.cli.display.time.perf_counter", lambda: next(clock))
    with progress("net", 100) as advance:
        for _ in range(5):
            advance(10)
    assert capsys.readouterr().err.splitlines() == [
        "net: 20/100 samples, 10 samples/s, 8 s left",
        "net: 40/100 samples, 3 samples/s, 19 s left",
    ]


def test_progress_of_nothing_done_yet_names_no_rate(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 3.0])
    monkeypatch.setattr("outcrop.cli.display.time.perf_counter", lambda: next(clock))
    with progress("net", 100) as advance:
        advance(0)
    assert capsys.readouterr().err == "net: 0/100 samples\n"


def test_a_bar_on_a_terminal_shows_markup_as_it_is_and_survives_a_clock_that_stands(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    now = time.perf_counter()
    monkeypatch.setattr("outcrop.cli.display.time.perf_counter", lambda: now)
    with progress("net[/bold]x", 10) as advance:
        advance(0)
        advance(3)
    assert "net[/bold]x" in capsys.readouterr().err


def test_parameters_are_pairs() -> None:
    assert parse_parameters(["a=1", "b = x=y"]) == {"a": "1", "b": "x=y"}
    with pytest.raises(ParameterError, match="-p takes name=value; got 'passes'"):
        parse_parameters(["passes"])


def test_a_name_stands_before_a_reference_and_an_equals_sign_may_stand_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _split_name("mine=timm:resnet18?seed=1") == ("mine", "timm:resnet18?seed=1")
    assert _split_name("timm:resnet18?seed=1") == (None, "timm:resnet18?seed=1")
    monkeypatch.chdir(tmp_path)
    Path("seed=1").mkdir()
    Path("seed=1/net.onnx").touch()
    assert _split_name("seed=1/net.onnx") == (None, "seed=1/net.onnx")
    assert _split_name("seed=1/net.onnx?mean=0,0,0") == (None, "seed=1/net.onnx?mean=0,0,0")
    assert _split_name("a=seed=1/net.onnx") == ("a", "seed=1/net.onnx")
