"""Pieces that the passes share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from squeezekit.graph.graph import Array, Graph, Node

__all__ = ["absorb", "changed", "is_hollow", "only_user", "rename"]


def rename(node: Node, now: Mapping[str, str]) -> Node:
    """Let a node read what its inputs are called now."""
    inputs = tuple(now.get(name, name) for name in node.inputs)
    return node if inputs == node.inputs else replace(node, inputs=inputs)


def changed(
    node: Node, weights: Mapping[str, Array] | None = None, attributes: Mapping[str, Any] | None = None
) -> Node:
    """Return a node with other weights and attributes, the rest as it was."""
    return replace(
        node,
        attributes={**node.attributes, **(attributes or {})},
        weights={**node.weights, **(weights or {})},
    )


def only_user(graph: Graph, users: Mapping[str, tuple[str, ...]], name: str, user: str) -> bool:
    """Whether a value is read by one node alone, and is not the graph's result."""
    return name != graph.output and users[name] == (user,)


def absorb(graph: Graph, merged: Mapping[str, Node]) -> Graph:
    """Take nodes out whose work their input's node has taken over.

    Parameters
    ----------
    merged
        For each node that goes, the new form of the node before it, which keeps its own name.
    """
    now = {name: node.name for name, node in merged.items()}
    new = {node.name: node for node in merged.values()}
    nodes = tuple(rename(new.get(node.name, node), now) for node in graph.nodes if node.name not in merged)
    return Graph(graph.input, nodes, now.get(graph.output, graph.output))


def is_hollow(weight: Any) -> bool:
    """Whether a weight is a shape alone (see ``from_torch``): zeros without memory, which shall stay so."""
    return isinstance(weight, np.ndarray) and weight.size > 1 and not any(weight.strides)
