"""Pictures in a folder of the file system."""

from __future__ import annotations

import os
from pathlib import Path

from squeezekit.data.listing import Listing, ListingBuilder, is_hidden, is_picture_name
from squeezekit.data.picture import read_file
from squeezekit.errors import UserError

__all__ = ["FolderPlace"]

#: Identity of a real folder, however many links lead to it.
_Identity = tuple[int, int]
#: Folders deeper than this below DATA are not entered.
_DEEPEST = 64


class FolderPlace:
    """A folder whose subfolders hold pictures.

    Symbolic links are followed. A link that leads back to a folder above it is not entered, and within one
    ``CLASS/`` or ``train/CLASS/`` each real folder is entered once, so that no knot of links goes on for
    ever.
    """

    may_be_wrapped = False

    def __init__(self, root: Path) -> None:
        self.root = str(root)

    def find(self) -> Listing:
        """Find the pictures."""
        builder = ListingBuilder()
        try:
            self._walk(builder, "", [_identity(self.root)], set())
        except OSError as error:
            raise UserError(f"{error.filename or self.root}: cannot be read ({error.strerror})") from error
        return builder.build()

    def _walk(
        self, builder: ListingBuilder, folder: str, above: list[_Identity], entered: set[_Identity]
    ) -> None:
        builder.folder(folder)
        inside: list[str] = []
        with os.scandir(os.path.join(self.root, folder) if folder else self.root) as entries:  # noqa: PTH118
            for entry in entries:
                if is_hidden(entry.name):
                    continue
                if _is_folder(entry):
                    inside.append(entry.name)
                # A link to nothing is a picture that cannot be read, and is reported as one. Pipes and
                # devices are no files: opening one might never return.
                elif is_picture_name(entry.name) and (_leads_nowhere(entry) or entry.is_file()):
                    builder.add(folder, entry.name)
        for name in sorted(inside) if len(above) <= _DEEPEST else ():
            path = f"{folder}/{name}" if folder else name
            identity = _identity(os.path.join(self.root, path))  # noqa: PTH118
            if identity in above:
                continue
            if len(above) <= 2:
                # DATA/x and DATA/x/y: classes may share a real folder with those of another split.
                self._walk(builder, path, [*above, identity], {identity})
            elif identity not in entered:
                entered.add(identity)
                self._walk(builder, path, [*above, identity], entered)

    def read(self, listing: Listing, row: int) -> bytes:
        """Return a file's bytes."""
        path = listing.path(row)
        return read_file(os.path.join(self.root, path), path)  # noqa: PTH118

    def size(self, listing: Listing, row: int) -> int:
        """Return a file's length in bytes, 0 where it is not there."""
        try:
            return os.stat(os.path.join(self.root, listing.path(row))).st_size  # noqa: PTH116, PTH118
        except OSError:
            return 0


def _identity(path: str) -> _Identity:
    status = os.stat(path)  # noqa: PTH116
    return status.st_dev, status.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _leads_nowhere(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() and not os.path.exists(entry.path)  # noqa: PTH110
