"""A bar for whatever takes longer than a glance: how far it is, how fast, and how long it will take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["progress_bar"]

#: Seconds between two lines where there is no terminal to draw a bar on: a log that says nothing for an hour
#: cannot be told from one of a program that hangs.
EVERY = 60.0


@contextmanager
def progress_bar(description: str, console: Console | None = None) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on standard error and take it away afterwards; where it is no terminal, a line a minute.

    Parameters
    ----------
    description
        What is being done.
    console
        In place of standard error.

    Yields
    ------
    callable
        To be called with (steps done, steps in all).

    Examples
    --------
    >>> with progress_bar("reading") as advance:
    ...     for i in range(3):
    ...         advance(i + 1, 3)
    """
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield _lines(description, console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(description, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _lines(description: str, console: Console) -> Callable[[int, int], None]:
    started = said = time.monotonic()

    def advance(done: int, total: int) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said < EVERY or not 0 < done < total:
            return
        said = now
        left = timedelta(seconds=round((now - started) * (total - done) / done))
        line = f"{description}: {done:,} of {total:,}, about {left} left"
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    return advance
