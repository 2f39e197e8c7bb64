"""What pictures tell: against numbers that can be written down, and against NumPy."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch

from squeezekit.compress.calibration import (
    CUT_OFF,
    Moments,
    batches,
    blocks,
    importance,
    moments,
    observe,
    quantized_values,
    refined,
    windows,
)
from squeezekit.compress.layers import layers
from squeezekit.compress.ranges import quantizations, wider
from squeezekit.graph import Graph, Node, Quantization, Tensor
from squeezekit.graph.run import trace
from squeezekit.graph.to_torch import to_torch


def ignore(_count: int) -> None:
    """Nobody watches."""


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def pointwise(name: str, source: str, weight: np.ndarray, activation: str = "none") -> Node:
    attributes = {"kernel": (1, 1), "stride": (1, 1), "padding": (0,) * 4, "dilation": (1, 1), "groups": 1}
    arrays = {
        "weight": weight.astype(np.float32)[:, :, None, None],
        "bias": np.zeros(len(weight), np.float32),
    }
    return Node(name, "conv", (source,), {**attributes, "activation": activation}, arrays)


# --- ranges ------------------------------------------------------------------------------------------------


def test_observe(small: Graph, photographs: np.ndarray) -> None:
    counted: list[int] = []
    found = observe(small, photographs, counted.append)
    assert sum(counted) == len(photographs)
    x = np.ascontiguousarray(photographs.transpose(0, 3, 1, 2), np.float32)
    for name, value in trace(small, x):
        tolerance, spread = 1e-4 * (float(np.abs(value).max()) + 1e-3), float(value.std())
        assert found[name].low == pytest.approx(value.min(), abs=tolerance)
        assert found[name].high == pytest.approx(value.max(), abs=tolerance)
        assert min(len(found[name].sample), 2000) == min(value.size, 2000)
        assert found[name].sample.mean() == pytest.approx(value.mean(), abs=0.1 * spread + tolerance)
    assert (found["input"].low, found["input"].high) == (0, 255)


def test_quantized_values(photographs: np.ndarray) -> None:
    """Values are what bytes can mean, and gradients pass where nothing is cut off."""
    weight = np.array([[0.04, -0.03, 0.01]])
    nodes = (pointwise("a", "input", weight), Node("b", "global_avg_pool", ("a",)))
    graph = Graph(Tensor("input", (3, 32, 32)), nodes, "b")
    module = to_torch(graph)
    caught = {}
    module.part("a").register_forward_hook(lambda _m, _x, y: caught.__setitem__("plain", y.detach().clone()))
    values: dict[str, Quantization | None] = {"a": Quantization(0.03125, 100), "b": None}
    quantized_values(module, graph, values)
    module.part("a").register_forward_hook(lambda _m, _x, y: caught.__setitem__("a", y))
    (x,) = batches(photographs[:8])
    x.requires_grad_(True)
    module(x).sum().backward()
    levels = (caught["a"].detach() / 0.03125).numpy()
    assert np.array_equal(levels, np.rint(levels))
    assert (levels.min(), levels.max()) == (-100, 155)
    inside = np.abs(levels + 0.5 - 28) < 120
    assert np.abs(levels - caught["plain"].numpy() / 0.03125)[inside].max() <= 0.5
    cut = ((caught["plain"] < -100.5 * 0.03125) | (caught["plain"] > 155.5 * 0.03125)).all(1)
    assert cut.any()
    assert (x.grad.permute(0, 2, 3, 1)[cut] == 0).all()
    assert (x.grad != 0).any()
    values["a"] = None
    with torch.no_grad():
        module(x)
    assert torch.equal(caught["a"], caught["plain"])


def test_refined(networks: Mapping[str, Graph], photographs: np.ndarray) -> None:
    """A bad range is mended, what flows together stays together, and input and logits are left alone."""
    graph = networks["medley"]
    first = quantizations(graph, observe(graph, photographs, ignore))
    good = first["sum"]
    assert good is not None
    for name in ("sum", "smaller", "flat"):
        first[name] = wider(good, 0.6)
    found = refined(graph, first, photographs, ignore)
    assert found["sum"] == found["smaller"] == found["flat"] != first["sum"]
    assert found["input"] == Quantization(1.0, 0)
    assert found["fc"] is None
    x = torch.from_numpy(photographs).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        answer = to_torch(graph)(x).log_softmax(1)
        change = []
        for values in (first, found):
            module = to_torch(graph)
            quantized_values(module, graph, values)
            given = module(x).log_softmax(1)
            change.append(torch.nn.functional.kl_div(given, answer, log_target=True, reduction="sum").item())
    assert change[1] < 0.7 * change[0]


# --- importance --------------------------------------------------------------------------------------------


def test_importance_of_a_linear_softmax(photographs: np.ndarray) -> None:
    """The Fisher information of logits has the diagonal p (1 - p)."""
    random = np.random.default_rng(2)
    weight = random.normal(0, 0.02, (4, 3))
    nodes = (
        Node("pool", "global_avg_pool", ("input",)),
        Node("flat", "flatten", ("pool",)),
        Node(
            "fc",
            "linear",
            ("flat",),
            {},
            {"weight": weight.astype(np.float32), "bias": np.zeros(4, np.float32)},
        ),
    )
    graph = Graph(Tensor("input", (3, 32, 32)), nodes, "fc")
    found = importance(graph, [graph.node("fc")], {"fc"}, photographs, ignore, draws=200)["fc"]
    p = softmax(photographs.mean(axis=(1, 2)) @ weight.T)
    exact = (p * (1 - p)).mean(axis=0)
    assert exact.max() > 1.5 * exact.min()
    assert found == pytest.approx(exact, rel=0.08)
    again = importance(graph, [graph.node("fc")], {"fc"}, photographs, ignore, draws=200)["fc"]
    assert np.array_equal(found, again)
    other = importance(graph, [graph.node("fc")], {"fc"}, photographs, ignore, draws=200, seed=1)["fc"]
    assert not np.array_equal(found, other)


def test_importance_behind_a_layer(photographs: np.ndarray) -> None:
    """Gradients of two layers: Wᵀ (p - y), spread over positions, and counted less where ReLU cuts off."""
    random = np.random.default_rng(2)
    first, second = random.normal(0, 0.01, (6, 3)), random.normal(0, 1.0, (4, 6))
    pictures = photographs[:, :4, :4]
    nodes = (
        pointwise("a", "input", first, "relu"),
        Node("pool", "global_avg_pool", ("a",)),
        pointwise("b", "pool", second),
    )
    graph = Graph(Tensor("input", (3, 4, 4)), nodes, "b")
    found = importance(graph, layers(graph), {"b"}, pictures, ignore, draws=200)
    a = np.maximum(pictures.astype(np.float64) @ first.T, 0)
    p = softmax(a.mean(axis=(1, 2)) @ second.T)
    assert found["b"] == pytest.approx((p * (1 - p)).mean(axis=0), rel=0.08)
    fisher = np.einsum("np,pq->npq", p, np.eye(4)) - np.einsum("np,nq->npq", p, p)
    gradient = np.einsum("pa,npq,qa->na", second, fisher, second) / 16**2
    counted = np.where(a > 0, 1.0, CUT_OFF).sum(axis=(1, 2))
    assert found["a"] == pytest.approx((gradient * counted).mean(axis=0), rel=0.08)


def test_importance_is_in_nats(networks: Mapping[str, Graph], photographs: np.ndarray) -> None:
    """Small independent errors of one layer change the answers by half of their importance."""
    graph = networks["efficientnet"]
    node = next(node for node in graph.nodes if node.op == "conv" and node.attributes["groups"] > 1)
    exact = importance(graph, [node], set(), photographs, ignore, draws=20)[node.name].sum()
    module = to_torch(graph)
    x = torch.from_numpy(photographs).permute(0, 3, 1, 2).float()
    random = torch.Generator().manual_seed(0)
    size = 0.03
    with torch.no_grad():
        answer = module(x).double().log_softmax(1)
        module.part(node.name).register_forward_hook(
            lambda _m, _x, y: y + size * torch.randn(y.shape, generator=random)
        )
        changes = [
            torch.nn.functional.kl_div(
                module(x).double().log_softmax(1), answer, log_target=True, reduction="batchmean"
            )
            for _ in range(10)
        ]
    assert float(torch.stack(changes).mean()) == pytest.approx(0.5 * size**2 * exact, rel=0.2)


# --- moments -----------------------------------------------------------------------------------------------


def test_windows_are_what_filters_see(small: Graph, photographs: np.ndarray) -> None:
    """Filters in blocks times windows give the layer's own sums: groups, padding, dilation, pad_value."""
    module = to_torch(small)
    inputs = {}
    for node in layers(small):
        module.part(node.name).register_forward_pre_hook(
            lambda _m, x, name=node.name: inputs.__setitem__(name, x[0])
        )
    (x,) = batches(photographs[:3])
    with torch.no_grad():
        module(x)
        for node in layers(small):
            part, groups = module.part(node.name), blocks(node)[0]
            seen = windows(part, node, inputs[node.name])
            assert seen.shape[0] == groups * blocks(node)[1]
            matrix = part.weight.reshape(groups, -1, seen.shape[1])
            sums = (matrix @ seen).reshape(len(part.weight), -1) + part.bias.unsqueeze(1)
            part._activation = "none"
            own = part(inputs[node.name]).transpose(0, 1).flatten(1)
            assert own.shape == sums.shape
            assert torch.allclose(own, sums, atol=1e-3), node.name


def test_wide_filters_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    from squeezekit.compress import calibration

    monkeypatch.setattr(calibration, "WIDEST", 50)
    weight = np.random.default_rng(0).normal(size=(7, 120)).astype(np.float32)
    node = Node("fc", "linear", ("input",), {}, {"weight": weight, "bias": np.zeros(7, np.float32)})
    graph = Graph(Tensor("input", (120,)), (node,), "fc")
    assert blocks(node) == (1, 3)
    x = torch.randn(20, 120)
    seen = windows(to_torch(graph).part("fc"), node, x)
    assert seen.shape == (3, 40, 20)
    parts = torch.from_numpy(weight.copy()).reshape(7, 3, 40).transpose(0, 1)
    assert torch.allclose((parts @ seen).sum(0), to_torch(graph)(x).detach().T, atol=1e-4)


def test_moments(networks: Mapping[str, Graph], photographs: np.ndarray) -> None:
    """Of a student and its teacher: NumPy's covariances and means."""
    graph = networks["mobilenet_v2"]
    student, teacher = to_torch(graph), to_torch(graph)
    chosen = [layers(graph)[index] for index in (0, 1, 4, -1)]  # padded, depthwise, pointwise, linear
    assert blocks(chosen[1])[0] == 8
    with torch.no_grad():
        for part in (student.part(node.name) for node in layers(graph)):
            part.weight += 0.05 * part.weight.std() * torch.randn_like(part.weight)
    pictures = photographs[:25]
    found = moments(student, teacher, chosen, pictures, ignore)
    seen: dict[tuple[str, str], np.ndarray] = {}
    for which, module in (("ours", student), ("theirs", teacher)):
        for node in chosen:
            module.part(node.name).register_forward_pre_hook(
                lambda m, x, key=(node.name, which), n=node: seen.__setitem__(
                    key, windows(m, n, x[0]).numpy()
                )
            )
        with torch.no_grad():
            module(next(batches(pictures, 25)))
    for node in chosen:
        ours, theirs = (seen[node.name, which].astype(np.float64) for which in ("ours", "theirs"))
        xx, yx, x, y = (each.numpy() for each in found[node.name].centred())
        assert found[node.name].count == ours.shape[2]
        n = ours.shape[1]
        for block in range(len(ours)):
            joint = np.cov(theirs[block], ours[block], bias=True)
            scale = joint.diagonal().max()
            assert np.allclose(xx[block], joint[n:, n:], atol=1e-4 * scale)
            assert np.allclose(yx[block], joint[:n, n:], atol=1e-4 * scale)
        assert np.allclose(x, ours.mean(2), rtol=1e-4, atol=1e-5)
        assert np.allclose(y, theirs.mean(2), rtol=1e-4, atol=1e-5)


def test_moments_far_from_zero() -> None:
    """A small variance on a large mean is not lost in float32."""
    random = torch.Generator().manual_seed(0)
    x = 1000 + 0.01 * torch.randn(1, 3, 5000, generator=random)
    found = Moments()
    for part in x.split(500, 2):
        found.add(part, None)
    xx, yx, mean, _ = found.centred()
    exact = np.cov(x[0].double().numpy(), bias=True)
    assert np.allclose(xx[0].numpy(), exact, rtol=0.01, atol=1e-6)
    assert torch.equal(xx, yx)
    assert np.allclose(mean.numpy(), 1000, atol=1e-3)


def test_what_few_positions_tell() -> None:
    """Variances are believed, the rest in proportion to the evidence."""
    random = np.random.default_rng(0)
    mix = random.normal(size=(30, 3))
    for count, least, most in ((15, 0.0, 0.4), (3000, 0.98, 1.0)):
        x = torch.from_numpy((mix @ random.normal(size=(3, count)))[None].astype(np.float32))
        found = Moments()
        found.add(x, None)
        seen, believed = found.centred()[0][0], found.believed()[0]
        assert torch.allclose(seen.diagonal(), believed.diagonal())
        share = (believed / seen)[~torch.eye(30, dtype=torch.bool)]
        assert least < share.min() <= share.max() < most
