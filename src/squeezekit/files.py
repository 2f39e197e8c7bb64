"""Files that are either whole or not there: results are written beside their place and then moved into it."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from squeezekit.errors import UserError

__all__ = ["write_atomically", "write_bytes"]


@contextlib.contextmanager
def write_atomically(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary place to write to; its file takes the place of `path` when the block ends well.

    The temporary file lies in the same folder (a rename is atomic only within one file system), carries the
    same suffix (many writers choose the format by it), and is flushed to the disk before the rename, so that
    neither a kill nor a power cut leaves half a file under `path`. After an error it is removed and `path` is
    as before.

    Parameters
    ----------
    path
        Where the finished file shall be. Its folder must exist. A symbolic link is followed, not replaced.

    Yields
    ------
    pathlib.Path
        The temporary file: it exists, empty, with the permissions an ordinary new file gets.

    Raises
    ------
    OSError
        The folder does not exist or cannot be written, or the disk is full.

    Examples
    --------
    >>> with write_atomically("labels.txt") as temporary:  # doctest: +SKIP
    ...     temporary.write_text("cat")
    """
    final = Path(os.path.realpath(path))
    temporary = final.with_name(f".{final.stem[:100]}.{secrets.token_hex(8)}{final.suffix}")
    # Made here, exclusively, so that a missing folder is reported before any work is spent on the content.
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(final)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file that a user asked for, whole or not at all.

    Raises
    ------
    UserError
        It cannot be written.
    """
    try:
        with write_atomically(path) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise UserError(f"{Path(path)}: cannot be written ({error.strerror})") from error
