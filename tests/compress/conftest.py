"""A network small enough to train in a test, and the authors' own as a graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from squeezekit.graph import Graph, Node, Tensor


def conv(
    name: str, source: str, shape: tuple[int, ...], random: np.random.Generator, **other: object
) -> Node:
    """A convolution with random weights, as large as He et al. begin with."""
    fan_in = int(np.prod(shape[1:]))
    weight = random.normal(0, np.sqrt(2 / fan_in), shape).astype(np.float32)
    bias = random.normal(0, 0.1, shape[0]).astype(np.float32)
    side = shape[2] // 2
    attributes = {
        "kernel": shape[2:],
        "stride": (1, 1),
        "padding": (side,) * 4,
        "dilation": (1, 1),
        "groups": 1,
        "activation": "relu",
        **other,
    }
    return Node(name, "conv", (source,), attributes, {"weight": weight, "bias": bias})


@pytest.fixture
def network() -> Graph:
    """Two convolutions, a depthwise one and a linear layer: (3, 12, 12) -> (10,)."""
    random = np.random.default_rng(7)
    matrix = random.normal(0, 0.3, (10, 24)).astype(np.float32)
    nodes = (
        conv("block.conv1", "input", (16, 3, 3, 3), random, stride=(2, 2)),
        conv("block.depthwise", "block.conv1", (16, 1, 3, 3), random, groups=16),
        conv("conv2", "block.depthwise", (24, 16, 1, 1), random),
        Node("pool", "global_avg_pool", ("conv2",)),
        Node("flatten", "flatten", ("pool",)),
        Node("fc", "linear", ("flatten",), {}, {"weight": matrix, "bias": np.zeros(10, np.float32)}),
    )
    return Graph(Tensor("input", (3, 12, 12)), nodes, "fc")


@pytest.fixture
def pictures() -> np.ndarray:
    """64 pictures of smooth noise, prepared."""
    coarse = np.random.default_rng(3).normal(size=(64, 3, 4, 4)).astype(np.float32)
    return coarse.repeat(3, axis=2).repeat(3, axis=3)


@pytest.fixture(scope="session")
def published(shared: Path) -> Graph:
    """The weights of the authors' file, in a graph of convolutions one after the other.

    That is no network that runs as SqueezeNet does; it carries the weights to where bytes are counted.
    """
    pytest.importorskip("torch")
    from squeezekit.models import read_deep_compression

    state = read_deep_compression(shared / "weights" / "compressed_SqueezeNet.net")
    names = [name.removesuffix(".weight") for name in state if name.endswith(".weight")]
    nodes: list[Node] = []
    inputs = []
    for name in names:
        weight, bias = state[f"{name}.weight"].numpy(), state[f"{name}.bias"].numpy()
        side = weight.shape[2]
        # Each layer reads as many of the input's channels as it wants.
        cut = Node(f"{name}.input", "slice", ("input",), {"start": 0, "end": weight.shape[1]})
        layer = conv(name, cut.name, weight.shape, np.random.default_rng(0), padding=(side // 2,) * 4)
        nodes += [cut, Node(name, "conv", (cut.name,), layer.attributes, {"weight": weight, "bias": bias})]
        inputs.append(name)
    nodes.append(Node("all", "concat", tuple(inputs)))
    return Graph(Tensor("input", (512, 1, 1)), tuple(nodes), "all")
