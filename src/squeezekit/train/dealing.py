"""What a model's file tells of the pictures that made it, so that it is judged on others."""

from __future__ import annotations

import math
from typing import Any

from squeezekit.data.shards import Rows
from squeezekit.data.source import PictureSet
from squeezekit.data.split import deal, halves
from squeezekit.errors import UserError

__all__ = ["checked_dealing", "dealing_of", "dealt"]

#: More dealings, one before the other, than a file is believed to tell of.
_MOST = 16


def dealing_of(training: dict[str, Any] | None, mark: str) -> dict[str, Any] | None:
    """Return how pictures of this fingerprint were dealt, if they ever were for this network."""
    while training is not None and training.get("fingerprint") != mark:
        training = training.get("before")
    return training


def dealt(pictures: PictureSet, dealing: dict[str, Any]) -> dict[str, Rows]:
    """Deal pictures as they were dealt: into the splits of a training, or halves as "train" and "test"."""
    if dealing.get("halves"):
        return dict(zip(("train", "test"), halves(len(pictures), dealing["seed"]), strict=True))
    return deal(pictures, dealing["seed"], dealing["val_fraction"], dealing["test_fraction"])


def checked_dealing(training: Any, where: str) -> dict[str, Any] | None:
    """Check how a file says that its pictures were dealt: files come from anybody.

    Parameters
    ----------
    training
        None, or a table. With ``"fingerprint"``, a hash of the data, it has ``"seed"``, and ``"halves"`` (one
        calibrated, the other judged) or the shares ``"val_fraction"`` and ``"test_fraction"``. Without one
        nothing is known of the pictures. ``"before"``, such a table too: other data, that trained the network
        before these pictures compressed it.
    where
        The file, for the error.

    Returns
    -------
    dict or None
        What was given.

    Raises
    ------
    UserError
        It is something else.
    """
    now = training
    for _ in range(_MOST + 1):
        if now is None:
            return training  # type: ignore[no-any-return]
        if not isinstance(now, dict):
            raise UserError(f"{where}: damaged: what it tells of its training is no table")
        _check(now, where)
        now = now.get("before")
    raise UserError(f"{where}: damaged: it tells of more than {_MOST} trainings")


def _check(training: dict[str, Any], where: str) -> None:
    if "fingerprint" not in training:
        return
    good = {"fingerprint": isinstance(training["fingerprint"], str), "seed": _is_seed(training.get("seed"))}
    halves = training.get("halves", False)
    good["halves"] = isinstance(halves, bool)
    if halves is False:
        good |= {name: _is_share(training.get(name)) for name in ("val_fraction", "test_fraction")}
    for name, holds in good.items():
        if not holds:
            raise UserError(f"{where}: damaged: no good {name} in what it tells of its training")


def _is_seed(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_share(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and 0 <= value < 1
