"""What commands print: results to stdout, progress and notes to stderr. Both can be piped."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

Show = Callable[[int, int, str], None]
"""Called as show(done, total, what is being done)."""
COLUMN_GAP = 2
LINE_SECONDS = 5.0
"""How often progress is told where there is no terminal."""
PIPE_WIDTH = 200
"""Width of a table, in characters, where stdout is not a terminal."""


def out() -> Console:
    """The console for results. A new one for each use, so that it follows a redirected stdout."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)


def err() -> Console:
    """The console for progress and notes."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_result(value: Any, as_json: bool, said: str) -> None:
    """What a command did: as JSON, or in a sentence."""
    if as_json:
        print_json(value)
    else:
        out().print(said, markup=False)


def print_json(value: Any) -> None:
    """Print one JSON document to stdout."""
    print(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """A table without lines; the columns in `right` are right-aligned."""
    made = Table(box=None, header_style="bold", padding=(0, COLUMN_GAP, 0, 0), pad_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


class RateColumn(ProgressColumn):
    """Items per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s", style="progress.data.speed")


def progress(console: Console | None = None) -> Progress:
    """A progress bar with counts, rate and time left, on stderr. Without a terminal it prints only its last state."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(compact=True),
        console=console or err(),
    )


@contextmanager
def shown_progress(
    label: str, bar: Callable[[], Progress] = progress
) -> Iterator[Callable[[int, int | None, str], None]]:
    """A progress bar on a terminal, else a line every few seconds. Yields show(done, total, what is being done)."""
    if err().is_terminal:
        with bar() as shown:
            task = shown.add_task(label, total=None)
            yield lambda done, total, label: shown.update(task, completed=done, total=total, description=label)
        return
    last = time.monotonic()

    def show(done: int, total: int | None, label: str) -> None:
        nonlocal last
        if (now := time.monotonic()) - last >= LINE_SECONDS:
            last = now
            err().print(f"{label}: {done:,}" + (f" of {total:,} ({100 * done // total} %)" if total else ""))

    yield show


@contextmanager
def counted_progress(label: str) -> Iterator[Show]:
    """A progress bar on stderr; without a terminal a line for each step. Yields the function that updates it:
    show(done, total, what is being done)."""
    if not err().is_terminal:
        yield lambda done, total, label: err().print(f"{done} of {total}: {label}", markup=False)
        return
    with progress() as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total, label: bar.update(task, completed=done, total=total, description=label)


def bytes_progress(console: Console | None = None) -> Progress:
    """A progress bar for bytes that are read, sent or downloaded."""
    from rich.progress import DownloadColumn, TransferSpeedColumn

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(compact=True),
        console=console or err(),
    )
