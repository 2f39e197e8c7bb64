"""``best``: what is known best today, for any canonical network, from pictures without labels.

1. Values: ranges from calibration pictures (:mod:`~squeezekit.compress.ranges`).
2. Importance: what an error of each output channel costs
   (:func:`~squeezekit.compress.calibration.importance`). One price of a bit, λ, for the whole network then
   gives every layer its bits.
3. Stage by stage, from the picture on: fit the layers to the inputs that the quantized network gives them,
   round them (:mod:`~squeezekit.compress.rounding`) and correct their biases.
4. Where there are thousands of pictures, learn (:mod:`~squeezekit.compress.learning`).
5. Write it in integers (:mod:`~squeezekit.compress.integers`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from squeezekit.compress.calibration import (
    Answers,
    Moments,
    blocks,
    few,
    importance,
    moments,
    observe,
    quantized_values,
    refined,
)
from squeezekit.compress.integers import int8_graph, rounded_weight
from squeezekit.compress.layers import layers
from squeezekit.compress.ranges import logits_node, quantizations, together
from squeezekit.compress.rounding import Rounded, nearest_bits, round_weights
from squeezekit.graph.graph import INPUT, Graph, Node, Quantization
from squeezekit.graph.to_torch import GraphModule, to_torch

__all__ = [
    "Calibrated",
    "Quantized",
    "calibrate",
    "changes",
    "outline",
    "predicted_loss",
    "price_of",
    "quantize",
]


@dataclass(frozen=True)
class Quantized:
    """What is chosen for every layer: whole weights, and biases in real numbers."""

    rounded: Mapping[str, Rounded]
    biases: Mapping[str, Tensor]

    @property
    def bits(self) -> float:
        """Bits of all weights, by the estimate."""
        return sum(each.bits for each in self.rounded.values())

    def graph(self, calibrated: Calibrated) -> Graph:
        """Return the int8 graph."""
        return int8_graph(calibrated.graph, calibrated.values, self.rounded, self.biases)


@dataclass(frozen=True)
class Calibrated:
    """A canonical network and what calibration pictures told of it."""

    graph: Graph
    pictures: NDArray[np.uint8]
    values: Mapping[str, Quantization | None]
    importance: Mapping[str, Tensor]
    moments: Mapping[str, Moments]

    def round(self, node: Node, price: float) -> Rounded:
        """Round one layer of the network as it was."""
        weight = _matrix(node.dense("weight"), node)
        importance = _rows(self.importance[node.name], node)
        return round_weights(weight, self.moments[node.name].believed(), importance, price)

    def empty(self) -> Quantized:
        """Return all weights as zero."""
        found = layers(self.graph)
        rounded = {}
        for node in found:
            filters = node.weights["weight"].shape[0]
            zeros = torch.zeros((filters, node.weights["weight"].size // filters), dtype=torch.int64)
            rounded[node.name] = Rounded(zeros, torch.ones(filters, dtype=torch.float64), 0.0, 0.0)
        return Quantized(rounded, {node.name: torch.from_numpy(node.dense("bias").copy()) for node in found})

    def nearest(self, node: Node, price: float) -> float:
        """Estimate the bits of a layer at a price, quickly."""
        weight = _matrix(node.dense("weight"), node)
        variance, importance = self.moments[node.name].variance(), self.importance[node.name]
        return nearest_bits(weight, variance, _rows(importance, node), price)


def outline(
    graph: Graph, pictures: NDArray[np.uint8], advance: Callable[[int], None] = lambda _: None
) -> Calibrated:
    """Learn from pictures no more than the ranges: what the file of an empty network needs."""
    return Calibrated(graph, pictures, quantizations(graph, observe(graph, pictures, advance)), {}, {})


def calibrate(
    graph: Graph, pictures: NDArray[np.uint8], advance: Callable[[int, int], None], *, seed: int = 0
) -> Calibrated:
    """Learn from pictures what rounding needs to know of a canonical graph."""
    found = layers(graph)
    last = _last_layers(graph)
    judges = len(few(pictures))
    weight = 4 * judges  # a range is tried four times, on few pictures
    logits = logits_node(graph)
    ranges = sum(INPUT not in group and logits not in group for group in together(graph))
    done, total = 0, 4 * len(pictures) + weight * ranges + 2 * judges * len(found)

    def count(more: int) -> None:
        nonlocal done
        done += more
        advance(min(done, total), total)

    values = outline(graph, pictures, count).values
    values = refined(graph, values, pictures, lambda n: count(weight * n))
    raw = importance(graph, found, last, pictures, lambda n: count(2 * n), seed=seed)
    matters = {}
    for node in found:
        each = torch.from_numpy(raw[node.name])
        # Of the last layer the pictures tell little: most classes are in none of them.
        own = 0.1 if node.name in last else 0.9
        matters[node.name] = own * each + (1 - own) * each.mean()
    seen = moments(to_torch(graph), None, found, pictures, count)
    first = Calibrated(graph, pictures, values, matters, seen)
    return replace(first, importance=measured(first, few(pictures), lambda n: count(2 * n * judges)))


#: The bits a weight at which layers are compared.
_BITS = 2.0


@torch.no_grad()
def measured(
    calibrated: Calibrated, pictures: NDArray[np.uint8], advance: Callable[[int], None]
) -> dict[str, Tensor]:
    """Correct the importance of each layer by what rounding it really does to the answers.

    The Fisher information is the curvature at a point, position by position. Rounding moves further, and the
    same way at every position; how much that adds differs from layer to layer. So each is rounded alone, and
    its importance multiplied by the measured change over the predicted one.
    """
    graph = calibrated.graph
    found = layers(graph)
    price = price_for(calibrated, _BITS)
    module = to_torch(graph).requires_grad_(False)
    answers = Answers(module, pictures)
    ratios: dict[str, float] = {}
    for node in found:
        part = module.part(node.name)
        weight, bias = (part.get_parameter(name).data.clone() for name in ("weight", "bias"))
        matters = calibrated.importance[node.name]
        rounded = _fit(node, module, None, calibrated.moments[node.name], matters, price)
        change = answers.change(module) / len(pictures)
        part.get_parameter("weight").data, part.get_parameter("bias").data = weight, bias
        # Where there is next to nothing to compare, rounding errors of float32 must not decide.
        ratios[node.name] = min(max(max(change, 1e-9) / max(rounded.loss, 1e-12), 1 / 30), 30.0)
        advance(1)
    return {name: each * ratios[name] for name, each in calibrated.importance.items()}


def price_for(calibrated: Calibrated, bits: float) -> float:
    """Return the price at which weights cost about so many bits, by rounding each to the nearest."""
    found = layers(calibrated.graph)
    total = sum(node.weights["weight"].size for node in found)
    low, high = -80.0, 40.0
    for _ in range(16):
        middle = (low + high) / 2
        spent = sum(calibrated.nearest(node, 2.0**middle) for node in found)
        low, high = (middle, high) if spent > bits * total else (low, middle)
    return float(2.0 ** ((low + high) / 2))


def quantize(
    calibrated: Calibrated,
    price: float,
    stages: int,
    advance: Callable[[int, int], None],
) -> Quantized:
    """Quantize at a price.

    Parameters
    ----------
    calibrated
        What :func:`calibrate` returned.
    price : float
        λ: nats of KL divergence that a bit must save.
    stages : int
        Parts of the network that are rounded one after the other.
    """
    graph, pictures = calibrated.graph, calibrated.pictures
    found = layers(graph)
    parts = _stages(found, stages)
    done, total = 0, len(parts) * len(pictures)

    def count(more: int) -> None:
        nonlocal done
        done += more
        advance(min(done, total), total)

    teacher, student = to_torch(graph).requires_grad_(False), to_torch(graph).requires_grad_(False)
    quantized_values(student, graph, calibrated.values)
    rounded: dict[str, Rounded] = {}
    for members in parts:
        seen = moments(student, teacher, members, pictures, count)
        for node in members:
            rounded[node.name] = _fit(
                node, student, teacher, seen[node.name], calibrated.importance[node.name], price
            )
    biases = {node.name: student.part(node.name).get_parameter("bias").detach() for node in found}
    return Quantized(rounded, biases)


#: How strongly a layer is held to the weights it has while it is fitted to its new inputs.
_HOLD = 0.02


def price_of(
    calibrated: Calibrated, bits: float, advance: Callable[[int, int], None], attempts: int = 4
) -> float:
    """Return the price at which rounding layer by layer spends about so many bits on all weights."""
    weights = sum(node.weights["weight"].size for node in layers(calibrated.graph))
    guess = 1.15 * bits / weights  # rounding with a price spends less than rounding to the nearest
    for attempt in range(attempts):
        price = price_for(calibrated, guess)
        spent, _ = _tried(calibrated, price, _part(advance, attempt, attempts))
        if abs(math.log(spent / bits)) < 0.008:
            break
        guess *= bits / spent
    return price


def predicted_loss(
    calibrated: Calibrated, loss: float, advance: Callable[[int, int], None], attempts: int = 5
) -> float:
    """Return the price at which rounding is predicted to change the answers by `loss`, nats a picture."""
    price = price_for(calibrated, 2.5)
    for attempt in range(attempts):
        _, total = _tried(calibrated, price, _part(advance, attempt, attempts))
        ratio = loss / max(total, 1e-12)
        price *= min(max(ratio, 1e-3), 1e3)
        if 0.9 < ratio < 1.1:
            break
    return price


@torch.no_grad()
def changes(calibrated: Calibrated, *candidates: Quantized) -> list[float]:
    """Measure by how much candidates change the answers to calibration pictures: nats a picture, of each."""
    module = to_torch(calibrated.graph)
    pictures = few(calibrated.pictures)
    answers = Answers(module, pictures)
    quantized_values(module, calibrated.graph, calibrated.values)
    found = []
    for made in candidates:
        for node in layers(calibrated.graph):
            part = module.part(node.name)
            part.get_parameter("weight").data = rounded_weight(made.rounded[node.name], node)
            part.get_parameter("bias").data = made.biases[node.name].float()
        found.append(answers.change(module) / len(pictures))
    return found


def _tried(calibrated: Calibrated, price: float, advance: Callable[[int, int], None]) -> tuple[float, float]:
    """Round every layer by itself; return the bits of all weights and the loss, both by the estimate."""
    found = layers(calibrated.graph)
    bits = loss = 0.0
    for done, node in enumerate(found):
        rounded = calibrated.round(node, price)
        bits, loss = bits + rounded.bits, loss + rounded.loss
        advance(done + 1, len(found))
    return bits, loss


def _part(advance: Callable[[int, int], None], part: int, parts: int) -> Callable[[int, int], None]:
    """Return the progress of one of several equal parts."""
    return lambda done, total: advance(part * total + done, parts * total)


def _fit(
    node: Node,
    student: GraphModule,
    teacher: GraphModule | None,
    seen: Moments,
    importance: Tensor,
    price: float,
) -> Rounded:
    """Round one layer of the student and correct its bias, in place."""
    part = student.part(node.name)
    origin = part if teacher is None else teacher.part(node.name)
    weight = _matrix(origin.get_parameter("weight").detach().numpy(), node)
    xx, yx, x, y = seen.centred()
    fitted = weight
    if teacher is not None:  # least squares: the original's sums, from the inputs there are now
        hold = torch.diag_embed(
            (_HOLD * xx.diagonal(dim1=1, dim2=2).mean(1, keepdim=True) + 1e-9).expand(-1, xx.shape[1])
        )
        fitted = torch.linalg.solve(xx + hold, (weight @ (yx + hold)).transpose(1, 2)).transpose(1, 2)
    rounded = round_weights(fitted, seen.shrunk(xx), _rows(importance, node), price)
    new = rounded_weight(rounded, node)
    matrix = _matrix(new.numpy(), node)
    missing = (weight @ y.unsqueeze(2) - matrix @ x.unsqueeze(2)).squeeze(2)
    groups = blocks(node)[0]
    shift = missing.flatten() if groups > 1 else missing.sum(0)
    part.get_parameter("weight").data = new
    part.get_parameter("bias").data = (origin.get_parameter("bias").detach().double() + shift).float()
    return rounded


def _rows(importance: Tensor, node: Node) -> Tensor:
    groups, _ = blocks(node)
    return importance.reshape(groups, -1) if groups > 1 else importance.reshape(1, -1)


def _matrix(weight: NDArray[np.float32], node: Node) -> Tensor:
    """A layer's filters in blocks, (B, O, n), float64."""
    groups, parts = blocks(node)
    flat = torch.from_numpy(np.array(weight, np.float64)).reshape(len(weight), -1)
    if groups > 1:
        return flat.reshape(groups, len(weight) // groups, -1)
    return flat.reshape(len(weight), parts, -1).transpose(0, 1)


def _last_layers(graph: Graph) -> set[str]:
    """Return the layers whose sums reach the output through no other layer."""
    by_name = {node.name: node for node in graph.nodes}
    found: set[str] = set()
    ahead = [graph.output]
    while ahead:
        node = by_name.get(ahead.pop())
        if node is None:
            continue
        if node.op in ("conv", "linear"):
            found.add(node.name)
        else:
            ahead += node.inputs
    return found


def _stages(found: Sequence[Node], count: int) -> list[list[Node]]:
    """Cut the layers, in order, into stages of about equal weight in the file; the last stands alone."""
    sizes = np.array([node.weights["weight"].size ** 0.5 for node in found])
    place = np.minimum((np.cumsum(sizes) - sizes / 2) / sizes.sum() * count, count - 1e-9).astype(int)
    if count > 1:
        place[-1] = count
    stages = [
        [node for node, p in zip(found, place, strict=True) if p == stage] for stage in range(count + 1)
    ]
    return [stage for stage in stages if stage]
