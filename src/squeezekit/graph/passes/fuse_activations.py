"""Let a layer apply its activation itself, so that what comes before the activation is never stored."""

from __future__ import annotations

from squeezekit.graph.graph import Graph, Node
from squeezekit.graph.operators import ACTIVATIONS
from squeezekit.graph.passes.rewrite import absorb, changed, only_user

__all__ = ["fuse_activations"]


def fuse_activations(graph: Graph) -> Graph:
    """Fuse every activation into the convolution, linear layer or (ReLU alone) addition before it.

    Where something else also reads what comes before the activation, both stay.
    """
    if graph.is_int8:
        return graph
    users = graph.users()
    by_name = {node.name: node for node in graph.nodes}
    merged: dict[str, Node] = {}
    for node in graph.nodes:
        before = by_name.get(node.inputs[0])
        if (
            node.op in ACTIVATIONS
            and before is not None
            and (before.op in ("conv", "linear") or (before.op == "add" and node.op == "relu"))
            and before.attributes["activation"] == "none"
            and only_user(graph, users, before.name, node.name)
        ):
            merged[node.name] = changed(before, attributes={"activation": node.op})
    return absorb(graph, merged)
