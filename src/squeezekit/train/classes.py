"""The names of a model's classes, and which of them a folder of pictures means."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from squeezekit.errors import UserError

__all__ = ["Classes", "read_classes"]


@dataclass(frozen=True)
class Classes:
    """Class names in the order of the model's outputs.

    Attributes
    ----------
    names : tuple of str
    synsets : tuple of str, optional
        A second name for each class, such as WordNet's ``n01440764``; folders may be called by either.
    """

    names: tuple[str, ...]
    synsets: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def known(self) -> Classes | None:
        """Itself; None where the classes carry only their numbers (:func:`unnamed`)."""
        return None if self.names == unnamed(len(self)).names else self

    def match(self, folders: Sequence[str], where: str) -> NDArray[np.int64]:
        """Return, for each folder name, the index of the class that it means.

        A name or a synset counts as written, then regardless of case. A name that several classes carry
        ("crane", the bird and the machine) means none of them.

        Raises
        ------
        UserError
            Lists the folders that the model has no class for.
        """
        exact: dict[str, int | None] = {}
        loose: dict[str, int | None] = {}
        for spelling in (self.synsets or (), self.names):
            for index, name in enumerate(spelling):
                for table, key in ((exact, name), (loose, name.casefold())):
                    table[key] = index if table.get(key, index) == index else None
        found = [exact.get(f, loose.get(f.casefold())) for f in folders]
        unknown = [f for f, index in zip(folders, found, strict=True) if index is None]
        if unknown:
            shown = ", ".join(unknown[:5]) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
            known = ", ".join(self.names[:5]) + (", …" if len(self) > 5 else "")
            what = "folder" if len(unknown) == 1 else "folders"
            raise UserError(
                f"{where}: the model has no class for {len(unknown)} {what}: {shown} "
                f"(its {len(self)} classes are {known}; --classes FILE.csv names them otherwise)"
            )
        return np.array(found, dtype=np.int64)


def unnamed(count: int) -> Classes:
    """Return classes that carry only their numbers, for a weight file that has no names."""
    return Classes(tuple(f"class {i}" for i in range(count)))


def read_classes(path: str | Path, count: int | None = None) -> Classes:
    """Read a table of classes: CSV with the columns ``index``, ``name`` and optionally ``synset``.

    Parameters
    ----------
    path : str or Path
    count : int, optional
        How many classes the model has; another number is an error.

    Raises
    ------
    UserError
        The file is missing, is no such table, or does not number the classes 0, 1, 2, …
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a CSV table in UTF-8 ({error})") from error
    if not rows or not {"index", "name"} <= set(rows[0]):
        raise UserError(
            f"{path}: not a table of classes (expected columns index, name and optionally synset)"
        )
    try:
        rows.sort(key=lambda row: int(row["index"]))
        indices = [int(row["index"]) for row in rows]
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: an index is not a number ({error})") from error
    if indices != list(range(len(rows))):
        raise UserError(f"{path}: the indices are not 0 to {len(rows) - 1}, each once")
    if any(not row["name"] for row in rows):
        raise UserError(f"{path}: a class has no name")
    if count is not None and count != len(rows):
        raise UserError(f"{path}: names {len(rows)} classes, but the model has {count}")
    synsets = tuple(row["synset"] or "" for row in rows) if "synset" in rows[0] else None
    return Classes(tuple(row["name"] for row in rows), synsets)
