"""Networks of torch, into the graph and back out: the same outputs; and what is refused, and how."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from squeezekit.errors import UserError
from squeezekit.graph import Graph, same
from squeezekit.graph.from_torch import from_torch
from squeezekit.graph.passes import drop_noops, fuse_activations
from squeezekit.graph.run import run
from squeezekit.graph.to_torch import take_weights, to_torch
from squeezekit.models import create_model

# Every builder of models/; the paper's own sizes are counted in test_cost.py, which needs no weights.
NETWORKS: list[tuple[str, dict[str, Any], int]] = [
    ("squeezenet1_0", {"num_classes": 10}, 64),
    ("squeezenet1_1", {"stem": "small", "norm": True, "num_classes": 10}, 32),
    ("squeezenet1_0_simple_bypass", {"num_classes": 10}, 64),
    ("squeezenet1_0_complex_bypass", {"norm": True, "num_classes": 10}, 64),
    ("squeezenet", {"base_e": 16, "incr_e": 8, "fires": 3, "pools": (1, 3), "bypass": "complex"}, 48),
    ("alexnet", {"stem": "small", "num_classes": 10}, 32),
    ("mobilenet_v1", {"width_mult": 0.25, "num_classes": 10}, 64),
    ("mobilenet_v2", {"width_mult": 0.35, "num_classes": 10}, 64),
    ("mobilenet_v2", {"stem": "small", "width_mult": 0.35, "num_classes": 10}, 32),
    ("efficientnet", {"width_coefficient": 0.3, "depth_coefficient": 0.4, "num_classes": 10}, 64),
    ("efficientnet", {"width_coefficient": 0.3, "depth_coefficient": 0.2, "se_ratio": 0.0}, 64),
]


@pytest.mark.parametrize(("name", "metaparameters", "size"), NETWORKS)
def test_networks_cross_and_come_back(
    name: str, metaparameters: dict[str, Any], size: int, randomise: Any, pictures: Any, assert_close: Any
) -> None:
    network = randomise(create_model(name, **metaparameters))
    graph = from_torch(network, (3, size, size))
    x = pictures(3, size, size)
    with torch.no_grad():
        expected = network(torch.from_numpy(x)).numpy()
        back = to_torch(graph)(torch.from_numpy(x)).numpy()
    np.testing.assert_array_equal(back, expected)
    assert_close(run(graph, x), expected)


def test_nodes_have_the_networks_names() -> None:
    graph = from_torch(create_model("squeezenet1_1", stem="small"), (3, 32, 32))
    names = [node.name for node in graph.nodes]
    assert names[:3] == ["features.conv1", "features.relu1", "features.pool1"]
    assert "features.fire2.concat" in names
    state = create_model("squeezenet1_1", stem="small").state_dict()
    assert set(to_torch(graph).state_dict()) == set(state)


def test_to_torch_and_back_is_the_same(randomise: Any) -> None:
    network = randomise(create_model("mobilenet_v2", num_classes=10, width_mult=0.35))
    graph = from_torch(network, (3, 32, 32))
    assert same(drop_noops(from_torch(to_torch(graph), (3, 32, 32))), drop_noops(graph))
    fused = fuse_activations(drop_noops(graph))
    assert same(fuse_activations(from_torch(to_torch(fused), (3, 32, 32))), fused)


def test_trained_weights_come_back(randomise: Any, pictures: Any) -> None:
    network = randomise(create_model("mobilenet_v2", num_classes=10, width_mult=0.35, stem="small"))
    graph = from_torch(network, (3, 32, 32))
    module = to_torch(graph)
    assert same(take_weights(graph, module), graph)
    module.train()
    loss = module(torch.from_numpy(pictures(3, 32, 32))).square().sum()
    loss.backward()
    torch.optim.SGD(module.parameters(), lr=0.01).step()
    trained = take_weights(graph, module)
    assert not same(trained, graph)
    module.eval()
    x = pictures(3, 32, 32, seed=5)
    with torch.no_grad():
        expected = module(torch.from_numpy(x)).numpy()
    np.testing.assert_array_equal(to_torch(trained)(torch.from_numpy(x)).detach().numpy(), expected)


def test_the_module_is_left_as_it_was() -> None:
    network = create_model("squeezenet1_1", stem="small", norm=True, num_classes=3)
    network.train()
    network.features.fire2.eval()
    modes = [part.training for part in network.modules()]
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    graph = from_torch(network, (3, 32, 32))
    assert [part.training for part in network.modules()] == modes
    with torch.no_grad():
        network.features.conv1.weight.zero_()  # and the graph keeps what it was given
    np.testing.assert_array_equal(
        graph.node("features.conv1").dense("weight"), before["features.conv1.weight"].numpy()
    )


def test_shapes_alone_take_no_memory() -> None:
    with torch.device("meta"):
        network = create_model("efficientnet_b3")
    graph = from_torch(network, (3, 64, 64))
    weights = [weight for node in graph.nodes for weight in node.weights.values()]
    assert sum(weight.size for weight in weights) > 12_000_000
    assert not any(any(weight.strides) for weight in weights if isinstance(weight, np.ndarray))


# --- modules that are written in other ways ----------------------------------------------------------------


class Functional(nn.Module):
    """A network from a function, with what parts it needs."""

    def __init__(self, function: Callable[..., torch.Tensor], **parts: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self, x)


def shuffle(x: torch.Tensor, groups: int) -> torch.Tensor:
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


def split_and_join(m: Any, x: torch.Tensor) -> torch.Tensor:
    left, right = x.chunk(2, dim=1)
    return shuffle(torch.cat((left, m.conv(right)), dim=1), 2)


def in_place(m: Any, x: torch.Tensor) -> torch.Tensor:
    y = m.conv(x)
    z = F.relu(y, inplace=True)
    return z + y  # y holds the ReLU's values by now


def dropped_in_place(m: Any, x: torch.Tensor) -> torch.Tensor:
    y = m.conv(x)
    z = F.dropout(y, 0.5, m.training)
    F.relu_(z)
    return y * 2.0


def chained(m: Any, x: torch.Tensor) -> torch.Tensor:
    y = m.conv(x)
    y += 1.0
    z = F.relu(y)
    y.mul_(2.0)
    return y + z


def normalised(m: Any, x: torch.Tensor) -> torch.Tensor:
    mean = torch.tensor([0.4, 0.5, 0.6, 0.1]).view(1, 4, 1, 1)
    return 1.0 - F.conv2d((x - mean) / 0.2 * mean + 3, m.conv.weight, padding="same")


def weight_normed(m: Any, x: torch.Tensor) -> torch.Tensor:
    weight = m.conv.weight / m.conv.weight.square().sum((1, 2, 3), keepdim=True).sqrt()
    return F.conv2d(x, weight * torch.ones(1) * 3, m.conv.bias)


def keras_like(m: Any, x: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(F.pad(m.conv(F.pad(x, (0, 1, 0, 1))), (1, 0, 2, 0)), 3, 2)


def heads(m: Any, x: torch.Tensor) -> torch.Tensor:
    pooled = F.adaptive_avg_pool2d(m.conv(x), 1)
    return m.linear(pooled.squeeze(-1).squeeze(-1)) + m.linear(m.conv(x).mean((-2, -1)))


def limits(m: Any, x: torch.Tensor) -> torch.Tensor:
    y = m.conv(x)
    return y.clamp(0, 6) + y.clamp(min=0) + F.hardtanh(y, 0.0, 6.0)


MODULES: dict[str, tuple[Callable[..., torch.Tensor], dict[str, nn.Module]]] = {
    "split": (split_and_join, {"conv": nn.Conv2d(2, 2, 3, padding=1)}),
    "shuffle by torch": (lambda m, x: F.channel_shuffle(m.conv(x), 4), {"conv": nn.Conv2d(4, 8, 1)}),
    "in place": (in_place, {"conv": nn.Conv2d(4, 4, 1)}),
    "in place behind dropout": (dropped_in_place, {"conv": nn.Conv2d(4, 4, 1)}),
    "in place twice": (chained, {"conv": nn.Conv2d(4, 4, 1)}),
    "constants": (normalised, {"conv": nn.Conv2d(4, 5, 4)}),
    "computed weights": (weight_normed, {"conv": nn.Conv2d(4, 5, 3)}),
    "padding apart": (keras_like, {"conv": nn.Conv2d(4, 6, 3, stride=2)}),
    "two heads": (heads, {"conv": nn.Conv2d(4, 6, 3), "linear": nn.Linear(6, 3)}),
    "limits": (limits, {"conv": nn.Conv2d(4, 3, 1)}),
    "one layer twice": (lambda m, x: m.conv(m.conv(x)), {"conv": nn.Conv2d(4, 4, 3, padding=1)}),
    "adaptive": (
        lambda m, x: F.adaptive_avg_pool2d(m.conv(x), (5, None)).flatten(1),
        {"conv": nn.Conv2d(4, 4, 1)},
    ),
    "plain norm": (lambda m, x: m.norm(x), {"norm": nn.BatchNorm2d(4, affine=False)}),
    "slices": (lambda m, x: torch.cat((x[:, 2:], x[:, :1], x[:, :]), 1), {}),
    "a norm of vectors": (lambda m, x: m.norm(x.mean((2, 3))), {"norm": nn.BatchNorm1d(4)}),
    "hard": (lambda m, x: F.hardswish(x) + F.hardsigmoid(x), {}),
    "response norm": (
        lambda m, x: m.norm(m.conv(x)),
        {"conv": nn.Conv2d(4, 9, 1), "norm": nn.LocalResponseNorm(4, 0.3, 0.6, 1.5)},
    ),
}


@pytest.mark.parametrize("name", MODULES)
def test_modules_cross_and_come_back(name: str, randomise: Any, pictures: Any, assert_close: Any) -> None:
    function, parts = MODULES[name]
    module = randomise(Functional(function, **parts))
    x = pictures(4, 10, 12)
    with torch.no_grad():
        expected = module(torch.from_numpy(x.copy())).numpy()
    graph = from_torch(module, (4, 10, 12))
    assert_close(run(graph, x), expected)
    with torch.no_grad():
        assert_close(to_torch(graph)(torch.from_numpy(x)).numpy(), expected)


def test_a_softmax_at_the_end_is_left_out(pictures: Any) -> None:
    x = pictures(5)
    for last in (nn.Softmax(dim=1), nn.LogSoftmax(dim=-1)):
        layers = nn.Sequential(nn.Linear(5, 4), last)
        logits = layers[0](torch.from_numpy(x)).detach().numpy()
        np.testing.assert_allclose(run(from_torch(layers, (5,)), x), logits, rtol=1e-5, atol=1e-6)
    with pytest.raises(UserError, match="a softmax that is not the end"):
        from_torch(nn.Sequential(nn.Softmax(dim=1), nn.Linear(5, 4)), (5,))


def test_a_vector_for_an_input(pictures: Any) -> None:
    module = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    x = pictures(5)
    graph = from_torch(module, (5,))
    np.testing.assert_allclose(
        run(graph, x), module(torch.from_numpy(x)).detach().numpy(), rtol=1e-5, atol=1e-6
    )


def test_names_that_torch_has_for_itself() -> None:
    from squeezekit.graph import Node, Tensor

    names = ["forward", "forward_", "type", "a.weight", "a", "a.b..c", "graph"]
    nodes = [Node(names[0], "relu", ("input",))]
    nodes += [Node(name, "relu", (before,)) for before, name in itertools.pairwise(names)]
    graph = Graph(Tensor("input", (3,)), tuple(nodes), "graph")
    module = to_torch(graph)
    assert len(set(module.paths.values())) == len(names)
    assert module(torch.tensor([[-1.0, 0.0, 2.0]])).tolist() == [[0, 0, 2]]


# --- what is refused ---------------------------------------------------------------------------------------


class Unusual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.body = nn.Sequential(nn.ReLU(), nn.GELU(), nn.PixelShuffle(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(self.conv(x))


def test_an_unknown_operator_is_named_with_its_place() -> None:
    network = Unusual()
    with torch.no_grad():
        network.conv.weight[0, 0, 0, 0] = torch.nan  # not looked at before the operators are known
    with pytest.raises(UserError) as error:
        from_torch(network, (3, 8, 8))
    assert str(error.value) == "body.1: the operator gelu is not supported; nor pixel_shuffle (body.2)"


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda _, x: x.transpose(2, 3), "a permutation of dimensions is not supported"),
        (lambda _, x: x.clamp(-1, 1), "limiting values to -1 … 1"),
        (lambda _, x: torch.cat((x, x), 2), "concatenation along dimension 2"),
        (lambda _, x: x.view(x.shape[0] * 3, 8, 8), "across the pictures"),
        (lambda _, x: x / (x + 5), "div of two values"),
        (lambda _, x: F.pad(x, (1, 1, 1, 1)), "padding that no convolution"),
        (lambda _, x: F.pad(x, (1, 1, 1, 1), "reflect"), "padding with something else than zeros"),
        (lambda _, x: F.max_pool2d(x, 2, dilation=2), "a dilated max pool"),
        (lambda _, x: F.adaptive_avg_pool2d(x, 3), "windows of different sizes"),
        (lambda _, x: F.dropout(x, 0.5, True), "dropout that stays on"),
        (lambda _, x: F.batch_norm(x, None, None, training=True), "by the batch's own statistics"),
        (lambda _, x: x + torch.tensor([1.0, 2.0] * 4), "one number a channel"),
        (lambda _, x: (x, x), "the network returns 2 values"),
        (lambda _, x: x.mean(1), "a mean over other dimensions"),
        (lambda _, x: F.relu_(x[:, :1]) + x[:, 1:2] + x[:, :1], "a part of a value that is used again"),
        (lambda _, x: x[:, :, ::2], "another dimension than channels"),
        (lambda _, x: F.linear(x.flatten(1), x.flatten(1)), "a weight that the network computes itself"),
    ],
)
def test_unusual_uses_are_refused_in_one_line(function: Callable[..., Any], text: str) -> None:
    with pytest.raises(UserError, match=text) as error:
        from_torch(Functional(function), (3, 8, 8))
    assert "\n" not in str(error.value)


def test_a_picture_that_is_too_small() -> None:
    with pytest.raises(UserError, match="does not take an input of 3 × 8 × 8") as error:
        from_torch(create_model("squeezenet1_1"), (3, 8, 8))
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="takes pictures of 227"):
        from_torch(create_model("alexnet", num_classes=2), (3, 224, 224))


def test_weights_that_are_not_finite() -> None:
    network = create_model("squeezenet1_1", num_classes=3, stem="small")
    with torch.no_grad():
        network.features.fire3.expand1x1.bias[1] = torch.inf
    with pytest.raises(UserError, match=r"^features.fire3.expand1x1 \(conv\): bias holds values"):
        from_torch(network, (3, 32, 32))


def test_half_precision_becomes_float32() -> None:
    network = create_model("squeezenet1_1", num_classes=3, stem="small").to(torch.bfloat16)
    weight = from_torch(network, (3, 32, 32)).node("features.conv1").dense("weight")
    np.testing.assert_array_equal(weight, network.features.conv1.weight.detach().float().numpy())
