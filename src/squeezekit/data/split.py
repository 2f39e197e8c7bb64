"""Which pictures are for training and which are kept back, by a seed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from squeezekit.data.layout import which_splits
from squeezekit.data.shards import Rows, ShardSet
from squeezekit.errors import UserError

if TYPE_CHECKING:
    from squeezekit.data.source import PictureSet

__all__ = ["deal", "given_parts", "halves", "resolve_splits", "stratified_split"]


def stratified_split(
    labels: NDArray[np.integer], fractions: Mapping[str, float], seed: int = 0
) -> dict[str, NDArray[np.int64]]:
    """Deal pictures out at random, so that every part has the same mix of classes.

    Parameters
    ----------
    labels : ndarray of int, shape (N,)
    fractions : mapping of str to float
        Part to its share, e.g. ``{"train": 0.8, "val": 0.1, "test": 0.1}``; the shares add up to 1.
    seed : int
        The same labels, shares and seed give the same parts, on every machine.

    Returns
    -------
    dict of str to ndarray of int64
        Sorted positions; together all of 0…N-1, each once. A class with fewer pictures than parts goes to the
        parts with the largest shares; every other class is in every part whose share is not 0. The size of a
        part is within two of its share, unless such small classes make it otherwise.

    Raises
    ------
    ValueError
        Shares that are negative or do not add up to 1.
    """
    labels = np.asarray(labels)
    shares = np.array(list(fractions.values()), np.float64)
    if (shares < 0).any() or abs(shares.sum() - 1) > 1e-9:
        raise ValueError(f"fractions must be at least 0 and add up to 1, got {dict(fractions)}")
    parts: list[list[NDArray[np.int64]]] = [[] for _ in shares]
    owed = np.zeros(len(shares))  # what rounding has kept from each part, so that many small classes even out
    for label in np.unique(labels).tolist():
        members = np.flatnonzero(labels == label)
        # A generator of its own: the other classes stay as they are when one changes.
        members = np.random.default_rng([seed, label]).permutation(members)
        counts = _apportion(len(members), shares, owed)
        owed += len(members) * shares - counts
        for part, chosen in zip(parts, np.split(members, np.cumsum(counts)[:-1]), strict=True):
            part.append(chosen)
    nothing = np.empty(0, np.int64)
    return {
        name: np.sort(np.concatenate([nothing, *part])) for name, part in zip(fractions, parts, strict=True)
    }


def _apportion(n: int, shares: NDArray[np.float64], owed: NDArray[np.float64]) -> NDArray[np.int64]:
    """Deal `n` pictures of a class to the parts, in whole numbers."""
    wanted = int((shares > 0).sum())
    by_share = np.argsort(-shares, kind="stable")
    counts = np.zeros(len(shares), np.int64)
    counts[by_share[: min(n, wanted)]] = 1
    # The rest goes one by one to the part that is furthest below what it should have. Not through `owed`
    # alone: classes of a few pictures would leave it ever larger.
    target = n * shares + np.clip(owed, -1, 1)
    rest = n - int(counts.sum())
    floors = np.where(shares > 0, np.maximum(np.floor(target).astype(np.int64) - counts, 0), 0)
    take = floors if floors.sum() <= rest else np.zeros_like(floors)
    counts += take
    for _ in range(n - int(counts.sum())):
        counts[np.argmax(np.where(shares > 0, target - counts, -np.inf))] += 1
    return counts


def resolve_splits(
    pictures: PictureSet,
    seed: int = 0,
    val_fraction: float = 0.1,
    test_fraction: float = 0.1,
    *,
    without: Collection[str] = (),
) -> dict[str, NDArray[np.int64]]:
    """Return the splits to train with: those that DATA gives, and what is missing taken from training.

    Parameters
    ----------
    pictures : PictureSet
    seed : int
    val_fraction, test_fraction : float
        Shares of the pictures that are split. ``test_fraction=0``: no test split is made.
    without : collection of str
        Names of pictures to leave out, such as broken ones. The others stay in the splits that they would
        be in otherwise. In shards they stay, and are passed over when they are met.

    Returns
    -------
    dict of str to ndarray of int64
        ``"train"``; ``"val"``, which chooses the best epoch; and ``"test"``, which is only reported on.
        Pictures that choose are not reported on, so a val folder without a test folder is the test:

        ================  =========================================================
        folders give      then
        ================  =========================================================
        none, or train    val and test are taken from it, stratified
        train, test       val is taken from train
        train, val        the val folder is "test"; "val" is taken from train
        train, val, test  as they are
        ================  =========================================================

    Raises
    ------
    UserError
        No pictures to train with, shares that cannot be, or too few pictures to keep some back.
    """
    if isinstance(pictures, ShardSet):
        parts = pictures.parts(seed, val_fraction, test_fraction)
        return {name: np.asarray(part) for name, part in parts.items()}
    without = frozenset(without)
    splits = _splits(pictures, seed, val_fraction, test_fraction)
    if without:
        left_out = [i for i in range(len(pictures)) if pictures.picture_name(i) in without]
        splits = {name: np.setdiff1d(members, left_out) for name, members in splits.items()}
    for name, members in splits.items():
        if not len(members):
            raise UserError(
                f"{pictures.name}: no pictures for {name} (of {len(pictures)} pictures in "
                f"{len(pictures.classes)} classes; add some, or give train/ and val/ folders)"
            )
    return splits


def deal(
    pictures: PictureSet,
    seed: int,
    val_fraction: float,
    test_fraction: float,
    *,
    without: Collection[str] = (),
) -> dict[str, Rows]:
    """Return the splits to train with, as :func:`resolve_splits`; those of shards without a list of them."""
    if isinstance(pictures, ShardSet):
        return dict(pictures.parts(seed, val_fraction, test_fraction))
    return dict(resolve_splits(pictures, seed, val_fraction, test_fraction, without=without))


def given_parts(pictures: PictureSet) -> dict[str, Rows]:
    """Return the splits that DATA gives, or none; and all pictures, as ``"all"``."""
    if isinstance(pictures, ShardSet):
        return {"all": pictures.part(), **{split: pictures.part(split) for split in pictures.given}}
    return {**pictures.splits, "all": np.arange(len(pictures))}


def _splits(
    pictures: PictureSet, seed: int, val_fraction: float, test_fraction: float
) -> dict[str, NDArray[np.int64]]:
    given = pictures.splits
    kept, fractions = which_splits(pictures.name, given, val_fraction, test_fraction)
    parts = {name: given[folder] for name, folder in kept.items()}
    if not fractions:
        return parts
    pool = given.get("train", np.arange(len(pictures)))
    dealt = stratified_split(pictures.labels[pool], fractions, seed)
    return {name: pool[positions] for name, positions in dealt.items()} | parts


def halves(count: int, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Deal pictures without regard to their classes: one half to calibrate on, the other to judge by.

    Parameters
    ----------
    count : int
        Of pictures.
    seed : int
        The same count and seed give the same halves, on every machine.

    Returns
    -------
    tuple of ndarray of int64
        Sorted positions. Of an odd count the first half has one more.
    """
    order = np.random.default_rng([seed, count]).permutation(count)
    middle = -(-count // 2)
    return np.sort(order[:middle]), np.sort(order[middle:])
