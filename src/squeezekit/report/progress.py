"""A bar for whatever takes longer than a glance: how far it is, how fast, and how long it will take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["progress_bar"]


@contextmanager
def progress_bar(description: str, console: Console | None = None) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on standard error, if that is a terminal, and take it away afterwards.

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
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(description, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
