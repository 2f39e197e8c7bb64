"""Arithmetic on counts: from a confusion matrix or confidences to the figures a report shows.

A confusion matrix here is always ``matrix[truth, prediction]``, non-negative counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def checked_confusion(matrix: ArrayLike, classes: int | None = None) -> NDArray[np.int64]:
    """`matrix` as int64 of shape (classes, classes), or ValueError saying what is wrong with it."""
    counts = np.asarray(matrix)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or counts.shape[0] == 0:
        raise ValueError(f"a confusion matrix is square, got shape {counts.shape}")
    if classes is not None and counts.shape[0] != classes:
        raise ValueError(
            f"the confusion matrix is {counts.shape[0]} wide but there are {classes} class names"
        )
    if (counts < 0).any():
        raise ValueError("a confusion matrix holds counts, got negative numbers")
    return counts.astype(np.int64)


@dataclass(frozen=True)
class PerClass:
    """Figures of each class, arrays of shape (classes,); NaN where a figure is not defined.

    `recall` is undefined for a class without pictures, `precision` for one never predicted.
    """

    precision: Floats
    recall: Floats
    f1: Floats
    support: NDArray[np.int64]

    def worst_first(self) -> NDArray[np.int64]:
        """Class indices by rising recall; among equals more pictures first; classes without any last."""
        return np.lexsort((-self.support, self.recall)).astype(np.int64)  # NaN sorts last


def per_class(matrix: ArrayLike) -> PerClass:
    """Precision, recall, F1 and support of each class."""
    counts = checked_confusion(matrix)
    right = np.diag(counts).astype(np.float64)
    support = counts.sum(axis=1)
    predicted = counts.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = right / support
        precision = right / predicted
        f1 = 2 * right / (support + predicted)
    f1[support == 0] = np.nan
    return PerClass(precision, recall, f1, support)


def confused_pairs(matrix: ArrayLike, limit: int = 10) -> list[tuple[int, int, int]]:
    """List the commonest mistakes as ``(truth, prediction, count)``, most pictures first."""
    mistakes = checked_confusion(matrix).copy()
    np.fill_diagonal(mistakes, 0)
    truth, prediction = np.nonzero(mistakes)
    count = mistakes[truth, prediction]
    order = np.argsort(-count, kind="stable")[:limit]
    return [(int(truth[i]), int(prediction[i]), int(count[i])) for i in order]


@dataclass(frozen=True)
class Reliability:
    """Confidence against accuracy in equally wide bins: arrays of shape (bins,), NaN in empty bins."""

    edges: Floats  #: shape (bins + 1,), from 0 to 1
    confidence: Floats  #: mean confidence
    accuracy: Floats  #: share of right predictions
    count: NDArray[np.int64]

    @property
    def expected_calibration_error(self) -> float:
        """Mean gap between confidence and accuracy, weighted by pictures; NaN without pictures.

        Guo et al., "On Calibration of Modern Neural Networks", arXiv:1706.04599, equation 3.
        """
        total = int(self.count.sum())
        if total == 0:
            return math.nan
        return float(np.nansum(self.count * np.abs(self.accuracy - self.confidence)) / total)


def reliability(confidence: ArrayLike, correct: ArrayLike, bins: int = 15) -> Reliability:
    """Sort N predictions by their confidence into `bins` bins ``(low, high]``, the first closed below.

    Parameters
    ----------
    confidence
        Probability of the predicted class, 0 to 1, shape (N,).
    correct
        Whether the prediction was right, shape (N,).
    bins
        How many bins, at least 1.
    """
    sure = np.asarray(confidence, dtype=np.float64).ravel()
    right = np.asarray(correct, dtype=np.float64).ravel()
    if sure.shape != right.shape:
        raise ValueError(f"{sure.size} confidences but {right.size} outcomes")
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    if sure.size and not (sure.min() >= 0 and sure.max() <= 1 + 1e-6):
        raise ValueError("confidences must lie from 0 to 1")
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.searchsorted(edges, sure, side="left") - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        return Reliability(
            edges,
            np.bincount(place, weights=sure, minlength=bins) / count,
            np.bincount(place, weights=right, minlength=bins) / count,
            count.astype(np.int64),
        )


@dataclass(frozen=True)
class Answered:
    """What happens when predictions below a confidence are held back."""

    threshold: float  #: from 0 to 1
    share: float  #: of the pictures, how many are answered
    accuracy: float  #: of the answers, how many are right; NaN when there is none


def answered(
    confidence: ArrayLike, correct: ArrayLike, thresholds: Sequence[float] = (0.5, 0.8, 0.9, 0.95, 0.99)
) -> list[Answered]:
    """Count, for each threshold, how many of N pictures are at least so sure, and how many of these right."""
    sure = np.asarray(confidence, dtype=np.float64).ravel()
    right = np.asarray(correct, dtype=bool).ravel()
    rows = []
    for threshold in thresholds:
        kept = sure >= threshold
        count = int(kept.sum())
        accuracy = float(right[kept].mean()) if count else math.nan
        rows.append(Answered(threshold, count / sure.size if sure.size else 0.0, accuracy))
    return rows


def wilson_interval(successes: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """Give the interval that holds the true share with 95 % confidence (Wilson's score interval)."""
    if total == 0:
        return 0.0, 1.0
    share = successes / total
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    middle = share + z * z / (2 * total)
    scale = 1 + z * z / total
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)
