"""Shared weights: the weights of a layer become a few values, found by k-means.

"Deep Compression" (Han, Mao and Dally, arXiv:1510.00149), section 3.1 (clustering) and 3.2 (how the centroids
begin). Weights that are zero have been pruned and stay zero; they take one of the values. Training the values
further, section 3.3, is :func:`squeezekit.compress.retraining.retrain`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from squeezekit.compress.layers import Weights, layers, weights, with_weights
from squeezekit.errors import UserError, suggest
from squeezekit.graph.graph import Codebook, Graph

__all__ = ["BITS", "Initialisation", "exact", "initial_centroids", "share", "share_weights"]

Initialisation = Literal["linear", "density", "random"]

#: What the paper gives AlexNet and VGG-16 (section 5): 8 bits for convolutions, 5 for linear layers.
BITS: Mapping[str, int] = {"conv": 8, "linear": 5}

# Lloyd's iterations; the paper names no number. The last ones move a centroid by a hair.
_ITERATIONS = 100
_TOLERANCE = 1e-6

# Of a layer with more weights than this, neighbours are clustered together: the time no longer grows with the
# layer, and a cell of 1/16384 of the range is narrow beside any cluster.
_CELLS = 2**14


def initial_centroids(
    values: NDArray[np.floating[Any]], count: int, initialisation: Initialisation, seed: int = 0
) -> Weights:
    """Place the centroids before the first iteration (section 3.2, figure 4).

    Parameters
    ----------
    values : ndarray, shape (n,)
        The weights that are to share; at least `count` distinct ones.
    count : int
    initialisation : {"linear", "density", "random"}
        Evenly from the least weight to the greatest, which the paper finds best, as large weights are rare
        and matter; evenly over the cumulative distribution; or weights chosen at random.
    seed : int
        For "random".

    Returns
    -------
    ndarray of float32, shape (count,)
        Ascending.
    """
    choices = get_args(Initialisation)
    if initialisation not in choices:
        hint = suggest(initialisation, choices)
        raise UserError(f"initialisation: {initialisation!r}{hint} (one of {', '.join(choices)})")
    ordered = np.sort(values.astype(np.float64))
    if initialisation == "linear":
        placed = np.linspace(ordered[0], ordered[-1], count)
    elif initialisation == "density":
        placed = np.quantile(ordered, (np.arange(count) + 0.5) / count)
    else:
        placed = np.sort(np.random.default_rng(seed).choice(np.unique(ordered), count, replace=False))
    return placed.astype(np.float32)


def exact(weight: Weights) -> Codebook:
    """Return a weight of at most 256 distinct values as it is, as shared values.

    Raises
    ------
    UserError
        There are more.
    """
    values, indices = np.unique(weight + np.float32(0), return_inverse=True)
    if len(values) > 256:
        raise UserError(f"shared weights: {len(values):,} distinct values (at most 256)")
    return Codebook(values.astype(np.float32), indices.reshape(weight.shape).astype(np.uint8))


def share(
    weight: NDArray[np.floating[Any]],
    bits: int,
    initialisation: Initialisation = "linear",
    seed: int = 0,
) -> Codebook:
    """Let the weights of one layer share at most ``2 ** bits`` values.

    Parameters
    ----------
    weight : ndarray
        Any shape; finite.
    bits : int
        1 to 8. Zero takes one of the values where any weight is zero.
    initialisation : {"linear", "density", "random"}
    seed : int
        For "random".

    Returns
    -------
    Codebook
        Zeros are kept. A weight that has so few values already comes back bit by bit.
    """
    if not 1 <= bits <= 8:
        raise UserError(f"shared weights: {bits} bits (1 to 8)")
    shared = weight.astype(np.float32) + np.float32(0)
    kept = shared != 0
    values = shared[kept]
    room = 2**bits - (not kept.all())
    if len(np.unique(values)) > room:
        shared[kept] = _clustered(values, initial_centroids(values, room, initialisation, seed))
    return exact(shared)


def _clustered(values: Weights, centroids: Weights) -> Weights:
    """Return for each value the mean of its cluster."""
    from sklearn.cluster import KMeans

    cells, counts = _cells(values, fewest=len(centroids))
    means = KMeans(
        len(centroids), init=centroids[:, None], n_init=1, max_iter=_ITERATIONS, tol=_TOLERANCE
    ).fit(cells[:, None], sample_weight=counts)
    ordered = np.sort(means.cluster_centers_[:, 0]).astype(np.float64)
    nearest = np.searchsorted((ordered[1:] + ordered[:-1]) / 2, values)
    members = np.bincount(nearest, minlength=len(ordered))
    sums = np.bincount(nearest, weights=values, minlength=len(ordered))
    clustered: Weights = (sums / np.maximum(members, 1)).astype(np.float32)[nearest]
    return clustered


def _cells(values: Weights, fewest: int) -> tuple[Weights, NDArray[np.int64]]:
    """Return the means of equally wide cells that hold any values, and how many these are."""
    low, high = float(values.min()), float(values.max())
    if len(values) > _CELLS:
        cell = ((values.astype(np.float64) - low) * ((_CELLS - 1) / (high - low))).astype(np.int64)
        counts = np.bincount(cell)
        used = counts > 0
        # A few weights far away from all others leave too few cells to those.
        if used.sum() >= 8 * fewest:
            means = np.bincount(cell, weights=values)[used] / counts[used]
            return means.astype(np.float32), counts[used]
    return values, np.ones(len(values), np.int64)


def share_weights(
    graph: Graph,
    bits: int | Mapping[str, int] = BITS,
    initialisation: Initialisation = "linear",
    *,
    seed: int = 0,
    advance: Callable[[int, int], None] | None = None,
) -> Graph:
    """Let the weights of every convolution and linear layer share values, layer by layer.

    Parameters
    ----------
    graph : Graph
        float32.
    bits : int or mapping of str to int
        By a layer's name, or else by its kind ("conv", "linear"); or one number for all.
    initialisation : {"linear", "density", "random"}
    seed : int
        For "random".
    advance : callable, optional
        Called with (layers done, layers in all).

    Returns
    -------
    Graph
        Its layers' weights are of type `Codebook`; biases stay float32.

    Raises
    ------
    UserError
        `bits` names a layer that is not there, leaves one out, or is not 1 to 8.
    """
    found = layers(graph)
    chosen = {node.name: by_layer(bits, node.name, node.op) for node in found}
    unknown = set(bits) - {*chosen, "conv", "linear"} if isinstance(bits, Mapping) else set()
    if unknown:
        name = min(unknown)
        raise UserError(f"bits: no layer is called {name!r}{suggest(name, chosen)}")
    changed = {}
    for done, (name, weight) in enumerate(weights(graph).items(), 1):
        changed[name] = {"weight": share(weight, chosen[name], initialisation, seed)}
        if advance is not None:
            advance(done, len(found))
    return with_weights(graph, changed)


def by_layer(bits: int | Mapping[str, int], name: str, op: str) -> int:
    """Look up the bits of a layer: by its name, or else by its kind."""
    if not isinstance(bits, Mapping):
        return bits
    for key in (name, op):
        if key in bits:
            return bits[key]
    raise UserError(f"bits: none given for {name} (name it, or {op!r})")
