"""Fold the picture's preparation, mean and scale, into the first layer: the network then takes bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from squeezekit.errors import UserError
from squeezekit.graph.graph import INPUT, Graph, Node
from squeezekit.graph.passes.rewrite import changed, is_hollow, rename

__all__ = ["fold_affine", "prepare"]


def prepare(
    graph: Graph, mean: Sequence[float], scale: Sequence[float], *, reverse_channels: bool = False
) -> Graph:
    """Put the preparation before a network: ``(x - mean) * scale`` a channel, as an ``affine`` on its input.

    Parameters
    ----------
    graph
        float32, of prepared pictures.
    mean, scale
        One number a channel, in the network's order of channels.
    reverse_channels
        The network's order is the reverse of the picture's (BGR): its first convolutions are turned around.

    Returns
    -------
    Graph
        Of pictures as they are: 0 … 255, red first.

    Raises
    ------
    UserError
        The numbers do not match the channels, or the first layers cannot be turned around.
    """
    channels = graph.input.shape[0]
    if len(mean) != channels or len(scale) != channels:
        raise UserError(f"a mean of {len(mean)} numbers and a scale of {len(scale)} for {channels} channels")
    factor, offset = np.asarray(scale, np.float64), np.asarray(mean, np.float64)
    nodes = graph.nodes
    if reverse_channels:
        factor, offset = factor[::-1], offset[::-1]
        nodes = tuple(_reversed(node) if INPUT in node.inputs else node for node in nodes)
    name = "preparation"
    while name in graph.tensors:
        name += "_"
    weights = {
        "scale": factor.astype(np.float32),
        "shift": (-offset * factor).astype(np.float32),
    }
    affine = Node(name, "affine", (INPUT,), {}, weights)
    renamed = tuple(rename(node, {INPUT: name}) for node in nodes)
    return Graph(graph.input, (affine, *renamed), name if graph.output == INPUT else graph.output)


def _reversed(node: Node) -> Node:
    if node.op not in ("conv", "linear") or node.attributes.get("groups", 1) != 1:
        raise UserError(
            f"{node.name} ({node.op}): the order of the picture's channels cannot be turned before it"
        )
    weights = {"weight": node.dense("weight")[:, ::-1]}
    if "pad_value" in node.weights:
        weights["pad_value"] = node.dense("pad_value")[::-1]
    return changed(node, {key: np.ascontiguousarray(weight) for key, weight in weights.items()})


def fold_affine(graph: Graph) -> Graph:
    """Fold an ``affine`` that stands right after the input into the layers that read it.

    With ``y = x * scale + shift`` the weights of input channel i are multiplied by ``scale[i]`` and the bias
    grows by what ``shift`` alone would add. Where a convolution pads, its zeros meant ``y = 0``; what must
    now stand there is ``x = -shift / scale``, the mean colour, which becomes its ``pad_value``: exact at the
    border too.

    Returns
    -------
    Graph
        The graph itself where there is no such node, or where another operator than a convolution or linear
        layer reads it, or where a scale of zero leaves no colour that would mean zero.
    """
    first = next((node for node in graph.nodes if node.op == "affine" and node.inputs == (INPUT,)), None)
    if first is None or first.name == graph.output:
        return graph
    readers = [node for node in graph.nodes if first.name in node.inputs]
    scale = first.dense("scale").astype(np.float64)
    for node in readers:
        pads = node.op == "conv" and any(node.attributes["padding"])
        if node.op not in ("conv", "linear") or (pads and (scale == 0).any()):
            return graph
    shift = first.dense("shift").astype(np.float64)
    folded = {node.name: rename(_folded(node, scale, shift), {first.name: INPUT}) for node in readers}
    nodes = tuple(folded.get(node.name, node) for node in graph.nodes if node.name != first.name)
    return Graph(graph.input, nodes, graph.output)


def _folded(layer: Node, scale: NDArray[np.float64], shift: NDArray[np.float64]) -> Node:
    weight = layer.dense("weight")
    groups = layer.attributes.get("groups", 1)
    # Of each row of weights, the input channels it sees: those of its group.
    seen = np.repeat(np.arange(len(scale)).reshape(groups, -1), len(weight) // groups, axis=0)
    spread = (*seen.shape, *(1,) * (weight.ndim - 2))
    bias = layer.dense("bias").astype(np.float64) if "bias" in layer.weights else 0.0
    weights = {}
    if not is_hollow(weight):
        weights["weight"] = (weight * scale[seen].reshape(spread)).astype(np.float32)
    rest = tuple(range(1, weight.ndim))
    weights["bias"] = (bias + (weight * shift[seen].reshape(spread)).sum(axis=rest)).astype(np.float32)
    if layer.op == "conv" and any(layer.attributes["padding"]):
        before = layer.dense("pad_value").astype(np.float64) if "pad_value" in layer.weights else 0.0
        weights["pad_value"] = ((before - shift) / scale).astype(np.float32)
    return changed(layer, weights)
