"""Network pruning: small weights become zero, and the others learn to do without them.

"Learning both Weights and Connections for Efficient Neural Networks" (Han et al., arXiv:1506.02626): weights
of small magnitude are removed, the rest is trained again under the mask, in one round or several.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from squeezekit.compress.gap_coding import count_entries
from squeezekit.compress.layers import Weights, rest_bytes, weights, with_weights
from squeezekit.compress.retraining import Pictures, retrain
from squeezekit.errors import UserError, suggest
from squeezekit.graph.graph import Graph

__all__ = ["Scope", "masks", "prune", "prune_and_retrain", "sparse_bytes", "sparsity_of"]

Scope = Literal["layer", "global", "deviation"]


def masks(
    graph: Graph, sparsity: float | Mapping[str, float], scope: Scope = "deviation"
) -> dict[str, NDArray[np.bool_]]:
    """Choose which weights stay.

    Parameters
    ----------
    graph : Graph
    sparsity : float or mapping of str to float
        The share of weights that shall be zero, from 0 to less than 1; of the whole network, or of the layers
        named (the others stay as they are). Weights that are zero already count.
    scope : {"layer", "global", "deviation"}
        Where magnitudes are compared: within each layer, so that each gets the same sparsity; across the
        network; or across the network in units of the standard deviation of their layer, which is the
        threshold of the paper (section 4: a quality parameter times the deviation). A mapping is by layer.

    Returns
    -------
    dict of str to ndarray of bool
        True where a weight stays, in the shape of the weight.
    """
    found = weights(graph)
    if isinstance(sparsity, Mapping):
        for name in sparsity:
            if name not in found:
                raise UserError(f"sparsity: no layer is called {name!r}{suggest(name, found)}")
        return {name: _largest(np.abs(w), sparsity.get(name, 0.0)) for name, w in found.items()}
    if scope not in get_args(Scope):
        choices = get_args(Scope)
        raise UserError(f"scope: {scope!r}{suggest(scope, choices)} (one of {', '.join(choices)})")
    if scope == "layer":
        return {name: _largest(np.abs(w), sparsity) for name, w in found.items()}
    importance = [
        np.abs(w).ravel() / (float(w.std()) or 1.0 if scope == "deviation" else 1.0) for w in found.values()
    ]
    stays = _largest(np.concatenate(importance), sparsity)
    ends = np.cumsum([len(i) for i in importance])
    parts = np.split(stays, ends[:-1])
    return {name: part.reshape(w.shape) for part, (name, w) in zip(parts, found.items(), strict=True)}


def _largest(importance: NDArray[np.floating[Any]], sparsity: float) -> NDArray[np.bool_]:
    if not 0 <= sparsity < 1:
        raise UserError(f"sparsity: {sparsity} (a share from 0 to less than 1)")
    stays = np.ones(importance.size, bool)
    # Stable, so that equal magnitudes are pruned in the same order everywhere.
    stays[np.argsort(importance, axis=None, kind="stable")[: round(sparsity * importance.size)]] = False
    return stays.reshape(importance.shape)


def prune(graph: Graph, sparsity: float | Mapping[str, float], scope: Scope = "deviation") -> Graph:
    """Set the least weights to zero, in one go and without training. Parameters are those of :func:`masks`.

    Returns
    -------
    Graph
        Of the same structure; a layer's weight is an array again where it was shared.
    """
    found = weights(graph)
    chosen = masks(graph, sparsity, scope)
    return with_weights(
        graph, {name: {"weight": np.where(chosen[name], w, np.float32(0))} for name, w in found.items()}
    )


def prune_and_retrain(
    graph: Graph,
    sparsity: float | Mapping[str, float],
    pictures: Pictures,
    labels: NDArray[np.integer[Any]] | None = None,
    *,
    scope: Scope = "deviation",
    rounds: int = 3,
    steps: int = 200,
    teacher: Graph | None = None,
    advance: Callable[[int, int], None] | None = None,
    **training: Any,
) -> Graph:
    """Prune and train the rest, in turns: what is pruned a little at a time loses less (section 3.4).

    Parameters
    ----------
    graph : Graph
    sparsity, scope
        Of the last round, as in :func:`masks`. Before it, the share of weights that is left falls by the same
        factor each round.
    pictures, labels
        What to train on, as in :func:`squeezekit.compress.retraining.retrain`.
    rounds : int
        At least 1.
    steps : int
        Of training, in all rounds together.
    teacher : Graph, optional
        Whose answers to learn; `graph` itself where an array of pictures comes without labels.
    advance : callable, optional
        Called with (steps done, steps in all).
    training
        Further parameters of `retrain`: rate, batch_size, temperature, mirror, seed.

    Returns
    -------
    Graph
    """
    if rounds < 1:
        raise UserError(f"rounds: {rounds} (at least 1)")
    if teacher is None and labels is None and isinstance(pictures, np.ndarray):
        teacher = graph
    pruned = graph
    done = 0
    for each in range(1, rounds + 1):
        pruned = prune(pruned, _on_the_way(graph, sparsity, each / rounds), scope)
        until = round(steps * each / rounds)
        pruned = retrain(
            pruned,
            pictures,
            labels,
            teacher=teacher,
            steps=until - done,
            advance=_shifted(advance, done, steps),
            **training,
        )
        done = until
    return pruned


def _on_the_way(
    graph: Graph, sparsity: float | Mapping[str, float], part: float
) -> float | Mapping[str, float]:
    """Return the sparsity after a part of the rounds: what is left shrinks by the same factor in each."""

    def at(before: float, after: float) -> float:
        return after if after <= before else 1 - (1 - before) ** (1 - part) * (1 - after) ** part

    if not isinstance(sparsity, Mapping):
        return at(sparsity_of(graph), sparsity)
    already = {name: float((weight == 0).mean()) for name, weight in weights(graph).items()}
    return {name: at(already.get(name, 0.0), share) for name, share in sparsity.items()}


def _shifted(
    advance: Callable[[int, int], None] | None, before: int, total: int
) -> Callable[[int, int], None] | None:
    return None if advance is None else lambda done, _: advance(before + done, total)


def sparsity_of(graph: Graph) -> float:
    """Return the share of the layers' weights that are zero, from 0 to 1."""
    found = weights(graph).values()
    return sum(int((w == 0).sum()) for w in found) / sum(w.size for w in found)


def layer_bytes(weight: Weights, index_bits: int | None = None) -> int:
    """Count the bytes of one sparse layer.

    One byte says how many bits a gap takes (0: none, every weight is stored), four how many entries there
    are; then come the entries as float32, bridges among them, and the gaps. With `index_bits` None, the least
    of 0 to 8 is taken.
    """
    sizes = {0: 4 * weight.size}
    for bits in range(1, 9) if index_bits is None else {index_bits} - {0}:
        entries = count_entries(weight, bits)
        sizes[bits] = 4 * entries + (bits * entries + 7) // 8
    return 5 + (min(sizes.values()) if index_bits is None else sizes[index_bits])


def sparse_bytes(graph: Graph, index_bits: int | None = None) -> int:
    """Count the bytes of a pruned network: sparse float32 weights with gap-coded indices, all else dense.

    Parameters
    ----------
    graph : Graph
    index_bits : int, optional
        0 to 8 that a gap takes; by default, the best for each layer.
    """
    return rest_bytes(graph) + sum(layer_bytes(weight, index_bits) for weight in weights(graph).values())
