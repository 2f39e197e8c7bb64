"""Checks of metaparameters: a wrong one is a user's mistake, told in one line, before anything is built.

The upper bounds are generous. They only keep a damaged or hostile configuration from asking for a network
that no machine could hold.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from squeezekit.errors import UserError, suggest

__all__ = ["choice", "flag", "real", "whole", "wholes"]


def _mistake(name: str, value: object, expected: str, hint: str = "") -> UserError:
    shown = repr(value)
    return UserError(f"{name}={shown if len(shown) <= 60 else shown[:57] + '...'}: expected {expected}{hint}")


def whole(name: str, value: object, low: int, high: int) -> int:
    """Return `value` if it is a whole number from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise _mistake(name, value, f"a whole number from {low} to {high}")
    return value


def wholes(name: str, value: object, low: int, high: int) -> tuple[int, ...]:
    """Return `value` as a tuple if it is a list of whole numbers from `low` to `high`."""
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) > 1 + high - low:
        raise _mistake(name, value, f"a list of whole numbers from {low} to {high}")
    return tuple(whole(name, one, low, high) for one in value)


def real(name: str, value: object, low: float, high: float, *, ends: bool = True) -> float:
    """Return `value` if it is a number from `low` to `high`; with ``ends=False`` strictly between them."""
    if (not isinstance(value, bool) and isinstance(value, (int, float)) and math.isfinite(value)) and (
        low < value < high or (ends and value in (low, high))
    ):
        return float(value)
    raise _mistake(
        name, value, f"a number {'from' if ends else 'between'} {low:g} {'to' if ends else 'and'} {high:g}"
    )


def flag(name: str, value: object) -> bool:
    """Return `value` if it is true or false."""
    if not isinstance(value, bool):
        raise _mistake(name, value, "true or false")
    return value


def choice(name: str, value: object, choices: Iterable[str]) -> str:
    """Return `value` if it is one of `choices`."""
    choices = tuple(choices)
    if not isinstance(value, str) or value not in choices:
        hint = suggest(value, choices) if isinstance(value, str) else ""
        raise _mistake(name, value, " or ".join(choices), hint)
    return value
