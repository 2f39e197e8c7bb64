"""Cross-layer equalization (Nagel et al., arXiv:1906.04721, section 4.1).

A ReLU lets positive factors through: ``relu(s * x) = s * relu(x)``. So channel c of a layer can be divided by
s[c], and what the next layers multiply it with be multiplied by s[c], without changing the network. Chosen so
that the weights of both have equal ranges (equation 11), a grid with one step for many channels wastes less.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from squeezekit.graph.graph import Graph, Node
from squeezekit.graph.passes.rewrite import changed

__all__ = ["equalize"]

#: Operators that treat channels alike and let a positive factor through.
_THROUGH = ("relu", "max_pool", "avg_pool", "global_avg_pool", "dropout", "identity")

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class _Link:
    """Input channel j of the layer `after` is channel ``origin[j]`` of the layer before it; -1: another's."""

    after: str
    origin: NDArray[np.int64]


def equalize(graph: Graph, *, sweeps: int = 20, tolerance: float = 1e-3) -> Graph:
    """Equalize the ranges of weights across layers that only ReLUs, pools and concatenations separate.

    Layers with another activation, those whose output is added or multiplied, and the last one stay as they
    are. Depthwise convolutions take part on both sides.

    Parameters
    ----------
    graph
        float32, batch norm folded.
    sweeps
        At most so many rounds over the network: chains of layers settle step by step.
    tolerance
        Stop when no factor differs from 1 by more.

    Returns
    -------
    Graph
        Computes the same, up to rounding.
    """
    layers = {node.name: _Layer(node) for node in graph.nodes if node.op in ("conv", "linear")}
    chains = {} if graph.is_int8 else _chains(graph)
    for _ in range(sweeps):
        furthest = 0.0
        for name, links in chains.items():
            factors = _factors(layers[name], [(layers[link.after], link.origin) for link in links])
            furthest = max(furthest, float(np.abs(factors - 1).max()))
            layers[name].divide_outputs(factors)
            for link in links:
                arriving = np.where(link.origin >= 0, factors[link.origin], 1.0)
                layers[link.after].multiply_inputs(arriving)
        if furthest <= tolerance:
            break
    touched = {*chains, *(link.after for links in chains.values() for link in links)}
    nodes = tuple(layers[node.name].node() if node.name in touched else node for node in graph.nodes)
    return Graph(graph.input, nodes, graph.output)


class _Layer:
    """A convolution or linear layer and the factors its channels gather; weights change at the end."""

    def __init__(self, node: Node) -> None:
        self._node = node
        weight = node.dense("weight")
        groups = int(node.attributes.get("groups", 1))
        # The largest weight of each output and input channel: (groups, outputs a group, inputs a group).
        self._largest = np.abs(weight.reshape(groups, len(weight) // groups, weight.shape[1], -1)).max(axis=3)
        self._outputs = np.ones((groups, len(weight) // groups, 1))
        self._inputs = np.ones((groups, 1, weight.shape[1]))

    def output_ranges(self) -> Doubles:
        """Largest weight of each output channel."""
        ranges: Doubles = (self._largest * self._inputs).max(axis=2, keepdims=True) / self._outputs
        return ranges.reshape(-1)

    def input_ranges(self) -> Doubles:
        """Largest weight that each input channel is multiplied with."""
        ranges: Doubles = (self._largest / self._outputs).max(axis=1, keepdims=True) * self._inputs
        return ranges.reshape(-1)

    def divide_outputs(self, factors: Doubles) -> None:
        """Make what the layer computes smaller, channel by channel."""
        self._outputs *= factors.reshape(self._outputs.shape)

    def multiply_inputs(self, factors: Doubles) -> None:
        """Follow inputs that were divided by `factors`."""
        self._inputs *= factors.reshape(self._inputs.shape)

    def node(self) -> Node:
        """Return the layer as it is now; what padding is filled with was divided as the inputs were."""
        weight = self._node.dense("weight")
        groups = len(self._largest)
        scaled = weight.reshape(groups, len(weight) // groups, weight.shape[1], -1).astype(np.float64)
        scaled *= (self._inputs / self._outputs)[..., None]
        new = {"weight": scaled.reshape(weight.shape).astype(np.float32)}
        for key, factors in (("bias", self._outputs), ("pad_value", self._inputs)):
            if key in self._node.weights:
                new[key] = (self._node.dense(key) / factors.reshape(-1)).astype(np.float32)
        return changed(self._node, new)


def _factors(before: _Layer, after: list[tuple[_Layer, NDArray[np.int64]]]) -> Doubles:
    """Equation 11: ``s = sqrt(r1 / r2)``; 1 where a channel has no weights or nobody reads it."""
    first = before.output_ranges()
    second = np.zeros_like(first)
    for layer, origin in after:
        arrived = origin >= 0
        np.maximum.at(second, origin[arrived], layer.input_ranges()[arrived])
    alive = (first > 0) & (second > 0)
    factors: Doubles = np.sqrt(np.where(alive, first, 1.0) / np.where(alive, second, 1.0))
    return factors


def _chains(graph: Graph) -> dict[str, list[_Link]]:
    """For each layer whose channels may be scaled, who reads them."""
    chains = {}
    for node in graph.nodes:
        if node.op in ("conv", "linear") and node.attributes["activation"] in ("none", "relu"):
            links = _followers(graph, node.name)
            if links:
                chains[node.name] = links
    return chains


def _followers(graph: Graph, name: str) -> list[_Link]:
    """Find the layers that read `name` through operators which let a factor pass; none if others read it."""
    # Of each value that `name` reaches, which of its channels every channel is; -1 for another's.
    origin = {name: np.arange(graph.tensors[name].shape[0])}
    links = []
    for node in graph.nodes:
        reached = [each for each in node.inputs if each in origin]
        if not reached:
            continue
        source = origin[reached[0]]
        if node.op in ("conv", "linear"):
            links.append(_Link(node.name, source))
        elif node.op == "concat":
            others = [np.full(graph.tensors[each].shape[0], -1) for each in node.inputs]
            parts = zip(node.inputs, others, strict=True)
            origin[node.name] = np.concatenate([origin.get(each, other) for each, other in parts])
        elif node.op == "slice":
            origin[node.name] = source[node.attributes["start"] : node.attributes["end"]]
        elif node.op == "channel_shuffle":
            origin[node.name] = source.reshape(node.attributes["groups"], -1).T.reshape(-1)
        elif node.op == "flatten":
            positions = graph.tensors[node.name].size // len(source)
            origin[node.name] = np.repeat(source, positions)
        elif node.op in _THROUGH:
            origin[node.name] = source
        else:
            return []
    return [] if graph.output in origin else links
