"""Look at the pictures before the work begins: a few broken ones are left out, many are an error."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from squeezekit.data.picture import PictureError, decode
from squeezekit.data.shards import ShardSet
from squeezekit.data.source import PictureSet
from squeezekit.errors import UserError

__all__ = ["BrokenReport", "available_cores", "check_pictures"]

#: Up to so many bytes of files, every picture is decoded; of a larger set, as many as make about that.
CHECK_BYTES = 256 << 20
#: But never fewer than so many.
MIN_CHECKED = 1000
#: The largest share of broken pictures that is still taken for an accident.
MAX_BROKEN = 0.05


@dataclass(frozen=True)
class BrokenReport:
    """What was found.

    Attributes
    ----------
    names : tuple of str
        Of the broken pictures.
    reasons : tuple of str
        One for each.
    indices : ndarray of int64
        Their positions in the set that was looked at.
    counted : int
        Pictures that were looked at.
    total : int
        Pictures in the set.
    """

    names: tuple[str, ...]
    reasons: tuple[str, ...]
    indices: NDArray[np.int64]
    counted: int
    total: int

    def good(self, pictures: PictureSet) -> PictureSet:
        """Return the set without its broken pictures."""
        if not len(self.indices):
            return pictures
        return pictures.subset(np.setdiff1d(np.arange(len(pictures)), self.indices))


def check_pictures(
    pictures: PictureSet,
    progress: Callable[[int, int], None] | None = None,
    *,
    threads: int | None = None,
) -> BrokenReport:
    """Decode all pictures, or of more than 256 MB an evenly spaced sample of that size.

    Parameters
    ----------
    pictures : PictureSet
    progress : callable, optional
        Called with (pictures done, pictures to do).
    threads : int, optional
        Default: one a core. Pillow decodes outside Python's lock.

    Raises
    ------
    UserError
        More than 5 % of the pictures are broken, or a class has none that is not.
    """
    chosen = _sample(pictures)
    broken: dict[int, str] = {}
    with ThreadPoolExecutor(threads or available_cores()) as pool:
        for start in range(0, len(chosen), 512):  # in portions, so that the queue stays short
            portion = chosen[start : start + 512].tolist()
            faults = pool.map(lambda i: _fault(pictures, i), portion, chunksize=16)
            broken |= {i: fault for i, fault in zip(portion, faults, strict=True) if fault is not None}
            if progress is not None:
                progress(start + len(portion), len(chosen))
    indices = np.array(sorted(broken), np.int64)
    report = BrokenReport(
        tuple(pictures.picture_name(i) for i in indices.tolist()),
        tuple(broken[i] for i in indices.tolist()),
        indices,
        len(chosen),
        len(pictures),
    )
    _refuse(pictures, report)
    return report


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _fault(pictures: PictureSet, i: int) -> str | None:
    try:
        # Smaller where the format can: the whole file is read all the same, which is what finds the damage.
        decode(pictures.read(i), pictures.picture_name(i), at_least=64)
    except PictureError as error:
        return str(error)
    return None


def _sample(pictures: PictureSet) -> NDArray[np.int64]:
    """Return evenly spaced positions, so many that their files make up :data:`CHECK_BYTES`."""
    n = len(pictures)
    probe = np.unique(np.linspace(0, n - 1, min(n, 1000)).astype(np.int64))
    total = float(np.mean([pictures.size(i) for i in probe.tolist()])) * n
    if total <= CHECK_BYTES:
        return np.arange(n)
    count = max(MIN_CHECKED, int(n * CHECK_BYTES / total))
    return np.unique(np.linspace(0, n - 1, min(n, count)).astype(np.int64))


def _refuse(pictures: PictureSet, report: BrokenReport) -> None:
    if len(report.indices) > MAX_BROKEN * report.counted:
        share = 100 * len(report.indices) / report.counted
        raise UserError(
            f"{pictures.name}: {len(report.indices)} of {report.counted} pictures are broken, {share:.0f} % "
            f"(at most {MAX_BROKEN:.0%} are skipped; the first: {report.reasons[0]})"
        )
    if isinstance(pictures, ShardSet):  # of which nobody lists all pictures of a class
        return
    whole = np.setdiff1d(np.arange(len(pictures)), report.indices)
    parts = {"": np.arange(len(pictures))} if not pictures.splits else pictures.splits
    for split, members in parts.items():
        left = np.bincount(pictures.labels[np.intersect1d(members, whole)], minlength=len(pictures.classes))
        for label in np.flatnonzero(left == 0).tolist():
            where = f"{split}/{pictures.classes[label]}/" if split else f"{pictures.classes[label]}/"
            raise UserError(f"{pictures.name}: every picture in {where} is broken (replace them)")
