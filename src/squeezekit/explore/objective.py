"""What a search makes as good as it can: accuracy, accuracy beside costs, or MnasNet's product."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from squeezekit.errors import UserError, suggest
from squeezekit.explore.budget import METRICS

__all__ = ["Objective", "parse_objective"]

#: w of ACC(m) × (FLOPS(m)/T)^w: EfficientNet, arXiv:1905.11946, section 4; MnasNet, arXiv:1807.11626,
#: equation 3.
EXPONENT = -0.07


@dataclass(frozen=True)
class Objective:
    """One number or several.

    Attributes
    ----------
    names : tuple of str
        ``("accuracy",)``; ``("mnasnet",)``; or accuracy and metrics of costs.
    target : float or None
        T of MnasNet's product, in multiply-accumulates.
    """

    names: tuple[str, ...]
    target: float | None = None

    def __str__(self) -> str:
        return ",".join(self.names)

    @property
    def directions(self) -> list[Literal["minimize", "maximize"]]:
        """As Optuna names them."""
        return ["minimize" if name in METRICS else "maximize" for name in self.names]

    @property
    def costs(self) -> tuple[str, ...]:
        """The costs among them."""
        return tuple(name for name in self.names if name in METRICS)

    @property
    def several(self) -> bool:
        """Whether there is more than one number, and so no single best design."""
        return len(self.names) > 1

    def values(self, accuracy: float, costs: Mapping[str, float]) -> list[float]:
        """Return the numbers of a design.

        Examples
        --------
        >>> Objective(("mnasnet",), 1e6).values(0.5, {"macs": 2e6})  # twice the work costs 5 %
        [0.4763...]
        """
        if self.names == ("mnasnet",):
            assert self.target is not None
            return [accuracy * (costs["macs"] / self.target) ** EXPONENT]
        return [accuracy if name == "accuracy" else float(costs[name]) for name in self.names]


def parse_objective(text: str, target: float | None) -> Objective:
    """Read what ``--objective`` takes.

    Parameters
    ----------
    text
        ``"accuracy"``, ``"mnasnet"``, or ``"accuracy,bytes"`` and the like.
    target
        T, for MnasNet's.

    Raises
    ------
    UserError
        An unknown metric, or a product without its T.
    """
    names = tuple(name.strip().lower() for name in text.split(","))
    known = ("accuracy", "mnasnet", *METRICS)
    for name in names:
        if name not in known:
            raise UserError(
                f"--objective {text}: unknown metric {name!r}{suggest(name, known)} ({', '.join(known)})"
            )
    if names == ("mnasnet",):
        if target is None:
            raise UserError("--objective mnasnet: needs its T (--target-macs 50M, or a bound macs<=50M)")
        return Objective(names, target)
    if names[0] != "accuracy" or "mnasnet" in names or len(set(names)) < len(names):
        raise UserError(
            f"--objective {text}: accuracy first, then costs, each once (or mnasnet alone): accuracy,bytes"
        )
    return Objective(names)
