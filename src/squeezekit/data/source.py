"""DATA: an image folder, a .zip or .tar of one (read in place), shards, or the name of an embedded set.

>>> pictures = open_pictures("digits")
>>> len(pictures), pictures.classes[:3], pictures.picture_name(0)
(1797, ('0', '1', '2'), '0/0000.png')
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from squeezekit.data.archives import open_archive
from squeezekit.data.embedded import EMBEDDED, EmbeddedPlace
from squeezekit.data.folders import FolderPlace
from squeezekit.data.layout import understand
from squeezekit.data.listing import Listing, picture_suffixes
from squeezekit.data.shard_index import is_shards
from squeezekit.errors import UserError, suggest

__all__ = ["SUFFIXES", "PictureSet", "open_pictures"]

#: Endings of the files that are read as pictures: ``.jpg``, ``.png`` and all others that Pillow decodes.
SUFFIXES = picture_suffixes()


class Place(Protocol):
    """Where pictures lie: finds them, and reads them one by one. Can be pickled, for worker processes."""

    may_be_wrapped: bool

    def find(self) -> Listing:
        """Find all pictures."""
        ...

    def read(self, listing: Listing, row: int) -> bytes:
        """Return one file's bytes. Safe with threads and after a fork."""
        ...

    def size(self, listing: Listing, row: int) -> int:
        """Return about how many bytes reading it takes."""
        ...


class PictureSet:
    """The labelled pictures of a data set; their bytes stay where they are until they are read.

    Attributes
    ----------
    name : str
        What the user called it.
    classes : tuple of str
        Names of the class folders, sorted.
    labels : ndarray of int32, shape (N,)
        Index into `classes`.
    splits : dict of str to ndarray of int64
        Positions of the pictures of ``"train"``, ``"val"``, ``"test"``: those that the folders give, or none.

    Notes
    -----
    The pictures are in the same order on every machine, in a folder and in an archive of it: by split, class
    and name. All is held in NumPy arrays, some tens of bytes a picture, and can be pickled.
    """

    def __init__(
        self,
        name: str,
        classes: tuple[str, ...],
        labels: NDArray[np.int32],
        splits: dict[str, NDArray[np.int64]],
        place: Place,
        listing: Listing,
        prefix: str = "",
    ) -> None:
        self.name, self.classes, self.labels, self.splits = name, classes, labels, splits
        self._place, self._listing, self._prefix = place, listing, prefix

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"PictureSet({self.name!r}, {len(self)} pictures, {len(self.classes)} classes)"

    def picture_name(self, i: int) -> str:
        """Return the name of picture `i` within DATA: ``CLASS/file.jpg`` or ``train/CLASS/file.jpg``."""
        path = self._listing.path(i).removeprefix(self._prefix)
        return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")

    def read(self, i: int) -> bytes:
        """Return the file of picture `i`. Safe with threads and after a fork.

        Raises
        ------
        PictureError
            It cannot be read.
        """
        return self._place.read(self._listing, i)

    def size(self, i: int) -> int:
        """Return the length of picture `i`'s file in bytes (0 if it is gone)."""
        return self._place.size(self._listing, i)

    def subset(self, indices: NDArray[np.integer]) -> PictureSet:
        """Return the set of some of the pictures, with the splits that remain.

        Parameters
        ----------
        indices : ndarray of int, shape (M,)
            Each at most once.
        """
        rows = np.asarray(indices, np.int64)
        place = np.full(len(self), -1, np.int64)
        place[rows] = np.arange(len(rows))
        splits = {}
        for split, members in self.splits.items():
            kept = place[members]
            splits[split] = np.sort(kept[kept >= 0])
        return PictureSet(
            self.name,
            self.classes,
            self.labels[rows],
            splits,
            self._place,
            self._listing.take(rows),
            self._prefix,
        )

    @property
    def nbytes(self) -> int:
        """What the index weighs in memory, in bytes."""
        return self._listing.nbytes + self.labels.nbytes + sum(s.nbytes for s in self.splits.values())


def open_pictures(
    data: str | Path,
    *,
    min_classes: int = 2,
    labelled: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> PictureSet:
    """Find the pictures of DATA.

    Parameters
    ----------
    data : str or Path
        A folder ``CLASS/*.jpg`` or ``train/ val/ test/`` of these (``validation``, ``valid`` also), a
        ``.zip`` or ``.tar`` of one, shards (a folder, a URL or a pattern:
        :func:`squeezekit.data.shards.open_shards`), or ``"digits"``. The embedded name wins over a folder of
        that name: write ``./digits``.
    min_classes : int
        1 lets a single class pass, for evaluation.
    labelled : bool
        False lets pictures pass that lie in a folder or an archive without any class folders: they are of one
        class without a name.
    progress : callable, optional
        Called with (shards done, shards in all) where shards without an index must be looked through.

    Raises
    ------
    UserError
        Nothing is there, it is no archive, it holds no pictures, or its folders make no sense as classes.
    """
    path = Path(data)
    place: Place
    name = str(data)
    if name in EMBEDDED:
        place = EmbeddedPlace(name)
    elif is_shards(name):
        from squeezekit.data.shards import open_shards  # which knows this module

        return open_shards(name, min_classes=min_classes, progress=progress)
    elif path.is_dir():
        place = FolderPlace(path)
    elif path.is_file():
        place = open_archive(path)
    elif path.exists():
        raise UserError(f"{data}: neither a folder nor a file")
    else:
        raise UserError(
            f"{data}: no such folder or archive{suggest(name, EMBEDDED)} "
            f"(embedded sets: {', '.join(EMBEDDED)})"
        )
    listing = place.find()
    layout = understand(
        listing, name, may_be_wrapped=place.may_be_wrapped, min_classes=min_classes, labelled=labelled
    )
    return PictureSet(
        name, layout.classes, layout.labels, layout.splits, place, listing.take(layout.rows), layout.prefix
    )
