"""Each pass by itself: another graph, the same outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from squeezekit.errors import UserError
from squeezekit.graph import Codebook, Graph, Node, Tensor, same
from squeezekit.graph.from_torch import from_torch
from squeezekit.graph.passes import (
    drop_noops,
    equalize,
    fold_affine,
    fold_batch_norm,
    fuse_activations,
    pool_late,
    prepare,
)
from squeezekit.graph.run import run
from squeezekit.models import create_model


@pytest.fixture(scope="module")
def mobile(randomise: Any) -> Graph:
    """A MobileNetV2: batch norm, depthwise, additions, dropout."""
    network = create_model("mobilenet_v2", num_classes=10, width_mult=0.35, stem="small")
    return from_torch(randomise(network), (3, 16, 16))


@pytest.fixture(scope="module")
def squeeze(randomise: Any) -> Graph:
    """A SqueezeNet with bypass: concatenations."""
    network = create_model("squeezenet1_0_complex_bypass", num_classes=10, norm=True, stem="small")
    return from_torch(randomise(network), (3, 24, 24))


def ops(graph: Graph) -> set[str]:
    return {node.op for node in graph.nodes}


def test_fold_batch_norm(mobile: Graph, squeeze: Graph, pictures: Any, assert_close: Any) -> None:
    for graph in (mobile, squeeze):
        folded = fold_batch_norm(graph)
        assert "batch_norm" in ops(graph)
        assert not {"batch_norm", "affine"} & ops(folded)
        x = pictures(*graph.input.shape)
        assert_close(run(folded, x), run(graph, x))


def test_a_lone_batch_norm_becomes_affine(randomise: Any, pictures: Any, assert_close: Any) -> None:
    network = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4))
    graph = from_torch(randomise(network), (3, 8, 8))
    folded = fold_batch_norm(graph)
    assert [node.op for node in folded.nodes] == ["affine", "relu", "conv", "relu", "affine"]
    x = pictures(3, 8, 8)
    assert_close(run(folded, x), run(graph, x))


def test_two_norms_in_a_row_and_one_that_is_shared(randomise: Any, pictures: Any, assert_close: Any) -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.other = nn.Conv2d(3, 4, 1, bias=False), nn.Conv2d(4, 4, 1)
            self.norm1, self.norm2, self.norm3 = (nn.BatchNorm2d(4) for _ in range(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.norm2(self.norm1(self.conv(x)))
            z = self.other(y)
            return self.norm3(z) + z  # z itself is needed: this norm stays

    graph = from_torch(randomise(Shared()), (3, 5, 5))
    folded = fold_batch_norm(graph)
    assert [node.op for node in folded.nodes] == ["conv", "conv", "affine", "add"]
    x = pictures(3, 5, 5)
    assert_close(run(folded, x), run(graph, x))


def test_fuse_activations(mobile: Graph, squeeze: Graph, pictures: Any) -> None:
    for graph in (fold_batch_norm(mobile), fold_batch_norm(squeeze)):
        fused = fuse_activations(graph)
        assert not {"relu", "relu6"} & ops(fused)
        x = pictures(*graph.input.shape)
        np.testing.assert_array_equal(run(fused, x), run(graph, x))


def test_an_activation_stays_where_its_input_is_needed() -> None:
    conv = conv1x1("conv", "input", np.eye(3))
    add = Node("add", "add", ("conv", "relu"))
    relu6 = Node("relu6", "relu6", ("add",))
    graph = Graph(Tensor("input", (3, 2, 2)), (conv, Node("relu", "relu", ("conv",)), add, relu6), "relu6")
    assert same(fuse_activations(graph), graph)
    ends_before = Graph(Tensor("input", (3, 2, 2)), (conv, Node("relu", "relu", ("conv",))), "conv")
    assert same(fuse_activations(ends_before), ends_before)


def test_drop_noops(mobile: Graph, pictures: Any) -> None:
    dropped = drop_noops(mobile)
    assert "dropout" not in ops(dropped)
    assert len(dropped.nodes) == len(mobile.nodes) - 1
    x = pictures(*mobile.input.shape)
    np.testing.assert_array_equal(run(dropped, x), run(mobile, x))


def test_what_is_a_noop_and_what_is_not() -> None:
    ones, zeros = np.ones(4, np.float32), np.zeros(4, np.float32)
    window = {"stride": (1, 1), "padding": (0,) * 4, "ceil_mode": 0}
    noops = [
        Node("a", "identity", ("input",)),
        Node("b", "slice", ("a",), {"start": 0, "end": 4}),
        Node("c", "channel_shuffle", ("b",), {"groups": 4}),
        Node("d", "max_pool", ("c",), {"kernel": (1, 1), **window}),
        Node("e", "affine", ("d",), {}, {"scale": ones, "shift": zeros}),
    ]
    real = [
        Node("f", "relu", ("e",)),
        Node("h", "channel_shuffle", ("f",), {"groups": 2}),
        Node("i", "max_pool", ("h",), {"kernel": (1, 1), **window, "stride": (2, 2)}),
        Node("j", "affine", ("i",), {}, {"scale": -ones, "shift": zeros}),
        Node("k", "slice", ("j",), {"start": 1, "end": 4}),
    ]
    graph = Graph(Tensor("input", (4, 6, 6)), (*noops, *real), "k")
    dropped = drop_noops(graph)
    assert [node.name for node in dropped.nodes] == ["f", "h", "i", "j", "k"]
    assert dropped.nodes[0].inputs == ("input",)
    x = np.random.default_rng(0).standard_normal((2, 4, 6, 6)).astype(np.float32)
    np.testing.assert_array_equal(run(dropped, x), run(graph, x))
    twice = Graph(Tensor("input", (4,)), (Node("f", "relu", ("input",)), Node("g", "relu", ("f",))), "g")
    assert drop_noops(twice).output == "f"
    nothing = Graph(Tensor("input", (4,)), (Node("f", "dropout", ("input",)),), "f")
    assert drop_noops(nothing).output == "input"


# --- the preparation ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("reverse", [False, True])
def test_preparation_is_folded_exactly_at_the_border(
    reverse: bool, randomise: Any, assert_close: Any
) -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 5, padding=2, stride=2), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1))
    graph = from_torch(randomise(network), (3, 12, 12))
    mean, scale = (104.0, 117.0, 123.0), (0.02, 0.018, 0.017)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 12, 12)).astype(np.float32)
    ordered = pixels[:, ::-1] if reverse else pixels
    spread = [np.array(each, np.float32).reshape(3, 1, 1) for each in (mean, scale)]
    expected = run(graph, np.ascontiguousarray((ordered - spread[0]) * spread[1]))

    prepared = prepare(graph, mean, scale, reverse_channels=reverse)
    assert prepared.nodes[0].op == "affine"
    assert_close(run(prepared, pixels), expected)
    folded = fold_affine(prepared)
    assert [node.op for node in folded.nodes] == ["conv", "relu", "conv"]
    pad_value = folded.nodes[0].dense("pad_value")
    np.testing.assert_allclose(pad_value, mean[::-1] if reverse else mean, rtol=1e-5)
    assert "pad_value" not in folded.nodes[2].weights
    assert_close(run(folded, pixels), expected)
    # Once more: what is folded already has a pad_value, which is kept exact.
    again = fold_affine(prepare(folded, (1.0, 2.0, 3.0), (2.0, 3.0, 4.0)))
    shifted = pixels / np.array([2, 3, 4], np.float32).reshape(3, 1, 1) + np.array(
        [1, 2, 3], np.float32
    ).reshape(3, 1, 1)
    assert_close(run(again, shifted), expected)


def test_preparation_of_grouped_layers_and_of_vectors(assert_close: Any) -> None:
    random = np.random.default_rng(0)
    weight = random.standard_normal((6, 2, 3, 3)).astype(np.float32)
    window = {"kernel": (3, 3), "stride": (1, 1), "padding": (1, 0, 2, 1), "dilation": (1, 1), "groups": 2}
    conv = Node("conv", "conv", ("input",), window, {"weight": weight})
    graph = Graph(Tensor("input", (4, 5, 5)), (conv,), "conv")
    prepared = prepare(graph, (1.0, 2.0, 3.0, 4.0), (1.0, 2.0, 0.5, 0.1))
    x = random.standard_normal((2, 4, 5, 5)).astype(np.float32)
    assert_close(run(fold_affine(prepared), x), run(prepared, x))

    linear = Node("linear", "linear", ("input",), {}, {"weight": weight.reshape(6, -1)[:, :4]})
    prepared = prepare(Graph(Tensor("input", (4,)), (linear,), "linear"), (1.0,) * 4, (2.0,) * 4)
    assert_close(run(fold_affine(prepared), x[:, :, 0, 0]), run(prepared, x[:, :, 0, 0]))


def test_preparation_that_cannot_be_folded_stays() -> None:
    conv = conv1x1("conv", "input", np.eye(3), padding=(1, 1, 1, 1))
    graph = Graph(Tensor("input", (3, 4, 4)), (conv,), "conv")
    no_colour = prepare(graph, (1.0, 2.0, 3.0), (1.0, 0.0, 1.0))
    assert same(fold_affine(no_colour), no_colour)
    other_reader = prepare(
        Graph(graph.input, (Node("relu", "relu", ("input",)),), "relu"), (1.0,) * 3, (1.0,) * 3
    )
    assert same(fold_affine(other_reader), other_reader)
    assert same(fold_affine(graph), graph)
    with pytest.raises(UserError, match="cannot be turned"):
        prepare(
            Graph(graph.input, (Node("relu", "relu", ("input",)),), "relu"),
            (1.0,) * 3,
            (1.0,) * 3,
            reverse_channels=True,
        )
    with pytest.raises(UserError, match="a mean of 1 numbers"):
        prepare(graph, (1.0,), (1.0,) * 3)


# --- equalization ------------------------------------------------------------------------------------------


def conv1x1(name: str, source: str, matrix: Any, **changes: Any) -> Node:
    weight = np.asarray(matrix, np.float32)[:, :, None, None]
    attributes = {
        "kernel": (1, 1),
        "stride": (1, 1),
        "padding": (0, 0, 0, 0),
        "dilation": (1, 1),
        "groups": 1,
        **changes,
    }
    return Node(name, "conv", (source,), attributes, {"weight": weight, "bias": weight[:, 0, 0, 0] * 0.5})


def spoiled(graph: Graph, spread: float = 1.5) -> Graph:
    """Scale every channel of every layer by its own factor, as training without restraint would."""
    from squeezekit.graph.passes.rewrite import changed

    random = np.random.default_rng(0)
    nodes = []
    for node in graph.nodes:
        if node.op in ("conv", "linear"):
            weight = node.dense("weight")
            factors = np.exp(random.normal(0, spread, len(weight))).astype(np.float32)
            node = changed(node, {"weight": weight * factors.reshape(-1, *(1,) * (weight.ndim - 1))})
        nodes.append(node)
    return Graph(graph.input, tuple(nodes), graph.output)


def test_equalize_keeps_what_networks_compute(
    mobile: Graph, squeeze: Graph, pictures: Any, assert_close: Any
) -> None:
    for graph in (mobile, squeeze):
        before = spoiled(fuse_activations(fold_batch_norm(drop_noops(graph))), 0.4)
        after = equalize(before)
        x = pictures(*graph.input.shape)
        assert_close(run(after, x), run(before, x))


def test_equalize_makes_ranges_alike(pictures: Any, assert_close: Any, randomise: Any) -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3, padding=1, groups=6),  # depthwise
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 16, 5),
    )
    before = spoiled(fuse_activations(from_torch(randomise(network), (3, 8, 8))))
    after = equalize(before)
    x = pictures(3, 8, 8)
    assert_close(run(after, x), run(before, x))
    first, depthwise, third, last = (node.dense("weight") for node in after.nodes if "weight" in node.weights)
    outputs = np.abs(first).max(axis=(1, 2, 3))
    np.testing.assert_allclose(outputs, np.abs(depthwise).max(axis=(1, 2, 3)), rtol=0.02)
    np.testing.assert_allclose(
        np.abs(depthwise).max(axis=(1, 2, 3)), np.abs(third).max(axis=(0, 2, 3)), rtol=0.02
    )
    seen = np.abs(last.reshape(5, 8, 16)).max(axis=(0, 2))
    np.testing.assert_allclose(np.abs(third).max(axis=(1, 2, 3)), seen, rtol=0.02)
    spoiled_ranges = [np.abs(before.nodes[i].dense("weight")).max(axis=(1, 2, 3)) for i in (0, 1)]
    assert np.abs(np.log(spoiled_ranges[0] / spoiled_ranges[1])).max() > 1


def test_equalize_through_a_fire_module() -> None:
    after = equalize(spoiled(fire_module()))
    squeezed = after.node("squeeze").dense("weight")
    readers = [np.abs(after.node(name).dense("weight")).max(axis=(0, 2, 3)) for name in ("left", "right")]
    np.testing.assert_allclose(np.abs(squeezed).max(axis=(1, 2, 3)), np.maximum(*readers), rtol=0.02)
    joined = np.abs(after.node("next").dense("weight")).max(axis=(0, 2, 3))
    ends = [np.abs(after.node(name).dense("weight")).max(axis=(1, 2, 3)) for name in ("left", "right")]
    np.testing.assert_allclose(np.concatenate(ends), joined, rtol=0.02)


def fire_module() -> Graph:
    random = np.random.default_rng(3)
    nodes = (
        conv1x1("squeeze", "input", random.standard_normal((4, 3)), activation="relu"),
        conv1x1("left", "squeeze", random.standard_normal((5, 4)), activation="relu"),
        conv1x1("right", "squeeze", random.standard_normal((6, 4)), activation="relu"),
        Node("concat", "concat", ("left", "right")),
        Node("shuffled", "channel_shuffle", ("concat",), {"groups": 1}),
        conv1x1("next", "shuffled", random.standard_normal((2, 11))),
    )
    return Graph(Tensor("input", (3, 4, 4)), nodes, "next")


@pytest.mark.parametrize("activation", ["relu6", "silu", "sigmoid"])
def test_equalize_leaves_other_activations_alone(activation: str) -> None:
    random = np.random.default_rng(0)
    nodes = (
        conv1x1("a", "input", random.standard_normal((4, 3)), activation=activation),
        conv1x1("b", "a", random.standard_normal((2, 4))),
    )
    graph = Graph(Tensor("input", (3, 4, 4)), nodes, "b")
    assert same(equalize(graph), graph)


@given(st.integers(0, 2**32 - 1))
def test_equalize_with_dead_channels_and_slices(seed: int) -> None:
    random = np.random.default_rng(seed)
    first, second = random.standard_normal((6, 3)), random.standard_normal((4, 3))
    first[random.integers(6)] = 0
    second[:, random.integers(3)] = 0
    nodes = (
        conv1x1("a", "input", first, activation="relu"),
        Node(
            "pool",
            "max_pool",
            ("a",),
            {"kernel": (2, 2), "stride": (1, 1), "padding": (1, 0, 0, 1), "ceil_mode": 0},
        ),
        Node("shuffle", "channel_shuffle", ("pool",), {"groups": 2}),
        Node("left", "slice", ("shuffle",), {"start": 0, "end": 3}),
        Node("right", "slice", ("shuffle",), {"start": 3, "end": 6}),
        conv1x1("b", "left", second, activation="relu"),
        conv1x1("c", "right", random.standard_normal((4, 3))),
        Node("sum", "add", ("b", "c")),
    )
    graph = Graph(Tensor("input", (3, 5, 5)), nodes, "sum")
    after = equalize(graph)
    assert not same(after, graph)
    x = random.standard_normal((2, 3, 5, 5)).astype(np.float32)
    np.testing.assert_allclose(run(after, x), run(graph, x), rtol=1e-3, atol=1e-4)


def test_codebooks_go_through() -> None:
    """A pass that changes weights makes them dense; one that does not leaves the codebook."""
    values = np.array([-1, 0, 0.5], np.float32)
    codebook = Codebook(values, np.random.default_rng(0).integers(0, 3, (4, 3, 1, 1)).astype(np.uint8))
    attributes = dict(conv1x1("conv", "input", np.eye(3)).attributes)
    conv = Node("conv", "conv", ("input",), attributes, {"weight": codebook})
    graph = Graph(Tensor("input", (3, 4, 4)), (conv, Node("relu", "relu", ("conv",))), "relu")
    fused = fuse_activations(drop_noops(graph))
    assert fused.nodes[0].weights["weight"] is codebook
    x = np.random.default_rng(1).standard_normal((2, 3, 4, 4)).astype(np.float32)
    np.testing.assert_array_equal(run(fused, x), run(graph, x))
    folded = fold_affine(prepare(fused, (0.5,) * 3, (2.0,) * 3))
    np.testing.assert_allclose(run(folded, x / 2 + 0.5), run(graph, x), rtol=1e-4, atol=1e-5)


def test_pool_late(pictures: Any, assert_close: Any, randomise: Any) -> None:
    """conv, pool, norm, ReLU: all but the pool become the convolution's."""
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 4, 3),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
    )
    randomise(network)[2].weight.data.abs_()
    graph = from_torch(network, (3, 24, 24))
    late = pool_late(graph)
    x = pictures(3, 24, 24)
    assert np.array_equal(run(late, x), run(graph, x))  # exactly
    assert [node.op for node in late.nodes][:4] == ["conv", "batch_norm", "relu", "max_pool"]
    fused = fuse_activations(fold_batch_norm(late))
    assert [node.op for node in fused.nodes] == ["conv", "max_pool", "conv", "max_pool", "flatten"]
    assert_close(run(fused, x), run(graph, x))


def test_pools_that_stay(randomise: Any) -> None:
    """A scale that is negative, a pool that others read, and one behind no layer."""
    network = randomise(nn.Sequential(nn.Conv2d(3, 4, 1), nn.MaxPool2d(2), nn.BatchNorm2d(4), nn.ReLU()))
    network[2].weight.data = torch.tensor([1.0, -1.0, 1.0, 1.0])
    graph = from_torch(network, (3, 8, 8))
    assert same(pool_late(graph), graph)

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.pool, self.relu = nn.Conv2d(3, 4, 1), nn.MaxPool2d(2), nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            pooled = self.pool(self.conv(x))
            return pooled + self.relu(pooled)

    shared = from_torch(randomise(Shared()), (3, 8, 8))
    assert same(pool_late(shared), shared)
    first = from_torch(nn.Sequential(nn.MaxPool2d(2), nn.ReLU()).eval(), (3, 8, 8))
    assert same(pool_late(first), first)
