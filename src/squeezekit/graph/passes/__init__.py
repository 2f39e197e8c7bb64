"""Rewrites of a graph, each a pure function ``Graph -> Graph`` that keeps what the network computes."""

from __future__ import annotations

from squeezekit.graph.passes.at_rest import at_rest
from squeezekit.graph.passes.drop_noops import drop_noops
from squeezekit.graph.passes.equalize import equalize
from squeezekit.graph.passes.fold_affine import fold_affine, prepare
from squeezekit.graph.passes.fold_batch_norm import fold_batch_norm
from squeezekit.graph.passes.fuse_activations import fuse_activations
from squeezekit.graph.passes.pool_late import pool_late

__all__ = [
    "at_rest",
    "drop_noops",
    "equalize",
    "fold_affine",
    "fold_batch_norm",
    "fuse_activations",
    "pool_late",
    "prepare",
]
