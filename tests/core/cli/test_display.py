import json

import numpy as np
import pytest

from outcrop.cli.display import progress, rate_text, show_json, show_table, size_text
from outcrop.cli.options import parse_parameters
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


def test_what_json_does_not_know_becomes_null(capsys: pytest.CaptureFixture[str]) -> None:
    show_json({"a": float("nan"), "b": np.array([1.0, np.inf]), "c": np.float32(2)})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [1.0, None], "c": 2.0}


def test_a_table_shows_missing_values_and_truth_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    show_table([{"a": float("nan"), "b": True}, {"a": 0.5, "b": None}], {"a": "number", "b": "truth"})
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [["number", "truth"], ["-", "yes"], ["0.500"]]


def test_progress_without_a_terminal_says_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 1.0, 12.0, 13.0])
    monkeypatch.setattr("outcrop.cli.display.time.perf_counter", lambda: next(clock))
    with progress("net", 100) as advance:
        for _ in range(3):
            advance(20)
    assert capsys.readouterr().err == "net: 40/100 samples, 3 samples/s, 18 s left\n"


def test_parameters_are_pairs() -> None:
    assert parse_parameters(["a=1", "b = x=y"]) == {"a": "1", "b": "x=y"}
    with pytest.raises(ParameterError, match="-p takes name=value; got 'passes'"):
        parse_parameters(["passes"])
