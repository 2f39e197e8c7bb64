"""Small networks of each kind, to be written and read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from squeezekit.data.preparation import IMAGENET
from squeezekit.format import Model, bias_shift, scale_grid
from squeezekit.graph.graph import Codebook, Graph, Node, Quantization, Tensor

WINDOW = {"padding": (0, 0, 0, 0), "dilation": (1, 1), "groups": 1}


def float_graph() -> Graph:
    rng = np.random.default_rng(0)
    values = np.unique(np.append(rng.normal(size=9).astype(np.float32), np.float32(0)))
    shared = Codebook(values, rng.integers(0, values.size, (4, 3, 3, 3)).astype(np.uint8))
    channels = rng.random((4, 4)).astype(np.float32) + 0.5
    window = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0, 0, 0), "ceil_mode": 1}
    nodes = (
        Node("prepared", "affine", ("input",), {}, {"scale": channels[0, :3], "shift": channels[1, :3]}),
        Node(
            "conv",
            "conv",
            ("prepared",),
            {**WINDOW, "kernel": (3, 3), "stride": (1, 1), "padding": (1, 0, 1, 2), "activation": "relu"},
            {"weight": shared, "bias": channels[2], "pad_value": channels[3, :3]},
        ),
        Node(
            "norm",
            "batch_norm",
            ("conv",),
            {"eps": 1e-5},
            dict(zip(("gamma", "beta", "mean", "var"), channels, strict=True)),
        ),
        Node("lrn", "local_response_norm", ("norm",), {"size": 5, "alpha": 1e-4, "beta": 0.75, "k": 1.5}),
        Node("swish", "hard_swish", ("lrn",)),
        Node("sum", "add", ("swish", "norm"), {"activation": "relu"}),
        Node("product", "mul", ("sum", "swish")),
        Node("both", "concat", ("product", "conv", "sum")),
        Node("shuffled", "channel_shuffle", ("both",), {"groups": 3}),
        Node("part", "slice", ("shuffled",), {"start": 1, "end": 9}),
        Node("pooled", "max_pool", ("part",), window),
        Node("averaged", "avg_pool", ("pooled",), {**window, "count_include_pad": 0}),
        Node("mean", "global_avg_pool", ("averaged",)),
        Node("same", "identity", ("mean",)),
        Node("dropped", "dropout", ("same",)),
        Node("flat", "flatten", ("dropped",)),
        Node("head", "linear", ("flat",), {}, {"weight": rng.normal(size=(3, 8)).astype(np.float32)}),
        Node("probabilities", "sigmoid", ("head",)),
    )
    return Graph(Tensor("input", (3, 6, 7)), nodes, "probabilities")


def int8_graph() -> Graph:
    rng = np.random.default_rng(1)
    byte, half = Quantization(1.0, 0), Quantization(0.5, 3)

    def matrix(name: str, op: str, source: str, shape: tuple[int, ...], **attributes: Any) -> Node:
        multiplier = scale_grid(0.0031, rng.integers(-8, 8, shape[0]) * 4)
        weights: dict[str, Any] = {
            "weight": np.round(rng.normal(size=shape)).astype(np.int8),
            "bias": (rng.integers(-90, 90, shape[0]) << bias_shift(multiplier)).astype(np.int32),
            "multiplier": multiplier,
        }
        if name == "conv":
            weights["pad_value"] = np.array([104, 117, 123], np.uint8)
        common = WINDOW if op == "conv" else {}
        return Node(
            name, op, (source,), {**common, **attributes}, weights, None if attributes.get("logits") else half
        )

    multiplier = {"multiplier": np.array([0.25], np.float32)}
    window = {"kernel": (2, 2), "stride": (1, 1), "padding": (0, 0, 0, 0), "ceil_mode": 0}
    nodes = (
        matrix("conv", "conv", "input", (8, 3, 3, 3), kernel=(3, 3), stride=(1, 1), activation="relu6"),
        Node("table", "table", ("conv",), {}, {"table": np.arange(256, dtype=np.uint8)[::-1].copy()}, half),
        Node("sum", "add", ("conv", "table"), {}, {"multiplier": np.array([0.3, 0.7], np.float32)}, half),
        Node("product", "mul", ("sum", "conv"), {}, multiplier, half),
        Node("both", "concat", ("product", "conv"), {}, {}, half),
        Node("shuffled", "channel_shuffle", ("both",), {"groups": 4}, {}, half),
        Node("part", "slice", ("shuffled",), {"start": 0, "end": 8}, {}, half),
        Node("depthwise", "identity", ("part",), {}, {}, half),
        Node("pooled", "max_pool", ("depthwise",), window, {}, half),
        Node("averaged", "avg_pool", ("pooled",), {**window, "count_include_pad": 1}, multiplier, half),
        Node("mean", "global_avg_pool", ("averaged",), {}, multiplier, half),
        Node("flat", "flatten", ("mean",), {}, {}, half),
        matrix("head", "linear", "flat", (5, 8), logits=1),
    )
    return Graph(Tensor("input", (3, 6, 6), byte), nodes, "head")


@pytest.fixture(params=["float32", "int8"])
def graph(request: pytest.FixtureRequest) -> Graph:
    return float_graph() if request.param == "float32" else int8_graph()


@pytest.fixture
def model(graph: Graph) -> Model:
    names = ("tench", "goldfish", "a\nname \\n of two lines", "Ελληνικά", "")
    synsets = ("n01440764", "n01443537", "n01484850", "n01491361", "n01494475")
    return Model(graph, IMAGENET.to_dict(), names, synsets, {"made by": "a test", "": "läßt"})


@pytest.fixture
def int8_model() -> Model:
    """Return the smallest there is worth reading: for what is tried on every single byte."""
    multiplier = {"multiplier": np.array([0.5, 0.25], np.float32)}
    weight = np.array([[1, -2, 0], [0, 3, 1]], np.int8)
    bias = np.array([5, -7], np.int32)
    head = Node("head", "linear", ("input",), {"logits": 1}, {"weight": weight, "bias": bias, **multiplier})
    return Model(
        Graph(Tensor("input", (3,), Quantization(1.0, 0)), (head,), "head"), {"size": 1}, ("a", "b"), None
    )
