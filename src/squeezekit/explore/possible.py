"""Whether a budget can be met at all, found out before any training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
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
        No design meets it. Says which bound is impossible and the nearest that can be met; where each alone
        can, the nearest that can be met together.
    """

    def worst(found: Mapping[str, float]) -> float:
        return max((found[name] / limit for name, limit in budget.bounds), default=0.0)

    rng = np.random.default_rng(seed)
    for _ in range(_DRAWS):
        drawn = space.random(rng)
        if (found := costs(drawn)) is not None and worst(found) <= 1:
            return drawn
    for name, limit in budget.bounds:
        # As a default: each turn's own metric.
        _, lowest = least(space, costs, lambda found, name=name: found[name])  # type: ignore[misc]
        if lowest[name] > limit:
            raise UserError(
                f"--budget {budget}: {name} is impossible, the least in the space {space.name} at "
                f"{space.size} px is {lowest[name]:,.0f} (nearest that can be met: "
                f"{name}<={math.ceil(lowest[name])})"
            )
    parameters, nearest = least(space, costs, worst)
    if worst(nearest) > 1:
        bounds = ",".join(f"{n}<={math.ceil(max(limit, nearest[n]))}" for n, limit in budget.bounds)
        raise UserError(
            f"--budget {budget}: no design in the space {space.name} at {space.size} px meets "
            f"{' and '.join(budget.names)} together (nearest that can be met: {bounds})"
        )
    return parameters


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
