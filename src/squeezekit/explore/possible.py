"""Whether a budget can be met at all, found out before any training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from squeezekit.errors import UserError
from squeezekit.explore.budget import Budget
from squeezekit.explore.space import Space, values

__all__ = ["least", "possible"]

Parameters = dict[str, Any]
#: Costs of a design by its parameters; None where it cannot be built.
Costs = Callable[[Parameters], Mapping[str, float] | None]

_DRAWS, _SWEEPS = 100, 4


def possible(space: Space, budget: Budget, costs: Costs, seed: int = 0) -> Parameters:
    """Find a design that meets a budget.

    Parameters
    ----------
    space
    budget
        Of metrics that are counted, not measured.
    costs
    seed
        Of the draws.

    Raises
    ------
    UserError
        No design meets it. Says which bounds are impossible alone, or that they are together, and the nearest
        that can be met together.
    """
    rng = np.random.default_rng(seed)
    for _ in range(_DRAWS):
        drawn = space.random(rng)
        if (found := costs(drawn)) is not None and budget.holds(found):
            return drawn
    lowest: dict[str, float] = {}
    for name in budget.names:
        # As a default: each turn's own metric.
        _, found = least(space, costs, lambda found, name=name: found[name])  # type: ignore[misc]
        lowest[name] = found[name]
    limits = {n: limit if lowest[n] <= limit else math.ceil(lowest[n]) for n, limit in budget.bounds}
    parameters, limits = _together(space, costs, limits)
    if all(limits[name] <= limit for name, limit in budget.bounds):
        return parameters
    alone = [name for name, limit in budget.bounds if lowest[name] > limit]
    where = f"in the space {space.name} at {space.size} px"
    if alone:
        are = "is" if len(alone) == 1 else "are"
        numbers = _listed([f"{lowest[name]:,.0f}" for name in alone])
        told = f"{_listed(alone)} {are} impossible, the least {where} {are} {numbers}"
    else:
        told = f"no design {where} meets {_listed(budget.names)} together"
    # A bound that was added is named only where it stands in the way: then another has to be given.
    shown = [n for n, limit in budget.bounds if n not in budget.added or limits[n] > limit]
    nearest = ",".join(f"{name}<={math.ceil(limits[name])}" for name in shown)
    raise UserError(f"--budget {budget.asked}: {told} (nearest that can be met: {nearest})")


def _together(space: Space, costs: Costs, limits: Mapping[str, float]) -> tuple[Parameters, dict[str, float]]:
    """Find a design within limits, raising them as far as has to be.

    Until a search that begins with these very limits ends within them: it is what the user's next one does.
    """
    limits = dict(limits)
    while True:

        def worst(found: Mapping[str, float], limits: dict[str, float] = limits) -> float:
            return max((found[name] / limit for name, limit in limits.items()), default=0.0)

        parameters, nearest = least(space, costs, worst)
        if worst(nearest) <= 1:
            return parameters, limits
        limits = {n: limit if nearest[n] <= limit else math.ceil(nearest[n]) for n, limit in limits.items()}


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def least(
    space: Space, costs: Costs, score: Callable[[Mapping[str, float]], float]
) -> tuple[Parameters, Mapping[str, float]]:
    """Descend along one parameter after the other, from the lowest of each family.

    Returns
    -------
    parameters : dict
        Of the design with the least score that was found.
    costs : mapping
        Its own.

    Raises
    ------
    UserError
        Nothing in the space can be built.
    """
    best: tuple[float, Parameters, Mapping[str, float]] | None = None
    for family in space.families:
        grid = {name: values(each) for name, each in space.of(family).items()}
        here: Parameters = {"family": family} if len(space.families) > 1 else {}
        here |= {name: steps[0] for name, steps in grid.items()}
        value, found = math.inf, None
        for _ in range(_SWEEPS):
            before = value
            for name, steps in grid.items():
                for each in steps:
                    tried = {**here, name: each}
                    if (cost := costs(tried)) is not None and score(cost) < value:
                        value, found, here = score(cost), cost, tried
            if value == before:
                break
        if found is not None and (best is None or value < best[0]):
            best = value, here, found
    if best is None:
        raise UserError(
            f"--size {space.size}: no network of the space {space.name} takes pictures so small "
            "(take larger ones)"
        )
    return best[1], best[2]
