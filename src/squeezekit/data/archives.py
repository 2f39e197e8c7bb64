"""Pictures in a .zip or .tar, read in place: an index of offsets, and one ``pread`` a picture.

``pread`` has no position to share, so threads and forked processes read through one file descriptor at once.
The formats: PKWARE's APPNOTE.TXT 6.3.10 (sections 4.3 and 4.5), POSIX.1-2001 pax and GNU tar.
"""

from __future__ import annotations

import os
import stat
import struct
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from squeezekit.data.listing import Listing, ListingBuilder, is_hidden, is_picture_name
from squeezekit.data.picture import MAX_BYTES, PictureError
from squeezekit.errors import UserError

__all__ = ["ArchivePlace", "open_archive"]

_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_STORED, _DEFLATED = 0, 8
#: tarfile meets damage with more than its own errors.
_TAR_ERRORS = (
    tarfile.TarError,
    OSError,
    ValueError,
    ArithmeticError,
    LookupError,
    EOFError,
    RecursionError,
    MemoryError,
)
_UNPACK = {"gzip": "gunzip", "bzip2": "bunzip2", "xz": "unxz", "zstd": "unzstd"}


@dataclass(frozen=True)
class _Member:
    """What an archive says of one of its files."""

    name: str
    offset: int = 0  # in a zip: of the local header; in a tar: of the data
    stored: int = 0  # bytes in the archive
    size: int = 0  # bytes after decompression
    method: int = _STORED
    crc: int = 0
    is_folder: bool = False
    target: str | None = None  # of a link
    from_root: bool = False  # a tar's hard link, whose target counts from the archive's root


class ArchivePlace:
    """A .zip or .tar file of pictures."""

    may_be_wrapped = True

    def __init__(self, path: Path, kind: str) -> None:
        self.path, self.kind = str(path), kind
        self._file = os.open(self.path, os.O_RDONLY)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "kind": self.kind}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.path, self.kind = state["path"], state["kind"]
        self._file = os.open(self.path, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)

    def find(self) -> Listing:
        """Read the archive's directory.

        Raises
        ------
        UserError
            The archive is damaged, encrypted, compressed in a way that is not read, or holds a member or a
            link that points outside it.
        """
        numbers: dict[str, type[np.generic]] = {"offset": np.int64, "stored": np.uint32}
        if self.kind == "zip":
            numbers |= {"size": np.uint32, "method": np.uint8, "crc": np.uint32}
        builder = ListingBuilder(numbers)
        links: list[tuple[str, str]] = []
        for member in _zip_members(self._file, self.path) if self.kind == "zip" else _tar_members(self.path):
            path = _inside(self.path, member.name)
            folder, _, name = path.rpartition("/")
            if not path or any(is_hidden(part) for part in path.split("/")):
                continue
            if member.is_folder:
                builder.folder(path)
            elif member.target is not None:
                links.append((path, _link_target(self.path, path, member)))
            elif is_picture_name(name):
                self._check_method(path, member)
                builder.add(folder, name, **_numbers(member, numbers))
        listing = _last_of_each(builder.build())
        return _with_links(listing, links) if links else listing

    def _check_method(self, path: str, member: _Member) -> None:
        if member.method not in (_STORED, _DEFLATED):
            known = {
                -1: "is encrypted",
                9: "uses Deflate64",
                12: "uses bzip2",
                14: "uses LZMA",
                93: "uses Zstandard",
            }
            what = known.get(member.method, f"uses compression method {member.method}")
            raise UserError(
                f"{self.path}: {path} {what} (pack it again, stored or deflated: zip -r photos.zip photos)"
            )

    def read(self, listing: Listing, row: int) -> bytes:
        """Return a member's bytes, decompressed and checked.

        Raises
        ------
        PictureError
            The member is damaged, or larger than it says.
        """
        columns = listing.columns
        offset, stored = int(columns["offset"][row]), int(columns["stored"][row])
        if max(stored, int(columns["size"][row]) if "size" in columns else 0) > MAX_BYTES:
            raise PictureError(f"{listing.path(row)}: larger than {MAX_BYTES >> 20} MB (no picture file is)")
        if self.kind == "tar":
            data = _pread(self._file, stored, offset)
            if len(data) < stored:
                raise PictureError(f"{listing.path(row)}: the archive ends within it")
            return data
        return self._read_zipped(listing, row, offset, stored)

    def _read_zipped(self, listing: Listing, row: int, offset: int, stored: int) -> bytes:
        # The local header: 30 bytes, the name and an extra field whose length only it knows. Most often they
        # fit into the 512 bytes read with the data; otherwise a second read fetches the rest.
        chunk = _pread(self._file, 30 + stored + 512, offset)
        if len(chunk) < 30 or chunk[:4] != b"PK\x03\x04":
            raise PictureError(f"{listing.path(row)}: its header in the archive is damaged")
        name, extra = struct.unpack_from("<HH", chunk, 26)
        start = 30 + name + extra
        data = chunk[start : start + stored]
        if len(data) < stored:
            data = _pread(self._file, stored, offset + start)
        size, columns = int(listing.columns["size"][row]), listing.columns
        if columns["method"][row] == _DEFLATED:
            inflate = zlib.decompressobj(-15)
            try:
                # Never more than was announced, and one byte to notice that there is more.
                data = inflate.decompress(data, size + 1)
            except zlib.error as error:
                raise PictureError(f"{listing.path(row)}: damaged in the archive ({error})") from error
        if len(data) != size or zlib.crc32(data) != int(columns["crc"][row]):
            raise PictureError(f"{listing.path(row)}: damaged in the archive (wrong length or checksum)")
        return data

    def size(self, listing: Listing, row: int) -> int:
        """Return a member's length in the archive, in bytes."""
        return int(listing.columns["stored"][row])


def open_archive(path: Path) -> ArchivePlace:
    """Open an archive; its content tells which kind it is, not its name.

    Raises
    ------
    UserError
        Not an archive, or a compressed tar, which has no places to read from.
    """
    try:
        with path.open("rb") as file:
            head = file.read(265)
        for magic, kind in _COMPRESSED.items():
            if head.startswith(magic):
                stem = path.name
                for ending in (".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".zst"):
                    stem = stem.removesuffix(ending)
                tar = stem if stem.endswith(".tar") else f"{stem}.tar"
                raise UserError(
                    f"{path}: compressed with {kind}, so no picture in it can be read in place "
                    f"(unpack it once: {_UNPACK[kind]} -c {path.name} > {tar}; it hardly grows by that)"
                )
        if head[257:262] == b"ustar":
            return ArchivePlace(path, "tar")
        place = ArchivePlace(path, "zip")
        if head.startswith(b"PK") or _find_end(place._file) is not None:
            return place
        if tarfile.is_tarfile(path):  # from before POSIX: no magic
            return ArchivePlace(path, "tar")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    raise UserError(
        f"{path}: neither a folder nor a .zip or .tar of pictures (expected photos/CLASS/image.jpg in it)"
    )


def _pread(file: int, length: int, offset: int) -> bytes:
    data = os.pread(file, length, offset)
    if not data or len(data) >= length:
        return data
    parts = [data]  # a signal or a network file system may give less at once
    have = len(data)
    while have < length and (data := os.pread(file, length - have, offset + have)):
        parts.append(data)
        have += len(data)
    return b"".join(parts)


# -- names and links -------------------------------------------------------------------------------------


def _inside(archive: str, name: str) -> str:
    """Return a member's path in plain form; refuse one that leads out of the archive."""
    plain = name.replace("\\", "/")
    parts = plain.split("/")
    if plain.startswith("/") or ".." in parts or "\0" in plain or (len(parts[0]) == 2 and parts[0][1] == ":"):
        raise UserError(
            f"{archive}: member {name!r} points outside the archive (such an archive is not used)"
        )
    return "/".join(part for part in parts if part not in ("", "."))


def _link_target(archive: str, path: str, member: _Member) -> str:
    target = (member.target or "").replace("\\", "/")
    parts: list[str] = [] if member.from_root else path.split("/")[:-1]
    outside = target.startswith("/") or target[1:2] == ":"
    for part in target.split("/"):
        if part == ".." and not parts:
            outside = True
            break
        if part == "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    if outside:
        raise UserError(
            f"{archive}: {path} is a link to {target!r}, outside the archive (such an archive is not used)"
        )
    return "/".join(parts)


def _numbers(member: _Member, keys: dict[str, type[np.generic]]) -> dict[str, int]:
    top = 2**32 - 1  # sizes are kept in 4 bytes; anything over MAX_BYTES is refused when it is read
    all_ = {
        "offset": member.offset,
        "stored": min(member.stored, top),
        "size": min(member.size, top),
        "method": member.method,
        "crc": member.crc,
    }
    return {key: all_[key] for key in keys}


def _last_of_each(listing: Listing) -> Listing:
    """Keep the last member of each name: an archive that was appended to holds the older ones still."""
    seen = np.fromiter(
        (hash((int(listing.folder[i]), listing.name(i))) for i in range(len(listing))), np.int64
    )
    if len(np.unique(seen)) == len(seen):
        return listing
    last = {listing.path(i): i for i in range(len(listing))}
    return listing.take(np.array(sorted(last.values()), np.int64))


def _with_links(listing: Listing, links: list[tuple[str, str]]) -> Listing:
    """Add the links that lead to a picture of the archive, through other links if need be."""
    rows = {listing.path(i): i for i in range(len(listing))}
    leads = dict(links)
    builder = ListingBuilder({key: column.dtype.type for key, column in listing.columns.items()})
    for folder in listing.folders:
        builder.folder(folder)
    entries = dict(rows)
    for path, target in links:
        for _ in range(40):  # as many as Linux follows, so that a loop of links ends
            if target in rows or target not in leads:
                break
            target = leads[target]
        if target in rows and is_picture_name(path.rpartition("/")[2]):
            entries[path] = rows[target]
    for path, row in entries.items():
        folder, _, name = path.rpartition("/")
        builder.add(folder, name, **{key: int(column[row]) for key, column in listing.columns.items()})
    return builder.build()


# -- tar -------------------------------------------------------------------------------------------------


def _tar_members(path: str) -> Iterator[_Member]:
    try:
        with tarfile.open(path, "r:") as tar:
            before = -1
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # or it keeps one object a member
                if member.size < 0 or member.offset <= before:
                    raise UserError(f"{path}: damaged (a member before the one it follows)")
                before = member.offset
                is_link = member.issym() or member.islnk()
                if member.issparse() and is_picture_name(member.name):
                    raise UserError(
                        f"{path}: {member.name} is stored sparsely (pack it again without --sparse)"
                    )
                if member.isreg() or member.isdir() or is_link:
                    yield _Member(
                        name=member.name,
                        offset=member.offset_data,
                        stored=member.size,
                        size=member.size,
                        is_folder=member.isdir(),
                        target=member.linkname if is_link else None,
                        from_root=member.islnk(),
                    )
                else:
                    _inside(path, member.name)  # a device or a pipe is left alone, but not a hostile name
    except _TAR_ERRORS as error:
        raise UserError(f"{path}: damaged tar archive ({error})") from error


# -- zip -------------------------------------------------------------------------------------------------


def _find_end(file: int) -> tuple[int, bytes] | None:
    """Find the end-of-central-directory record: its place and its 22 bytes (APPNOTE 4.3.16)."""
    length = os.fstat(file).st_size
    start = max(0, length - 22 - 65535)
    tail = _pread(file, length - start, start)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < 22:
        return None
    return start + at, tail[at : at + 22]


def _zip_members(file: int, path: str) -> Iterator[_Member]:
    try:
        yield from _central_directory(file, path)
    except struct.error as error:
        raise UserError(f"{path}: damaged zip archive (its directory is cut short)") from error


def _central_directory(file: int, path: str) -> Iterator[_Member]:
    end = _find_end(file)
    if end is None:
        raise UserError(f"{path}: damaged zip archive (no directory at its end; was it copied whole?)")
    at, record = end
    disk, first_disk, _, count, size, offset = struct.unpack_from("<HHHHII", record, 4)
    if (disk, first_disk) not in ((0, 0), (0xFFFF, 0xFFFF)):
        raise UserError(f"{path}: one part of a zip archive in several files (join them first: zip -s 0)")
    locator = _pread(file, 20, at - 20) if at >= 20 else b""
    if locator[:4] == b"PK\x06\x07":  # zip64 (4.3.14 and 4.3.15)
        (at64,) = struct.unpack_from("<Q", locator, 8)
        record64 = _pread(file, 56, at64) if at64 < at else b""
        if record64[:4] != b"PK\x06\x06":
            raise UserError(f"{path}: damaged zip archive (zip64 record)")
        count, size, offset = struct.unpack_from("<QQQ", record64, 32)
        at = at64
    # Bytes put before the archive (a self-extracting program) shift every offset alike.
    shift = at - size - offset
    if shift < 0:
        raise UserError(f"{path}: damaged zip archive (its directory lies outside the file)")
    position, stop = offset + shift, offset + shift + size
    buffer, start, read = b"", 0, position
    for _ in range(count):
        if len(buffer) - start < 46 + 3 * 65535 and read < stop:  # one whole entry, at its longest
            more = _pread(file, min(1 << 20, stop - read), read)
            buffer, start, read = buffer[start:] + more, 0, read + len(more)
            if not more:
                raise UserError(f"{path}: damaged zip archive (its directory is cut short)")
        member, start = _central_entry(file, path, buffer, start, shift)
        yield member


def _central_entry(file: int, path: str, buffer: bytes, start: int, shift: int) -> tuple[_Member, int]:
    """Read one entry of the central directory (4.3.12) and tell where the next one begins."""
    if buffer[start : start + 4] != b"PK\x01\x02":
        raise UserError(f"{path}: damaged zip archive (its directory)")
    made_by, _, flags, method, _, crc, stored, size, n_name, n_extra, n_comment, _, _, attributes, offset = (
        struct.unpack_from("<HHHHIIIIHHHHHII", buffer, start + 4)
    )
    name_at, extra_at = start + 46, start + 46 + n_name
    raw, extra = buffer[name_at:extra_at], buffer[extra_at : extra_at + n_extra]
    end = extra_at + n_extra + n_comment
    if len(buffer) < end:
        raise UserError(f"{path}: damaged zip archive (its directory is cut short)")
    if 0xFFFFFFFF in (stored, size, offset):
        size, stored, offset = _zip64_sizes(extra, size, stored, offset)
    name = _zip_name(raw, flags)
    mode = attributes >> 16 if made_by >> 8 == 3 else 0  # Unix
    target = None
    if stat.S_ISLNK(mode):
        target = _zip_link(file, path, name, offset + shift, stored, method)
    member = _Member(
        name=name,
        offset=offset + shift,
        stored=stored,
        size=size,
        method=-1 if flags & 1 else method,
        crc=crc,
        is_folder=name.endswith(("/", "\\")),
        target=target,
    )
    return member, end


def _zip64_sizes(extra: bytes, size: int, stored: int, offset: int) -> tuple[int, int, int]:
    """Fetch what does not fit into 4 bytes from the extra field (4.5.3)."""
    at = 0
    while at + 4 <= len(extra):
        key, length = struct.unpack_from("<HH", extra, at)
        if key == 1:
            values = [size, stored, offset]
            place = at + 4
            for i, value in enumerate(values):
                if value == 0xFFFFFFFF:
                    (values[i],) = struct.unpack_from("<Q", extra, place)
                    place += 8
            return values[0], values[1], values[2]
        at += 4 + length
    return size, stored, offset


def _zip_name(raw: bytes, flags: int) -> str:
    if flags & 0x800:
        return raw.decode("utf-8", "surrogateescape")
    try:  # without the flag it should be code page 437, but most systems write UTF-8 all the same
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("cp437")


def _zip_link(file: int, path: str, name: str, offset: int, stored: int, method: int) -> str:
    header = _pread(file, 30, offset)
    if stored > 4096 or len(header) < 30 or header[:4] != b"PK\x03\x04":
        raise UserError(f"{path}: damaged zip archive (the link {name})")
    n_name, n_extra = struct.unpack_from("<HH", header, 26)
    data = _pread(file, stored, offset + 30 + n_name + n_extra)
    try:
        target = zlib.decompressobj(-15).decompress(data, 4096) if method == _DEFLATED else data
    except zlib.error as error:
        raise UserError(f"{path}: damaged zip archive (the link {name})") from error
    return target.decode("utf-8", "surrogateescape")
