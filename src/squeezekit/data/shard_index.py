"""What shards hold, so that opening them is quick: ``index.json``, and a table of pictures for each shard.

Shards are tar files in the format of `WebDataset <https://github.com/webdataset/webdataset>`_: files that
follow each other and differ in their endings alone are one sample, ``cat/0001.jpg`` and ``cat/0001.cls``. The
``.cls`` holds the class, as a number or a name; without one, the folder is the class.

::

    shards/
      index.json           classes, and of each shard its file, split, pictures, bytes, SHA-256
      train/000000.tar     samples
      train/000000.npy     its table: offset, size, label, key of each picture; 24 bytes a picture
      train/000001.tar …

The index of shards that others made may lie in any folder; then it names them by their full path or URL.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezekit.data import files_anywhere as files
from squeezekit.data.layout import SPLITS
from squeezekit.data.listing import is_hidden, is_picture_name
from squeezekit.errors import UserError
from squeezekit.files import write_atomically

__all__ = [
    "INDEX",
    "TABLE",
    "Index",
    "Shard",
    "in_split_order",
    "index_shards",
    "is_shards",
    "key_of",
    "load_table",
    "read_index",
    "shard_files",
    "sum_of_keys",
    "truncated",
]

INDEX = "index.json"
_FORMAT = "squeezekit shards"
_VERSION = 1
#: A picture of a shard. `offset` and `size` of its bytes in the tar file, `key` a hash of its sample's key.
TABLE = np.dtype([("offset", "<u8"), ("size", "<u4"), ("label", "<i4"), ("key", "<u8")])

Progress = Callable[[int, int], None]
_SPLIT_OF = {spelling: split for split, spellings in SPLITS.items() for spelling in spellings}
#: What a longer class name would be is no name.
_LONGEST_CLS = 1024
#: Damage meets tarfile with more than its own errors.
_TAR_ERRORS = (tarfile.TarError, ValueError, ArithmeticError, LookupError, EOFError, OSError)


@dataclass(frozen=True)
class Shard:
    """One shard, as its index tells of it.

    Attributes
    ----------
    path, table : str
        The tar file and its table: paths or URLs.
    split : str
        ``"train"``, ``"val"``, ``"test"``, or ``""`` where the shards have no splits.
    pictures, bytes : int
    keys : str
        Sum of its pictures' keys, 16 hexadecimal digits: which pictures these are.
    sha256 : str
        Of the tar file; empty where it was never read whole.
    """

    path: str
    table: str
    split: str
    pictures: int
    bytes: int
    keys: str
    sha256: str = ""


@dataclass(frozen=True)
class Index:
    """All shards of a data set.

    Attributes
    ----------
    classes : tuple of str
    shards : tuple of Shard
        Train first, then val, then test; within a split in their own order.
    counts : dict of str to list of int
        Split to the pictures of each class.
    """

    classes: tuple[str, ...]
    shards: tuple[Shard, ...]
    counts: dict[str, list[int]]

    def text(self, folder: str) -> str:
        """Return it as JSON, with paths relative to `folder` where they lie in it."""
        rows = []
        for shard in self.shards:
            row = asdict(shard)
            for name in ("path", "table"):
                row[name] = row[name].removeprefix(folder.rstrip("/") + "/")
            rows.append(row)
        about = {"format": _FORMAT, "version": _VERSION, "classes": self.classes, "counts": self.counts}
        return json.dumps({**about, "shards": rows}, indent=1, ensure_ascii=False) + "\n"


def is_shards(data: str) -> bool:
    """Tell whether DATA means shards: a pattern, a URL, or a folder of tar files instead of classes."""
    folder = Path(data)
    if folder.is_dir():
        if (folder / INDEX).is_file():
            return (
                '"squeezekit shards"' in (folder / INDEX).read_text(encoding="utf-8", errors="replace")[:200]
            )
        inside = [each for each in folder.iterdir() if each.is_dir() and not each.name.startswith(".")]
        if any(each.name.lower() not in _SPLIT_OF for each in inside):
            return False
        return bool(shard_files(folder)) and not any(p.is_dir() for each in inside for p in each.iterdir())
    return not folder.exists() and (files.is_url(data) or files.is_pattern(data))


def shard_files(folder: Path) -> list[str]:
    """Return the tar files in a folder and its subfolders."""
    return [str(p) for pattern in ("*.tar", "*/*.tar") for p in sorted(folder.glob(pattern))]


def in_split_order(shards: Sequence[Shard]) -> tuple[Shard, ...]:
    """Sort shards by split; within one they stay as they are."""
    order = {split: i for i, split in enumerate(("", *SPLITS))}
    return tuple(sorted(shards, key=lambda shard: order[shard.split]))


def read_index(folder: str) -> Index:
    """Read the index in a folder, and check that it can be.

    Raises
    ------
    UserError
        It is missing, damaged or of a later version.
    """
    where = files.join(folder, INDEX)
    try:
        content = json.loads(files.read(where).decode("utf-8"))
        if content["format"] != _FORMAT:
            raise ValueError("not an index of shards")
        if content["version"] != _VERSION:
            raise UserError(f"{where}: of version {content['version']}, which this squeezekit does not know")
        classes = tuple(str(name) for name in content["classes"])
        shards = [
            Shard(
                path=files.join(folder, str(row["path"])),
                table=files.join(folder, str(row["table"])),
                split=str(row["split"]),
                pictures=int(row["pictures"]),
                bytes=int(row["bytes"]),
                keys=str(row["keys"]),
                sha256=str(row["sha256"]),
            )
            for row in content["shards"]
        ]
        counts = {str(split): [int(n) for n in row] for split, row in content["counts"].items()}
        for split in {shard.split for shard in shards}:
            held = sum(shard.pictures for shard in shards if shard.split == split)
            if split not in ("", *SPLITS) or len(counts[split]) != len(classes) or sum(counts[split]) != held:
                raise ValueError(f"its counts of {split or 'pictures'} do not add up")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{where}: damaged ({error}; squeezekit data index makes it anew)") from error
    return Index(classes, in_split_order(shards), counts)


@lru_cache(maxsize=4)
def load_table(shard: Shard, classes: int) -> NDArray[Any]:
    """Return the table of a shard's pictures, :data:`TABLE`, in the order in which they lie in it.

    The last few are kept, so that memory does not grow with the number of shards.

    Raises
    ------
    UserError
        It is missing or damaged, or does not belong to the shard.
    """
    try:
        table: NDArray[Any] = np.load(io.BytesIO(files.read(shard.table)), allow_pickle=False)
        good = table.dtype == TABLE and table.shape == (shard.pictures,)
        if good and len(table):
            offsets, ends = table["offset"], table["offset"] + table["size"]
            labels = table["label"]
            good = bool((np.diff(offsets.astype(np.int64)) > 0).all() and ends.max() <= shard.bytes)
            good = good and labels.min() >= 0 and labels.max() < classes
    except (ValueError, EOFError) as error:
        raise UserError(f"{shard.table}: damaged ({error})") from error
    if not good:
        raise UserError(f"{shard.table}: not the table of {shard.path} (squeezekit data index makes it anew)")
    table.flags.writeable = False
    return table


# -- shards that carry no index --------------------------------------------------------------------------


def index_shards(
    paths: Sequence[str], folder: str | Path, name: str, progress: Progress | None = None
) -> Index:
    """Read the directory of every shard, and write their tables and ``index.json`` into a folder.

    Local shards are read piece by piece, a few hundred bytes a picture; those behind a URL may be fetched
    whole. What the folder holds is replaced when all of them have been read.

    Parameters
    ----------
    paths : sequence of str
        Paths or URLs, in their order.
    folder : str or Path
        There already.
    name : str
        What errors call DATA.
    progress : callable, optional
        Called with (shards done, shards in all).

    Raises
    ------
    UserError
        A shard is missing, truncated or no tar file, or a sample has no class.
    """
    folder = str(Path(folder).absolute())
    splits = _splits_of(paths, name)
    shards: list[Shard] = []
    names: dict[str, int] = {}
    with tempfile.TemporaryDirectory(prefix=".", dir=folder) as scratch:
        for number, (path, split) in enumerate(zip(paths, splits, strict=True)):
            table, classes = _scan(path)
            for each in classes:
                names.setdefault(each, len(names))
            to = np.array([names[c] for c in classes], np.int32)
            table["label"] = to[table["label"]] if len(table) else 0
            beside = f"{number:06d}.npy"
            np.save(Path(scratch) / beside, table, allow_pickle=False)
            full = path if files.is_url(path) else str(Path(path).absolute())
            shards.append(
                Shard(
                    full, files.join(folder, beside), split, len(table), files.size(path), sum_of_keys(table)
                )
            )
            if progress is not None:
                progress(number + 1, len(paths))
        if not names:
            raise UserError(
                f"{name}: no pictures found in {len(paths)} shards (expected KEY.jpg and KEY.cls)"
            )
        in_order = sorted(names, key=_as_number_or_name)
        place = {each: i for i, each in enumerate(in_order)}
        rank = np.array([place[each] for each in names], np.int32)
        counts: dict[str, NDArray[np.int64]] = {}
        (Path(folder) / INDEX).unlink(missing_ok=True)  # an earlier one, of other tables
        for shard in shards:
            table = np.load(Path(scratch) / files.base(shard.table)[1])
            table["label"] = rank[table["label"]] if len(table) else 0
            np.save(shard.table, table, allow_pickle=False)
            held = np.bincount(table["label"], minlength=len(names))
            counts[shard.split] = counts.get(shard.split, np.zeros(len(names), np.int64)) + held
    index = Index(
        tuple(in_order), in_split_order(shards), {split: row.tolist() for split, row in counts.items()}
    )
    with write_atomically(Path(folder) / INDEX) as temporary:
        temporary.write_text(index.text(folder), encoding="utf-8")
    return index


def _as_number_or_name(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdigit() else (2**62, name)


def _splits_of(paths: Sequence[str], name: str) -> list[str]:
    """Return each shard's split: told by its folder's name, or by a word in its own."""
    splits = []
    for path in paths:
        folder, file = files.base(path)
        words = [files.base(folder)[1], *re.split(r"[^A-Za-z]+", PurePosixPath(file).stem)]
        named = [_SPLIT_OF[word.lower()] for word in words if word.lower() in _SPLIT_OF]
        splits.append(named[0] if named else "")
    if "" in splits and any(splits):
        one, other = (next(p for p, s in zip(paths, splits, strict=True) if bool(s) is t) for t in (1, 0))
        raise UserError(f"{name}: {one} belongs to a split and {other} to none (name all of them alike)")
    return splits


def _scan(path: str) -> tuple[NDArray[Any], list[str]]:
    """Return the table of a shard's pictures, and the class names that its labels count."""
    rows: list[tuple[int, int, int, int]] = []
    names: dict[str, int] = {}
    for key, members in _samples(path):
        picture = next((m for m in members if is_picture_name(f"x.{m.ending}")), None)
        if picture is None:
            continue
        told = next((m.content for m in members if m.ending == "cls"), None)
        if told is None:
            told = key.partition("/")[0] if "/" in key else ""
        if not told:
            raise UserError(f"{path}: {key} has no class (neither {key}.cls nor a folder)")
        rows.append((picture.offset, picture.size, names.setdefault(told, len(names)), key_of(key)))
    return np.array(rows, TABLE), list(names)


@dataclass(frozen=True)
class _Member:
    ending: str
    offset: int
    size: int
    content: str | None


def _samples(path: str) -> Iterator[tuple[str, list[_Member]]]:
    """Yield the samples of a tar file: key and members."""
    key, members = "", list[_Member]()
    for info, content in _members(path):
        folder, _, name = info.name.removeprefix("./").rpartition("/")
        stem, _, ending = name.partition(".")  # the first dot: WebDataset's rule
        if is_hidden(name) or not ending:
            continue
        here = f"{folder}/{stem}" if folder else stem
        if here != key and members:
            yield key, members
            members = []
        key = here
        members.append(_Member(ending.lower(), info.offset_data, info.size, content))
    if members:
        yield key, members


def _members(path: str) -> Iterator[tuple[tarfile.TarInfo, str | None]]:
    """Yield the files of a tar file, with the content of those that name classes."""
    length = files.size(path)
    with files.open_file(path) as file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                while (info := tar.next()) is not None:
                    tar.members.clear()  # type: ignore[attr-defined]  # or it keeps one object a member
                    if info.offset_data + info.size > length:
                        raise UserError(truncated(path))
                    if not info.isreg():
                        continue
                    content = None
                    if info.name.endswith(".cls") and info.size <= _LONGEST_CLS:
                        opened = tar.extractfile(info)
                        assert opened is not None
                        content = opened.read().decode("utf-8").strip()
                    yield info, content
                # tarfile also takes half a header, or a damaged one, for the end.
                file.seek(tar.offset)
                end = file.read(tarfile.BLOCKSIZE)
                if len(end) < tarfile.BLOCKSIZE:
                    raise UserError(truncated(path))
                if any(end):
                    raise ValueError(f"no header at byte {tar.offset:,}")
        except UserError:
            raise
        except _TAR_ERRORS as error:
            if "end of data" in str(error) or "truncated" in str(error):
                raise UserError(truncated(path)) from error
            raise UserError(f"{path}: not a shard, or damaged ({error})") from error


def truncated(path: str) -> str:
    """Say that a shard ends too early."""
    return f"{path}: truncated, it ends in the middle of a picture (copy it again, or make it anew)"


def key_of(key: str) -> int:
    """Return 64 bits of a sample's key: what the seeded split and the fingerprint are made of."""
    return int.from_bytes(hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest())


def sum_of_keys(table: NDArray[Any]) -> str:
    """Return what :class:`Shard` keeps of its pictures' keys."""
    return f"{int(table['key'].sum(dtype=np.uint64)):016x}"
