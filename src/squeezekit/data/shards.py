"""DATA in shards: the pictures of many tar files, without a list of them.

What is kept in memory grows with the number of shards and classes, not with that of the pictures: a picture
is found through the table of its shard, and the tables of the last few shards are all that is held.

>>> pictures = open_pictures("shards/{000000..000127}.tar")  # doctest: +SKIP
>>> parts = pictures.parts(seed=0, val_fraction=0.1, test_fraction=0.1)  # doctest: +SKIP
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from squeezekit.data import files_anywhere as files
from squeezekit.data.layout import SPLITS, which_splits
from squeezekit.data.picture import MAX_BYTES, PictureError
from squeezekit.data.shard_index import (
    INDEX,
    Index,
    Progress,
    index_shards,
    load_table,
    read_index,
    shard_files,
    truncated,
)
from squeezekit.data.source import PictureSet
from squeezekit.errors import UserError

__all__ = ["Rows", "ShardPart", "ShardSet", "find_shards", "open_shards"]

_HEADER = 512  # bytes before a member's own, in a tar file


class ShardSet(PictureSet):
    """The labelled pictures of shards: a :class:`PictureSet` that holds no list of them.

    Attributes
    ----------
    name, classes
        As of any set.
    index : Index
    starts : ndarray of int64, shape (shards + 1,)
        Position of each shard's first picture; the last is the number of pictures.

    Notes
    -----
    `labels` and `splits` are made when they are asked for, 4 and 8 bytes a picture; training and evaluation
    ask for neither.
    """

    def __init__(
        self, name: str, index: Index, scratch: tempfile.TemporaryDirectory[str] | None = None
    ) -> None:
        self.name, self.classes, self.index = name, index.classes, index
        self.starts = np.cumsum([0, *(shard.pictures for shard in index.shards)], dtype=np.int64)
        self._scratch = scratch  # holds the tables of shards without an index, as long as this lives
        self._parts: dict[tuple[int, float, float], dict[str, ShardPart]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_scratch": None}  # the first process removes it

    def __len__(self) -> int:
        return int(self.starts[-1])

    def table(self, shard: int) -> NDArray[Any]:
        """Return a shard's table, :data:`squeezekit.data.shard_index.TABLE`."""
        return load_table(self.index.shards[shard], len(self.classes))

    def _row(self, i: int) -> tuple[int, Any]:
        shard = int(np.searchsorted(self.starts, i, "right")) - 1
        return shard, self.table(shard)[i - int(self.starts[shard])]

    def picture_name(self, i: int) -> str:
        """Return the name of picture `i`: its file in the shard, below the split."""
        number, row = self._row(i)
        shard = self.index.shards[number]
        header = files.read(shard.path, int(row["offset"]) - _HEADER, _HEADER)
        name, above = header[:100].partition(b"\0")[0], b""
        if header[257:263] == b"ustar\0":
            above = header[345:500].partition(b"\0")[0]
        path = (above + b"/" + name if above else name).decode("utf-8", "backslashreplace")
        return f"{shard.split}/{path}" if shard.split else path

    def read(self, i: int) -> bytes:
        """Return the file of picture `i`. Safe with threads and after a fork."""
        number, row = self._row(i)
        if row["size"] > MAX_BYTES:
            raise PictureError(
                f"{self.picture_name(i)}: larger than {MAX_BYTES >> 20} MB (no picture file is)"
            )
        path = self.index.shards[number].path
        data = files.read(path, int(row["offset"]), int(row["size"]))
        if len(data) < row["size"]:
            raise UserError(truncated(path))
        return data

    def size(self, i: int) -> int:
        """Return the length of picture `i`'s file in bytes."""
        return int(self._row(i)[1]["size"])

    @cached_property
    def labels(self) -> NDArray[np.int32]:  # type: ignore[override]
        """(N,) index into `classes`."""
        made = [self.table(shard)["label"] for shard in range(len(self.index.shards))]
        return np.concatenate([np.empty(0, np.int32), *made])

    @property
    def splits(self) -> dict[str, NDArray[np.int64]]:  # type: ignore[override]
        """Positions of the pictures of the splits that the shards give, or none."""
        return {split: np.asarray(self.part(split)) for split in self.given}

    @property
    def given(self) -> tuple[str, ...]:
        """The splits that the shards give."""
        return tuple(split for split in SPLITS if split in self.index.counts)

    @property
    def nbytes(self) -> int:
        """What it weighs in memory, in bytes, without the tables of the shards read last."""
        names = (*self.classes, *(shard.path + shard.table for shard in self.index.shards))
        return self.starts.nbytes + sum(len(name) + 80 for name in names)

    def subset(self, indices: NDArray[np.integer]) -> PictureSet:
        """Return the set of some of the pictures."""
        raise NotImplementedError("take a part of the shards instead")

    @property
    def fingerprint(self) -> str:
        """A hash of the classes and of the pictures, shard by shard: the same wherever they lie."""
        digest = hashlib.sha256(repr(self.classes).encode())
        for shard in self.index.shards:
            digest.update(f"{shard.split} {shard.pictures} {shard.keys}\0".encode())
        return digest.hexdigest()

    def part(self, split: str | None = None) -> ShardPart:
        """Return all pictures, or those of a split that the shards give."""
        shards = [i for i, s in enumerate(self.index.shards) if split is None or s.split == split]
        counts = np.zeros(len(self.index.shards), np.int64)
        counts[shards] = [self.index.shards[i].pictures for i in shards]
        held = [row for given, row in self.index.counts.items() if split is None or given == split]
        return ShardPart(self, counts, np.sum(held, axis=0, dtype=np.int64))

    def parts(self, seed: int, val_fraction: float, test_fraction: float) -> dict[str, ShardPart]:
        """Return the splits to train with: as :func:`squeezekit.data.split.resolve_splits`, but by a rule.

        A splits that the shards give is used. What is missing is taken from training by each picture's own
        number in [0, 1), a hash of its key and the seed: it is a test picture below `test_fraction`, one that
        validates from ``1 - val_fraction`` on, and trains otherwise. So no list is needed, and a picture
        stays in its part when others come or go.

        Raises
        ------
        UserError
            No pictures for one of them, or shares that cannot be.
        """
        asked = (seed, val_fraction, test_fraction)
        if asked in self._parts:  # dealing reads every table, and a run asks several times
            return self._parts[asked]
        kept, fractions = which_splits(self.name, self.given, val_fraction, test_fraction)
        parts = self._dealt("train" if self.given else "", fractions, seed) if fractions else {}
        parts |= {name: self.part(given) for name, given in kept.items()}
        for name, part in parts.items():
            if not len(part):
                raise UserError(
                    f"{self.name}: no pictures for {name} (of {len(self)} pictures in {len(self.classes)} "
                    "classes; add some, or give train/ and val/ shards)"
                )
        self._parts[asked] = parts
        return parts

    def _dealt(self, split: str, fractions: Mapping[str, float], seed: int) -> dict[str, ShardPart]:
        test, top = fractions.get("test", 0.0), 1 - fractions["val"]
        rules = {"train": _Rule(seed, test, top), "val": _Rule(seed, top, 1.0)}
        if test:
            rules["test"] = _Rule(seed, 0.0, test)
        counts = {name: np.zeros(len(self.index.shards), np.int64) for name in rules}
        classes = {name: np.zeros(len(self.classes), np.int64) for name in rules}
        for number, shard in enumerate(self.index.shards):
            if shard.split != split:
                continue
            table = self.table(number)
            for name, rule in rules.items():
                members = table["label"][rule.members(table)]
                counts[name][number] = len(members)
                classes[name] += np.bincount(members, minlength=len(self.classes))
        return {name: ShardPart(self, counts[name], classes[name], rule) for name, rule in rules.items()}


@dataclass(frozen=True)
class _Rule:
    """Which pictures of a shard belong to a part: those whose number lies in [low, high)."""

    seed: int
    low: float
    high: float

    def members(self, table: NDArray[Any]) -> NDArray[np.bool_]:
        number = _numbers(table["key"], self.seed)
        return np.asarray((number >= self.low) & (number < self.high))


def _numbers(keys: NDArray[np.uint64], seed: int) -> NDArray[np.float64]:
    """Return a number in [0, 1) for each key, another for every seed: the finaliser of splitmix64."""
    z = keys ^ np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return (z >> np.uint64(11)).astype(np.float64) * 2.0**-53


class ShardPart:
    """A part of the pictures of shards, such as those that train: how many each shard has, and a rule.

    Stands where other sets have an array of positions, and becomes one (8 bytes a picture) where it is asked
    to: ``np.asarray(part)``.

    Attributes
    ----------
    pictures : ShardSet
    counts : ndarray of int64, shape (shards,)
        Pictures of the part in each shard.
    class_counts : ndarray of int64, shape (classes,)
    """

    def __init__(
        self,
        pictures: ShardSet,
        counts: NDArray[np.int64],
        class_counts: NDArray[np.int64],
        rule: _Rule | None = None,
    ) -> None:
        self.pictures, self.counts, self.class_counts, self._rule = pictures, counts, class_counts, rule

    def __len__(self) -> int:
        return int(self.counts.sum())

    def rows(self, shard: int) -> NDArray[np.int64]:
        """Return the part's rows in a shard's table, in order."""
        if not self.counts[shard]:
            return np.empty(0, np.int64)
        if self._rule is None:
            return np.arange(self.counts[shard])
        return np.flatnonzero(self._rule.members(self.pictures.table(shard)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[np.int64]:
        shards = np.flatnonzero(self.counts).tolist()
        made = [self.rows(shard) + self.pictures.starts[shard] for shard in shards]
        return np.concatenate([np.empty(0, np.int64), *made]).astype(dtype or np.int64, copy=False)

    def __getitem__(self, chosen: slice) -> NDArray[np.int64]:
        """Return the positions of every so many pictures, without those between."""
        wanted = np.array(range(len(self))[chosen], np.int64)
        ends = np.cumsum(self.counts)
        shard_of = np.searchsorted(ends, wanted, "right")
        found = np.empty(len(wanted), np.int64)
        for shard in np.unique(shard_of).tolist():
            here = shard_of == shard
            within = wanted[here] - (ends[shard] - self.counts[shard])
            found[here] = self.rows(shard)[within] + self.pictures.starts[shard]
        return found


#: Some pictures of a set.
Rows: TypeAlias = "NDArray[np.integer] | ShardPart"


# -- finding them ----------------------------------------------------------------------------------------


def open_shards(data: str, *, min_classes: int = 2, progress: Progress | None = None) -> ShardSet:
    """Find the shards of DATA, by their index where there is one; else all of them are looked through.

    Parameters
    ----------
    data : str
        A folder or its URL, or a pattern such as ``shards/{000000..000127}.tar``, ``s3://bucket/*.tar``.
    min_classes : int
    progress : callable, optional
        Called with (shards looked through, shards in all).

    Raises
    ------
    UserError
        Nothing is there, an index is damaged, a shard is missing or truncated, or there are too few classes.
    """
    scratch = None
    index = _indexed(data)
    if index is None:
        scratch = tempfile.TemporaryDirectory(prefix="squeezekit-shards-")
        index = index_shards(find_shards(data), scratch.name, data, progress)
    else:
        _check_lengths(index)
    if len(index.classes) < min_classes:
        names = ", ".join(index.classes)
        raise UserError(f"{data}: one class only, {names} (a classifier needs at least two)")
    return ShardSet(data, index, scratch)


def find_shards(data: str) -> list[str]:
    """Return the tar files that DATA means.

    Raises
    ------
    UserError
        There are none.
    """
    if Path(data).is_dir():
        found = shard_files(Path(data))
    elif files.is_pattern(data) or data.endswith(".tar"):
        found = files.resolve(data)
    else:
        found = files.resolve(f"{data.rstrip('/')}/*.tar")
    if not found:
        raise UserError(f"{data}: no shards found (expected 000000.tar, …)")
    return found


def _indexed(data: str) -> Index | None:
    """Return the index of DATA, cut down to the shards that DATA names; None if there is none."""
    if not files.is_pattern(data) and not data.endswith(".tar"):
        return read_index(data) if files.exists(files.join(data, INDEX)) else None
    paths = files.resolve(data)
    folder = files.base(paths[0])[0]
    for place in (folder, files.base(folder)[0]):
        if files.exists(files.join(place, INDEX) if place else INDEX):
            index = read_index(place or ".")
            break
    else:
        return None
    known = {_plain(shard.path): shard for shard in index.shards}
    if not all(_plain(path) in known for path in paths):
        return None
    wanted = {_plain(path) for path in paths}
    return _cut(index, [shard for shard in index.shards if _plain(shard.path) in wanted])


def _plain(path: str) -> str:
    return path if files.is_url(path) else str(Path(path).absolute())


def _cut(index: Index, shards: Sequence[Any]) -> Index:
    if len(shards) == len(index.shards):
        return index
    some = replace(index, shards=tuple(shards))
    counts: dict[str, NDArray[np.int64]] = {}
    for shard in shards:
        held = np.bincount(load_table(shard, len(index.classes))["label"], minlength=len(index.classes))
        counts[shard.split] = counts.get(shard.split, np.zeros_like(held)) + held
    return replace(some, counts={split: row.tolist() for split, row in counts.items()})


def _check_lengths(index: Index) -> None:
    """Find local shards that were cut off. Those behind a URL are found out when they are read."""
    for shard in index.shards:
        if files.is_url(shard.path):
            continue
        length = files.size(shard.path)
        if length != shard.bytes:
            what = "truncated" if length < shard.bytes else "changed"
            raise UserError(
                f"{shard.path}: {what}, {length:,} bytes where its index tells of {shard.bytes:,} "
                "(copy it again, or make it anew)"
            )
