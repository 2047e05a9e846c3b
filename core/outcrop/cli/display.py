"""What the command line shows: tables, JSON, and the progress of long work."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from outcrop.progress import Advance

_FIRST_LINE, _LOG_INTERVAL = 2.0, 10.0
_PIPE_WIDTH = 10_000
"""A pipe has no width of its own; what a program or a file will read is not folded."""


def show_table(rows: Sequence[dict[str, Any]], columns: dict[str, str], *, title: str = "") -> None:
    """Print rows as a table; ``columns`` maps keys to headings, and decides the order."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # Text, for names may hold what rich would read as markup: layer[conv].
    table = Table(
        title=Text(title) if title else None, title_justify="left", header_style="bold", box=None, pad_edge=False
    )
    for key, heading in columns.items():
        numeric = bool(rows) and all(isinstance(row.get(key), int | float) for row in rows)
        table.add_column(Text(heading), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(row.get(key))) for key in columns))
    Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False).print(table)


def show_json(value: Any) -> None:
    """Print a value as JSON; what JSON does not know (NaN, infinity) becomes null."""
    click.echo(json.dumps(_plain(value), indent=2, allow_nan=False))


def size_text(size: float) -> str:
    """Return a number of bytes as people read it."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def rate_text(rate: float, unit: str) -> str:
    """Return a rate as people read it: slow work in seconds a step, and nothing where nothing is done yet."""
    if rate <= 0:
        return ""
    return f"{rate:.0f} {unit}/s" if rate >= 1 else f"{1 / rate:.1f} s a step"


@contextmanager
def progress(description: str, total: int, *, unit: str = "samples") -> Iterator[Advance]:
    """Show a bar with rate and time left on a terminal, and a line after two seconds and then every ten elsewhere."""
    if sys.stderr.isatty():
        with _bar(description, total, unit) as advance:
            yield advance
    else:
        with _lines(description, total, unit) as advance:
            yield advance


@contextmanager
def _bar(description: str, total: int, unit: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(compact=True),
    )
    started = time.perf_counter()
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(description, total=total, rate="")
        done = 0

        def advance(steps: int) -> None:
            nonlocal done
            done += steps
            shown.update(task, advance=steps, rate=rate_text(_rate(done, started, time.perf_counter()), unit))

        yield advance


@contextmanager
def _lines(description: str, total: int, unit: str) -> Iterator[Advance]:
    started = time.perf_counter()
    due = started + _FIRST_LINE
    done = 0

    def advance(steps: int) -> None:
        nonlocal done, due
        done += steps
        now = time.perf_counter()
        if now >= due and done < total:
            rate = _rate(done, started, now)
            left = [rate_text(rate, unit), f"{(total - done) / rate:.0f} s left"] if rate else []
            click.echo(", ".join([f"{description}: {done}/{total} {unit}", *left]), err=True)
            due = now + _LOG_INTERVAL

    yield advance


def _rate(done: int, started: float, now: float) -> float:
    """Return steps a second; 0 before the clock has moved."""
    return done / (now - started) if now > started else 0.0


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return "-" if value != value else f"{value:.3f}"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value
