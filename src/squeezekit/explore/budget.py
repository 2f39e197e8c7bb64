"""What a design may cost: ``bytes<=250k,macs<=50M,ram<=256k``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from squeezekit.errors import UserError, suggest
from squeezekit.graph.cost import parse_size

__all__ = ["METRICS", "Budget", "metric", "parse_budget", "written"]

#: What can be bounded and what can be an objective beside accuracy: what it is, for people.
METRICS = {
    "bytes": "size of the .sqz",
    "parameters": "trained numbers",
    "macs": "multiply-accumulates of a picture",
    "ram": "peak memory of all values in int8",
    "latency": "measured on this machine, one thread of the engine",
}

_EXPECTED = "(expected bounds such as bytes<=250k,macs<=50M,ram<=256k,latency<=5ms)"
_BOUND = re.compile(r"\s*(?P<name>\w+)\s*(<=|≤|=)\s*(?P<limit>\S+)\s*")


@dataclass(frozen=True)
class Budget:
    """Upper bounds.

    Attributes
    ----------
    bounds : tuple of (str, float)
        A metric of :data:`METRICS` and the most that it may be: bytes, numbers, or for latency seconds.
    added : tuple of str
        Those that nobody asked for: they bound the search, and say nothing about what matters.

    Examples
    --------
    >>> parse_budget("bytes<=250k").excess({"bytes": 500_000, "macs": 1})
    {'bytes': 2.0}
    """

    bounds: tuple[tuple[str, float], ...] = ()
    added: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ",".join(f"{name}<={written(name, limit)}" for name, limit in self.bounds)

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics that are bounded."""
        return tuple(name for name, _ in self.bounds)

    @property
    def asked(self) -> Budget:
        """The bounds that somebody asked for."""
        return Budget(tuple(bound for bound in self.bounds if bound[0] not in self.added))

    def excess(self, costs: Mapping[str, float]) -> dict[str, float]:
        """Return by how much the bounds are broken: cost over limit, of those among `costs` that are."""
        return {
            name: costs[name] / limit for name, limit in self.bounds if name in costs and costs[name] > limit
        }

    def holds(self, costs: Mapping[str, float]) -> bool:
        """Whether no bound is broken."""
        return not self.excess(costs)


def parse_budget(text: str) -> Budget:
    """Read what ``--budget`` takes; nothing bounds nothing.

    Raises
    ------
    UserError
        A bound that is none, an unknown metric, or one that is named twice.
    """
    bounds: dict[str, float] = {}
    for part in text.split(",") if text.strip() else []:
        found = _BOUND.fullmatch(part)
        if found is None:
            raise UserError(f"--budget {text}: {part.strip()!r} is no bound {_EXPECTED}")
        name = metric(found["name"], f"--budget {text}")
        if name in bounds:
            raise UserError(f"--budget {text}: {name} is bounded twice")
        bounds[name] = _limit(name, found["limit"], f"--budget {text}")
    return Budget(tuple(bounds.items()))


def metric(name: str, where: str) -> str:
    """Check the name of a metric.

    Raises
    ------
    UserError
        There is none of this name.
    """
    if name.lower() not in METRICS:
        raise UserError(f"{where}: unknown metric {name!r}{suggest(name, METRICS)} ({', '.join(METRICS)})")
    return name.lower()


def _limit(name: str, text: str, where: str) -> float:
    if name != "latency":
        return parse_size(text, where, _EXPECTED)
    number, unit = re.fullmatch(r"([\d.]*)\s*(\D*)", text, re.DOTALL).groups()  # type: ignore[union-attr]
    try:
        seconds = float(number) * {"ms": 1e-3, "s": 1.0, "us": 1e-6, "µs": 1e-6}[unit]
    except (ValueError, KeyError):
        raise UserError(f"{where}: {text!r} is no time (expected one such as 5ms)") from None
    if not 0 < seconds < 1e6:
        raise UserError(f"{where}: {text!r} is no time (expected one such as 5ms)")
    return seconds


def written(name: str, value: float) -> str:
    """Write a cost for people: ``84.3k``, ``12.1M``, ``3.20ms``."""
    if name == "latency":
        return f"{1000 * value:.3g}ms"
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= factor:
            return f"{value / factor:.4g}{unit}"
    return f"{value:.0f}"
