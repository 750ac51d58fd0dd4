"""What people see: lines and progress on stderr, so that stdout stays free for results and JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from vidprism_edge.errors import UsageError


def say(line: str) -> None:
    """Print one line for people on stderr."""
    from rich.console import Console

    Console(stderr=True, highlight=False, soft_wrap=True).print(line, markup=False)


def print_table(table: Any, *notes: str) -> None:
    """Print a table and the lines below it on stdout; where that is no terminal, nothing is cut to its width."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=200)
    console.print(table)
    for note in notes:
        console.print(note, markup=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print one JSON object on stdout and flush it, so that a reader of a pipe gets it at once."""
    print(msgspec.json.encode(value).decode(), flush=True)


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[str, int, int], None]]:
    """Give a function (what, done, total) that moves a progress bar on stderr; nothing is shown but in a terminal."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=None)

        def move(what: str, done: int, total: int) -> None:
            bar.update(task, description=f"{title}: {what}", completed=done, total=total)

        yield move


def check_file(path: Path | None) -> None:
    """Refuse a file to be written whose folder is not there, or that is a folder, before the work begins."""
    if path is None:
        return
    if not path.absolute().parent.is_dir():
        raise UsageError(
            f"cannot write {path}: the folder {path.absolute().parent} does not exist; make it first"
        )
    if path.is_dir():
        raise UsageError(f"cannot write {path}: it is a folder; expected the name of a file")


def choose(flag: str, given: str, known: Sequence[str]) -> Any:
    """Return ``given`` if it is known; otherwise raise a usage error that lists what is."""
    if given not in known:
        raise UsageError(f"--{flag} is {given!r}; expected {' or '.join(known)}")
    return given
