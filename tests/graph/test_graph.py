"""The data itself: what is checked when a graph is made, and that it cannot be changed after."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest

from squeezekit.errors import UserError
from squeezekit.graph import Codebook, Graph, Node, Quantization, Tensor, same
from squeezekit.graph.operators import OPERATORS

WINDOW: dict[str, Any] = {
    "kernel": (3, 3),
    "stride": (1, 1),
    "padding": (1, 1, 1, 1),
    "dilation": (1, 1),
    "groups": 1,
}


def conv(name: str = "conv", source: str = "input", **changes: Any) -> Node:
    weight = changes.pop("weight", np.arange(108, dtype=np.float32).reshape(4, 3, 3, 3))
    return Node(name, "conv", (source,), {**WINDOW, **changes}, {"weight": weight})


def graph(*nodes: Node, shape: tuple[int, ...] = (3, 8, 8)) -> Graph:
    return Graph(Tensor("input", shape), nodes, nodes[-1].name)


def test_shapes_are_inferred() -> None:
    found = graph(conv(stride=(2, 1)), Node("flat", "flatten", ("conv",)))
    assert found.tensors["conv"] == Tensor("conv", (4, 4, 8))
    assert found.tensors["flat"].shape == (128,)
    assert found.parameters == 108
    assert not found.is_int8


def test_print() -> None:
    assert str(graph(conv(), Node("relu", "relu", ("conv",)))) == (
        "float32 graph: 2 nodes, 108 parameters\n"
        "  input          3 × 8 × 8\n"
        "  conv    conv   4 × 8 × 8   input   kernel 3; padding 1; weight 4 × 3 × 3 × 3\n"
        "  relu    relu   4 × 8 × 8   conv"
    )


def test_nothing_can_be_changed() -> None:
    weight = np.ones((4, 3, 3, 3), np.float32)
    node = conv(weight=weight)
    weight[:] = 7  # the maker's own array is not the node's
    assert (node.weights["weight"] == 1).all()
    with pytest.raises(ValueError, match="read-only"):
        node.weights["weight"][0] = 2
    with pytest.raises(TypeError):
        node.attributes["groups"] = 2  # type: ignore[index]
    with pytest.raises(FrozenInstanceError):
        node.name = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        graph(node).tensors["conv"] = Tensor("conv", (1,))  # type: ignore[index]


def test_copies_are_the_same() -> None:
    first = graph(conv(), Node("relu", "relu", ("conv",)))
    for other in (pickle.loads(pickle.dumps(first)), copy.deepcopy(first)):
        assert other is not first
        assert same(first, other)


def test_same_sees_every_difference() -> None:
    node = conv()
    first = graph(node)
    weight = np.array(node.weights["weight"])
    weight[0, 0, 0, 0] = -0.0  # equal, but not the same bits
    codebook = Codebook(np.array([0, 1], np.float32), np.ones((4, 3, 3, 3), np.uint8))
    others = [
        graph(conv(weight=weight)),
        graph(conv("other")),
        graph(conv(activation="relu")),
        graph(conv(), shape=(3, 8, 9)),
        graph(conv(), Node("relu", "relu", ("conv",))),
        graph(replace(node, weights={**node.weights, "bias": np.zeros(4, np.float32)})),
    ]
    assert not any(same(first, other) for other in others)
    shared = graph(conv(weight=codebook))
    assert not same(shared, graph(conv(weight=np.ones((4, 3, 3, 3), np.float32))))
    assert same(shared, graph(conv(weight=codebook)))


def test_codebook() -> None:
    codebook = Codebook(np.array([-1.5, 0, 2], np.float32), np.array([[2, 0], [1, 1]], np.uint8))
    np.testing.assert_array_equal(codebook.dense(), np.array([[2, -1.5], [0, 0]], np.float32))
    assert codebook.shape == (2, 2)
    assert codebook.size == 4
    for values in ([1, 1], [2, 1], [0, np.nan], [], range(257)):
        with pytest.raises(UserError):
            Codebook(np.array(values, np.float32), np.zeros((1, 1), np.uint8))
    with pytest.raises(UserError, match="below 2"):
        Codebook(np.array([0, 1], np.float32), np.array([2], np.uint8))


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf"), 0.1, 1e300, 1])
def test_scales_that_are_none(scale: float) -> None:
    with pytest.raises(UserError, match="scale is"):
        Quantization(scale, 0)


def test_quantization() -> None:
    assert Quantization(float(np.float32(0.1)), 255).zero_point == 255
    for zero in (-1, 256, True, 1.0):
        with pytest.raises(UserError, match="zero_point"):
            Quantization(0.5, zero)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(value: float) -> None:
    weight = np.ones((4, 3, 3, 3), np.float32)
    weight[3, 2, 1, 0] = value
    with pytest.raises(UserError, match=r"^conv1 \(conv\): weight holds values that are not finite"):
        conv("conv1", weight=weight)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"kernel": (0, 3)}, "kernel is"),
        ({"kernel": [3, 3]}, "kernel is"),
        ({"stride": (1, 1, 1)}, "stride is"),
        ({"padding": (1, 1)}, "padding is"),
        ({"groups": 2}, "do not divide"),
        ({"groups": 0}, "groups is"),
        ({"activation": "gelu"}, "activation is 'gelu'"),
        ({"grops": 1}, "did you mean 'groups'"),
        ({"kernel": (5, 5)}, "its weight is 4 × 3 × 3 × 3"),
        ({"dilation": (6, 6)}, "too small for a window"),
        ({"weight": np.ones((4, 2, 3, 3), np.float32)}, "its weight is 4 × 2 × 3 × 3"),
        ({"weight": np.ones((4, 3, 3, 3), np.float64)}, "of type float64"),
        ({"weight": np.ones((4, 3), np.float32)}, "4 dimensions"),
    ],
)
def test_a_convolution_that_does_not_fit(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text) as error:
        graph(conv(**changes))
    assert str(error.value).startswith("conv (conv): ")


def test_nodes_that_do_not_fit_together() -> None:
    with pytest.raises(UserError, match="the name is taken twice"):
        graph(conv(), conv())
    with pytest.raises(UserError, match="'later' is not computed before it"):
        graph(conv(source="later"), Node("later", "relu", ("input",)))
    with pytest.raises(UserError, match="no name"):
        graph(conv("input"))
    with pytest.raises(UserError, match="no operator 'conf'; did you mean 'conv'"):
        Node("a", "conf", ("input",))
    with pytest.raises(UserError, match="'missing' is none"):
        Graph(Tensor("input", (3, 8, 8)), (conv(),), "missing")
    with pytest.raises(UserError, match="1 inputs"):
        graph(conv(), Node("add", "add", ("conv",)))
    with pytest.raises(UserError, match="4 × 8 × 8 and 3 × 8 × 8 do not fit"):
        graph(conv(), Node("add", "add", ("conv", "input")))
    with pytest.raises(UserError, match="no quantized values"):
        graph(replace(conv(), quantization=Quantization(1.0, 0)))
    with pytest.raises(UserError, match="the shape is"):
        Graph(Tensor("input", (3, 0, 8)), (conv(),), "conv")


# --- int8 --------------------------------------------------------------------------------------------------

Q = Quantization(0.5, 3)


def int8_conv(**changes: Any) -> Node:
    weights = {
        "weight": np.ones((4, 3, 3, 3), np.int8),
        "bias": np.zeros(4, np.int32),
        "multiplier": np.ones(4, np.float32),
        **changes.pop("weights", {}),
    }
    quantization = changes.pop("quantization", Q)
    return Node("conv", "conv", ("input",), {**WINDOW, **changes}, weights, quantization)


def int8(*nodes: Node) -> Graph:
    return Graph(Tensor("input", (3, 8, 8), Quantization(1.0, 0)), nodes, nodes[-1].name)


def test_an_int8_graph() -> None:
    one = {"multiplier": np.ones(1, np.float32)}
    pool = Node("pool", "global_avg_pool", ("conv",), {"logits": 1}, one)
    found = int8(int8_conv(), pool, Node("flat", "flatten", ("pool",)))
    assert found.is_int8
    assert found.tensors["conv"].quantization == Q
    assert found.tensors["flat"] == Tensor("flat", (4,), None)


@pytest.mark.parametrize(
    ("node", "text"),
    [
        (int8_conv(quantization=None), "no quantization"),
        (int8_conv(logits=1), "logits are float32"),
        (int8_conv(activation="silu"), "a table of its own"),
        (int8_conv(weights={"multiplier": -np.ones(4, np.float32)}), "negative"),
        (int8_conv(weights={"bias": np.full(4, 2**31 - 1, np.int32)}), "range of int32"),
        (int8_conv(weights={"weight": np.ones((4, 3, 3, 3), np.float32)}), "type float32"),
        (int8_conv(weights={"pad_value": np.zeros(3, np.float32)}), "type float32"),
        (Node("relu", "relu", ("input",), quantization=Q), "no such operator"),
        (Node("flat", "flatten", ("input",), quantization=Q), "share one quantization"),
    ],
)
def test_an_int8_graph_that_is_none(node: Node, text: str) -> None:
    with pytest.raises(UserError, match=text):
        int8(node)


def test_logits_are_the_end() -> None:
    logits = int8_conv(logits=1, quantization=None)
    assert int8(logits).tensors["conv"].quantization is None
    with pytest.raises(UserError, match="may only be flattened"):
        int8(logits, Node("slice", "slice", ("conv",), {"start": 0, "end": 2}))


def test_every_operator_is_run_and_crosses_to_torch() -> None:
    from squeezekit.graph.run import _FLOAT, _INT8
    from squeezekit.graph.to_torch import _MODULES

    floats = set(OPERATORS) - {"table"}
    assert set(_FLOAT) == set(_MODULES) == floats
    assert set(_INT8) == {name for name, operator in OPERATORS.items() if operator.in_int8}
