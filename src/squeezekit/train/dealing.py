"""What a model's file tells of the pictures that made it, so that it is judged on others."""

from __future__ import annotations

import math
from typing import Any

from squeezekit.errors import UserError

__all__ = ["checked_dealing"]


def checked_dealing(training: Any, where: str) -> dict[str, Any] | None:
    """Check how a file says that its pictures were dealt: files come from anybody.

    Parameters
    ----------
    training
        None, or a table. With ``"fingerprint"``, a hash of the data, it has ``"seed"``, and ``"halves"`` (one
        calibrated, the other judged) or the shares ``"val_fraction"`` and ``"test_fraction"``. Without one
        nothing is known of the pictures.
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
    if training is None:
        return None
    if not isinstance(training, dict):
        raise UserError(f"{where}: damaged: what it tells of its training is no table")
    if "fingerprint" not in training:
        return training
    good = {"fingerprint": isinstance(training["fingerprint"], str), "seed": _is_seed(training.get("seed"))}
    halves = training.get("halves", False)
    good["halves"] = isinstance(halves, bool)
    if halves is False:
        good |= {name: _is_share(training.get(name)) for name in ("val_fraction", "test_fraction")}
    for name, holds in good.items():
        if not holds:
            raise UserError(f"{where}: damaged: no good {name} in what it tells of its training")
    return training


def _is_seed(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_share(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and 0 <= value < 1
