"""Let what acts on single values come before a max pool, where a layer can take it up."""

from __future__ import annotations

from dataclasses import replace

from squeezekit.graph.graph import Graph, Node
from squeezekit.graph.passes.fold_batch_norm import as_affine
from squeezekit.graph.passes.rewrite import is_hollow, only_user

__all__ = ["pool_late"]


def pool_late(graph: Graph) -> Graph:
    """Exchange a max pool and what follows it, if that never falls where its input rises.

    A ReLU, or a batch norm or affine map whose scales are all positive: the largest value of a window is
    then the largest after it too, exactly. Only after a layer, which the other passes can fuse it with.
    """
    while (found := _first(graph)) is not None:
        pool, after = found
        # Each takes the other's place, and with it the readers.
        now = {pool.name: replace(after, inputs=pool.inputs), after.name: replace(pool, inputs=(after.name,))}
        nodes = tuple(
            now[node.name]
            if node.name in now
            else replace(node, inputs=tuple(pool.name if i == after.name else i for i in node.inputs))
            for node in graph.nodes
        )
        graph = Graph(graph.input, nodes, pool.name if graph.output == after.name else graph.output)
    return graph


def _first(graph: Graph) -> tuple[Node, Node] | None:
    users = graph.users()
    by_name = {node.name: node for node in graph.nodes}
    for after in graph.nodes:
        pool = by_name.get(after.inputs[0])
        if (
            _rises(after)
            and pool is not None
            and pool.op == "max_pool"
            and only_user(graph, users, pool.name, after.name)
            and _is_layer(by_name.get(pool.inputs[0]))
            and only_user(graph, users, pool.inputs[0], pool.name)
        ):
            return pool, after
    return None


def _rises(node: Node) -> bool:
    if node.op == "batch_norm" and is_hollow(node.weights["gamma"]):
        return True  # of a network without weights, whose scales start at one
    return node.op == "relu" or (node.op in ("batch_norm", "affine") and bool((as_affine(node)[0] > 0).all()))


def _is_layer(node: Node | None) -> bool:
    return node is not None and node.op in ("conv", "linear", "batch_norm", "affine")
