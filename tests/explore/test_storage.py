"""Storages that cannot be used: one line that says what to do."""

from __future__ import annotations

import pytest

from squeezekit.errors import UserError
from squeezekit.explore.storage import reachable


@pytest.mark.parametrize(
    ("address", "mend"),
    [
        ("postgresql+psycopg://me:secret@host/x", r"pip install \"squeezekit\[postgresql\]\""),
        ("mysql://me:secret@host/x", "or take another"),
    ],
)
def test_a_missing_driver_is_told_with_what_brings_it(address: str, mend: str) -> None:
    with (
        pytest.raises(UserError, match=rf"me:\*\*\*@host/x: needs its driver.*\({mend}\)"),
        reachable(address),
    ):
        raise ImportError("no driver")
