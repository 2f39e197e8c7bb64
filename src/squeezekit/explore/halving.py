"""Successive halving where there are several objectives, which Optuna's pruners do not do.

The rule of ASHA (Li et al., arXiv:1810.05934, algorithm 2): at a rung, the best 1/η of those who reached it
go on. Here a design is compared with those that cost no more in any other objective, so that a small one is
not stopped for being less accurate than a large one. With accuracy alone it is ASHA's rule itself.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["REDUCTION", "goes_on", "rungs"]

#: η.
REDUCTION = 2


def rungs(epochs: int) -> tuple[int, ...]:
    """Return the epochs after which a design may be stopped: a quarter of them, a half."""
    first = max(1, epochs // 4)
    found = []
    while first < epochs:
        found.append(first)
        first *= REDUCTION
    return tuple(found)


def goes_on(accuracy: float, costs: Sequence[float], rivals: Sequence[tuple[float, Sequence[float]]]) -> bool:
    """Say whether a design is among the best 1/η at this rung.

    Parameters
    ----------
    accuracy
        After this epoch.
    costs
        Of the other objectives, the less the better.
    rivals
        (accuracy after this epoch, costs) of all other designs that reached it.

    Examples
    --------
    >>> goes_on(0.5, [100], [(0.6, [200]), (0.4, [90])])  # the better one is larger: not compared
    True
    >>> goes_on(0.5, [100], [(0.6, [90]), (0.7, [80])])
    False
    """
    fair = [a for a, c in rivals if all(theirs <= own for theirs, own in zip(c, costs, strict=True))]
    better = sum(a > accuracy for a in fair)
    return better < max(1, (len(fair) + 1) // REDUCTION)
