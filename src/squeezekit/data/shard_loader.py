"""Batches from shards. Each worker process reads its own stream (:mod:`squeezekit.data.shard_stream`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import torch
from torch.utils.data import Dataset, Sampler

from squeezekit.data.loader import (
    PictureLoader,
    as_it_is,
    choose_workers,
    evaluation_picture,
    quiet,
    training_picture,
)
from squeezekit.data.picture import PictureError
from squeezekit.data.preparation import Preparation
from squeezekit.data.shard_stream import Dealing, Place, Stored, Stream
from squeezekit.data.shards import ShardPart
from squeezekit.errors import UserError

__all__ = ["BatchOrder", "make_shard_loader"]

#: (epoch, number of the batch).
_Turn = tuple[int, int]


class BatchOrder(Sampler[_Turn]):
    """The batches of an epoch, by their numbers, from the one on that is to come next.

    Parameters
    ----------
    batches : int
        Of a whole epoch.
    place : Place
        Where to begin: earlier batches of its epoch were seen already.
    """

    def __init__(self, batches: int, place: Place) -> None:
        self.batches, self.epoch, self._place = batches, place.epoch, place

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next. Lightning does it by itself."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[_Turn]:
        first = self._place.batch if self.epoch == self._place.epoch else 0
        return iter([(self.epoch, batch) for batch in range(first, self.batches)])


class _Batches(Dataset[dict[str, Any]]):
    """Makes batches in a worker process, which keeps its place in its streams from one to the next."""

    def __init__(
        self, part: ShardPart, dealing: Dealing, preparation: Preparation, canvas: int, seed: int
    ) -> None:
        self.part, self.dealing, self.preparation = part, dealing, preparation
        self.canvas, self.seed = canvas, seed
        self._streams: dict[int, tuple[_Turn, Stream]] = {}

    def __len__(self) -> int:
        return self.dealing.batches

    def __getitem__(self, turn: _Turn) -> dict[str, Any]:
        try:
            return self._batch(turn)
        except UserError as error:  # torch would wrap it in a traceback
            return {"fault": str(error)}

    def _batch(self, turn: _Turn) -> dict[str, Any]:
        epoch, number = turn
        train, side = self.dealing.train, self.canvas if self.dealing.train else self.preparation.size
        stored = self._pictures(epoch, number)
        out = torch.empty((self._count(number), side, side, self.preparation.channels), dtype=torch.uint8)
        pixels = out.numpy()
        index: list[int] = []
        labels: list[int] = []
        broken: list[str] = []
        for i, label, data in stored:
            try:
                pixels[len(index)] = (
                    training_picture(data, "", self.preparation, side, f"{self.seed} {epoch} {i}")
                    if train
                    else evaluation_picture(data, "", self.preparation)
                )
            except PictureError as error:  # which starts with the name, that is looked up only now
                broken.append(f"{self.part.pictures.picture_name(i)}{error}")
                continue
            index.append(i)
            labels.append(label)
        return {
            "pictures": out[: len(index)],
            "labels": torch.tensor(labels, dtype=torch.int64),
            "index": torch.tensor(index, dtype=torch.int64),
            "broken": broken,
        }

    def _count(self, number: int) -> int:
        return int(self.dealing.sizes(number % self.dealing.streams)[number // self.dealing.streams])

    def _pictures(self, epoch: int, number: int) -> Iterable[Stored]:
        dealing = self.dealing
        which = number % dealing.streams
        next_turn, stream = self._streams.pop(which, ((-1, 0), None))
        if stream is None or next_turn[0] != epoch or next_turn[1] > number:
            seed = self.seed if dealing.train else None
            stream = Stream(self.part, *dealing.piece(which), seed, epoch)
            next_turn = epoch, which
        if next_turn[1] < number:
            missed = slice(next_turn[1] // dealing.streams, number // dealing.streams)
            stream.skip(int(dealing.sizes(which)[missed].sum()))
        yield from stream.take(self._count(number))
        self._streams[which] = (epoch, number + dealing.streams), stream


def make_shard_loader(
    part: ShardPart,
    preparation: Preparation,
    *,
    train: bool,
    batch_size: int,
    seed: int = 0,
    workers: int | Literal["auto"] = "auto",
    canvas: int | None = None,
    rank: int = 0,
    world_size: int = 1,
    pin_memory: bool = False,
    place: Place | None = None,
) -> PictureLoader:
    """Make the loader of a part of shards. All as in :func:`squeezekit.data.loader.make_loader`, and:

    Parameters
    ----------
    part : ShardPart
    place : Place, optional
        Where to begin. A stream for each worker where it does not say; another number is another order.

    Raises
    ------
    UserError
        As there, and where there are more processes than pictures.
    """
    pictures = part.pictures
    if not len(part):
        raise UserError(f"{pictures.name}: no pictures to load")
    if batch_size < 1:
        raise UserError(f"batch size {batch_size}: at least 1")
    count = choose_workers(world_size) if workers == "auto" else int(workers)
    if count < 0:
        raise UserError(f"workers {count}: 0 or more, or auto")
    place = place or Place()
    dealing = Dealing(len(part), batch_size, rank, world_size, place.streams or max(1, count), train)
    dataset = _Batches(part, dealing, preparation, canvas or preparation.size, seed)
    return PictureLoader(
        dataset,
        skip_empty=train,
        batch_size=None,
        sampler=BatchOrder(dealing.batches, place),
        num_workers=count,
        collate_fn=as_it_is,
        pin_memory=pin_memory,
        persistent_workers=count > 0,
        prefetch_factor=4 if count else None,
        worker_init_fn=quiet,
    )
