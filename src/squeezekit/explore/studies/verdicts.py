"""From rows to means and deviations, and to whether they agree with what the paper claims.

A difference of means is told from chance by Student's t at 95 %, with one deviation pooled over all variants
of the study: three seeds of one variant alone would hardly tell it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from scipy.stats import t as students_t

from squeezekit.explore.studies.rows import Row
from squeezekit.explore.studies.study import Claim, Variant

__all__ = ["Verdict", "judge", "summarise"]

_FIGURES: Mapping[str, Callable[[Row], float]] = {
    "test_accuracy": lambda row: row.test_accuracy,
    "gap": lambda row: row.gap,
    "bytes": lambda row: float(row.bytes),
}


@dataclass(frozen=True)
class Verdict:
    """A claim of the paper beside the measurements.

    Attributes
    ----------
    claim : str
    one, other : str
        The variants compared.
    difference : float
        `one` less `other`, in percentage points; for bytes their ratio.
    margin : float or None
        Half the 95 % interval of the difference; None where it is exact, or no seed was repeated.
    verdict : {"agrees", "disagrees", "open"}
        ``"open"``: too near to chance to tell.
    sentence : str
        All of it for a person.
    """

    claim: str
    one: str
    other: str
    difference: float
    margin: float | None
    verdict: Literal["agrees", "disagrees", "open"]
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def summarise(variants: Sequence[Variant], rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Return, for each variant that has rows, its cost and its mean figures over the seeds.

    Deviations are those of a sample, None where there is one seed.
    """
    found = list(rows)
    summary = []
    for variant in variants:
        own = [row for row in found if row.variant == variant.name]
        if not own:
            continue
        tests = [row.test_accuracy for row in own]
        gaps = [row.gap for row in own if row.train_accuracy is not None]
        summary.append(
            {
                "variant": variant.name,
                "series": variant.series.split("|"),
                "paper": variant.paper,
                "seeds": len(own),
                "size": own[0].size,
                "parameters": own[0].parameters,
                "macs": own[0].macs,
                "bytes": round(float(np.mean([row.bytes for row in own]))),
                "test_accuracy": float(np.mean(tests)),
                "test_deviation": _deviation(tests),
                "train_accuracy": float(np.mean(tests) + np.mean(gaps)) if gaps else None,
                "gap_deviation": _deviation(gaps),
            }
        )
    return summary


def _deviation(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def judge(claims: Iterable[Claim], rows: Sequence[Row]) -> list[Verdict]:
    """Hold claims against rows; those whose variants have no rows yet are left out."""
    return [_verdict(claim, rows) for claim in claims if _has(rows, claim.one) and _has(rows, claim.other)]


def _has(rows: Iterable[Row], variant: str) -> bool:
    return any(row.variant == variant for row in rows)


def _verdict(claim: Claim, rows: Sequence[Row]) -> Verdict:
    figure = _FIGURES[claim.figure]
    one, other = ([figure(row) for row in rows if row.variant == name] for name in (claim.one, claim.other))
    if claim.figure == "bytes":  # exact, but for files, whose bytes differ little from seed to seed
        ratio = float(np.mean(one) / np.mean(other))
        direction = "more" if ratio > 1 else "less" if ratio < 1 else "same"
        verdict: Literal["agrees", "disagrees", "open"] = (
            "agrees" if direction == claim.expects else "disagrees"
        )
        return _said(
            claim, ratio, None, verdict, f"{claim.one} takes {ratio:.2f} times the bytes of {claim.other}"
        )
    difference = 100 * float(np.mean(one) - np.mean(other))
    margin = _margin(len(one), len(other), _pooled(rows, figure))
    points = f"{claim.one} less {claim.other}: {difference:+.1f}"
    what = "points of overfitting gap" if claim.figure == "gap" else "points"
    if margin is None:
        return _said(claim, difference, None, "open", f"{points} {what} from one seed")
    seen = abs(difference) > margin
    direction = "same" if not seen else "more" if difference > 0 else "less"
    agrees = direction == claim.expects
    verdict = "agrees" if agrees else "disagrees" if seen else "open"
    return _said(claim, difference, margin, verdict, f"{points} ± {margin:.1f} {what}")


def _said(
    claim: Claim,
    difference: float,
    margin: float | None,
    verdict: Literal["agrees", "disagrees", "open"],
    measured: str,
) -> Verdict:
    words = {"agrees": "agrees", "disagrees": "disagrees", "open": "not told apart from chance"}[verdict]
    if verdict == "agrees" and claim.expects == "same":
        words = "agrees, as far as can be told"
    sentence = f"{claim.text}. Here {measured}: {words}."
    return Verdict(claim.text, claim.one, claim.other, difference, margin, verdict, sentence)


def _pooled(rows: Sequence[Row], figure: Callable[[Row], float]) -> tuple[float, int]:
    """Return the deviation of a figure within variants, in percentage points, and its degrees of freedom."""
    squares, freedom = 0.0, 0
    for name in {row.variant for row in rows}:
        values = np.array([figure(row) for row in rows if row.variant == name])
        if np.isfinite(values).all():
            squares += float(((values - values.mean()) ** 2).sum())
            freedom += len(values) - 1
    return 100 * math.sqrt(squares / freedom) if freedom else math.nan, freedom


def _margin(one: int, other: int, pooled: tuple[float, int]) -> float | None:
    deviation, freedom = pooled
    if not freedom:
        return None
    return float(students_t.ppf(0.975, freedom)) * deviation * math.sqrt(1 / one + 1 / other)
