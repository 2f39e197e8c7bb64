from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from squeezekit.report.numbers import (
    answered,
    checked_confusion,
    confused_pairs,
    per_class,
    reliability,
    wilson_interval,
)


def test_per_class_by_hand() -> None:
    figures = per_class([[8, 2, 0], [1, 4, 0], [0, 0, 0]])
    assert figures.recall[:2] == pytest.approx([0.8, 0.8])
    assert figures.precision[:2] == pytest.approx([8 / 9, 4 / 6])
    assert figures.f1[:2] == pytest.approx([16 / 19, 8 / 11])
    assert figures.support.tolist() == [10, 5, 0]
    assert np.isnan([figures.recall[2], figures.precision[2], figures.f1[2]]).all()
    assert figures.worst_first().tolist() == [0, 1, 2]  # equal recall: more pictures first; no pictures last


def test_per_class_agrees_with_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(0)
    truth, guess = random.integers(0, 7, 300), random.integers(0, 7, 300)
    figures = per_class(metrics.confusion_matrix(truth, guess, labels=range(7)))
    expected = metrics.precision_recall_fscore_support(truth, guess, labels=range(7))
    for ours, theirs in zip((figures.precision, figures.recall, figures.f1), expected, strict=False):
        assert ours == pytest.approx(theirs)


def test_confused_pairs_come_most_first() -> None:
    assert confused_pairs([[5, 1, 3], [0, 5, 0], [2, 0, 9]]) == [(0, 2, 3), (2, 0, 2), (0, 1, 1)]
    assert confused_pairs([[5, 1, 3], [0, 5, 0], [2, 0, 9]], limit=1) == [(0, 2, 3)]
    assert confused_pairs(np.eye(4, dtype=int)) == []


@pytest.mark.parametrize("matrix", [[[1, 2]], [1, 2], [[1, -1], [0, 1]], np.zeros((0, 0))])
def test_what_is_no_confusion_matrix_is_refused(matrix: object) -> None:
    with pytest.raises(ValueError, match="confusion matrix"):
        checked_confusion(matrix)  # type: ignore[arg-type]


def test_a_matrix_of_another_size_than_the_names_is_refused() -> None:
    with pytest.raises(ValueError, match="2 wide but there are 3 class names"):
        checked_confusion(np.eye(2), classes=3)


def test_calibration_error_by_hand() -> None:
    # Two bins of 10: confidence 0.95 right 9 of 10, confidence 0.55 right 7 of 10.
    confidence = [0.95] * 10 + [0.55] * 10
    correct = [True] * 9 + [False] + [True] * 7 + [False] * 3
    table = reliability(confidence, correct, bins=10)
    assert table.expected_calibration_error == pytest.approx(0.5 * 0.05 + 0.5 * 0.15)
    assert table.count.sum() == 20


def test_calibration_of_nothing_is_not_a_number() -> None:
    assert math.isnan(reliability([], []).expected_calibration_error)


@given(hnp.arrays(np.float64, st.integers(1, 60), elements=st.floats(0, 1)), st.integers(1, 20))
def test_calibration_counts_every_picture_once(confidence: np.ndarray, bins: int) -> None:
    table = reliability(confidence, confidence > 0.5, bins)
    assert table.count.sum() == len(confidence)
    assert 0 <= table.expected_calibration_error <= 1
    filled = table.count > 0
    assert (table.confidence[filled] >= table.edges[:-1][filled] - 1e-9).all()
    assert (table.confidence[filled] <= table.edges[1:][filled] + 1e-9).all()


def test_calibration_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="3 confidences but 2 outcomes"):
        reliability([0.1, 0.2, 0.3], [True, False])
    with pytest.raises(ValueError, match="from 0 to 1"):
        reliability([1.5], [True])


def test_answered_holds_back_what_is_unsure() -> None:
    half, high = answered([0.4, 0.6, 0.7, 0.99], [True, False, True, True], thresholds=(0.5, 0.999))
    assert (half.share, half.accuracy) == (0.75, pytest.approx(2 / 3))
    assert high.share == 0
    assert math.isnan(high.accuracy)


@given(st.integers(0, 500), st.integers(0, 500))
def test_the_interval_holds_the_share(right: int, wrong: int) -> None:
    total = right + wrong
    low, high = wilson_interval(right, total)
    assert 0 <= low <= high <= 1
    if total:
        assert low - 1e-9 <= right / total <= high + 1e-9


def test_the_interval_of_wilson() -> None:
    assert wilson_interval(9, 10) == pytest.approx((0.5958, 0.9821), abs=1e-4)
