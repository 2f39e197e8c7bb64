"""What the methods see of a graph: the weights of its convolutions and linear layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezekit.errors import UserError
from squeezekit.graph.graph import Codebook, Graph, Node

__all__ = ["LAYERS", "Weights", "dense_bytes", "layers", "rest_bytes", "weights", "with_weights"]

Weights = NDArray[np.float32]

#: The operators whose weights are compressed.
LAYERS = ("conv", "linear")


def layers(graph: Graph) -> tuple[Node, ...]:
    """Return the convolutions and linear layers, in the order of the graph.

    Raises
    ------
    UserError
        There are none, or the graph is an int8 one.
    """
    if graph.is_int8:
        raise UserError("compress: the network is int8 already (give the float32 one)")
    found = tuple(node for node in graph.nodes if node.op in LAYERS)
    if not found:
        raise UserError("compress: the network has no convolution and no linear layer")
    return found


def weights(graph: Graph) -> dict[str, Weights]:
    """Return the weight of each convolution and linear layer by its name, dense and without any −0.

    Raises
    ------
    UserError
        As :func:`layers`.
    """
    return {node.name: node.dense("weight") + np.float32(0) for node in layers(graph)}


def with_weights(graph: Graph, changed: Mapping[str, Mapping[str, NDArray[Any] | Codebook]]) -> Graph:
    """Return the graph with some arrays exchanged.

    Parameters
    ----------
    graph : Graph
    changed : mapping of str to mapping
        New arrays by node and name: ``{"conv1": {"weight": ...}}``. What is not named stays.
    """
    nodes = tuple(
        replace(node, weights={**node.weights, **changed[node.name]}) if node.name in changed else node
        for node in graph.nodes
    )
    return replace(graph, nodes=nodes)


def rest_bytes(graph: Graph) -> int:
    """Count the bytes of all that is no layer's weight, biases for example, as float32."""
    kept = (
        array.size
        for node in graph.nodes
        for name, array in node.weights.items()
        if not (name == "weight" and node.op in LAYERS)
    )
    return 4 * sum(kept)


def dense_bytes(graph: Graph) -> int:
    """Count the bytes of all parameters as float32."""
    return 4 * graph.parameters
