"""Files on this machine or behind any URL that fsspec knows: patterns of many, and pieces of one.

Local paths never load fsspec. Every read opens and closes its file: nothing is shared among threads, nor
with processes that are forked.
"""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from squeezekit.errors import UserError

__all__ = ["base", "exists", "is_pattern", "is_url", "join", "open_file", "read", "resolve", "size"]

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
#: A pattern of more files is a slip of the pen.
_MOST = 10_000_000


def is_url(name: str) -> bool:
    """Tell ``s3://bucket/…`` from a path."""
    return "://" in name or "::" in name


def is_pattern(name: str) -> bool:
    """Tell whether a name stands for several files."""
    return bool(_BRACES.search(name)) or any(c in name for c in "*?[")


def resolve(pattern: str) -> list[str]:
    """Return the files that a pattern names, in its own order.

    Parameters
    ----------
    pattern : str
        With ``{000000..000127}``, ``{train,val}`` and the wildcards ``*``, ``?``, ``[…]``; those that a
        wildcard finds are sorted.

    Raises
    ------
    UserError
        A range that runs backwards, or a wildcard that finds nothing.
    """
    if os.path.exists(pattern):  # noqa: PTH110 (a name with a bracket in it)
        return [pattern]
    found = []
    for each in _braces(pattern):
        if not any(c in each for c in "*?["):
            found.append(each)
            continue
        matches = sorted(_glob(each))
        if not matches:
            raise UserError(f"{each}: no such files")
        found += matches
    return found


def _braces(pattern: str) -> list[str]:
    choices: list[list[str]] = []
    literal = _BRACES.split(pattern)
    for i, part in enumerate(literal):
        choices.append([part] if i % 2 == 0 else _choices(part, pattern))
    count = 1
    for each in choices:
        count *= len(each)
    if count > _MOST:
        raise UserError(f"{pattern}: names {count:,} files (is a digit too many in its braces?)")
    return ["".join(parts) for parts in itertools.product(*choices)]


def _choices(inside: str, pattern: str) -> list[str]:
    numbers = _RANGE.fullmatch(inside)
    if not numbers:
        return inside.split(",")
    first, last = numbers.groups()
    if int(last) < int(first):
        raise UserError(f"{pattern}: {{{inside}}} runs backwards")
    if int(last) - int(first) > _MOST:
        raise UserError(f"{pattern}: {{{inside}}} names {int(last) - int(first):,} files")
    return [str(n).zfill(len(first)) for n in range(int(first), int(last) + 1)]


def _glob(pattern: str) -> Iterator[str]:
    if not is_url(pattern):
        yield from glob.glob(pattern)  # noqa: PTH207 (the pattern as the user wrote it)
        return
    with _Telling(pattern):
        system, path = _system(pattern)
        found = [str(system.unstrip_protocol(each)) for each in system.glob(path)]
    yield from found


def base(path: str) -> tuple[str, str]:
    """Split a path or URL into its folder and its name."""
    folder, slash, name = path.rpartition("/")
    return folder if slash else "", name


def join(folder: str, name: str) -> str:
    """Return a file of a folder; a name that is a URL or absolute stays as it is."""
    if not folder or is_url(name) or PurePosixPath(name).is_absolute():
        return name
    return f"{folder.rstrip('/')}/{name}"


def exists(path: str) -> bool:
    """Return whether a file is there.

    Raises
    ------
    UserError
        Its place cannot be reached.
    """
    if not is_url(path):
        return Path(path).is_file()
    with _Telling(path):
        system, inside = _system(path)
        return bool(system.isfile(inside))


def size(path: str) -> int:
    """Return a file's length in bytes.

    Raises
    ------
    UserError
        It is not there, or does not tell.
    """
    with _Telling(path):
        if not is_url(path):
            return Path(path).stat().st_size
        system, inside = _system(path)
        length = system.size(inside)
    if length is None:
        raise UserError(f"{path}: its server does not tell how long it is")
    return int(length)


def read(path: str, start: int = 0, length: int | None = None) -> bytes:
    """Return a file, or the piece of `length` bytes from `start` on (less where it ends before).

    Raises
    ------
    UserError
        It cannot be read.
    """
    with _Telling(path):
        if not is_url(path):
            with open(path, "rb", buffering=0) as file:  # noqa: PTH123
                if length is None:
                    return file.readall()
                file.seek(start)
                return _whole(file, length)
        system, inside = _system(path)
        piece = {} if length is None else {"start": start, "end": start + length}
        return bytes(system.cat_file(inside, **piece))


def _whole(file: Any, length: int) -> bytes:
    data: bytes = file.read(length) or b""
    while len(data) < length and (more := file.read(length - len(data))):  # a network file system gives less
        data += more
    return data


def open_file(path: str) -> BinaryIO:
    """Open a file to be read from any place on.

    Raises
    ------
    UserError
        It cannot be opened.
    """
    with _Telling(path):
        if not is_url(path):
            return open(path, "rb")  # noqa: PTH123
        system, inside = _system(path)
        opened: BinaryIO = system.open(inside, "rb")
        return opened


def _system(url: str) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise UserError(f"{url}: URLs need fsspec (pip install fsspec)") from None
    system, path = url_to_fs(url)
    return system, path


#: Errors of a place that was reached.
_OF_THE_FILE = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)


def _cause(error: Exception) -> Exception:
    """Return what is behind a missing file: fsspec takes any that it cannot ask about for missing."""
    behind = error.__cause__ if isinstance(error, FileNotFoundError) else None
    return behind if isinstance(behind, Exception) and getattr(behind, "status", None) != 404 else error


def _network(error: OSError) -> str:
    """Say in the system's own words why a server was not reached."""
    if error.errno is not None and error.errno > 0:  # those below are of name servers
        return os.strerror(error.errno).lower()
    return (error.strerror or str(error) or "no answer in time").splitlines()[0]


class _Telling:
    """Turns whatever a file system raises into one line."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is None or isinstance(error, UserError) or not isinstance(error, Exception):
            return
        if is_url(self.path):
            error = _cause(error)
            if isinstance(error, OSError) and not isinstance(error, _OF_THE_FILE):
                raise UserError(
                    f"{self.path}: cannot be reached ({_network(error)}; check the address and the network, "
                    "then start the same command again)"
                ) from error
        if isinstance(error, FileNotFoundError):
            raise UserError(f"{self.path}: no such file") from error
        reason = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
        raise UserError(f"{self.path}: cannot be read ({str(reason).splitlines()[0]})") from error
