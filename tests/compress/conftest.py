"""A network small enough to train in a test, and the authors' own as a graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from squeezekit.graph import Graph, Node, Tensor
from squeezekit.graph.passes import prepare


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


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """The networks trained here are the same on every machine with one thread, whatever its cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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


# --- what `best` is tried on: small, and trained a little, for errors grow without end in random networks ---

MEAN, DEVIATION = (118.0, 121.5, 104.25), 60.0


@pytest.fixture(scope="session")
def photographs() -> np.ndarray:
    """64 pictures as they are, uint8 (N, 32, 32, 3): patches of colour of several sizes, and grain."""
    random = np.random.default_rng(11)
    picture = random.normal(0, 30, (64, 1, 1, 3)) + 120
    for side, strength in ((2, 35), (4, 30), (8, 25), (32, 8)):
        patches = random.normal(0, strength, (64, side, side, 3))
        picture = picture + patches.repeat(32 // side, axis=1).repeat(32 // side, axis=2)
    return np.clip(picture, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def raw_networks(photographs: np.ndarray) -> Mapping[str, Graph]:
    """Of pictures 0 … 255, as they come from torch: with batch norms, dropout and a preparation in front."""
    torch = pytest.importorskip("torch")
    from torch import nn

    from squeezekit.graph.from_torch import from_torch
    from squeezekit.graph.to_torch import to_torch
    from squeezekit.models import create_model
    from squeezekit.models.blocks import ConvNorm, pool_and_classify
    from squeezekit.models.mbconv import MBConv

    def inverted(activation: type[nn.Module], se_ratio: float) -> nn.Module:
        """MobileNetV2 and EfficientNet, but for the number of blocks."""
        same = {"se_ratio": se_ratio, "activation": activation}
        return nn.Sequential(
            ConvNorm(3, 8, 3, stride=2, activation=activation),
            MBConv(8, 8, expand_ratio=1, **same),
            MBConv(8, 12, stride=2, expand_ratio=4, **same),
            MBConv(12, 12, kernel=5, expand_ratio=4, **same),
            ConvNorm(12, 40, activation=activation),
            *pool_and_classify(40, 4, 0.1),
        )

    torch.manual_seed(5)
    fires = {"base_e": 16, "incr_e": 16, "fires": 3, "pools": (1, 3), "conv1_channels": 12}
    made = {
        "squeezenet": create_model(
            "squeezenet", 4, stem="small", norm=True, bypass="complex", squeeze_ratio=0.5, **fires
        ),
        "mobilenet_v2": inverted(nn.ReLU6, 0.0),
        "efficientnet": inverted(nn.SiLU, 0.25),
        "medley": to_torch(_medley()).train(),
    }
    x = (torch.from_numpy(photographs).float() - torch.tensor(MEAN)).permute(0, 3, 1, 2) / DEVIATION
    redder = (x[:, 0] - x[:, 2]).mean((1, 2))
    brighter = (x[..., :16] - x[..., 16:]).mean((1, 2, 3))
    labels = 2 * (redder > redder.median()).long() + (brighter > brighter.median()).long()
    found = {}
    for name, network in made.items():
        optimiser = torch.optim.Adam(network.parameters(), 5e-3)
        for _ in range(40):
            loss = nn.functional.cross_entropy(network(x), labels, label_smoothing=0.1)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        for part in network.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.momentum = 1.0
        with torch.no_grad():
            network(x)
        graph = from_torch(network.eval(), (3, 32, 32))
        found[name] = prepare(graph, MEAN, (1 / DEVIATION,) * 3)
    return found


def _medley() -> Graph:
    """What the papers' networks do not have: padding of every kind, groups, shuffles, wide linear layers."""
    random = np.random.default_rng(23)
    pool = {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1, 1, 1), "ceil_mode": 1}
    wide = random.normal(0, 0.03, (24, 24 * 5 * 5)).astype(np.float32)
    last = random.normal(0, 0.4, (4, 24)).astype(np.float32)
    nodes = (
        conv(
            "conv1", "input", (16, 3, 5, 5), random, stride=(2, 2), padding=(2, 1, 1, 2), activation="relu6"
        ),
        Node("pool", "avg_pool", ("conv1",), {**pool, "count_include_pad": 0}),
        conv("grouped", "pool", (24, 4, 3, 3), random, groups=4, activation="hard_swish"),
        Node("shuffle", "channel_shuffle", ("grouped",), {"groups": 4}),
        Node("left", "slice", ("shuffle",), {"start": 0, "end": 12}),
        Node("right", "slice", ("shuffle",), {"start": 12, "end": 24}),
        conv("dilated", "left", (12, 12, 3, 3), random, dilation=(2, 2), padding=(2,) * 4, activation="none"),
        Node("joined", "concat", ("dilated", "right")),
        Node("kept", "relu", ("joined",)),
        Node("sum", "add", ("kept", "shuffle"), {"activation": "relu"}),
        Node("smaller", "max_pool", ("sum",), pool),
        Node("flat", "flatten", ("smaller",)),
        Node("wide", "linear", ("flat",), {"activation": "relu"}, {"weight": wide}),
        Node("fc", "linear", ("wide",), {}, {"weight": last, "bias": np.zeros(4, np.float32)}),
    )
    return Graph(Tensor("input", (3, 32, 32)), nodes, "fc")


@pytest.fixture(scope="session")
def networks(raw_networks: Mapping[str, Graph]) -> Mapping[str, Graph]:
    """In canonical form."""
    from squeezekit.compress.canonical import canonical

    return {name: canonical(graph) for name, graph in raw_networks.items()}


NETWORKS = ("squeezenet", "mobilenet_v2", "efficientnet", "medley")


@pytest.fixture(params=NETWORKS)
def small(request: Any, networks: Mapping[str, Graph]) -> Graph:
    """Each of the networks, one after the other."""
    return networks[request.param]
