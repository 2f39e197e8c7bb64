"""What a command prints, and where: results on standard output, what is said meanwhile on standard error.

So ``squeezekit evaluate ... --json | jq .top1`` always reads one JSON value and nothing else.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from squeezekit.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

__all__ = [
    "check_plot",
    "goes_on",
    "note",
    "only_json",
    "plain",
    "print_json",
    "progress",
    "results",
    "save_figure",
    "warn",
]


def plain(value: Any) -> Any:
    """Turn a result into what JSON can say.

    Dataclasses become objects, NumPy and torch scalars numbers, arrays and tensors lists, paths strings. NaN
    and infinities become ``null``: JSON has no word for them, and a reader would stop at them.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):  # NumPy and torch, without importing either
        return plain(value.tolist())
    raise TypeError(f"{type(value).__name__} has no place in JSON")


def print_json(value: Any) -> None:
    """Print one JSON value on standard output.

    Parameters
    ----------
    value
        Anything :func:`plain` understands.
    """
    text = json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False)
    # A terminal or pipe that is not UTF-8 still gets valid JSON: \u escapes say the same.
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(plain(value), indent=2, allow_nan=False)
    sys.stdout.write(text + "\n")


@contextlib.contextmanager
def only_json(wanted: bool) -> Iterator[None]:
    """Keep standard output for the JSON value alone: what libraries print inside goes to standard error.

    Parameters
    ----------
    wanted
        The command's ``--json``; where it is false, nothing changes.
    """
    if not wanted:
        yield
        return
    with contextlib.redirect_stdout(sys.stderr):
        yield


@contextlib.contextmanager
def goes_on(state: Path) -> Iterator[None]:
    """Say of work that is interrupted where its results so far are, if `state`, their file, is there."""
    try:
        yield
    except KeyboardInterrupt:
        if state.exists():
            note(f"stopped; what is done is in {state.parent} (the same command goes on)")
        raise


def results() -> Console:
    """Return the console for results: tables and figures, on standard output.

    In a pipe or a file a table is not cut to a screen's width.
    """
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=160)


def progress(title: str) -> AbstractContextManager[Callable[[int, int], None]]:
    """Show a bar on standard error while a block runs; nothing where that is no terminal.

    Parameters
    ----------
    title
        What is being done: ``"evaluating"``.

    Returns
    -------
    context manager
        Gives ``advance(done, total)``, to be called as the work goes on.
    """
    from squeezekit.report.progress import progress_bar  # loads Rich, which --help need not wait for

    return progress_bar(title)


def check_plot(path: Path | None) -> None:
    """Complain of a ``--plot`` that no picture can be written to, before any work is done.

    Raises
    ------
    UserError
        Its name ends otherwise than a picture's.
    """
    if path is not None and path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise UserError(f"--plot {path}: a picture's name ends in .png, .svg or .pdf")


def save_figure(path: Path, figure: Figure) -> None:
    """Write a figure as the picture that its name's suffix says.

    Raises
    ------
    UserError
        It cannot be written there.
    """
    from squeezekit.files import write_atomically

    try:
        with write_atomically(path) as temporary:
            figure.savefig(temporary, dpi=160)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error


def note(text: str) -> None:
    """Say something along the way, as plain text on standard error."""
    sys.stderr.write(text + "\n")


def warn(text: str) -> None:
    """Say on standard error that something was not as it should be, though the work goes on."""
    note(f"warning: {text}")
