"""A list of picture files that stays small: some tens of bytes a picture, and no Python object for any.

A data set of a million pictures costs a training run some 50 MB instead of several hundred. As NumPy arrays
are not reference-counted element by element, processes that were forked also go on sharing the pages.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["Listing", "ListingBuilder", "is_hidden", "is_picture_name", "picture_suffixes"]

#: Formats that Pillow only recognises, or hands to another program (EPS to Ghostscript).
NOT_DECODED = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})


@cache
def picture_suffixes() -> frozenset[str]:
    """Return the endings of all formats that Pillow decodes, such as ``.jpg``, plug-ins included."""
    known = Image.registered_extensions()
    return frozenset(s for s, kind in known.items() if kind in Image.OPEN and kind not in NOT_DECODED)


def is_picture_name(name: str) -> bool:
    """Tell by its ending whether a file is to be read as a picture."""
    dot = name.rfind(".")
    return dot > 0 and name[dot:].lower() in picture_suffixes()


def is_hidden(part: str) -> bool:
    """Tell whether a file or folder is one that systems leave behind, such as ``.DS_Store``."""
    return part.startswith(".") or part in ("__MACOSX", "@eaDir")


def encode(name: str) -> bytes:
    """Return the bytes of a file's name, also of one that is not valid UTF-8."""
    return name.encode("utf-8", "surrogateescape")


class Listing:
    """Files, each with the folder that it lies in and some numbers that its place needs to read it.

    Attributes
    ----------
    folders : list of str
        Relative to DATA; ``""`` is DATA itself. Also those in which no picture lies.
    folder : ndarray of int32, shape (N,)
        Which of `folders` each file lies in.
    columns : dict of ndarray, each of shape (N,)
    """

    def __init__(
        self,
        folders: list[str],
        folder: NDArray[np.int32],
        blob: bytes,
        ends: NDArray[Any],
        columns: dict[str, NDArray[Any]],
    ) -> None:
        self.folders, self.folder, self.columns = folders, folder, columns
        self._blob, self._ends = blob, ends

    def __len__(self) -> int:
        return len(self.folder)

    def name(self, row: int) -> bytes:
        """Return the name of a file within its folder."""
        return self._blob[int(self._ends[row - 1]) if row else 0 : int(self._ends[row])]

    def path(self, row: int) -> str:
        """Return the path of a file within DATA, as the file system spells it."""
        name = self.name(row).decode("utf-8", "surrogateescape")
        folder = self.folders[self.folder[row]]
        return f"{folder}/{name}" if folder else name

    def take(self, rows: NDArray[np.int64]) -> Listing:
        """Return the listing of some files, in the given order."""
        blob, ends = bytearray(), np.empty(len(rows), np.int64)
        for i, row in enumerate(rows.tolist()):
            blob += self.name(row)
            ends[i] = len(blob)
        columns = {key: column[rows] for key, column in self.columns.items()}
        return Listing(self.folders, self.folder[rows], bytes(blob), _narrow(ends), columns)

    @property
    def nbytes(self) -> int:
        """What the listing weighs in memory, in bytes."""
        arrays = (self.folder, self._ends, *self.columns.values())
        return len(self._blob) + sum(a.nbytes for a in arrays) + sum(len(f) + 60 for f in self.folders)


class ListingBuilder:
    """Collects files into a :class:`Listing`.

    Parameters
    ----------
    columns : dict of str to NumPy type
        The numbers that go with each file.
    """

    def __init__(self, columns: dict[str, type[np.generic]] | None = None) -> None:
        self._types = columns or {}
        self._folders: dict[str, int] = {}
        self._folder: list[NDArray[np.int32]] = []
        self._blob, self._ends = bytearray(), _Growing(np.int64)
        self._ids = _Growing(np.int32)
        self._columns = {key: _Growing(kind) for key, kind in self._types.items()}

    def folder(self, path: str) -> int:
        """Note a folder and all those above it; return its number."""
        found = self._folders.get(path)
        if found is None:
            if path:
                self.folder(path.rpartition("/")[0])
            found = self._folders[path] = len(self._folders)
        return found

    def add(self, folder: str, name: str, **numbers: int) -> None:
        """Note a picture."""
        self._ids.append(self.folder(folder))
        self._blob += encode(name)
        self._ends.append(len(self._blob))
        for key, column in self._columns.items():
            column.append(numbers[key])

    def build(self) -> Listing:
        """Return what was collected, in the order in which it came."""
        return Listing(
            list(self._folders),
            self._ids.array(),
            bytes(self._blob),
            _narrow(self._ends.array()),
            {key: column.array() for key, column in self._columns.items()},
        )


class _Growing:
    """A NumPy array that numbers are appended to."""

    def __init__(self, kind: type[np.generic]) -> None:
        self._data: NDArray[Any] = np.empty(256, kind)
        self._length = 0

    def append(self, number: int) -> None:
        if self._length == len(self._data):
            self._data = np.resize(self._data, 2 * self._length)
        self._data[self._length] = number
        self._length += 1

    def array(self) -> NDArray[Any]:
        return self._data[: self._length].copy()


def _narrow(ends: NDArray[Any]) -> NDArray[Any]:
    """Keep offsets in 4 bytes while they fit."""
    return ends.astype(np.uint32) if not len(ends) or int(ends[-1]) < 2**32 else ends


def in_order(paths: Iterable[str]) -> list[str]:
    """Sort paths in an order that no file system, archive or locale has a say in."""
    return sorted(paths, key=encode)
