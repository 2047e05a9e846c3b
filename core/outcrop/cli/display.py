"""What the command line shows: tables, JSON, and the progress of long work."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from outcrop.progress import Advance

_LOG_INTERVAL = 10.0


def show_table(rows: Sequence[dict[str, Any]], columns: dict[str, str], *, title: str = "") -> None:
    """Print rows as a table; ``columns`` maps keys to headings, and decides the order."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for key, heading in columns.items():
        numeric = bool(rows) and all(isinstance(row.get(key), int | float) for row in rows)
        table.add_column(heading, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(key)) for key in columns))
    # A pipe has no width of its own: do not fold what a program or a file will read.
    Console(width=None if sys.stdout.isatty() else 200, highlight=False).print(table)


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
    """Return a rate as people read it: slow work in seconds a step."""
    return f"{rate:.0f} {unit}/s" if rate >= 1 else f"{1 / rate:.1f} s a step"


@contextmanager
def progress(description: str, total: int, *, unit: str = "samples") -> Iterator[Advance]:
    """Show a bar with rate and time left on a terminal, and a line every ten seconds elsewhere."""
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
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(compact=True),
    )
    started = time.perf_counter()
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(description, total=total, rate="")
        done = 0

        def advance(steps: int) -> None:
            nonlocal done
            done += steps
            shown.update(task, advance=steps, rate=rate_text(done / (time.perf_counter() - started), unit))

        yield advance


@contextmanager
def _lines(description: str, total: int, unit: str) -> Iterator[Advance]:
    started = said = time.perf_counter()
    done = 0

    def advance(steps: int) -> None:
        nonlocal done, said
        done += steps
        now = time.perf_counter()
        if now - said >= _LOG_INTERVAL and done < total:
            rate = done / (now - started)
            left = f"{(total - done) / rate:.0f} s left"
            click.echo(f"{description}: {done}/{total} {unit}, {rate_text(rate, unit)}, {left}", err=True)
            said = now

    yield advance


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
