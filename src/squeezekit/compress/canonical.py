"""A float network as quantization wants it: layers, tables, pools, sums and concatenations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from squeezekit.errors import UserError
from squeezekit.graph.graph import Graph, Node
from squeezekit.graph.operators import OPERATORS
from squeezekit.graph.passes import at_rest, fold_affine

__all__ = ["CLAMPS", "TABLES", "canonical"]

#: Activations that an int8 layer applies by where it clamps.
CLAMPS = ("none", "relu", "relu6")
#: Activations that become tables of 256 entries.
TABLES = ("silu", "sigmoid", "hard_swish", "hard_sigmoid")


def canonical(graph: Graph) -> Graph:
    """Fold and fuse what can be, and check that int8 arithmetic has a word for the rest.

    Returns
    -------
    Graph
        float32, of pictures 0 … 255. Layers have a bias and carry no other activation than :data:`CLAMPS`;
        each of :data:`TABLES` is a node of its own.

    Raises
    ------
    UserError
        An operator has no int8 form; all of them are named.
    """
    graph = fold_affine(at_rest(graph))
    graph = replace(graph, nodes=tuple(_layer(node, graph) for node in graph.nodes))
    nodes: list[Node] = []
    moved: dict[str, str] = {}
    taken = set(graph.tensors)
    for node in graph.nodes:
        node = replace(node, inputs=tuple(moved.get(name, name) for name in node.inputs))
        activation = node.attributes.get("activation", "none")
        if activation in CLAMPS:
            nodes.append(node)
            continue
        name = f"{node.name}_{activation}"
        while name in taken:
            name += "_"
        taken.add(name)
        table = Node(name, activation, (node.name,))
        nodes += [replace(node, attributes={**node.attributes, "activation": "none"}), table]
        moved[node.name] = table.name
    unknown = [n for n in nodes if not (OPERATORS[n.op].in_int8 or n.op in (*TABLES, "relu", "relu6"))]
    if unknown:
        named = ", ".join(f"{node.name} ({node.op})" for node in unknown[:5])
        raise UserError(f"the network cannot become int8: no integer form of {named}")
    return Graph(graph.input, tuple(nodes), moved.get(graph.output, graph.output))


def _layer(node: Node, graph: Graph) -> Node:
    """Give a layer its bias; a scale and shift a channel that nothing took in is a depthwise 1 × 1 layer."""
    if node.op in ("conv", "linear") and "bias" not in node.weights:
        bias = np.zeros(node.weights["weight"].shape[0], np.float32)
        return replace(node, weights={**node.weights, "bias": bias})
    shape = graph.tensors[node.name].shape
    if node.op != "affine" or len(shape) != 3:
        return node
    attributes = {"kernel": (1, 1), "stride": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1)}
    weights = {"weight": node.dense("scale").reshape(-1, 1, 1, 1), "bias": node.dense("shift")}
    return Node(node.name, "conv", node.inputs, {**attributes, "groups": shape[0]}, weights)
