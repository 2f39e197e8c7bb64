"""The canonical form computes what the network did, from fewer kinds of nodes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from squeezekit.compress.canonical import CLAMPS, TABLES, canonical
from squeezekit.errors import UserError
from squeezekit.graph import Graph, Node, Tensor, same
from squeezekit.graph.run import run

LRN = {"size": 5, "alpha": 1e-4, "beta": 0.75, "k": 1.0}


def point(name: str, source: str, channels: tuple[int, int], **other: object) -> Node:
    weight = np.random.default_rng(len(name)).normal(0, 0.5, (*channels[::-1], 1, 1)).astype(np.float32)
    attributes = {"kernel": (1, 1), "stride": (1, 1), "padding": (0,) * 4, "dilation": (1, 1), "groups": 1}
    return Node(name, "conv", (source,), {**attributes, **other}, {"weight": weight})


def as_batch(photographs: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(photographs.transpose(0, 3, 1, 2), np.float32)


def test_computes_the_same(
    raw_networks: Mapping[str, Graph], networks: Mapping[str, Graph], photographs: np.ndarray
) -> None:
    for name, raw in raw_networks.items():
        before, after = (run(graph, as_batch(photographs)) for graph in (raw, networks[name]))
        assert before.std() > 0.5
        assert np.abs(after - before).max() < 1e-4, name


def test_what_is_left(raw_networks: Mapping[str, Graph], small: Graph) -> None:
    kinds = {"conv", "linear", "add", "mul", "concat", "slice", "channel_shuffle", "flatten", "relu", *TABLES}
    for node in small.nodes:
        assert node.op in kinds | {"max_pool", "avg_pool", "global_avg_pool"}
        assert node.attributes.get("activation", "none") in CLAMPS
        if node.op in ("conv", "linear"):
            assert node.dense("bias").shape == (node.weights["weight"].shape[0],)
    assert small.nodes[0].op == "conv"  # mean and scale are in its weights
    assert "pad_value" in small.nodes[0].weights
    assert same(canonical(small), small)
    tables = {name: sum(n.op in TABLES for n in canonical(raw).nodes) for name, raw in raw_networks.items()}
    assert tables == {"squeezenet": 0, "mobilenet_v2": 0, "efficientnet": 13, "medley": 1}


def test_a_scale_that_no_layer_takes_in() -> None:
    """A batch norm with a negative scale, behind a pool, is a depthwise layer of one weight a channel."""
    numbers = {
        name: np.linspace(low, 1.5, 6).astype(np.float32)
        for name, low in (("gamma", -0.5), ("beta", -1), ("mean", -0.5), ("var", 0.1))
    }
    pool = {"kernel": (2, 2), "stride": (2, 2), "padding": (0,) * 4, "ceil_mode": 0}
    nodes = (
        point("conv", "input", (3, 6)),
        Node("pool", "max_pool", ("conv",), pool),
        Node("norm", "batch_norm", ("pool",), {"eps": 1e-5}, numbers),
        Node("relu", "relu", ("norm",)),
    )
    graph = Graph(Tensor("input", (3, 6, 6)), nodes, "relu")
    x = np.random.default_rng(0).normal(size=(3, 3, 6, 6)).astype(np.float32)
    form = canonical(graph)
    assert [node.op for node in form.nodes[:3]] == ["conv", "max_pool", "conv"]
    assert form.nodes[2].attributes["groups"] == 6
    assert np.allclose(run(form, x), run(graph, x), atol=1e-5)


def test_names_are_found() -> None:
    """The table behind a layer takes a name that is free."""
    nodes = (
        point("a", "input", (3, 4), activation="silu"),
        point("a_silu", "a", (4, 4), activation="sigmoid"),
        Node("a_silu_", "mul", ("a", "a_silu")),
    )
    graph = Graph(Tensor("input", (3, 5, 5)), nodes, "a_silu_")
    form = canonical(graph)
    assert len(form.nodes) == 5
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 5)).astype(np.float32)
    assert np.allclose(run(form, x), run(graph, x), atol=1e-6)


def test_the_output_may_be_an_activation() -> None:
    graph = Graph(Tensor("input", (3, 5, 5)), (point("a", "input", (3, 4), activation="sigmoid"),), "a")
    form = canonical(graph)
    assert form.node(form.output).op == "sigmoid"


def test_what_has_no_integer_form_is_named() -> None:
    nodes = (
        point("conv1", "input", (3, 8)),
        Node("norm1", "local_response_norm", ("conv1",), LRN),
        point("conv2", "norm1", (8, 8)),
        Node("norm2", "local_response_norm", ("conv2",), LRN),
    )
    with pytest.raises(UserError, match=r"norm1 \(local_response_norm\), norm2 \(local_response_norm\)$"):
        canonical(Graph(Tensor("input", (3, 5, 5)), nodes, "norm2"))
