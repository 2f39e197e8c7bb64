"""Small graphs that together hold every operator."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from squeezekit.graph.graph import INPUT, Graph, Node, Quantization, Tensor
from squeezekit.graph.run import run

BYTE, HALF, FINE = Quantization(1.0, 0), Quantization(0.5, 100), Quantization(0.0625, 0)
WINDOW = {"stride": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1), "groups": 1}
POOL = {"kernel": (3, 3), "stride": (2, 2), "padding": (0, 0, 0, 0), "ceil_mode": 0}


def conv(seed: int, name: str, source: str, channels: int, out: int, **changes: Any) -> Node:
    """A convolution whose results fill the range of bytes."""
    rng = np.random.default_rng(seed)
    quantization = None if changes.get("logits") else changes.pop("quantization", HALF)
    attributes = {**WINDOW, "kernel": (3, 3), **{k: v for k, v in changes.items() if k != "pad_value"}}
    shape = (out, channels // attributes["groups"], *attributes["kernel"])
    reach = 100 * 60 * np.sqrt(np.prod(shape[1:]))
    weights = {
        "weight": rng.integers(-127, 128, shape).astype(np.int8),
        "bias": rng.integers(-5000, 5000, out).astype(np.int32),
        "multiplier": (rng.uniform(30, 90, out) / reach).astype(np.float32),
    }
    if "pad_value" in changes:
        weights["pad_value"] = np.asarray(changes["pad_value"], np.uint8)
    return Node(name, "conv", (source,), attributes, weights, quantization)


def linear(seed: int, name: str, source: str, channels: int, out: int, **changes: Any) -> Node:
    made = conv(seed, name, source, channels, out, kernel=(1, 1), **changes)
    weights = {**made.weights, "weight": made.dense("weight").reshape(out, channels)}
    attributes = {k: v for k, v in made.attributes.items() if k in ("activation", "logits")}
    return Node(name, "linear", (source,), attributes, weights, made.quantization)


def multiplier(*numbers: float) -> dict[str, np.ndarray]:
    return {"multiplier": np.array(numbers, np.float32)}


def table(op: str, name: str, source: str, seen: Quantization, out: Quantization) -> Node:
    real = ((np.arange(256) - seen.zero_point) * seen.scale).astype(np.float32)
    alone = Graph(Tensor(INPUT, (256,)), (Node(op, op, (INPUT,)),), op)
    answer = np.rint(run(alone, real[None])[0].astype(np.float64) / out.scale) + out.zero_point
    return Node(name, "table", (source,), {}, {"table": np.clip(answer, 0, 255).astype(np.uint8)}, out)


def layers() -> dict[str, tuple[Node, ...]]:
    """Nodes of int8 graphs on pictures (4, 9, 10), the last of which gives the result."""
    first = conv(0, "first", INPUT, 4, 8)
    other = conv(1, "other", INPUT, 4, 8)
    gate = Node("gate", "global_avg_pool", ("first",), {}, multiplier(0.0171), HALF)  # no ties
    odd = np.random.default_rng(3).permutation(256).astype(np.uint8)
    return {
        "conv": (first,),
        "conv strided": (conv(2, "c", INPUT, 4, 6, stride=(2, 1), padding=(0, 1, 2, 0)),),
        "conv relu": (conv(3, "c", INPUT, 4, 6, activation="relu"),),
        "conv relu6": (conv(4, "c", INPUT, 4, 6, activation="relu6"),),
        "conv relu6, clamped by bytes": (conv(4, "c", INPUT, 4, 6, activation="relu6", quantization=FINE),),
        "conv groups": (conv(5, "c", INPUT, 4, 6, groups=2, dilation=(2, 1)),),
        "conv depthwise": (first, conv(6, "c", "first", 8, 8, groups=8, padding=(1, 1, 1, 1))),
        "conv on one border": (conv(7, "c", INPUT, 4, 6, padding=(1, 1, 1, 1), pad_value=[128] * 4),),
        "conv on a border a channel": (
            conv(8, "c", INPUT, 4, 6, padding=(1, 0, 2, 1), pad_value=[104, 117, 0, 255]),
        ),
        "conv within a border a channel": (
            first,
            conv(8, "c", "first", 8, 6, padding=(1, 0, 2, 1), pad_value=range(0, 240, 30)),
        ),
        "conv of one value": (
            Node(
                "c",
                "conv",
                (INPUT,),
                first.attributes,
                {**first.weights, **multiplier(*[0.0] * 4, *[0.01] * 4)},
                HALF,
            ),
        ),
        "conv logits": (conv(9, "c", INPUT, 4, 6, kernel=(9, 10), logits=1),),
        "linear": (gate.__class__("flat", "flatten", (INPUT,), {}, {}, BYTE), linear(1, "c", "flat", 360, 7)),
        "linear logits": (
            Node("flat", "flatten", (INPUT,), {}, {}, BYTE),
            linear(2, "c", "flat", 360, 7, logits=1),
        ),
        "add": (first, other, Node("c", "add", ("first", "other"), {}, multiplier(1, 1), HALF)),
        "add rescaled": (
            first,
            other,
            Node("c", "add", ("first", "other"), {"activation": "relu"}, multiplier(0.37, 0.81), HALF),
        ),
        "add a channel": (first, gate, Node("c", "add", ("gate", "first"), {}, multiplier(1, 1), HALF)),
        "mul": (first, gate, Node("c", "mul", ("first", "gate"), {}, multiplier(0.05), HALF)),
        "concat": (first, other, Node("c", "concat", ("first", "other"), {}, {}, HALF)),
        "slice": (first, Node("c", "slice", ("first",), {"start": 2, "end": 7}, {}, HALF)),
        "channel_shuffle": (first, Node("c", "channel_shuffle", ("first",), {"groups": 4}, {}, HALF)),
        "max_pool": (first, Node("c", "max_pool", ("first",), {**POOL, "padding": (1, 1, 0, 1)}, {}, HALF)),
        "max_pool ceil": (first, Node("c", "max_pool", ("first",), {**POOL, "ceil_mode": 1}, {}, HALF)),
        "avg_pool": (
            first,
            Node("c", "avg_pool", ("first",), {**POOL, "count_include_pad": 1}, multiplier(1 / 9), HALF),
        ),
        "avg_pool without padding": (
            first,
            Node(
                "c",
                "avg_pool",
                ("first",),
                {**POOL, "padding": (1, 1, 1, 1), "count_include_pad": 0, "ceil_mode": 1},
                multiplier(*(1 / n for n in range(1, 10))),
                HALF,
            ),
        ),
        "avg_pool with padding": (
            first,
            Node(
                "c",
                "avg_pool",
                ("first",),
                {**POOL, "padding": (1, 1, 1, 1), "count_include_pad": 1, "ceil_mode": 1},
                multiplier(*(1 / n for n in range(1, 10))),
                HALF,
            ),
        ),
        "global_avg_pool": (first, Node("c", "global_avg_pool", ("first",), {}, multiplier(0.04), HALF)),
        "global_avg_pool logits": (
            first,
            Node("c", "global_avg_pool", ("first",), {"logits": 1}, multiplier(0.5 / 56)),
            Node("flat", "flatten", ("c",)),
        ),
        "identity": (first, Node("c", "identity", ("first",), {}, {}, HALF)),
        "dropout": (first, Node("c", "dropout", ("first",), {}, {}, HALF)),
        **{
            f"table {op}": (first, table(op, "c", "first", HALF, Quantization(0.0625, 10)))
            for op in ("relu", "relu6", "silu", "sigmoid", "hard_swish", "hard_sigmoid")
        },
        "table of its own": (first, Node("c", "table", ("first",), {}, {"table": odd}, HALF)),
    }


def int8_graphs() -> dict[str, Graph]:
    return {
        name: Graph(Tensor(INPUT, (4, 9, 10), BYTE), nodes, nodes[-1].name)
        for name, nodes in layers().items()
    }


def classifier() -> Graph:
    """A network of a Fire module, a gate and a bypass, for pictures (3, 32, 32)."""
    nodes = (
        conv(0, "stem", INPUT, 3, 16, stride=(2, 2), padding=(1, 1, 1, 1), pad_value=[124, 116, 104]),
        table("silu", "swish", "stem", HALF, HALF),
        conv(1, "squeeze", "swish", 16, 8, kernel=(1, 1), activation="relu", quantization=FINE),
        conv(2, "expand1", "squeeze", 8, 8, kernel=(1, 1)),
        conv(3, "expand3", "squeeze", 8, 8, padding=(1, 1, 1, 1)),
        Node("fire", "concat", ("expand1", "expand3"), {}, {}, HALF),
        Node("bypass", "add", ("swish", "fire"), {}, multiplier(0.6, 0.6), HALF),
        Node("mean", "global_avg_pool", ("bypass",), {}, multiplier(4 / 256), HALF),
        table("sigmoid", "gate", "mean", HALF, Quantization(1 / 256, 0)),
        Node("gated", "mul", ("bypass", "gate"), {}, multiplier(1 / 128), HALF),
        Node("pooled", "max_pool", ("gated",), {**POOL, "ceil_mode": 1}, {}, HALF),
        Node("flat", "flatten", ("pooled",), {}, {}, HALF),
        linear(5, "head", "flat", 16 * 64, 10, logits=1),
    )
    graph = Graph(Tensor(INPUT, (3, 32, 32), BYTE), nodes, "head")
    # Pictures shall differ in their answers: what all have in common is taken away.
    head = nodes[-1]
    common = run(graph, pictures(graph, 32, seed=1)).mean(axis=0) / head.dense("multiplier")
    weights = {**head.weights, "bias": (head.dense("bias") - np.rint(common)).astype(np.int32)}
    return replace(graph, nodes=(*nodes[:-1], replace(head, weights=weights)))


def pictures(graph: Graph, count: int, seed: int = 0) -> np.ndarray:
    channels, *size = graph.input.shape
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, *(-(-n // 8) for n in size), channels))
    blocks = coarse.repeat(8, axis=1).repeat(8, axis=2)[:, : size[0], : size[1]]
    noise = rng.integers(-100, 101, (count, *size, channels))
    return np.clip(blocks + noise, 0, 255).astype(np.uint8)
