"""Graphs of every operator come back; what is no graph is refused, by the C reader itself."""

from __future__ import annotations

import contextlib
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from squeezekit.errors import UserError
from squeezekit.format import Model, dumps, loads
from squeezekit.format.library import names
from squeezekit.format.pack import ROLES, pack, unpack
from squeezekit.graph.graph import Graph, Node, Tensor, same
from squeezekit.graph.operators import OPERATORS

WINDOW = {"padding": (0, 0, 0, 0), "dilation": (1, 1), "groups": 1}


def rebuilt(graph: Graph) -> Graph:
    """Pack and unpack, with the weights of the original."""
    weights = [
        weight
        for node in graph.nodes
        for role in ROLES.get(node.op, ())
        if (weight := node.weights.get(role)) is not None
    ]
    given_back = iter(weights)
    return unpack(pack(graph), lambda heads: lambda head: next(given_back))


def test_any_of_the_operators(graph: Graph) -> None:
    assert same(rebuilt(graph), graph)


def test_the_library_knows_the_same_operators() -> None:
    assert set(names("operator")) == set(OPERATORS)
    roles = {role for each in ROLES.values() for role in each}
    assert set(names("role")) == roles


KINDS = ("conv", "depthwise", "relu", "silu", "add", "concat", "pool", "identity")


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """A chain with skips, of operators that fit wherever they are put."""
    channels = draw(st.integers(1, 6))
    size = draw(st.integers(4, 9))
    nodes: list[Node] = []
    shapes = {"input": channels}
    here, hw = "input", (size, size)
    for i in range(draw(st.integers(1, 8))):
        name = draw(st.sampled_from(["a", "层", "features.x"])) + str(i)
        kind = draw(
            st.sampled_from(["conv", "depthwise", "relu", "silu", "add", "concat", "pool", "identity"])
        )
        now = shapes[here]
        kernel = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
        around = (kernel[0] // 2, kernel[1] // 2, (kernel[0] - 1) // 2, (kernel[1] - 1) // 2)
        window = {"kernel": kernel, "stride": (1, 1), "padding": around}
        if kind in ("conv", "depthwise"):
            out = now if kind == "depthwise" else draw(st.integers(1, 5))
            groups = now if kind == "depthwise" else 1
            weight = np.full((out, now // groups, *kernel), draw(st.floats(-2, 2, width=32)), np.float32)
            attributes: dict[str, Any] = {**window, "dilation": (1, 1), "groups": groups}
            attributes["activation"] = draw(st.sampled_from(["none", "relu", "silu", "hard_swish"]))
            nodes.append(Node(name, "conv", (here,), attributes, {"weight": weight}))
            shapes[name] = out
        elif kind == "add":
            other = draw(st.sampled_from([each for each, count in shapes.items() if count == now]))
            nodes.append(Node(name, "add", (here, other)))
            shapes[name] = now
        elif kind == "concat":
            others = tuple(draw(st.lists(st.sampled_from(list(shapes)), min_size=1, max_size=3)))
            nodes.append(Node(name, "concat", (here, *others)))
            shapes[name] = now + sum(shapes[each] for each in others)
        elif kind == "pool":
            nodes.append(Node(name, "max_pool", (here,), {**window, "ceil_mode": draw(st.integers(0, 1))}))
            shapes[name] = now
        else:
            nodes.append(Node(name, kind, (here,)))
            shapes[name] = now
        here = name
    return Graph(Tensor("input", (channels, *hw)), tuple(nodes), draw(st.sampled_from(list(shapes))))


@given(graphs())
@settings(max_examples=100)
def test_any_graph_comes_back(graph: Graph) -> None:
    try:
        model = Model(graph, {})
    except UserError:
        return
    assert same(loads(dumps(model)).graph, graph)


def test_a_graph_takes_few_bytes() -> None:
    nodes = [Node(f"features.fire{i}.squeeze_activation", "relu", ("input",)) for i in range(50)]
    graph = Graph(Tensor("input", (3, 8, 8)), tuple(nodes), nodes[-1].name)
    assert len(dumps(Model(graph, {}))) < 500


def test_names_that_cannot_be_written() -> None:
    for name in ("x" * 256, "\ud800"):
        graph = Graph(Tensor("input", (3, 8, 8)), (Node(name, "relu", ("input",)),), name)
        with pytest.raises(UserError, match="its name cannot be written"):
            pack(graph)
    long = "x" * 255
    graph = Graph(Tensor("input", (3, 8, 8)), (Node(long, "relu", ("input",)),), long)
    assert same(rebuilt(graph), graph)


def head(nodes: int, *shape: int, int8: bytes = b"") -> bytes:
    return bytes([bool(int8), len(shape), *shape]) + int8 + bytes([nodes])


def read(data: bytes) -> Graph:
    return unpack(
        data, lambda heads: lambda tensor: np.zeros(tuple(tensor.shape)[: tensor.dimensions], np.float32)
    )


OP = {name: i for i, name in enumerate(names("operator"))}


def node(op: str, *rest: int, back: int = 1) -> bytes:
    return bytes([1, ord("n"), OP[op], back, *rest])


def test_the_smallest_graphs() -> None:
    assert read(head(0, 3, 4, 5) + b"\0").output == "input"
    assert read(head(1, 3, 4, 5) + node("relu") + b"\1").output == "n"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "ends too early"),
        (b"\2\3\1\1\1\0\0", "impossible"),  # neither float32 nor int8
        (b"\0\2\1\1\0\0", "impossible"),  # two dimensions
        (head(0, 3, 0, 5) + b"\0", "impossible"),  # no rows
        (head(0, 3, 4, 5), "ends too early"),
        (head(0, 3, 4, 5) + b"\1", "impossible"),  # the result of a node that is not there
        (head(0, 3, 4, 5) + b"\0\0", "impossible"),  # more bytes than a graph
        (head(9, 3, 4, 5) + node("relu"), "ends too early"),
        (head(1, 3, 4, 5) + b"\1n\xff\1" + b"\1", "impossible"),  # no such operator
        (head(1, 3, 4, 5) + node("relu", back=2) + b"\1", "impossible"),  # before the input
        (head(1, 3, 4, 5) + node("relu", back=0) + b"\1", "impossible"),  # itself
        (head(1, 3, 4, 5) + b"\0" + node("relu")[2:] + b"\1", "impossible"),  # no name
        (head(1, 3, 4, 5) + node("linear", 0, 0, 5, 1, 0) + b"\1", "impossible"),  # of a picture
        (head(1, 3, 4, 5) + node("slice", 2, 2) + b"\1", "impossible"),
        (head(1, 3, 4, 5) + node("slice", 2, 4) + b"\1", "impossible"),
        (head(1, 3, 4, 5) + node("channel_shuffle", 2) + b"\1", "impossible"),
        (head(1, 3, 4, 5) + node("table", 1) + b"\1", "impossible"),  # int8 alone has it
        (head(1, 3, 4, 5) + node("max_pool", 5, 5, 1, 1, 0, 0, 0, 0, 0) + b"\1", "impossible"),  # too small
        (head(1, 3, 4, 5) + node("max_pool", 2, 2, 1, 1, 2, 0, 0, 0, 0) + b"\1", "impossible"),  # all padding
        (head(1, 3, 4, 5) + node("max_pool", 2, 2, 0, 1, 0, 0, 0, 0, 0) + b"\1", "impossible"),  # no stride
        (head(1, 3, 4, 5) + node("relu")[:3] + b"\x81\0" + b"\1", "impossible"),  # a number written too long
        (head(1, 3, 4, 5) + node("slice", 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xF) + b"\1", "more than a file"),
        (b"\0\3" + b"\x80\x80\x80\x08" * 3 + b"\0\0", "more than a file"),  # an input of 2^72 numbers
        (head(1, 3, 4, 5, int8=struct.pack("<fB", 0.0, 0)) + b"", "impossible"),  # no scale
        (head(1, 3, 4, 5, int8=struct.pack("<fB", float("nan"), 0)) + b"", "impossible"),
        (head(1, 3, 4, 5, int8=struct.pack("<fB", 1.0, 0)) + node("relu", 1) + b"\1", "impossible"),
        (head(1, 3, 4, 5, int8=struct.pack("<fB", 1.0, 0)) + node("flatten", 0) + b"\1", "impossible"),
    ],
)
def test_what_is_no_graph(data: bytes, why: str) -> None:
    with pytest.raises(UserError, match=why):
        read(data)


def test_a_layer_of_impossible_size_is_refused_before_it_is_made() -> None:
    huge = b"\x80\x80\x80\x04"  # 2^23
    conv = bytes([1, ord("n"), OP["conv"], 1]) + bytes([1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 0, 0])
    for data in (
        b"\0\1" + huge + b"\1" + node("linear", 0, 0) + huge + bytes([1, 0, 1]),
        b"\0\3" + huge + b"\1\1\1" + conv + huge + bytes([1, 0, 0, 1]),
    ):
        with pytest.raises(UserError, match="asks for more than a file of its size can hold"):
            read(data)


@given(st.data())
@settings(max_examples=300)
def test_altered_graphs_end_in_an_error_or_a_graph(data: st.DataObject) -> None:
    graph = data.draw(graphs())
    bytes_ = bytearray(pack(graph))
    for _ in range(data.draw(st.integers(1, 3))):
        bytes_[data.draw(st.integers(0, len(bytes_) - 1))] = data.draw(st.integers(0, 255))

    def begin(heads: list[Any]) -> Any:
        if sum(int(np.prod(tuple(each.shape))) for each in heads) > 10**6:
            raise UserError("large")
        return lambda tensor: np.ones(tuple(tensor.shape)[: tensor.dimensions], np.float32)

    with contextlib.suppress(UserError):
        assert isinstance(unpack(bytes(bytes_), begin), Graph)
