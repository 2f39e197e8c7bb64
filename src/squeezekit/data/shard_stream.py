"""An epoch over shards: who reads what, in which order. No picture comes twice, and none is left out.

The shards of an epoch stand in a row, in an order that (seed, epoch) decide. The row of their pictures is cut
into as many pieces as there are processes, and each of these into streams, one for each worker of a process:
equal to one picture, wherever the shards begin and end. A worker reads its piece from front to back, in large
reads, through a shuffle buffer. Batches go round the streams: batch ``j`` of a process is of stream
``j mod streams``.

What comes is thus decided by (seed, epoch, processes, streams) and the number of the batch alone. A run that
goes on in the middle of an epoch counts the buffer's moves without reading, and then reads what it needs.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from squeezekit.data import files_anywhere as files
from squeezekit.data.picture import MAX_BYTES
from squeezekit.data.shard_index import truncated
from squeezekit.data.shards import ShardPart
from squeezekit.errors import UserError

__all__ = ["Dealing", "Place", "Stored", "Stream"]

#: What a shuffle buffer may hold, in bytes and in pictures.
BUFFER_BYTES = 64 << 20
BUFFER_PICTURES = 10_000
#: About what one read fetches.
READ_BYTES = 4 << 20
#: Bytes between two pictures that are rather read along than skipped.
GAP_BYTES = 64 << 10


class Stored(NamedTuple):
    """A picture as it was read."""

    position: int
    """In the :class:`~squeezekit.data.shards.ShardSet`."""
    label: int
    data: bytes


@dataclass(frozen=True)
class Place:
    """Where in training to begin: at batch `batch` of `epoch`, with as many streams a process as before."""

    epoch: int = 0
    batch: int = 0
    streams: int | None = None


@dataclass(frozen=True)
class Dealing:
    """How the pictures of a part are dealt to processes, batches and streams.

    Attributes
    ----------
    pictures : int
    batch_size : int
        Of one process.
    rank, world_size : int
    streams : int
        Of one process.
    train : bool
        Every process then has the same number of batches, each of `batch_size` pictures or a few more: what
        is left over when batches are counted is spread among them.
    """

    pictures: int
    batch_size: int
    rank: int
    world_size: int
    streams: int
    train: bool

    def __post_init__(self) -> None:
        if self.train and self.pictures < self.world_size:
            raise UserError(f"{self.pictures} pictures for {self.world_size} processes (use fewer)")

    @property
    def start(self) -> int:
        """Place of this process's first picture in the row."""
        return self.pictures * self.rank // self.world_size

    @property
    def share(self) -> int:
        """Pictures of this process."""
        return self.pictures * (self.rank + 1) // self.world_size - self.start

    @property
    def batches(self) -> int:
        """Batches of this process in an epoch."""
        if not self.train:
            return -(-self.share // self.batch_size)
        fewest = self.pictures // self.world_size
        return max(1, min(self.pictures // (self.batch_size * self.world_size), fewest))

    def sizes(self, stream: int) -> NDArray[np.int64]:
        """Return the numbers of pictures in a stream's batches."""
        batch = np.arange(stream, self.batches, self.streams)
        return (batch + 1) * self.share // self.batches - batch * self.share // self.batches

    def piece(self, stream: int) -> tuple[int, int]:
        """Return where a stream's pictures begin and end in the row."""
        lengths = [int(self.sizes(s).sum()) for s in range(stream + 1)]
        return self.start + sum(lengths[:-1]), self.start + sum(lengths)


class Stream:
    """The pictures of one piece of the row, through a shuffle buffer.

    Parameters
    ----------
    part : ShardPart
    start, stop : int
        The piece.
    seed, epoch : int
        Decide the order; None for `seed` keeps that of the shards.
    """

    def __init__(self, part: ShardPart, start: int, stop: int, seed: int | None, epoch: int) -> None:
        shards = np.arange(len(part.counts))
        if seed is not None:
            shards = np.random.default_rng([seed, epoch]).permutation(shards)
        self._part = part
        self._reader = _Reader(part, _segments(part.counts, shards, start, stop))
        capacity = 1 if seed is None else _capacity(part)
        self._buffer = _Buffer(stop - start, capacity, random.Random(f"{seed} {epoch} {start}"))
        self._held: dict[int, Stored] = {}
        self._read = 0  # how many of the piece were read, or passed over

    def skip(self, count: int) -> None:
        """Leave out the next `count` pictures, unread."""
        for _ in islice(self._buffer, count):
            pass
        for number in [n for n in self._held if not self._buffer.holds(n) and n < self._buffer.arrived]:
            del self._held[number]

    def take(self, count: int) -> Iterator[Stored]:
        """Yield the next `count` pictures.

        Raises
        ------
        UserError
            A shard is truncated, or cannot be read.
        """
        for _ in range(count):
            if self._read < self._buffer.arrived:
                self._fill()
            yield self._held.pop(next(self._buffer))

    def _fill(self) -> None:
        # After a skip: of those that have passed, the ones that wait in the buffer.
        passed = self._buffer.waiting(self._read)
        if len(passed) < self._buffer.arrived - self._read:
            self._read = self._buffer.arrived
            self._held |= self._reader.read(passed)
        while self._read < self._buffer.arrived:
            read = self._reader.read_on(self._read)
            self._read += len(read)
            self._held |= read


def _capacity(part: ShardPart) -> int:
    """Return how many pictures make up a buffer: as many as their mean size in the shards allows."""
    shards = part.pictures.index.shards
    mean = sum(s.bytes for s in shards) / max(1, sum(s.pictures for s in shards))
    return max(1, min(BUFFER_PICTURES, int(BUFFER_BYTES / max(mean, 1))))


class _Buffer:
    """The moves of a shuffle buffer, on the numbers 0…count-1: each next one replaces a random one."""

    def __init__(self, count: int, capacity: int, chance: random.Random) -> None:
        self._count, self._chance = count, chance
        self._waiting = list(range(min(count, capacity)))
        self._place = {n: n for n in self._waiting}
        #: Numbers below this have come in.
        self.arrived = len(self._waiting)

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        if not self._waiting:
            raise StopIteration
        i = self._chance.randrange(len(self._waiting)) if len(self._waiting) > 1 else 0
        chosen = self._waiting[i]
        del self._place[chosen]
        if self.arrived < self._count:
            self._waiting[i] = self.arrived
            self._place[self.arrived] = i
            self.arrived += 1
        else:
            last = self._waiting.pop()
            if i < len(self._waiting):
                self._waiting[i] = last
                self._place[last] = i
        return chosen

    def holds(self, number: int) -> bool:
        """Return whether a number waits."""
        return number in self._place

    def waiting(self, since: int) -> list[int]:
        """Return those that wait and came in at `since` or later, in order."""
        return sorted(n for n in self._waiting if n >= since)


class _Segment(NamedTuple):
    """Some pictures of one shard that follow each other in the row."""

    shard: int
    first: int  # among the part's rows in the shard
    start: int  # among the piece's pictures
    stop: int


def _segments(counts: NDArray[np.int64], shards: NDArray[np.int64], start: int, stop: int) -> list[_Segment]:
    ends = np.cumsum(counts[shards])
    found = []
    for shard, end in zip(shards.tolist(), ends.tolist(), strict=True):
        begin = end - int(counts[shard])
        low, high = max(begin, start), min(end, stop)
        if low < high:
            found.append(_Segment(shard, low - begin, low - start, high - start))
    return found


class _Reader:
    """Reads the pictures of a piece by their numbers in it."""

    def __init__(self, part: ShardPart, segments: list[_Segment]) -> None:
        self._part, self._segments = part, segments
        self._starts = np.array([s.start for s in segments])
        self._now: tuple[int, NDArray[np.int64]] = -1, np.empty(0, np.int64)

    def read_on(self, number: int) -> dict[int, Stored]:
        """Read about :data:`READ_BYTES` from a number on, of one shard."""
        segment, rows = self._segment(number)
        table = self._part.pictures.table(segment.shard)
        sizes = np.cumsum(table["size"][rows[number - segment.start :]])
        count = max(1, int(np.searchsorted(sizes, READ_BYTES, "right")))
        return self.read(list(range(number, min(number + count, segment.stop))))

    def read(self, numbers: list[int]) -> dict[int, Stored]:
        """Read some, given in order; those that lie close together at once."""
        found: dict[int, Stored] = {}
        todo = deque(numbers)
        while todo:
            segment, rows = self._segment(todo[0])
            here = []
            while todo and todo[0] < segment.stop:
                here.append(todo.popleft())
            found |= self._of_one_shard(segment, rows, np.array(here))
        return found

    def _segment(self, number: int) -> tuple[_Segment, NDArray[np.int64]]:
        which = int(np.searchsorted(self._starts, number, "right")) - 1
        segment = self._segments[which]
        if self._now[0] != which:
            rows = self._part.rows(segment.shard)
            self._now = which, rows[segment.first : segment.first + segment.stop - segment.start]
        return segment, self._now[1]

    def _of_one_shard(
        self, segment: _Segment, rows: NDArray[np.int64], numbers: NDArray[np.int64]
    ) -> dict[int, Stored]:
        pictures = self._part.pictures
        chosen = rows[numbers - segment.start]
        table = pictures.table(segment.shard)[chosen]
        path = pictures.index.shards[segment.shard].path
        base = int(pictures.starts[segment.shard])
        offsets = table["offset"].astype(np.int64)
        ends = offsets + table["size"]
        if table["size"].max() > MAX_BYTES:
            raise UserError(f"{path}: a picture of more than {MAX_BYTES >> 20} MB (no picture file is)")
        found: dict[int, Stored] = {}
        # A new read where the gap is wide, or where the last one has grown large.
        first = 0
        for i in range(1, len(numbers) + 1):
            if (
                i < len(numbers)
                and offsets[i] - ends[i - 1] <= GAP_BYTES
                and ends[i] - offsets[first] <= 2 * READ_BYTES
            ):
                continue
            begin = int(offsets[first])
            data = memoryview(files.read(path, begin, int(ends[i - 1]) - begin))
            if begin + len(data) < ends[i - 1]:
                raise UserError(truncated(path))
            for j in range(first, i):
                piece = bytes(data[int(offsets[j]) - begin : int(ends[j]) - begin])
                found[int(numbers[j])] = Stored(base + int(chosen[j]), int(table["label"][j]), piece)
            first = i
        return found
