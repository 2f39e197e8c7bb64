"""Fold batch normalisation (at rest a scale and a shift a channel) into the layer before it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from squeezekit.graph.graph import Graph, Node
from squeezekit.graph.passes.rewrite import absorb, changed, is_hollow, only_user

__all__ = ["as_affine", "fold_batch_norm"]


def fold_batch_norm(graph: Graph) -> Graph:
    """Fold every batch norm and affine map that follows a convolution or a linear layer into it.

    ``scale = gamma / sqrt(var + eps)``: the weights of output channel c are multiplied by ``scale[c]``, and
    the bias becomes ``(bias - mean) * scale + beta``. Computed in float64, rounded once. A batch norm that
    follows something else becomes an ``affine``.

    Returns
    -------
    Graph
        float32, without ``batch_norm``.
    """
    graph = replace(graph, nodes=tuple(_lone(node) for node in graph.nodes))
    while merged := _step(graph):
        graph = absorb(graph, merged)
    return Graph(graph.input, tuple(_lone(node) for node in graph.nodes), graph.output)


def _lone(node: Node) -> Node:
    if node.op != "batch_norm":
        return node
    scale, shift = as_affine(node)
    weights = {"scale": scale.astype(np.float32), "shift": shift.astype(np.float32)}
    return Node(node.name, "affine", node.inputs, {}, weights)


def _step(graph: Graph) -> dict[str, Node]:
    users = graph.users()
    merged: dict[str, Node] = {}
    by_name = {node.name: node for node in graph.nodes}
    for node in graph.nodes:
        before = by_name.get(node.inputs[0])
        if (
            node.op in ("batch_norm", "affine")
            and before is not None
            and before.op in ("conv", "linear")
            and before.attributes["activation"] == "none"
            and only_user(graph, users, before.name, node.name)
        ):
            merged[node.name] = _folded(before, *as_affine(node))
    return merged


def as_affine(node: Node) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return scale and shift of a batch norm or an affine map, in float64."""
    if node.op == "affine":
        return node.dense("scale").astype(np.float64), node.dense("shift").astype(np.float64)
    gamma, beta, mean, var = (node.dense(key).astype(np.float64) for key in ("gamma", "beta", "mean", "var"))
    scale = gamma / np.sqrt(var + node.attributes["eps"])
    return scale, beta - mean * scale


def _folded(layer: Node, scale: NDArray[np.float64], shift: NDArray[np.float64]) -> Node:
    bias = layer.dense("bias").astype(np.float64) if "bias" in layer.weights else 0.0
    new_bias = (bias * scale + shift).astype(np.float32)
    if is_hollow(layer.weights["weight"]):
        return changed(layer, {"bias": new_bias})
    weight = layer.dense("weight")
    per_channel = scale.reshape(-1, *(1,) * (weight.ndim - 1))
    return changed(layer, {"weight": (weight * per_channel).astype(np.float32), "bias": new_bias})
