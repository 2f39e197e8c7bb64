"""SVD of the layers: one convolution or linear layer becomes two thinner ones.

"Exploiting Linear Structure Within Convolutional Networks for Efficient Evaluation" (Denton et al.,
arXiv:1404.0736, section 3.2), the "SVD" of Table 2 in the SqueezeNet paper. The weight of a layer, as a
matrix of out × (in · height · width), is cut to rank r: r filters of the old size, then 1 × 1 to the outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezekit.compress.layers import dense_bytes, layers
from squeezekit.errors import UserError, suggest
from squeezekit.graph.graph import Graph, Node

__all__ = ["decompose", "decompose_to_bytes", "ranks_by_energy", "with_ranks"]

_Matrix = NDArray[np.float64]
_Parts = tuple[_Matrix, _Matrix, _Matrix]


def decompose(graph: Graph, energy: float) -> Graph:
    """Cut each layer to the least rank that keeps a share of its energy.

    Parameters
    ----------
    graph : Graph
        float32.
    energy : float
        The share of the sum of squares of a layer's weights that its rank must keep, above 0, at most 1.

    Returns
    -------
    Graph
        A layer ``conv`` that gets smaller by it is now ``conv.basis`` and ``conv``; the others stay as they
        are, and so do grouped convolutions, whose groups are thin already.

    Raises
    ------
    UserError
        `energy` is out of range.
    """
    parts = _parts(graph)
    return _build(graph, parts, _ranks(parts, energy))


def ranks_by_energy(graph: Graph, energy: float) -> dict[str, int]:
    """Return the rank that :func:`decompose` chooses for each layer; a layer that stays is not in it."""
    parts = _parts(graph)
    ranks = _ranks(parts, energy)
    return {name: rank for name, rank in ranks.items() if _saves(parts[name], rank)}


def decompose_to_bytes(graph: Graph, max_bytes: int) -> Graph:
    """Cut the layers, all with the same share of energy, until their float32 parameters fit.

    Parameters
    ----------
    graph : Graph
        float32.
    max_bytes : int
        That all parameters of the result may take together, 4 bytes each.

    Returns
    -------
    Graph
        With the most energy that fits, to within one part in 2**30.

    Raises
    ------
    UserError
        Even rank 1 everywhere takes more; the text says how much.
    """
    parts = _parts(graph)
    before = dense_bytes(graph)

    def size(energy: float) -> int:
        ranks = _ranks(parts, energy)
        return before - 4 * sum(max(0, _saved(parts[name], rank)) for name, rank in ranks.items())

    low, high = 1e-9, 1.0
    if size(high) <= max_bytes:
        return graph
    if size(low) > max_bytes:
        raise UserError(
            f"svd: {max_bytes:,} bytes cannot be reached: rank 1 in every layer takes {size(low):,}"
        )
    while high - low > 2**-30:
        middle = (low + high) / 2
        low, high = (middle, high) if size(middle) <= max_bytes else (low, middle)
    return _build(graph, parts, _ranks(parts, low))


def with_ranks(graph: Graph, ranks: Mapping[str, int]) -> Graph:
    """Cut the layers named to the ranks given, whether that saves or not.

    Raises
    ------
    UserError
        A layer is not there or is grouped, or its rank is not from 1 to the full one.
    """
    parts = _parts(graph)
    for name, rank in ranks.items():
        if name not in parts:
            raise UserError(f"svd: no layer that can be cut is called {name!r}{suggest(name, parts)}")
        full = len(parts[name][1])
        if not 1 <= rank <= full:
            raise UserError(f"svd: {name} cannot have rank {rank} (1 to {full})")
    return _surgery(graph, parts, ranks)


def _parts(graph: Graph) -> dict[str, _Parts]:
    """Return U, s and V of each layer that is no grouped convolution."""
    found = {}
    for node in layers(graph):
        if node.attributes.get("groups", 1) == 1:
            weight = node.dense("weight")
            u, s, v = np.linalg.svd(weight.reshape(len(weight), -1).astype(np.float64), full_matrices=False)
            found[node.name] = (u, s, v)
    return found


def _ranks(parts: Mapping[str, _Parts], energy: float) -> dict[str, int]:
    if not 0 < energy <= 1:
        raise UserError(f"svd: {energy} is no share of energy (above 0, at most 1)")
    ranks = {}
    for name, (_, s, _) in parts.items():
        kept = np.cumsum(s**2)
        # Less a rounding error, so that energy 1 does not ask for more than there is.
        ranks[name] = min(len(s), 1 + int(np.searchsorted(kept, energy * kept[-1] * (1 - 1e-12))))
    return ranks


def _saved(parts: _Parts, rank: int) -> int:
    """Parameters that the cut saves; negative where two layers take more than one."""
    outputs, inputs = len(parts[0]), parts[2].shape[1]
    return int(outputs * inputs - rank * (outputs + inputs))


def _saves(parts: _Parts, rank: int) -> bool:
    return _saved(parts, rank) > 0


def _build(graph: Graph, parts: Mapping[str, _Parts], ranks: Mapping[str, int]) -> Graph:
    return _surgery(graph, parts, {n: rank for n, rank in ranks.items() if _saves(parts[n], rank)})


def _surgery(graph: Graph, parts: Mapping[str, _Parts], ranks: Mapping[str, int]) -> Graph:
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.name in ranks:
            nodes.extend(_pair(node, _free(graph, node.name), parts[node.name], ranks[node.name]))
        else:
            nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


def _free(graph: Graph, name: str) -> str:
    """Return a name for the first of the two layers: one that was cut before may be cut again."""
    basis = f"{name}.basis"
    while basis in graph.tensors:
        basis += "_"
    return basis


def _pair(node: Node, name: str, parts: _Parts, rank: int) -> tuple[Node, Node]:
    """Return the two layers; the second keeps the name, so that what follows need not change."""
    u, s, v = parts
    root = np.sqrt(s[:rank])  # to both alike, so that both learn alike when they are trained again
    shape = node.weights["weight"].shape
    first = (root[:, None] * v[:rank]).astype(np.float32).reshape(rank, *shape[1:])
    second = (u[:, :rank] * root).astype(np.float32).reshape(shape[0], rank, *(1 for _ in shape[2:]))
    passed: dict[str, Any] = {"activation": "none", "logits": 0}
    thin: dict[str, Any] = {}
    if node.op == "conv":
        thin = {"kernel": (1, 1), "stride": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1)}
    before = {"pad_value"} & set(node.weights)
    basis = Node(
        name,
        node.op,
        node.inputs,
        {**node.attributes, **passed},
        {"weight": first, **{name: node.weights[name] for name in before}},
    )
    rest = {name: array for name, array in node.weights.items() if name not in before}
    return basis, replace(
        node, inputs=(basis.name,), attributes={**node.attributes, **thin}, weights={**rest, "weight": second}
    )
