"""What a command shows: answers on stdout; notes and progress on stderr."""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson
from rich.console import Console

from lavise.progress import Track

T = TypeVar("T")
_PIPE_WIDTH: Final = 200
"""Columns where nobody looks: lines stay whole for grep."""
_LINE_EVERY_S: Final = 10.0
"""Between two lines of progress where stderr is no terminal."""
# Words, labels and file names come from elsewhere: none of them is markup.
_PLAIN: Final = {"markup": False, "emoji": False, "highlight": False}


def answers() -> Console:
    """Where answers go: stdout."""
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    return Console(width=width, **_PLAIN)  # type: ignore[arg-type]


def notes() -> Console:
    """Where everything else goes: stderr."""
    return Console(stderr=True, soft_wrap=True, **_PLAIN)  # type: ignore[arg-type]


def print_json(document: Any) -> None:  # noqa: ANN401 - any JSON
    """Prints one JSON document on stdout.

    Args:
        document: What orjson can write.
    """
    sys.stdout.write(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n")
    sys.stdout.flush()


def shown(text: str | Path) -> str:
    """A name that any terminal and any JSON reader takes.

    Args:
        text: A name from outside, such as a file's.

    Returns:
        The name with everything unprintable replaced: escape sequences, broken UTF-8.
    """
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))


@contextmanager
def progress(console: Console) -> Iterator[Track]:
    """Shows long work on stderr: bars with the time left, or a line now and then in a log.

    Args:
        console: From notes(); what it prints meanwhile appears above the bars.

    Yields:
        What library calls take as ``track``.
    """
    if not console.is_terminal:
        yield _LinesOfProgress(console)
        return
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
        TextColumn("time"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:

        def track(items: Iterable[T], description: str, total: int | None = None) -> Iterable[T]:
            task = bars.add_task(description, total=total)
            for item in items:
                yield item
                bars.advance(task)

        yield track


class _LinesOfProgress:
    """A Track for a log file.

    Args:
        console: Where the lines go.
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    def __call__(
        self, items: Iterable[T], description: str, total: int | None = None
    ) -> Iterable[T]:
        """Gives the items back; says how far it is every ten seconds."""
        start = last = time.monotonic()
        for done, item in enumerate(items, start=1):
            yield item
            now = time.monotonic()
            if now - last >= _LINE_EVERY_S:
                last = now
                self._console.print(_line(description, done, total, now - start))


def _line(description: str, done: int, total: int | None, seconds: float) -> str:
    if total is None:
        return f"{description}: {done} in {seconds:.0f} s"
    left = seconds / done * (total - done)
    return f"{description}: {done} of {total}, about {left:.0f} s left"


@contextmanager
def waiting(console: Console, description: str) -> Iterator[None]:
    """Shows that something is waited for, and for how long already.

    Args:
        console: From notes().
        description: What is waited for.
    """
    if not console.is_terminal:
        console.print(description)
        yield
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        bars.add_task(description, total=None)
        yield
