"""From rounded weights and the meaning of bytes to the int8 graph that ships."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from squeezekit.compress.ranges import logits_node
from squeezekit.compress.rounding import STEPS_PER_OCTAVE, Rounded
from squeezekit.format import bias_shift, scale_grid
from squeezekit.graph.graph import INPUT, Graph, Node, Quantization
from squeezekit.graph.graph import Tensor as Value
from squeezekit.graph.operators import OPERATORS, window_counts
from squeezekit.graph.run import run

__all__ = ["int8_graph"]

#: Of sums there must be room for as much again.
_LARGEST_BIAS = 2.0**30


def int8_graph(
    graph: Graph,
    values: Mapping[str, Quantization | None],
    rounded: Mapping[str, Rounded],
    biases: Mapping[str, Tensor],
) -> Graph:
    """Write a canonical graph in integers.

    Parameters
    ----------
    graph
        Canonical.
    values
        Of every value, as :func:`squeezekit.compress.ranges.quantizations` chooses.
    rounded
        Of every layer.
    biases
        Of every layer, in real numbers.

    Returns
    -------
    Graph
        int8.
    """
    logits = logits_node(graph)
    nodes = [_node(node, graph, values, rounded, biases, logits) for node in graph.nodes]
    shape = graph.input
    return Graph(Value(INPUT, shape.shape, values[INPUT]), tuple(nodes), graph.output)


def _node(
    node: Node,
    graph: Graph,
    values: Mapping[str, Quantization | None],
    rounded: Mapping[str, Rounded],
    biases: Mapping[str, Tensor],
    logits: str | None,
) -> Node:
    inputs = [values[name] for name in node.inputs]
    out = values[node.name]
    scale = 1.0 if out is None else out.scale
    attributes: dict[str, Any] = dict(node.attributes)
    if node.name == logits:
        attributes["logits"] = 1
    weights: dict[str, NDArray[Any]] = {}
    op = node.op
    if op in ("conv", "linear"):
        assert inputs[0] is not None
        weights = _layer(node, rounded[node.name], biases[node.name], inputs[0], scale, exact=out is None)
    elif op in ("add", "mul", "avg_pool", "global_avg_pool"):
        scales = [each.scale for each in inputs if each is not None]
        weights["multiplier"] = _multipliers(node, graph, scales, scale)
    elif not OPERATORS[op].keeps:
        assert inputs[0] is not None
        assert out is not None
        weights["table"] = table(op, inputs[0], out)
        op, attributes = "table", {}
    return Node(node.name, op, node.inputs, attributes, weights, out)


def _layer(
    node: Node, rounded: Rounded, bias: Tensor, seen: Quantization, scale: float, *, exact: bool
) -> dict[str, NDArray[Any]]:
    real = bias.double().numpy()
    q, octaves = _reaching(rounded, np.abs(real) / seen.scale)
    # On the grid of the file: the steps are powers of two to a quarter, the base is what they share.
    multiplier = scale_grid(seen.scale / scale, octaves * (16 // STEPS_PER_OCTAVE))
    unit = multiplier.astype(np.float64) * scale  # what one of the sum means
    grid = np.exp2(np.zeros(len(unit)) if exact else bias_shift(multiplier))
    units = np.clip(np.rint(real / unit / grid) * grid, -_LARGEST_BIAS, _LARGEST_BIAS)
    weights: dict[str, NDArray[Any]] = {
        "weight": q.astype(np.int8).reshape(node.weights["weight"].shape),
        "bias": units.astype(np.int32),
        "multiplier": multiplier,
    }
    if "pad_value" in node.weights:
        byte = np.rint(node.dense("pad_value") / seen.scale) + seen.zero_point
        weights["pad_value"] = np.clip(byte, 0, 255).astype(np.uint8)
    return weights


def _reaching(rounded: Rounded, largest: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return whole weights, and their steps as logarithms, in which sums as large as `largest` fit.

    Weights of a filter that are next to nothing have a step in which its bias is beyond any int32: it becomes
    coarser. A filter of zeros may take any step, and takes a usual one.
    """
    q = rounded.q.numpy()
    octaves = np.rint(np.log2(rounded.step.numpy()) * STEPS_PER_OCTAVE).astype(np.int64)
    alive = q.any(axis=1)
    if alive.any():
        octaves = np.where(alive, octaves, int(np.median(octaves[alive])))
    lowest = np.ceil(np.log2(np.maximum(largest, 1e-30) / _LARGEST_BIAS)).astype(np.int64)
    coarser = np.maximum(0, lowest - octaves // STEPS_PER_OCTAVE)
    whole = np.rint(q / np.exp2(coarser)[:, None]).astype(np.int64)
    return whole, octaves + coarser * STEPS_PER_OCTAVE


def _multipliers(node: Node, graph: Graph, inputs: list[float], out: float) -> NDArray[np.float32]:
    if node.op == "add":
        return np.array([each / out for each in inputs], np.float32)
    if node.op == "mul":
        return np.array([inputs[0] * inputs[1] / out], np.float32)
    shape = graph.tensors[node.inputs[0]].shape
    if node.op == "global_avg_pool":
        return np.array([inputs[0] / (shape[1] * shape[2] * out)], np.float32)
    counts = np.unique(window_counts(node, shape))
    if len(counts) > 1:
        counts = np.arange(1, int(np.prod(node.attributes["kernel"])) + 1)
    multipliers: NDArray[np.float32] = (inputs[0] / (counts * out)).astype(np.float32)
    return multipliers


def table(op: str, seen: Quantization, out: Quantization) -> NDArray[np.uint8]:
    """Return what an activation makes of each of the 256 bytes."""
    real = ((np.arange(256) - seen.zero_point) * seen.scale).astype(np.float32)
    alone = Graph(Value(INPUT, (256,)), (Node(op, op, (INPUT,)),), op)
    answer = run(alone, real[None])[0].astype(np.float64)
    entries: NDArray[np.uint8] = np.clip(np.rint(answer / out.scale) + out.zero_point, 0, 255).astype(
        np.uint8
    )
    return entries


def rounded_weight(rounded: Rounded, node: Node) -> Tensor:
    """Return a layer's weight as the integers mean it, float32, in the layer's shape."""
    real = rounded.q.double() * rounded.step.unsqueeze(1)
    return real.reshape(node.weights["weight"].shape).to(torch.float32)
