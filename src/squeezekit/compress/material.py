"""The pictures that compression sees: some to calibrate on, others to judge by."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from squeezekit.data.augment import Augmentation, named_policy
from squeezekit.data.loader import EpochOrder, make_loader
from squeezekit.data.picture import PictureError, decode
from squeezekit.data.preparation import Preparation
from squeezekit.data.source import PictureSet
from squeezekit.errors import UserError
from squeezekit.train.classifier import Classifier
from squeezekit.train.dealing import dealing_of, dealt
from squeezekit.train.plan import SMALL
from squeezekit.train.run_folder import fingerprint

__all__ = ["MOST_JUDGES", "Learners", "Material", "gather", "noise"]

Pictures = NDArray[np.uint8]
Advance = Callable[[int, int], None]

#: Pictures that judge, at most.
MOST_JUDGES = 500
#: From fewer pictures a network learns the pictures.
FEWEST = 1000


@dataclass(frozen=True)
class Learners:
    """All pictures that the method may look at, to learn from."""

    pictures: PictureSet
    rows: NDArray[np.int64]
    preparation: Preparation
    seed: int

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def batch_size(self) -> int:
        """Pictures of a batch."""
        return 128 if self.preparation.size <= SMALL else 32

    def batches(self) -> Iterator[Tensor]:
        """Yield batches without end, varied as in a training: Tensors (N, C, H, W), 0 … 255."""
        size = self.preparation.size
        policy = named_policy("light", size)
        augment = Augmentation(policy, size, len(self.pictures.classes), self.preparation.channels)
        loader = make_loader(
            self.pictures,
            self.rows,
            self.preparation,
            train=True,
            batch_size=self.batch_size,
            seed=self.seed,
            canvas=policy.canvas(size),
            drop_last=True,
        )
        for epoch in itertools.count():
            assert isinstance(loader.sampler, EpochOrder)
            loader.sampler.set_epoch(epoch)
            for step, batch in enumerate(loader):
                torch.manual_seed((self.seed * 1_009 + epoch) * 1_000_003 + step)
                yield augment(batch["pictures"].permute(0, 3, 1, 2), batch["labels"])[0]


@dataclass(frozen=True)
class Material:
    """Prepared pictures.

    Attributes
    ----------
    calibration : ndarray of uint8, shape (N, H, W, C)
        What the method may look at.
    judges : ndarray of uint8, shape (M, H, W, C)
        What it never sees: sizes are chosen by them. Empty without DATA.
    labels : ndarray of int64, shape (M,), or None
        Classes of the judges; None where the folders are not called as the model's classes.
    training : dict or None
        Which pictures were used, so that an evaluation can take others; and which trained the network before.
    learners : Learners or None
        None where they are too few to learn from.
    """

    calibration: Pictures
    judges: Pictures
    labels: NDArray[np.int64] | None
    training: dict[str, Any] | None
    learners: Learners | None = None


def gather(
    classifier: Classifier,
    pictures: PictureSet,
    *,
    most: int,
    judges: int = MOST_JUDGES,
    seed: int,
    advance: Advance,
) -> Material:
    """Choose and prepare pictures of DATA.

    Of the data that the model was trained on, those that trained it calibrate and those that chose its epoch
    judge. Other data with a train folder is dealt as for a training; without one, half calibrates and half
    judges. Test pictures are not touched.

    Parameters
    ----------
    classifier, pictures
    most, judges : int
        Pictures to calibrate on, and to judge by, at most.
    seed : int
    advance : callable
        Called with (pictures done, pictures in all).

    Raises
    ------
    UserError
        No picture can be read.
    """
    mark = fingerprint(pictures)
    dealing, training = dealing_of(classifier.training, mark), classifier.training
    if dealing is None:
        dealing = {"fingerprint": mark, "seed": seed}
        dealing |= (
            {"val_fraction": 0.1, "test_fraction": 0.2} if "train" in pictures.splits else {"halves": True}
        )
        training = dealing if training is None else {**dealing, "before": training}
    splits = dealt(pictures, dealing)
    parts = [
        np.asarray(splits[name], np.int64) for name in ("train", "test" if dealing.get("halves") else "val")
    ]
    random = np.random.default_rng([seed, 1])
    chosen = [
        np.sort(random.permutation(part)[:number]) for part, number in zip(parts, (most, judges), strict=True)
    ]
    total, done = sum(map(len, chosen)), 0

    def counted() -> None:
        nonlocal done
        done += 1
        advance(done, total)

    try:
        to_class: NDArray[np.int64] | None = classifier.classes.match(pictures.classes, pictures.name)
    except UserError:
        to_class = None
    prepared = [_prepared(pictures, rows, classifier.preparation, counted) for rows in chosen]
    (calibration, _), (judging, kept) = prepared
    if not len(calibration) or not len(judging):
        raise UserError(f"{pictures.name}: too few pictures can be read to calibrate and to judge")
    labels = None if to_class is None else to_class[pictures.labels[kept]]
    several = len(parts[0]) >= FEWEST
    learners = Learners(pictures, parts[0], classifier.preparation, seed) if several else None
    return Material(calibration, judging, labels, training, learners)


def _prepared(
    pictures: PictureSet, rows: NDArray[np.int64], preparation: Preparation, counted: Callable[[], None]
) -> tuple[Pictures, NDArray[np.int64]]:
    def one(i: int) -> Pictures | None:
        try:
            return preparation.geometry(decode(pictures.read(i), pictures.picture_name(i)))
        except PictureError:
            return None

    found, kept = [], []
    with ThreadPoolExecutor(2) as pool:
        for i, picture in zip(rows.tolist(), pool.map(one, rows.tolist()), strict=True):
            counted()
            if picture is not None:
                found.append(picture)
                kept.append(i)
    shape = (0, preparation.size, preparation.size, preparation.channels)
    stacked = np.stack(found) if found else np.zeros(shape, np.uint8)
    return stacked, np.array(kept, np.int64)


def noise(preparation: Preparation, count: int, seed: int) -> Material:
    """Make pictures for want of any: noise with the spectrum of photographs, power falling as 1/f².

    (Field, 1987, "Relations between the statistics of natural images and the response properties of cortical
    cells": amplitudes fall as 1/f.)
    """
    random = np.random.default_rng(seed)
    side, channels = preparation.size, preparation.channels
    across, down = np.fft.rfftfreq(side), np.fft.fftfreq(side)
    frequency = np.hypot(down[:, None], across[None])
    frequency[0, 0] = np.inf  # no mean: it is added below
    made = np.empty((count, side, side, channels), np.uint8)
    for picture in made:
        grey = _coloured(random, frequency, side)
        for c in range(channels):  # the channels of a photograph are much alike
            mixed = 0.9 * grey + 0.4 * _coloured(random, frequency, side)
            picture[..., c] = np.clip(random.normal(115, 30) + random.uniform(30, 70) * mixed, 0, 255)
    return Material(made, made[:0], None, None)


def _coloured(random: np.random.Generator, frequency: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    spectrum = (random.normal(size=frequency.shape) + 1j * random.normal(size=frequency.shape)) / frequency
    field = np.fft.irfft2(spectrum, (side, side))
    return np.asarray(field / (field.std() + 1e-12))
