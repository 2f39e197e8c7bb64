"""The arithmetic: float against torch, int8 against Python's own whole numbers, one value at a time."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from squeezekit.errors import UserError
from squeezekit.graph import Graph, Node, Quantization, Tensor
from squeezekit.graph.operators import window_counts
from squeezekit.graph.run import run, trace

UNIT = Quantization(1.0, 0)


# --- a reference that is slow and plain ---------------------------------------------------------------------


def round_to_byte(acc: int, multiplier: float, zero: int, low: int = 0, high: int = 255) -> int:
    """The design's requantization, one number at a time; Python's round() sends ties to even."""
    product = np.float32(acc) * np.float32(multiplier)
    return min(max(round(float(product)) + zero, low), high)


def reference_conv(x: np.ndarray, node: Node, zero_in: int) -> np.ndarray:
    """Sum with Python's whole numbers; x is (N, C, H, W) of bytes."""
    a = node.attributes
    weight, bias = node.dense("weight").tolist(), node.dense("bias").tolist()
    multiplier = node.dense("multiplier")
    fill = node.dense("pad_value").tolist() if "pad_value" in node.weights else [zero_in] * x.shape[1]
    n, channels, height, width = x.shape
    top, left, bottom, right = a["padding"]
    (kh, kw), (sh, sw), (dh, dw) = a["kernel"], a["stride"], a["dilation"]
    down = (height + top + bottom - dh * (kh - 1) - 1) // sh + 1
    across = (width + left + right - dw * (kw - 1) - 1) // sw + 1
    per_group = channels // a["groups"]
    out = np.zeros((n, len(weight), down, across), np.float32 if a["logits"] else np.uint8)
    zero = node.quantization.zero_point if node.quantization else 0
    low = zero if a["activation"] in ("relu", "relu6") else 0
    high = 255
    if a["activation"] == "relu6":
        high = min(255, zero + round(float(np.float32(6) / np.float32(node.quantization.scale))))
    for p, o, y, z in itertools.product(range(n), range(len(weight)), range(down), range(across)):
        first = o // (len(weight) // a["groups"]) * per_group
        acc = bias[o]
        for c, i, j in itertools.product(range(per_group), range(kh), range(kw)):
            row, column = y * sh + i * dh - top, z * sw + j * dw - left
            inside = 0 <= row < height and 0 <= column < width
            seen = int(x[p, first + c, row, column]) if inside else fill[first + c]
            acc += weight[o][c][i][j] * (seen - zero_in)
        if a["logits"]:
            out[p, o, y, z] = np.float32(acc) * multiplier[o]
        else:
            out[p, o, y, z] = round_to_byte(acc, multiplier[o], zero, low, high)
    return out


def int8_conv(random: np.random.Generator, channels: int, **changes: Any) -> Node:
    groups = changes.get("groups", 1)
    kernel = changes.get("kernel", (3, 3))
    out = changes.pop("out", 2 * groups)
    scale = changes.pop("scale", 0.05)
    attributes = {
        "kernel": kernel,
        "stride": (1, 1),
        "padding": (1, 1, 1, 1),
        "dilation": (1, 1),
        "groups": 1,
    }
    weights = {
        "weight": random.integers(-127, 128, (out, channels // groups, *kernel)).astype(np.int8),
        "bias": random.integers(-5000, 5000, out).astype(np.int32),
        "multiplier": random.uniform(1e-4, 5e-3, out).astype(np.float32),
    }
    if changes.pop("pad_value", False):
        weights["pad_value"] = random.integers(0, 256, channels).astype(np.uint8)
    quantization = (
        None
        if changes.get("logits")
        else Quantization(float(np.float32(scale)), int(random.integers(0, 200)))
    )
    return Node("conv", "conv", ("input",), {**attributes, **changes}, weights, quantization)


def int8_graph(node: Node, shape: tuple[int, ...], zero: int) -> Graph:
    return Graph(Tensor("input", shape, Quantization(1.0, zero)), (node,), node.name)


def value(graph: Graph, batch: np.ndarray) -> np.ndarray:
    """What the last node computes, as bytes."""
    return list(trace(graph, batch))[-1][1]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"stride": (2, 1), "padding": (0, 1, 2, 0)},
        {"kernel": (1, 1), "padding": (0, 0, 0, 0), "activation": "relu"},
        {"kernel": (2, 3), "dilation": (2, 1), "activation": "relu6"},
        {"groups": 2, "out": 6},
        {"groups": 4},
        {"groups": 4, "out": 4, "stride": (2, 2), "pad_value": True},
        {"pad_value": True, "activation": "relu"},
        {"logits": 1},
    ],
)
def test_int8_convolution_is_exact(changes: dict[str, Any]) -> None:
    random = np.random.default_rng(len(str(changes)))
    node = int8_conv(random, 4, **changes)
    zero = int(random.integers(0, 256))
    pictures = random.integers(0, 256, (2, 6, 7, 4)).astype(np.uint8)
    got = value(int8_graph(node, (4, 6, 7), zero), pictures)
    expected = reference_conv(pictures.transpose(0, 3, 1, 2), node, zero)
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)
    assert len(np.unique(got)) > 20  # not all clamped


def test_portions_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    node = int8_conv(random, 3, stride=(2, 2))
    pictures = random.integers(0, 256, (5, 9, 8, 3)).astype(np.uint8)
    graph = int8_graph(node, (3, 9, 8), 17)
    whole = value(graph, pictures)
    for limit in (1, 900, 5000):
        monkeypatch.setattr("squeezekit.graph.run._PORTION", limit)
        np.testing.assert_array_equal(value(graph, pictures), whole)


def test_sums_beyond_float32_are_still_exact() -> None:
    """Thousands of large products leave 2^24, where float32 would round at every step on the way."""
    random = np.random.default_rng(0)
    channels, out = 4096, 32
    weight = random.integers(90, 128, (out, channels, 1, 1)).astype(np.int8)
    bias = random.integers(-(2**30), 2**30, out).astype(np.int32)
    window = {"kernel": (1, 1), "stride": (1, 1), "padding": (0,) * 4, "dilation": (1, 1), "groups": 1}
    weights = {"weight": weight, "bias": bias, "multiplier": np.ones(out, np.float32)}
    node = Node("conv", "conv", ("input",), {**window, "logits": 1}, weights)
    picture = random.integers(200, 256, (1, 1, 1, channels)).astype(np.uint8)
    sums = weight.reshape(out, -1).astype(object) @ picture.reshape(-1).astype(object) + bias.astype(object)
    got = value(int8_graph(node, (channels, 1, 1), 0), picture).reshape(-1)
    assert got.tolist() == [np.float32(total) for total in sums]


def linear(weight: list[int], bias: list[int], multiplier: list[float], zero: int, **changes: Any) -> Node:
    return Node(
        "linear",
        "linear",
        ("input",),
        changes,
        {
            "weight": np.array(weight, np.int8).reshape(-1, 1),
            "bias": np.array(bias, np.int32),
            "multiplier": np.array(multiplier, np.float32),
        },
        Quantization(0.5, zero),
    )


def test_ties_go_to_even() -> None:
    sums = [-5, -3, -1, 1, 3, 5, 7]  # times 0.5: -2.5 -1.5 -0.5 0.5 1.5 2.5 3.5
    node = linear([0] * 7, sums, [0.5] * 7, 100)
    graph = int8_graph(node, (1,), 0)
    assert value(graph, np.zeros((1, 1), np.uint8)).tolist() == [[98, 98, 100, 100, 102, 102, 104]]


def test_the_zero_point_is_added_after_rounding() -> None:
    # 2.5 rounds to 2; were 101 added before, 103.5 would round to 104.
    node = linear([0], [5], [0.5], 101)
    assert value(int8_graph(node, (1,), 0), np.zeros((1, 1), np.uint8)).item() == 103


def test_sums_are_rounded_to_float32_first() -> None:
    # 2^24 + 1 is no float32: it becomes 2^24, and 2^24 * 1.5 * 2^-24 is a tie that goes to 2.
    node = linear([0], [2**24 + 1], [1.5 * 2**-24], 0)
    assert value(int8_graph(node, (1,), 0), np.zeros((1, 1), np.uint8)).item() == 2
    exact = (2**24 + 1) * 1.5 * 2**-24
    assert exact > 1.5
    # 2^24 + 3 becomes 2^24 + 4 (a tie, to even), which passes the tie that 2^24 + 3 itself would stay under.
    halves = np.float32(2.5 / (2**24 + 3.5))
    node = linear([0], [2**24 + 3], [halves], 0)
    expected = round(float(np.float32(2**24 + 4) * halves))
    assert value(int8_graph(node, (1,), 0), np.zeros((1, 1), np.uint8)).item() == expected


def test_products_are_rounded_to_float32_and_not_fused() -> None:
    """Pairs whose exact product lies just off a tie that float32 lands on: a fused add would see the rest."""
    found = 0
    random = np.random.default_rng(0)
    for acc in random.integers(2**20, 2**24, 4000).tolist():
        multiplier = np.float32(2.5) / np.float32(acc)
        exact = acc * float(multiplier)  # 24 bits by 24 bits: exact in float64
        product = float(np.float32(acc) * multiplier)
        if product == 2.5 and exact != 2.5:
            found += 1
            node = linear([0], [acc], [float(multiplier)], 0)
            assert value(int8_graph(node, (1,), 0), np.zeros((1, 1), np.uint8)).item() == 2
            if found == 20:
                break
    assert found == 20


def test_clamping() -> None:
    node = linear([0, 0, 0, 0], [10**9, -(10**9), 200, -200], [1e30, 1e30, 1.0, 1.0], 60)
    assert value(int8_graph(node, (1,), 0), np.zeros((1, 1), np.uint8)).tolist() == [[255, 0, 255, 0]]
    node = linear([0, 0, 0], [-5, 5, 500], [1.0] * 3, 60, activation="relu")
    assert value(int8_graph(node, (1,), 0), np.zeros((1, 1), np.uint8)).tolist() == [[60, 65, 255]]
    node = linear([0, 0, 0], [-5, 5, 500], [1.0] * 3, 60, activation="relu6")  # 6 is 12 steps of 0.5
    assert value(int8_graph(node, (1,), 0), np.zeros((1, 1), np.uint8)).tolist() == [[60, 65, 72]]


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_int8_addition(seed: int, relu: bool) -> None:
    random = np.random.default_rng(seed)
    qa, qb, qo = (Quantization(1.0, int(z)) for z in random.integers(0, 256, 3))
    multiplier = random.uniform(0, 2, 2).astype(np.float32)
    first = Node("first", "table", ("input",), {}, {"table": random.permutation(256).astype(np.uint8)}, qa)
    second = Node("second", "table", ("input",), {}, {"table": random.permutation(256).astype(np.uint8)}, qb)
    activation = {"activation": "relu" if relu else "none"}
    add = Node("add", "add", ("first", "second"), activation, {"multiplier": multiplier}, qo)
    graph = Graph(Tensor("input", (256,), UNIT), (first, second, add), "add")
    picture = np.arange(256, dtype=np.uint8)[None]
    values = dict(trace(graph, picture))
    for a, b, got in zip(values["first"][0], values["second"][0], values["add"][0], strict=True):
        left = np.float32(int(a) - qa.zero_point) * multiplier[0]
        right = np.float32(int(b) - qb.zero_point) * multiplier[1]
        total = round(float(np.float32(left + right))) + qo.zero_point
        assert got == min(max(total, qo.zero_point if relu else 0), 255)


@given(st.integers(0, 2**32 - 1))
def test_int8_multiplication(seed: int) -> None:
    random = np.random.default_rng(seed)
    qa, qb, qo = (Quantization(1.0, int(z)) for z in random.integers(0, 256, 3))
    multiplier = random.uniform(0, 0.02, 1).astype(np.float32)
    pool = Node("gate", "global_avg_pool", ("input",), {}, {"multiplier": np.full(1, 1 / 12, np.float32)}, qb)
    table = Node("x", "table", ("input",), {}, {"table": random.permutation(256).astype(np.uint8)}, qa)
    mul = Node("mul", "mul", ("x", "gate"), {}, {"multiplier": multiplier}, qo)
    graph = Graph(Tensor("input", (2, 3, 4), UNIT), (pool, table, mul), "mul")
    pictures = random.integers(0, 256, (2, 3, 4, 2)).astype(np.uint8)
    values = dict(trace(graph, pictures))
    for index in np.ndindex(2, 2, 3, 4):
        a = int(values["x"][index]) - qa.zero_point
        b = int(values["gate"][index[0], index[1], 0, 0]) - qb.zero_point
        assert values["mul"][index] == round_to_byte(a * b, multiplier[0], qo.zero_point)


@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_int8_pools(
    seed: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    ceil_mode: bool,
    include: bool,
    largest: bool,
) -> None:
    random = np.random.default_rng(seed)
    padding = tuple(int(random.integers(0, kernel[i % 2])) for i in range(4))
    zero = int(random.integers(0, 256))
    attributes = {"kernel": kernel, "stride": stride, "padding": padding, "ceil_mode": int(ceil_mode)}
    height, width = 5, 6
    if largest:
        node = Node("pool", "max_pool", ("input",), attributes, {}, Quantization(1.0, zero))
    else:
        attributes["count_include_pad"] = int(include)
        bare = Node("pool", "avg_pool", ("input",), attributes)
        counts = window_counts(bare, (2, height, width))
        by_count = np.float32(0.9) / np.arange(1, kernel[0] * kernel[1] + 1, dtype=np.float32)
        multiplier = by_count if len(np.unique(counts)) > 1 else by_count[counts.flat[0] - 1][None]
        quantization = Quantization(1.0, int(random.integers(0, 256)))
        node = Node("pool", "avg_pool", ("input",), attributes, {"multiplier": multiplier}, quantization)
    graph = int8_graph(node, (2, height, width), zero)
    pictures = random.integers(0, 256, (1, height, width, 2)).astype(np.uint8)
    got = value(graph, pictures)
    assert got.shape[1:] == graph.tensors["pool"].shape
    for c, y, x in np.ndindex(*got.shape[1:]):
        top, left = y * stride[0] - padding[0], x * stride[1] - padding[1]
        rows = range(top, min(top + kernel[0], height + padding[2]))
        columns = range(left, min(left + kernel[1], width + padding[3]))
        seen = [
            int(pictures[0, i, j, c]) for i in rows for j in columns if 0 <= i < height and 0 <= j < width
        ]
        assert seen
        if largest:
            assert got[0, c, y, x] == max(seen)
        else:
            count = len(rows) * len(columns) if include else len(seen)
            total = sum(each - zero for each in seen)
            expected = round_to_byte(total, by_count[count - 1], node.quantization.zero_point)
            assert got[0, c, y, x] == expected


def test_int8_global_average_as_logits() -> None:
    node = Node(
        "pool", "global_avg_pool", ("input",), {"logits": 1}, {"multiplier": np.full(1, 0.1, np.float32)}
    )
    pictures = np.random.default_rng(0).integers(0, 256, (2, 3, 3, 4)).astype(np.uint8)
    got = run(int8_graph(node, (4, 3, 3), 9), pictures)
    sums = pictures.astype(int).sum(axis=(1, 2)) - 9 * 9
    np.testing.assert_array_equal(got[:, :, 0, 0], sums.astype(np.float32) * np.float32(0.1))
    assert got.dtype == np.float32


def test_bytes_at_the_end_become_what_they_mean() -> None:
    node = linear([3], [0], [1.0], 10)
    got = run(int8_graph(node, (1,), 0), np.array([[4]], np.uint8))
    assert got.item() == 0.5 * 12


def test_channels_move_unchanged() -> None:
    quantization = Quantization(1.0, 5)
    nodes = (
        Node("table", "table", ("input",), {}, {"table": np.arange(256, dtype=np.uint8)}, quantization),
        Node("left", "slice", ("table",), {"start": 0, "end": 2}, {}, quantization),
        Node("right", "slice", ("table",), {"start": 2, "end": 6}, {}, quantization),
        Node("concat", "concat", ("right", "left"), {}, {}, quantization),
        Node("shuffle", "channel_shuffle", ("concat",), {"groups": 2}, {}, quantization),
        Node("flat", "flatten", ("shuffle",), {}, {}, quantization),
    )
    graph = Graph(Tensor("input", (6, 1, 2), UNIT), nodes, "flat")
    picture = np.arange(12, dtype=np.uint8).reshape(1, 1, 2, 6)  # position j, channel c: 6 j + c
    got = dict(trace(graph, picture))["flat"][0].reshape(6, 2)
    assert got[:, 0].tolist() == [2, 5, 3, 0, 4, 1]
    assert got[:, 1].tolist() == [8, 11, 9, 6, 10, 7]


def test_a_batch_that_does_not_fit() -> None:
    graph = int8_graph(linear([3], [0], [1.0], 10), (1,), 0)
    with pytest.raises(UserError, match=r"the graph takes uint8 N × 1"):
        run(graph, np.zeros((1, 1), np.float32))
    floats = Graph(Tensor("input", (3, 4, 5)), (Node("relu", "relu", ("input",)),), "relu")
    with pytest.raises(
        UserError, match=r"a batch of float32 1 × 4 × 5 × 3 \(the graph takes float32 N × 3 × 4"
    ):
        run(floats, np.zeros((1, 4, 5, 3), np.float32))


# --- float -------------------------------------------------------------------------------------------------


@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["max_pool", "avg_pool"]),
)
def test_float_pools_are_torchs(
    seed: int, kernel: tuple[int, int], stride: tuple[int, int], ceil_mode: bool, include: bool, op: str
) -> None:
    random = np.random.default_rng(seed)
    sides = tuple(int(random.integers(0, k // 2 + 1)) for k in kernel)
    attributes: dict[str, Any] = {
        "kernel": kernel,
        "stride": stride,
        "padding": sides * 2,
        "ceil_mode": int(ceil_mode),
    }
    x = random.standard_normal((2, 3, 6, 7)).astype(np.float32)
    if op == "max_pool":
        expected = F.max_pool2d(torch.from_numpy(x), kernel, stride, sides, ceil_mode=ceil_mode)
    else:
        attributes["count_include_pad"] = int(include)
        expected = F.avg_pool2d(torch.from_numpy(x), kernel, stride, sides, ceil_mode, include)
    graph = Graph(Tensor("input", (3, 6, 7)), (Node("pool", op, ("input",), attributes),), "pool")
    assert graph.tensors["pool"].shape == tuple(expected.shape[1:])
    np.testing.assert_allclose(run(graph, x), expected.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("op", "function"),
    [
        ("relu", F.relu),
        ("relu6", F.relu6),
        ("silu", F.silu),
        ("sigmoid", torch.sigmoid),
        ("hard_swish", F.hardswish),
        ("hard_sigmoid", F.hardsigmoid),
    ],
)
def test_activations_are_torchs(op: str, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    x = np.concatenate([np.linspace(-9, 9, 1001), [-200, 200, 0]]).astype(np.float32)[None]
    graph = Graph(Tensor("input", (x.shape[1],)), (Node("a", op, ("input",)),), "a")
    np.testing.assert_allclose(run(graph, x), function(torch.from_numpy(x)).numpy(), rtol=1e-5, atol=1e-6)


@given(st.integers(0, 2**32 - 1))
def test_float_convolutions_are_torchs(seed: int) -> None:
    random = np.random.default_rng(seed)
    groups = int(random.choice([1, 2, 4]))
    out = groups * int(random.integers(1, 4))
    kernel, stride, dilation = (tuple(random.integers(1, 4, 2).tolist()) for _ in range(3))
    padding = tuple(random.integers(0, 3, 4).tolist())
    weights = {
        "weight": random.standard_normal((out, 4 // groups, *kernel)).astype(np.float32),
        "bias": random.standard_normal(out).astype(np.float32),
    }
    attributes = {
        "kernel": kernel,
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
    }
    pad_value = random.standard_normal(4).astype(np.float32)
    x = random.standard_normal((2, 4, 8, 9)).astype(np.float32)
    top, left, bottom, right = padding
    filled = (
        torch.from_numpy(pad_value)
        .reshape(1, 4, 1, 1)
        .expand(2, 4, 8 + top + bottom, 9 + left + right)
        .clone()
    )
    filled[:, :, top : top + 8, left : left + 9] = torch.from_numpy(x)
    tensors = [torch.from_numpy(each) for each in weights.values()]
    expected = F.conv2d(filled, *tensors, stride, 0, dilation, groups)
    node = Node("conv", "conv", ("input",), attributes, {**weights, "pad_value": pad_value})
    got = run(Graph(Tensor("input", (4, 8, 9)), (node,), "conv"), x)
    np.testing.assert_allclose(got, expected.numpy(), rtol=1e-4, atol=1e-5)
