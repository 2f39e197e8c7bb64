"""Batches of uint8 pictures: files are read, decoded and scaled in worker processes.

The order depends on (seed, epoch) alone, so neither the number of workers nor a resumed run changes it. What
is random about a single picture depends on (seed, epoch, picture).
"""

from __future__ import annotations

import os
import random
import signal
import warnings
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Sampler

from squeezekit.data.check import available_cores
from squeezekit.data.picture import PictureError, decode
from squeezekit.data.preparation import Preparation
from squeezekit.data.shard_stream import Place
from squeezekit.data.shards import Rows, ShardPart
from squeezekit.data.source import PictureSet
from squeezekit.errors import UserError

__all__ = [
    "EpochOrder",
    "PictureLoader",
    "as_it_is",
    "choose_workers",
    "evaluation_picture",
    "make_loader",
    "quiet",
    "training_picture",
]

#: One epoch's turn of one picture: (epoch, position among the loader's indices).
_Turn = tuple[int, int]


class EpochOrder(Sampler[_Turn]):
    """The order of an epoch, and this process's share of it.

    Parameters
    ----------
    length : int
        Pictures.
    shuffle : bool
        In training. Every process then gets the same number of pictures, some twice to make it even, since
        data-parallel steps wait for each other. Without it each picture comes once and processes may differ
        by one.
    seed : int
    rank, world_size : int
        This process, and how many there are.
    """

    def __init__(self, length: int, *, shuffle: bool, seed: int, rank: int = 0, world_size: int = 1) -> None:
        self.length, self.shuffle, self.seed = length, shuffle, seed
        self.rank, self.world_size = rank, world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next. Lightning does it by itself."""
        self.epoch = epoch

    def __len__(self) -> int:
        if self.shuffle:
            return -(-self.length // self.world_size)
        return len(range(self.rank, self.length, self.world_size))

    def __iter__(self) -> Iterator[_Turn]:
        epoch = self.epoch
        for position in self.positions().tolist():
            yield epoch, position

    def positions(self) -> NDArray[np.int64]:
        """Return the positions of this process's pictures, in order."""
        if not self.shuffle:
            return np.arange(self.rank, self.length, self.world_size)
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.length)
        return np.resize(order, len(self) * self.world_size)[self.rank :: self.world_size]


class _Batches(Dataset[dict[str, Any]]):
    """Makes whole batches, so that a picture costs no Python object on its way to the training process."""

    def __init__(
        self,
        pictures: PictureSet,
        indices: NDArray[np.int64],
        preparation: Preparation,
        *,
        train: bool,
        canvas: int,
        seed: int,
    ) -> None:
        self.pictures, self.indices, self.preparation = pictures, indices, preparation
        self.train, self.canvas, self.seed = train, canvas, seed

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, turn: _Turn) -> dict[str, Any]:
        return self.__getitems__([turn])

    def __getitems__(self, turns: list[_Turn]) -> dict[str, Any]:
        try:
            return self._batch(turns)
        except UserError as error:  # torch would wrap it in a traceback
            return {"fault": str(error)}

    def _batch(self, turns: list[_Turn]) -> dict[str, Any]:
        side = self.canvas if self.train else self.preparation.size
        out = torch.empty((len(turns), side, side, self.preparation.channels), dtype=torch.uint8)
        pixels = out.numpy()
        index: list[int] = []
        broken: list[str] = []
        for epoch, position in turns:
            i = int(self.indices[position])
            try:
                data, name = self.pictures.read(i), self.pictures.picture_name(i)
                pixels[len(index)] = (
                    training_picture(data, name, self.preparation, side, f"{self.seed} {epoch} {i}")
                    if self.train
                    else evaluation_picture(data, name, self.preparation)
                )
            except PictureError as error:
                broken.append(str(error))
                continue
            index.append(i)
        return {
            "pictures": out[: len(index)],
            "labels": torch.from_numpy(self.pictures.labels[index].astype(np.int64)),
            "index": torch.tensor(index, dtype=torch.int64),
            "broken": broken,
        }


def evaluation_picture(data: bytes, name: str, preparation: Preparation) -> NDArray[np.uint8]:
    """Prepare a picture exactly as it will be in use.

    Raises
    ------
    PictureError
        It cannot be decoded; the text begins with `name`.
    """
    return preparation.geometry(decode(data, name))


def training_picture(
    data: bytes, name: str, preparation: Preparation, side: int, turn: str
) -> NDArray[np.uint8]:
    """Scale a picture to the canvas of `side` pixels, the square that augmentation cuts from.

    The shorter side becomes the canvas's, and a square is cut out at a place along the longer side that
    `turn` decides: over the epochs training sees all of the picture, in its own proportions. With
    ``resize="exact"`` it is squashed, as it will be in use. Nearly the preparation's resize, but faster for
    large pictures.

    Raises
    ------
    PictureError
        As :func:`evaluation_picture`.
    """
    picture = decode(data, name, at_least=side)
    if preparation.channel_order == "L":
        picture = picture.convert("L")
    width, height = picture.size
    box: tuple[float, float, float, float] = (0, 0, width, height)
    if preparation.resize == "short-side" and width != height:
        place = random.Random(turn).random() * abs(width - height)
        box = (place, 0, place + height, height) if width > height else (0, place, width, place + width)
    if picture.size != (side, side):
        gap = None if preparation.resample == Image.Resampling.NEAREST else 2.0
        picture = picture.resize((side, side), preparation.resample, box=box, reducing_gap=gap)
    return np.asarray(picture, np.uint8).reshape(side, side, preparation.channels)


class PictureLoader(DataLoader[dict[str, Any]]):
    """Yields batches.

    Each batch is a dict of

    - ``pictures``: uint8 tensor, (N, H, W, C), RGB or grey; in training H and W are the canvas;
    - ``labels``: int64 tensor, (N,);
    - ``index``: int64 tensor, (N,), positions in the :class:`PictureSet`;
    - ``broken``: list of str, what was wrong with those that are missing from the batch.

    In training a batch without any picture is passed over, and what it has to say comes with the next one.
    A batch that only says ``fault``, why a dataset cannot go on (a damaged shard), becomes a UserError.

    Attributes
    ----------
    sampler : EpochOrder
        Call ``sampler.set_epoch(epoch)`` before each epoch (Lightning does).
    """

    def __init__(self, *args: Any, skip_empty: bool, **kwargs: Any) -> None:
        self.skip_empty = skip_empty
        super().__init__(*args, **kwargs)

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next. Lightning does it by itself, but late where a run is resumed."""
        self.sampler.set_epoch(epoch)  # type: ignore[attr-defined]

    def __iter__(self) -> Any:
        batches = _without_faults(super().__iter__())
        return _without_empty(batches) if self.skip_empty else batches


def _without_faults(batches: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for batch in batches:
        if "fault" in batch:
            raise UserError(batch["fault"])
        yield batch


def _without_empty(batches: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Pass over batches without any picture; what they have to say comes with the next one."""
    broken: list[str] = []
    for batch in batches:
        broken += batch["broken"]
        if len(batch["labels"]):
            yield batch | {"broken": broken}
            broken = []


def make_loader(
    pictures: PictureSet,
    indices: Rows,
    preparation: Preparation,
    *,
    train: bool,
    batch_size: int,
    seed: int = 0,
    workers: int | Literal["auto"] = "auto",
    canvas: int | None = None,
    rank: int = 0,
    world_size: int = 1,
    drop_last: bool = False,
    pin_memory: bool = False,
    place: Place | None = None,
) -> PictureLoader:
    """Make the loader of some pictures.

    Parameters
    ----------
    pictures : PictureSet
    indices : ndarray of int, shape (M,), or ShardPart
        Those to load; in this order, unless `train`. A part of shards is read as a stream, and what is left
        over when batches are counted is spread among them (`drop_last` has no say).
    preparation : Preparation
        Applied exactly, bit for bit, unless `train`.
    train : bool
        Shuffle, and leave the last crop to augmentation.
    batch_size : int
        Pictures a batch, of this process.
    seed : int
    workers : int or "auto"
        Processes that decode; 0: this one does. "auto": see :func:`choose_workers`.
    canvas : int, optional
        Side of the training pictures in pixels, by default ``preparation.size``. Random resized crops want it
        larger: :meth:`squeezekit.data.augment.Policy.canvas`.
    rank, world_size : int
        For data-parallel training. With Lightning, ``use_distributed_sampler=False``.
    drop_last : bool
        Leave out a last batch that is not full.
    pin_memory : bool
        For CUDA.
    place : Place, optional
        In shards, where in training to begin.

    Raises
    ------
    UserError
        No pictures, or numbers that make no sense.
    """
    if isinstance(indices, ShardPart):
        from squeezekit.data.shard_loader import make_shard_loader

        return make_shard_loader(
            indices,
            preparation,
            train=train,
            batch_size=batch_size,
            seed=seed,
            workers=workers,
            canvas=canvas,
            rank=rank,
            world_size=world_size,
            pin_memory=pin_memory,
            place=place,
        )
    if not len(indices):
        raise UserError(f"{pictures.name}: no pictures to load")
    if batch_size < 1:
        raise UserError(f"batch size {batch_size}: at least 1")
    count = choose_workers(world_size) if workers == "auto" else int(workers)
    if count < 0:
        raise UserError(f"workers {count}: 0 or more, or auto")
    chosen = np.asarray(indices, np.int64)
    dataset = _Batches(
        pictures, chosen, preparation, train=train, canvas=canvas or preparation.size, seed=seed
    )
    return PictureLoader(
        dataset,
        skip_empty=train,
        batch_size=batch_size,
        sampler=EpochOrder(len(chosen), shuffle=train, seed=seed, rank=rank, world_size=world_size),
        num_workers=count,
        collate_fn=as_it_is,
        drop_last=drop_last,
        pin_memory=pin_memory,
        persistent_workers=count > 0,
        prefetch_factor=4 if count else None,
        worker_init_fn=quiet,
    )


def choose_workers(world_size: int = 1) -> int:
    """Return how many worker processes this process should have.

    On two cores one worker: a batch takes it a tenth of the processor time of a training step (32 pictures of
    224 px: 50 ms), so a second one would only get in the way (``benchmarks/loader.py`` compares them). With
    more cores all but two, at most eight, shared among the processes on this machine.
    """
    cores = available_cores()
    here = int(os.environ.get("LOCAL_WORLD_SIZE", world_size))
    return max(1, min(8, (cores - 2) // max(1, here)))


def as_it_is(batch: dict[str, Any]) -> dict[str, Any]:
    """Collate nothing: what comes is a batch already."""
    return batch


def quiet(_: int) -> None:
    """Keep a worker process from speaking up."""
    # Ctrl-C goes to every process of the terminal; only the training process shall answer it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Pillow's remarks on odd metadata would tear the progress bar; what matters is in batch["broken"].
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
