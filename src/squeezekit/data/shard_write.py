"""Write the pictures of DATA into shards: shuffled by a seed, each file's bytes as they are."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from squeezekit.data import files_anywhere as files
from squeezekit.data.picture import PictureError
from squeezekit.data.shard_index import (
    INDEX,
    TABLE,
    Index,
    Shard,
    in_split_order,
    key_of,
    read_index,
    sum_of_keys,
)
from squeezekit.data.source import PictureSet
from squeezekit.errors import UserError
from squeezekit.files import write_atomically

__all__ = ["verify", "write_shards"]

#: A longer name is replaced by a number: a tar header has room for a hundred bytes.
_LONGEST_NAME = 90
_BLOCK = 512

Progress = Callable[[int, int], None]


def write_shards(
    pictures: PictureSet,
    out: str | Path,
    *,
    size: int = 256 * 10**6,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Index, list[str]]:
    """Write shards and their index into a new folder.

    The folder appears when all is written; what a run that was stopped has left is removed or, after a kill,
    lies beside it under a name that begins with a dot. The same pictures, size and seed give the same bytes.

    Parameters
    ----------
    pictures : PictureSet
        Their splits become folders of shards.
    out : str or Path
        The folder; must not exist.
    size : int
        Bytes of a shard: it ends before the picture that would make it larger.
    seed : int
        Of the order. Neighbours in DATA are of one class; in a shard they are not.
    progress : callable, optional
        Called with (pictures done, pictures in all).

    Returns
    -------
    index : Index
    broken : list of str
        What was wrong with the files that could not be read, and are left out.

    Raises
    ------
    UserError
        `out` exists or cannot be written, or no picture can be read.
    """
    out = Path(out)
    if out.exists():
        raise UserError(f"{out}: exists already (name another --out)")
    if size < 4 * _BLOCK:
        raise UserError(f"--size {size}: too small for a shard (256MB is usual)")
    work = out.with_name(f".{out.name}.{secrets.token_hex(8)}")
    try:
        work.mkdir()
        index, broken = _write(pictures, work, size, seed, progress)
        with write_atomically(work / INDEX) as temporary:
            temporary.write_text(index.text(str(work)), encoding="utf-8")
        work.rename(out)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return read_index(str(out)), broken


def _write(
    pictures: PictureSet, folder: Path, size: int, seed: int, progress: Progress | None
) -> tuple[Index, list[str]]:
    shards: list[Shard] = []
    counts: dict[str, list[int]] = {}
    broken: list[str] = []
    done = 0
    splits = pictures.splits or {"": np.arange(len(pictures))}
    for number, (split, members) in enumerate(splits.items()):
        keys = _Keys(pictures, members, split)
        held = np.zeros(len(pictures.classes), np.int64)
        order = np.random.default_rng([seed, number]).permutation(members)
        place = folder / split
        place.mkdir(exist_ok=True)
        writer: _ShardWriter | None = None
        for i in order.tolist():
            done += 1
            if progress is not None:
                progress(done, len(pictures))
            try:
                data = pictures.read(i)
            except PictureError as error:
                broken.append(str(error))
                continue
            label = int(pictures.labels[i])
            if writer is not None and writer.length + _padded(data) > size:
                shards.append(writer.close())
                writer = None
            if writer is None:
                writer = _ShardWriter(place / f"{_number(shards, split):06d}.tar", split)
            writer.add(keys[i], data, label)
            held[label] += 1
        if writer is not None:
            shards.append(writer.close())
        counts[split] = held.tolist()
    if not shards:
        raise UserError(f"{pictures.name}: no picture could be read")
    return Index(pictures.classes, in_split_order(shards), counts), broken


def _number(shards: list[Shard], split: str) -> int:
    return sum(shard.split == split for shard in shards)


def _padded(data: bytes) -> int:
    """Bytes that a sample takes: two headers, the class in one block, the picture, and the tar file's end."""
    return 3 * _BLOCK + -(-len(data) // _BLOCK) * _BLOCK + 2 * _BLOCK


class _ShardWriter:
    """Writes one tar file, POSIX's ustar, and its table."""

    def __init__(self, path: Path, split: str) -> None:
        self._path, self._split = path, split
        self._file = _Summing(path.open("wb"))
        self._rows: list[tuple[int, int, int, int]] = []

    @property
    def length(self) -> int:
        return self._file.length

    def add(self, name: str, data: bytes, label: int) -> None:
        key = name.rpartition(".")[0]
        self._rows.append((self._member(name, data), len(data), label, key_of(key)))
        self._member(f"{key}.cls", str(label).encode())

    def _member(self, name: str, data: bytes) -> int:
        header = tarfile.TarInfo(name)
        header.size = len(data)
        self._file.write(header.tobuf(tarfile.USTAR_FORMAT))
        at = self._file.length
        self._file.write(data)
        self._file.write(bytes(-len(data) % _BLOCK))
        return at

    def close(self) -> Shard:
        self._file.write(bytes(2 * _BLOCK))
        self._file.close()
        table: NDArray[Any] = np.array(self._rows, TABLE)
        np.save(self._path.with_suffix(".npy"), table, allow_pickle=False)
        return Shard(
            path=str(self._path),
            table=str(self._path.with_suffix(".npy")),
            split=self._split,
            pictures=len(table),
            bytes=self._file.length,
            keys=sum_of_keys(table),
            sha256=self._file.sum,
        )


class _Summing:
    """A file that counts and sums what is written to it, and is on the disk when it is closed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._digest, self.length = file, hashlib.sha256(), 0

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self.length += len(data)

    @property
    def sum(self) -> str:
        return self._digest.hexdigest()

    def close(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


class _Keys:
    """Names of pictures in a shard: their own below the split, where WebDataset can keep them apart.

    It takes all up to a name's first dot for the sample's key. A name with more dots, one that is very long
    or not UTF-8, and one that differs from another in its ending alone is replaced by a number.
    """

    def __init__(self, pictures: PictureSet, members: NDArray[np.int64], split: str) -> None:
        self._pictures, self._split = pictures, split
        self._numbered: set[int] = set()
        seen: dict[str, int] = {}
        folder = None
        for i in members.tolist():
            path = self._path(i)
            here, name = files.base(path)
            if here != folder:  # pictures come folder by folder: only those of one can meet
                folder, seen = here, {}
            twin = seen.setdefault(name.partition(".")[0], i) != i
            if twin or name.count(".") != 1 or len(path.encode()) > _LONGEST_NAME or "\\" in path:
                self._numbered.add(i)

    def _path(self, i: int) -> str:
        return self._pictures.picture_name(i).removeprefix(f"{self._split}/" if self._split else "")

    def __getitem__(self, i: int) -> str:
        path = self._path(i)
        if i not in self._numbered:
            return path
        # Two underscores and a number of ten digits: no camera writes such a name.
        return f"{self._pictures.labels[i]:05d}/__{i:010d}{PurePosixPath(path).suffix.lower()}"


def verify(index: Index, progress: Callable[[int, int], None] | None = None) -> Iterator[str]:
    """Read every shard whole and yield what is wrong with them, a line each."""
    for number, shard in enumerate(index.shards):
        try:
            data = files.read(shard.path)
        except UserError as error:
            yield str(error)
        else:
            if len(data) != shard.bytes:
                yield f"{shard.path}: {len(data):,} bytes where its index tells of {shard.bytes:,}"
            elif shard.sha256 and hashlib.sha256(data).hexdigest() != shard.sha256:
                yield f"{shard.path}: damaged (another checksum than its index tells of)"
        if progress is not None:
            progress(number + 1, len(index.shards))
