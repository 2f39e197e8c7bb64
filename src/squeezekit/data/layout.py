"""What the folders mean: which are classes, which are splits."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from squeezekit.data.listing import Listing, encode, in_order
from squeezekit.errors import UserError

__all__ = ["SPLITS", "Layout", "understand", "which_splits"]

#: The splits, in the order in which they are listed, and what their folders may be called.
SPLITS = {"train": ("train",), "val": ("val", "validation", "valid"), "test": ("test",)}
_SPLIT_OF = {spelling: split for split, spellings in SPLITS.items() for spelling in spellings}
_EXPECTED = "expected photos/CLASS/image.jpg, or photos/train/CLASS/image.jpg"


@dataclass(frozen=True)
class Layout:
    """The pictures of a data set, in order, with their classes and splits.

    Attributes
    ----------
    rows : ndarray of int64, shape (N,)
        Rows of the listing: split by split, class by class, by name.
    labels : ndarray of int32, shape (N,)
    classes : tuple of str
    splits : dict of str to ndarray of int64
        Positions (0…N-1) of the pictures of each split that the folders give.
    prefix : str
        Of the folders within the archive, not part of the pictures' names: ``"photos/"`` or ``""``.
    """

    rows: NDArray[np.int64]
    labels: NDArray[np.int32]
    classes: tuple[str, ...]
    splits: dict[str, NDArray[np.int64]]
    prefix: str


def understand(
    listing: Listing, name: str, *, may_be_wrapped: bool, min_classes: int = 2, labelled: bool = True
) -> Layout:
    """Find classes and splits.

    Parameters
    ----------
    listing : Listing
    name : str
        What errors call DATA.
    may_be_wrapped : bool
        Whether one folder may lie around all classes: ``photos/cat/1.jpg`` in ``photos.zip``.
    min_classes : int
    labelled : bool
        Whether class folders are asked for: see :func:`squeezekit.data.source.open_pictures`.

    Raises
    ------
    UserError
        No pictures, no class folders, too few classes, a class without pictures, one class twice with
        different case, or splits that differ in their classes.
    """
    if not len(listing):
        raise UserError(f"{name}: no pictures found ({_EXPECTED})")
    direct = np.bincount(listing.folder, minlength=len(listing.folders))
    counts = {folder: int(n) for folder, n in zip(listing.folders, direct, strict=True)}
    if not labelled and counts.get("") == len(listing):  # all beside each other
        rows = _sorted_within_groups(listing, np.zeros(len(listing), np.int64))
        return Layout(rows, np.zeros(len(rows), np.int32), ("",), {}, "")
    prefix = _wrapping_folder(counts) if may_be_wrapped else ""
    if prefix:
        counts = {f.removeprefix(prefix): n for f, n in counts.items() if f.startswith(prefix)}
    by_split = _has_splits(counts, name)
    found = _classes_of_folders(counts, by_split, name)
    classes = _class_names(found, counts, by_split, name, min_classes)

    # Each folder's group: split first, class second. Pictures that lie outside every class have none.
    number = {c: i for i, c in enumerate(classes)}
    splits = [s for s in SPLITS if any(split == s for split, _ in found.values())] if by_split else [""]
    group_of_folder = np.full(len(listing.folders), -1, np.int64)
    for i, folder in enumerate(listing.folders):
        place = found.get(folder.removeprefix(prefix)) if folder.startswith(prefix) else None
        if place is not None:
            group_of_folder[i] = splits.index(place[0]) * len(classes) + number[place[1]]
    group = group_of_folder[listing.folder]
    rows = _sorted_within_groups(listing, group)
    group = group[rows]
    positions = {s: np.flatnonzero(group // len(classes) == i) for i, s in enumerate(splits) if s}
    return Layout(rows, (group % len(classes)).astype(np.int32), classes, positions, prefix)


def _top(folder: str) -> str:
    return folder.partition("/")[0]


def _wrapping_folder(counts: dict[str, int]) -> str:
    """Return ``"photos/"`` where everything lies in it, and its subfolders are classes or splits."""
    tops = {_top(f) for f in counts if f}
    if len(tops) != 1 or counts.get(""):
        return ""
    (top,) = tops
    inside = any(n for f, n in counts.items() if f.startswith(f"{top}/"))
    return f"{top}/" if inside and not counts[top] and top.casefold() not in _SPLIT_OF else ""


def _has_splits(counts: dict[str, int], name: str) -> bool:
    """Tell whether the first level of folders is splits (True) or classes."""
    filled = {_top(f) for f, n in counts.items() if f and n}
    named = {t for t in filled if t.casefold() in _SPLIT_OF}
    if not named:
        return False
    for top in in_order(named):
        if counts[top]:
            if filled == named:
                raise UserError(f"{name}: pictures lie directly in {top}/ (expected {top}/CLASS/image.jpg)")
            return False  # a class that happens to be called "train"
    others = in_order(filled - named)
    if others:
        raise UserError(
            f"{name}: {in_order(named)[0]}/ holds class folders, and {others[0]}/ lies beside it "
            f"(the first level is either splits, train/ val/ test/, or classes)"
        )
    spelled = Counter(_SPLIT_OF[t.casefold()] for t in named)
    for split, times in spelled.items():
        if times > 1:
            both = " and ".join(f"{t}/" for t in in_order(named) if _SPLIT_OF[t.casefold()] == split)
            raise UserError(f"{name}: {both} are the same split (keep one)")
    return True


def _classes_of_folders(counts: dict[str, int], by_split: bool, name: str) -> dict[str, tuple[str, str]]:
    """Map every folder of a class to its (split, class), with the split ``""`` where there are none."""
    found: dict[str, tuple[str, str]] = {}
    for folder in counts:
        parts = folder.split("/") if folder else []
        if by_split:
            split = _SPLIT_OF.get(parts[0].casefold()) if parts else None
            if split is not None and len(parts) > 1:
                found[folder] = split, parts[1]
        elif parts:
            found[folder] = "", parts[0]
    if not any(counts[folder] for folder in found):
        raise UserError(f"{name}: no class folders found ({_EXPECTED})")
    return found


def _class_names(
    found: dict[str, tuple[str, str]], counts: dict[str, int], by_split: bool, name: str, min_classes: int
) -> tuple[str, ...]:
    pictures: Counter[tuple[str, str]] = Counter()
    for folder, place in found.items():
        pictures[place] += counts[folder]
    classes = in_order({c for _, c in pictures})
    for c in classes:
        try:
            c.encode()
        except UnicodeEncodeError:
            raise UserError(
                f"{name}: the class folder {encode(c)!r} has no name in UTF-8 (rename it)"
            ) from None
    _refuse_twins(classes, name)
    for (split, c), n in sorted(pictures.items()):
        if n == 0:
            where = f"{split}/{c}/" if split else f"{c}/"
            raise UserError(f"{name}: no pictures in {where} (add some, or remove the empty class)")
    if by_split:
        _refuse_differing_splits(set(pictures), name)
    if len(classes) < min_classes:
        raise UserError(
            f"{name}: one class only, {classes[0]}/ (a classifier needs at least two; "
            f"if the class folders lie inside {classes[0]}/, name that folder)"
        )
    return tuple(classes)


def _refuse_twins(classes: list[str], name: str) -> None:
    plain: dict[str, str] = {}
    for c in classes:
        key = unicodedata.normalize("NFC", c).casefold()
        if key in plain:
            raise UserError(
                f"{name}: the class {c!r} is there twice, also as {plain[key]!r} (merge the two folders)"
            )
        plain[key] = c


def _refuse_differing_splits(places: set[tuple[str, str]], name: str) -> None:
    splits = [s for s in SPLITS if any(split == s for split, _ in places)]
    first = {c for split, c in places if split == splits[0]}
    for split in splits[1:]:
        here = {c for s, c in places if s == split}
        for there, missing in ((split, first - here), (splits[0], here - first)):
            if missing:
                some = ", ".join(in_order(missing)[:5]) + (", …" if len(missing) > 5 else "")
                raise UserError(
                    f"{name}: {splits[0]}/ and {split}/ differ in their classes: {there}/ has no {some} "
                    f"(every split needs every class)"
                )


def _sorted_within_groups(listing: Listing, group: NDArray[np.int64]) -> NDArray[np.int64]:
    """Order rows by group, then by path. One group's names at a time become Python objects."""
    order = np.argsort(group, kind="stable")
    order = order[np.searchsorted(group[order], 0) :]
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    for start, stop in zip(starts, [*starts[1:], len(order)], strict=True):
        rows = order[start:stop].tolist()
        folders = {int(f): encode(listing.folders[int(f)]) + b"/" for f in np.unique(listing.folder[rows])}
        rows.sort(key=lambda row: folders[int(listing.folder[row])] + listing.name(row))
        order[start:stop] = rows
    return order


def which_splits(
    name: str, given: Collection[str], val_fraction: float, test_fraction: float
) -> tuple[dict[str, str], dict[str, float]]:
    """Decide which splits are those that DATA gives, and which are taken from training.

    Parameters
    ----------
    name : str
        What errors call DATA.
    given : collection of str
        The splits that DATA gives.
    val_fraction, test_fraction : float

    Returns
    -------
    kept : dict of str to str
        Split to the given one that it is: as in the table of :func:`squeezekit.data.split.resolve_splits`.
    fractions : dict of str to float
        Shares of the training pictures, or of all, that the other splits take; empty where none is missing.

    Raises
    ------
    UserError
        Nothing to train with, or shares that cannot be.
    """
    if given and "train" not in given:
        raise UserError(f"{name}: no train/ folder beside {'/ and '.join(given)}/ (nothing to train with)")
    if "val" in given and "test" in given:
        return {split: split for split in given}, {}
    kept = {"test": next(split for split in ("val", "test") if split in given)} if len(given) > 1 else {}
    wants_test = not kept and test_fraction > 0
    kept_back = val_fraction + (test_fraction if wants_test else 0)
    if not (val_fraction > 0 and test_fraction >= 0 and kept_back < 1):
        raise UserError(
            f"{name}: cannot keep back {val_fraction:g} to validate and {test_fraction:g} to test "
            f"(validation more than 0, both together less than 1)"
        )
    fractions = {"train": 1 - kept_back, "val": val_fraction}
    if wants_test:
        fractions["test"] = test_fraction
    return kept, fractions
