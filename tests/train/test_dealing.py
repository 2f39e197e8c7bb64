"""What a file tells of its pictures is checked before it is believed."""

from __future__ import annotations

from typing import Any

import pytest

from squeezekit.errors import UserError
from squeezekit.train.dealing import checked_dealing, dealing_of

TRAINED = {"fingerprint": "ab", "seed": 3, "val_fraction": 0.1, "test_fraction": 0}
HALVES = {"fingerprint": "ab", "seed": 0, "halves": True}


LATER = {"fingerprint": "cd", "seed": 1, "halves": True, "before": TRAINED}


@pytest.mark.parametrize(
    "training", [None, {}, {"note": 1}, TRAINED, HALVES, {**TRAINED, "halves": False}, LATER]
)
def test_good_ones_pass(training: Any) -> None:
    assert checked_dealing(training, "a.sqz") is training


@pytest.mark.parametrize(
    ("training", "complaint"),
    [
        ([], "no table"),
        ("ab", "no table"),
        ({"fingerprint": "ab"}, "seed"),
        ({**TRAINED, "fingerprint": 7}, "fingerprint"),
        ({**TRAINED, "seed": "0"}, "seed"),
        ({**TRAINED, "seed": -1}, "seed"),
        ({**TRAINED, "seed": True}, "seed"),
        ({**TRAINED, "seed": 2**64}, "seed"),
        ({**TRAINED, "val_fraction": None}, "val_fraction"),
        ({**TRAINED, "val_fraction": float("nan")}, "val_fraction"),
        ({**TRAINED, "test_fraction": "much"}, "test_fraction"),
        ({**TRAINED, "test_fraction": 1.5}, "test_fraction"),
        ({**HALVES, "halves": "yes"}, "halves"),
        ({**HALVES, "seed": None}, "seed"),
        ({**LATER, "before": {**TRAINED, "seed": -1}}, "seed"),
        ({**LATER, "before": "ab"}, "no table"),
    ],
)
def test_nonsense_is_one_clear_error(training: Any, complaint: str) -> None:
    with pytest.raises(UserError, match=rf"^a\.sqz: damaged: .*{complaint}"):
        checked_dealing(training, "a.sqz")


def test_nobody_is_believed_a_thousand_trainings() -> None:
    training: dict[str, Any] = {}
    for _ in range(1000):
        training = {"before": training}
    with pytest.raises(UserError, match="more than 16"):
        checked_dealing(training, "a.sqz")


def test_sixteen_trainings_are_believed() -> None:
    training: dict[str, Any] = TRAINED
    for _ in range(15):
        training = {"before": training}
    assert checked_dealing(training, "a.sqz") is training
    with pytest.raises(UserError, match="more than 16"):
        checked_dealing({"before": training}, "a.sqz")


def test_every_dealing_is_remembered() -> None:
    assert dealing_of(LATER, "cd") is LATER
    assert dealing_of(LATER, "ab") is TRAINED
    assert dealing_of(LATER, "ef") is None
    assert dealing_of(None, "ab") is None
