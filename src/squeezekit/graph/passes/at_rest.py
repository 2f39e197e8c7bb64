"""A trained network as it is used: all that only training needs is folded into what stays."""

from __future__ import annotations

from squeezekit.graph.graph import Graph
from squeezekit.graph.passes.drop_noops import drop_noops
from squeezekit.graph.passes.fold_batch_norm import fold_batch_norm
from squeezekit.graph.passes.fuse_activations import fuse_activations
from squeezekit.graph.passes.pool_late import pool_late

__all__ = ["at_rest"]


def at_rest(graph: Graph) -> Graph:
    """Drop what changes nothing, fold batch norms into layers, and let layers apply their activations."""
    return fuse_activations(fold_batch_norm(pool_late(drop_noops(graph))))
