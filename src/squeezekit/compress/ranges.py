"""What each value's bytes shall mean: scales and zero points, from what calibration pictures make of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from squeezekit.graph.graph import INPUT, Graph, Quantization
from squeezekit.graph.operators import OPERATORS

__all__ = ["Seen", "logits_node", "quantizations", "together", "wider"]

#: Shares of the largest value seen at which values may be cut off.
_CUTS = np.linspace(0.4, 1.0, 31)


@dataclass
class Seen:
    """What a value has been on the calibration pictures.

    Attributes
    ----------
    low, high : float
        The extremes.
    sample : ndarray of float32
        Some of the values.
    """

    low: float
    high: float
    sample: NDArray[np.float32]


def logits_node(graph: Graph) -> str | None:
    """Return the node that may give its sums as they are: the last layer or pool, without an activation."""
    name = graph.output
    while name != INPUT and graph.node(name).op == "flatten":
        name = graph.node(name).inputs[0]
    if name == INPUT:
        return None
    node = graph.node(name)
    plain = node.attributes.get("activation", "none") == "none"
    return name if node.op in ("conv", "linear", "global_avg_pool") and plain else None


def together(graph: Graph) -> list[list[str]]:
    """Sort all values by which must have one quantization.

    The inputs of a concatenation agree with its output, and a pool with what it pools.
    """
    chief: dict[str, str] = {name: name for name in graph.tensors}

    def find(name: str) -> str:
        while chief[name] != name:
            name = chief[name]
        return name

    for node in graph.nodes:
        if OPERATORS[node.op].keeps:
            for name in node.inputs:
                chief[find(name)] = find(node.name)
    groups: dict[str, list[str]] = {}
    for name in graph.tensors:
        groups.setdefault(find(name), []).append(name)
    return list(groups.values())


def quantizations(graph: Graph, seen: Mapping[str, Seen]) -> dict[str, Quantization | None]:
    """Choose the quantization of every value of a canonical graph.

    The range is the one of the least error on the samples, in the third power: a few extreme values are cut
    off where that makes all others finer, but not as readily as squares would have it, because the largest
    values decide the answer.

    Returns
    -------
    dict of str to Quantization or None
        None for the logits and what is only a view of them.
    """
    logits = logits_node(graph)
    kept = {node.name for node in graph.nodes if OPERATORS[node.op].keeps}
    found: dict[str, Quantization | None] = {}
    for members in together(graph):
        choice: Quantization | None = None
        if INPUT in members:
            choice = Quantization(1.0, 0)
        elif logits not in members:
            choice = _choose([seen[name] for name in members if name not in kept])
        found.update(dict.fromkeys(members, choice))
    return found


def wider(quantization: Quantization, factor: float) -> Quantization:
    """Return a quantization of a wider range (or a narrower one), about the same zero."""
    return Quantization(float(np.float32(quantization.scale * factor)), quantization.zero_point)


def _choose(seen: list[Seen]) -> Quantization:
    low = min(0.0, *(each.low for each in seen))
    high = max(0.0, *(each.high for each in seen))
    if high - low < 1e-20:
        return Quantization(1.0, 0)
    sample = np.concatenate([each.sample for each in seen]).astype(np.float64)
    sample = sample[(sample > 0) | (sample < 0)]  # zero is exact whatever is chosen
    candidates = [_affine(low * cut, high * cut) for cut in _CUTS]
    errors = [(np.abs(fake(sample, each) - sample) ** 3).sum() for each in candidates]
    return candidates[int(np.argmin(errors))]


def _affine(low: float, high: float) -> Quantization:
    scale = float(np.float32((high - low) / 255))
    return Quantization(scale, int(np.clip(np.rint(-low / scale), 0, 255)))


def fake(values: NDArray[np.float64], quantization: Quantization) -> NDArray[np.float64]:
    """Return the nearest numbers that the bytes can mean."""
    zero = quantization.zero_point
    levels = np.clip(np.rint(values / quantization.scale), -zero, 255 - zero)
    result: NDArray[np.float64] = levels * quantization.scale
    return result
