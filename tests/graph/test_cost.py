"""Counts against the papers', the buffer plan, and what fits."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from squeezekit.errors import UserError
from squeezekit.graph import Graph, Node, Tensor
from squeezekit.graph.cost import cost, fits, parse_memory, plan
from squeezekit.graph.from_torch import from_torch
from squeezekit.graph.passes import drop_noops, fold_batch_norm, fuse_activations
from squeezekit.graph.run import trace
from squeezekit.models import create_model


def counted(name: str, size: int) -> Any:
    with torch.device("meta"):
        network = create_model(name)
    return cost(from_torch(network, (3, size, size)))


@pytest.mark.parametrize(
    ("name", "size", "parameters", "macs"),
    [
        ("squeezenet1_0", 224, 1_248_424, 818_924_576),
        ("squeezenet1_1", 224, 1_235_496, 349_151_936),
        ("mobilenet_v2", 224, 3_504_872, 300_774_272),
        ("efficientnet_b0", 224, 5_288_548, 385_814_752),
        ("alexnet", 227, 60_965_224, 724_406_816),
        ("efficientnet_b7", 600, 66_347_960, 37_745_884_192),
    ],
)
def test_published_figures(name: str, size: int, parameters: int, macs: int) -> None:
    found = counted(name, size)
    assert found.macs == macs
    assert found.parameters == parameters


def test_mobilenets_paper() -> None:
    """Table 4 of arXiv:1704.04861: 569 million mult-adds, 4.2 million parameters."""
    found = counted("mobilenet_v1", 224)
    assert round(found.macs / 1e6) == 569
    assert round(found.parameters / 1e6, 1) == 4.2


def small() -> Graph:
    window = {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1, 1, 1), "dilation": (1, 1), "groups": 1}
    weights = {"weight": np.ones((4, 3, 3, 3), np.float32), "bias": np.ones(4, np.float32)}
    norm = {key: np.ones(4, np.float32) for key in ("gamma", "beta", "mean", "var")}
    nodes = (
        Node("conv", "conv", ("input",), window, weights),
        Node("norm", "batch_norm", ("conv",), {"eps": 1e-5}, norm),
        Node("relu", "relu", ("norm",)),
        Node("pool", "global_avg_pool", ("relu",)),
        Node("flat", "flatten", ("pool",)),
        Node("linear", "linear", ("flat",), {}, {"weight": np.ones((2, 4), np.float32)}),
    )
    return Graph(Tensor("input", (3, 8, 10)), nodes, "linear")


def test_a_small_network_by_hand() -> None:
    found = cost(small())
    conv, pool, flat, linear = found.layers
    assert (conv.text, conv.shape) == ("conv 3 × 3 / 2, relu", (4, 4, 5))
    assert conv.macs == 4 * 4 * 5 * 27
    assert conv.parameters == 108 + 4 + 4 + 4  # weight, bias, gamma, beta
    assert conv.weight_bytes == 4 * (108 + 4)  # as it runs: folded
    assert (conv.input_bytes, conv.output_bytes) == (4 * 240, 4 * 80)
    assert conv.live_bytes == 4 * 320
    assert conv.intensity == conv.macs / (4 * (112 + 240 + 80))
    assert (pool.macs, pool.parameters, pool.output_bytes) == (0, 0, 16)
    assert (flat.input_bytes, flat.output_bytes, flat.live_bytes) == (0, 0, 16)
    assert (linear.macs, linear.weight_bytes, linear.output_bytes) == (8, 32, 8)
    assert found.macs == conv.macs + 8
    assert found.peak_bytes == 4 * 320
    assert found.activation_bytes == 4 * (80 + 4 + 2)


def test_the_same_in_int8() -> None:
    found = cost(small(), "int8")
    conv, _, _, linear = found.layers
    assert (conv.weight_bytes, conv.output_bytes) == (108 + 4 * 8, 80)
    assert (linear.weight_bytes, linear.output_bytes) == (8 + 2 * 8, 8)  # logits are float32
    assert found.peak_bytes == 320
    assert found.macs == cost(small()).macs


def test_plain_values() -> None:
    found = json.loads(json.dumps(cost(small()).to_dict()))
    assert found["layers"][0]["operation"] == "conv 3 × 3 / 2, relu"
    assert found["macs"] == sum(layer["macs"] for layer in found["layers"])
    assert found["weight_bytes"] == sum(layer["weight_bytes"] for layer in found["layers"])


# --- the plan ----------------------------------------------------------------------------------------------


def assert_sound(graph: Graph, precision: Any = None) -> int:
    """No two values that are needed at once overlap; every value has a place."""
    found = plan(graph, precision)
    for a, b in itertools.combinations(found.buffers, 2):
        together = a.first <= b.last and b.first <= a.last
        apart = a.offset + a.size <= b.offset or b.offset + b.size <= a.offset
        assert apart or not together, (a, b)
    assert found.size == max(each.offset + each.size for each in found.buffers)
    assert found.at_least <= found.size
    assert min(each.offset for each in found.buffers) == 0
    return found.size


@pytest.mark.parametrize(
    ("name", "size"), [("squeezenet1_0_complex_bypass", 224), ("mobilenet_v2", 224), ("efficientnet_b0", 224)]
)
def test_plans_of_networks_are_the_best_possible(name: str, size: int) -> None:
    with torch.device("meta"):
        network = create_model(name)
    graph = fuse_activations(drop_noops(fold_batch_norm(from_torch(network, (3, size, size)))))
    for precision in ("float32", "int8"):
        assert assert_sound(graph, precision) == plan(graph, precision).at_least


def test_a_fire_module_needs_its_input_and_its_output() -> None:
    """The expand layers write into their halves of the concatenation: it costs nothing."""
    found = counted("squeezenet1_0", 227)
    fire = {layer.name: layer for layer in found.layers if layer.name.startswith("features.fire2.")}
    squeezed, expanded = 16 * 55 * 55 * 4, 128 * 55 * 55 * 4
    assert fire["features.fire2.expand3x3"].live_bytes == squeezed + expanded
    assert fire["features.fire2.concat"].live_bytes == expanded
    assert fire["features.fire2.concat"].output_bytes == 0


@given(st.integers(0, 2**32 - 1))
def test_plans_of_random_graphs(seed: int) -> None:
    random = np.random.default_rng(seed)
    nodes: list[Node] = []
    channels = {"input": 2}
    for step in range(int(random.integers(2, 14))):
        names = list(channels)
        source = names[int(random.integers(max(0, len(names) - 4), len(names)))]
        kind = random.choice(["relu", "conv", "concat", "add", "slice"])
        name = f"n{step}"
        alike = [each for each in names if channels[each] == channels[source]]
        if kind == "relu":
            node, width = Node(name, "relu", (source,)), channels[source]
        elif kind == "conv":
            width = int(random.integers(1, 5))
            weight = random.standard_normal((width, channels[source], 1, 1)).astype(np.float32)
            window = {
                "kernel": (1, 1),
                "stride": (1, 1),
                "padding": (0,) * 4,
                "dilation": (1, 1),
                "groups": 1,
            }
            node = Node(name, "conv", (source,), window, {"weight": weight})
        elif kind == "concat":
            other = str(random.choice(names))
            node, width = Node(name, "concat", (source, other)), channels[source] + channels[other]
        elif kind == "add":
            node, width = Node(name, "add", (source, str(random.choice(alike)))), channels[source]
        else:
            node, width = Node(name, "slice", (source,), {"start": 0, "end": 1}), 1
        nodes.append(node)
        channels[name] = width
    graph = Graph(Tensor("input", (2, 3, 3)), tuple(nodes), nodes[-1].name)
    assert_sound(graph)
    assert_values_survive(graph, random)


def assert_values_survive(graph: Graph, random: np.random.Generator) -> None:
    """Run the network in the arena: every value is read back, where it is needed, as it was written."""
    found = plan(graph)
    arena = np.full(found.size // 4, np.nan, np.float32)
    batch = random.standard_normal((1, *graph.input.shape)).astype(np.float32)
    values = {"input": batch, **dict(trace(graph, batch))}

    def place(name: str) -> slice:
        begin = found.places[name] // 4
        return slice(begin, begin + values[name].size)

    arena[place("input")] = batch.reshape(-1)
    for node in graph.nodes:
        for name in node.inputs:
            np.testing.assert_array_equal(arena[place(name)], values[name].reshape(-1))
        arena[place(node.name)] = values[node.name].reshape(-1)
    np.testing.assert_array_equal(arena[place(graph.output)], values[graph.output].reshape(-1))


# --- does it fit? ------------------------------------------------------------------------------------------


def test_fits() -> None:
    found = counted("squeezenet1_1", 224)
    by = {fit.what: fit for fit in fits(found, parse_memory("10MB"))}
    assert by["weights"].holds
    assert by["weights"].needed == 4 * 1_235_496
    assert by["weights + activations"].needed == 4 * 1_235_496 + found.peak_bytes
    apart = fits(found, parse_memory("flash=5MB,ram=1MB"))
    assert [(fit.what, fit.memory, fit.holds) for fit in apart] == [
        ("weights", "flash", True),
        ("activations", "ram", False),
    ]


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("10MB", {"memory": 10_000_000}),
        ("10 mb", {"memory": 10_000_000}),
        ("1.5MiB", {"memory": 3 * 2**19}),
        ("4096", {"memory": 4096}),
        ("flash=1MB,ram=512KB", {"flash": 1_000_000, "ram": 512_000}),
        (" RAM = 320 KiB ", {"ram": 320 * 1024}),
    ],
)
def test_sizes_of_memory(text: str, sizes: dict[str, int]) -> None:
    assert parse_memory(text) == sizes


@pytest.mark.parametrize(
    "text",
    [
        "",
        "MB",
        "tenMB",
        "-1MB",
        "0",
        "1TBs",
        "flash=",
        "disk=1MB",
        "ram=1,ram=2",
        "1MB,ram=2",
        "1e400",
        "nan",
        "1.2.3MB",
    ],
)
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(UserError, match="--fits"):
        parse_memory(text)
