"""The design spaces: which networks a search may propose.

SqueezeNet's is that of its section 5.1 (``base_e``, ``incr_e``, ``freq``, ``pct_3x3``, ``SR``) with bypass
(section 6), depth, and where it shrinks (strategy 3). MobileNet's are α and ρ (arXiv:1704.04861, sections
3.3, 3.4) with depth, EfficientNet's its three coefficients (arXiv:1905.11946, equation 2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from squeezekit.errors import UserError, suggest
from squeezekit.explore.design import Design
from squeezekit.train.plan import SMALL

__all__ = ["SPACES", "Space", "values"]

#: The families of each space.
SPACES: dict[str, tuple[str, ...]] = {
    "squeezenet": ("squeezenet",),
    "mobilenet": ("mobilenet_v1", "mobilenet_v2"),
    "efficientnet": ("efficientnet",),
    "all": ("squeezenet", "mobilenet_v1", "mobilenet_v2", "efficientnet"),
}

#: ρ of MobileNet's section 3.4: 224, 192, 160 and 128 of 224 pixels.
_RESOLUTIONS = (1.0, 6 / 7, 5 / 7, 4 / 7)
#: Up to so many pixels the small stem is worth a try; from so many on, the standard one is.
_SMALL_STEM, _STANDARD_STEM = 96, 24


@dataclass(frozen=True)
class Space:
    """A design space, for pictures of one size.

    Attributes
    ----------
    name : str
        A key of :data:`SPACES`.
    size : int
        Side of the pictures in pixels, of which designs may take less.

    Raises
    ------
    UserError
        There is no such space.
    """

    name: str
    size: int

    def __post_init__(self) -> None:
        if self.name not in SPACES:
            hint = suggest(self.name, SPACES)
            raise UserError(f"--space {self.name}: no such space{hint} ({', '.join(SPACES)})")

    @property
    def families(self) -> tuple[str, ...]:
        """The networks among which it chooses."""
        return SPACES[self.name]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sides of pictures that its designs take, in pixels."""
        whole = {self.size} if self.families == ("squeezenet",) else set(self._sizes())
        return tuple(sorted(whole, reverse=True))

    def distributions(self) -> dict[str, BaseDistribution]:
        """Return every parameter: ``family`` where there are several, the others as ``family.name``."""
        found: dict[str, BaseDistribution] = {}
        if len(self.families) > 1:
            found["family"] = CategoricalDistribution(self.families)
        for family in self.families:
            found |= self.of(family)
        return found

    def of(self, family: str) -> dict[str, BaseDistribution]:
        """Return the parameters of one family."""
        own = {
            "squeezenet": self._squeezenet,
            "mobilenet_v1": self._mobilenet,
            "mobilenet_v2": self._mobilenet,
            "efficientnet": self._efficientnet,
        }[family]()
        stems = [
            *(["small"] if self.size <= _SMALL_STEM else []),
            *(["standard"] if self.size >= _STANDARD_STEM else []),
        ]
        if len(stems) > 1:
            own["stem"] = CategoricalDistribution(stems)
        return {f"{family}.{name}": distribution for name, distribution in own.items()}

    def random(self, rng: np.random.Generator, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Draw the parameters of a design evenly, around those `given`; of no other family than the chosen.

        Parameters
        ----------
        rng
        given
            Parameters that are fixed. Those of other families are left out.
        """
        given = given or {}
        family = self.family(given) if self._chosen(given) else str(rng.choice(self.families))
        drawn: dict[str, Any] = {"family": family} if len(self.families) > 1 else {}
        for name, distribution in self.of(family).items():
            drawn[name] = given[name] if name in given else _draw(distribution, rng)
        return drawn

    def moved(self, distribution: BaseDistribution, value: Any, rng: np.random.Generator) -> Any:
        """Return a value some steps beside one of a parameter's; of words, any."""
        if isinstance(distribution, CategoricalDistribution):
            return _draw(distribution, rng)
        assert isinstance(distribution, (IntDistribution, FloatDistribution))
        assert distribution.step is not None
        beside = value + int(rng.integers(-3, 4)) * distribution.step
        return min(max(beside, distribution.low), distribution.high)

    def family(self, parameters: Mapping[str, Any]) -> str:
        """Return the family that parameters are of."""
        return str(parameters["family"]) if len(self.families) > 1 else self.families[0]

    def _chosen(self, parameters: Mapping[str, Any]) -> bool:
        return len(self.families) == 1 or "family" in parameters

    def design(self, parameters: Mapping[str, Any]) -> Design:
        """Return the design that parameters stand for."""
        family = self.family(parameters)
        own = {
            name.partition(".")[2]: value
            for name, value in parameters.items()
            if name.startswith(f"{family}.")
        }
        size = self.size
        if "resolution" in own:
            size = self._sizes()[_RESOLUTIONS.index(own.pop("resolution"))]
        if family == "squeezenet":
            own["pools"] = _pools(own["fires"], own.pop("pool_count"), own.pop("downsampling"))
            # What makes no difference is written one way, so that no network is tried twice.
            if own["incr_e"] == 0 or own["freq"] >= own["fires"]:
                own["incr_e"], own["freq"] = 0, 1
            if own.get("stem") == "small":
                own["conv1_kernel"] = 3
        if family == "efficientnet":
            own["depth_rounding"] = "nearest"  # rounding up cannot go far below the baseline
        own = {k: round(v, 4) if isinstance(v, float) else v for k, v in own.items()}
        return Design.of(family, size, **own)

    def _sizes(self) -> list[int]:
        return [max(8, round(self.size * rho)) for rho in _RESOLUTIONS]

    def _squeezenet(self) -> dict[str, BaseDistribution]:
        own: dict[str, BaseDistribution] = {
            "base_e": IntDistribution(16, 256, step=8),
            "incr_e": IntDistribution(0, 128, step=8),
            "freq": IntDistribution(1, 4),
            "pct_3x3": FloatDistribution(0.1, 0.9, step=0.05),
            "squeeze_ratio": FloatDistribution(0.125, 0.75, step=0.0625),
            "bypass": CategoricalDistribution(("none", "simple", "complex")),
            "fires": IntDistribution(3, 9),
            "pool_count": IntDistribution(1, 4),
            "downsampling": CategoricalDistribution(("early", "even", "late")),
            "conv1_channels": IntDistribution(16, 96, step=8),
        }
        if self.size > SMALL:
            own["conv1_kernel"] = CategoricalDistribution((3, 5, 7))
        else:
            own["conv1_kernel"] = CategoricalDistribution((3,))
        return own

    def _mobilenet(self) -> dict[str, BaseDistribution]:
        return {
            "width_mult": FloatDistribution(0.1, 1.2, step=0.05),
            "depth_coefficient": FloatDistribution(0.4, 1.4, step=0.1),
            "resolution": CategoricalDistribution(_RESOLUTIONS),
        }

    def _efficientnet(self) -> dict[str, BaseDistribution]:
        return {
            "width_coefficient": FloatDistribution(0.2, 1.2, step=0.05),
            "depth_coefficient": FloatDistribution(0.3, 1.4, step=0.1),
            "resolution": CategoricalDistribution(_RESOLUTIONS),
            "se_ratio": CategoricalDistribution((0.0, 0.25)),
        }


def _pools(fires: int, count: int, downsampling: str) -> tuple[int, ...]:
    """Place pools among conv1 and the Fire modules but the last: evenly, or towards either end.

    v1.0's (1, 4, 8) lie later than v1.1's (1, 3, 5), which are "early" here.
    """
    power = {"early": 2.0, "even": 1.0, "late": 0.5}[downsampling]
    shares = [(j / (count + 1)) ** power for j in range(1, count + 1)]
    return tuple(sorted({1 + round(share * (fires - 0.51)) for share in shares}))


def values(distribution: BaseDistribution) -> list[Any]:
    """Return all values of a parameter, numbers from the lowest on."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, (IntDistribution, FloatDistribution))
    assert distribution.step is not None
    steps = round((distribution.high - distribution.low) / distribution.step)
    return [min(distribution.low + i * distribution.step, distribution.high) for i in range(steps + 1)]


def _draw(distribution: BaseDistribution, rng: np.random.Generator) -> Any:
    every = values(distribution)
    return every[int(rng.integers(len(every)))]
