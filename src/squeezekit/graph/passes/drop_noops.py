"""Leave out what changes nothing: dropout at rest, identities, windows of one position."""

from __future__ import annotations

from squeezekit.graph.graph import Graph, Node
from squeezekit.graph.passes.rewrite import rename

__all__ = ["drop_noops"]


def drop_noops(graph: Graph) -> Graph:
    """Remove the nodes whose output is their input.

    Dropout, identity, a flatten of what is flat, a slice of all channels, a pool of 1 × 1 with stride 1, a
    shuffle of one group, an affine map by 1 and 0, a ReLU of a ReLU.
    """
    nodes: list[Node] = []
    now: dict[str, str] = {}
    made: dict[str, Node] = {}
    for node in graph.nodes:
        renamed = rename(node, now)
        if _is_noop(renamed, graph, made):
            now[node.name] = renamed.inputs[0]
        else:
            nodes.append(renamed)
            made[node.name] = renamed
    return Graph(graph.input, tuple(nodes), now.get(graph.output, graph.output))


def _is_noop(node: Node, graph: Graph, made: dict[str, Node]) -> bool:
    a = node.attributes
    shape = graph.tensors[node.inputs[0]].shape
    if node.op in ("dropout", "identity"):
        return True
    if node.op == "flatten":
        return len(shape) == 1
    if node.op == "slice":
        return (a["start"], a["end"]) == (0, shape[0])
    if node.op == "channel_shuffle":
        return a["groups"] in (1, shape[0])
    if node.op == "max_pool" or (node.op == "avg_pool" and not graph.is_int8):
        return a["kernel"] == a["stride"] == (1, 1) and not any(a["padding"])
    if node.op == "affine":
        return bool((node.dense("scale") == 1).all() and (node.dense("shift") == 0).all())
    if node.op == "relu" and node.inputs[0] in made:
        before = made[node.inputs[0]]
        return before.op in ("relu", "relu6") or before.attributes.get("activation") in ("relu", "relu6")
    return False
