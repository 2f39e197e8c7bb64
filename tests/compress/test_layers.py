"""What the methods see of a graph."""

from __future__ import annotations

import numpy as np
import pytest

from squeezekit.compress.layers import dense_bytes, layers, rest_bytes, weights, with_weights
from squeezekit.errors import UserError
from squeezekit.graph import Graph, Node, Quantization, Tensor


def test_convolutions_and_linear_layers(network: Graph) -> None:
    assert [node.name for node in layers(network)] == ["block.conv1", "block.depthwise", "conv2", "fc"]
    assert list(weights(network)) == ["block.conv1", "block.depthwise", "conv2", "fc"]
    sizes = sum(weight.size for weight in weights(network).values())
    assert rest_bytes(network) + 4 * sizes == dense_bytes(network)


def test_only_what_is_named_changes(network: Graph) -> None:
    changed = with_weights(network, {"fc": {"weight": np.full((10, 24), -0.0, np.float32)}})
    assert not weights(changed)["fc"].any()
    assert not np.signbit(weights(changed)["fc"]).any()
    assert changed.node("fc").weights["bias"] is network.node("fc").weights["bias"]
    assert changed.node("conv2") is network.node("conv2")


def test_what_is_wrong_is_told() -> None:
    with pytest.raises(UserError, match="no convolution and no linear layer"):
        layers(Graph(Tensor("input", (3, 4, 4)), (Node("relu", "relu", ("input",)),), "relu"))
    with pytest.raises(UserError, match=r"int8 already \(give the float32 one\)"):
        layers(Graph(Tensor("input", (3, 4, 4), Quantization(1.0, 0)), (), "input"))
