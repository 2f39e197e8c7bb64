"""What bytes mean: zero exactly, what is concatenated alike, and most values finely."""

from __future__ import annotations

import numpy as np
import pytest

from squeezekit.compress.calibration import observe
from squeezekit.compress.ranges import Seen, fake, logits_node, quantizations, together, wider
from squeezekit.graph import Graph, Node, Quantization, Tensor
from squeezekit.graph.operators import OPERATORS


def seen(values: np.ndarray) -> Seen:
    return Seen(float(values.min()), float(values.max()), values.astype(np.float32))


def chosen(values: np.ndarray) -> Quantization:
    """Of a value that is followed by something, so that it is no logits."""
    nodes = (Node("a", "silu", ("input",)), Node("b", "silu", ("a",)))
    graph = Graph(Tensor("input", (4,)), nodes, "b")
    found = quantizations(graph, {"a": seen(values), "b": seen(values), "input": seen(values)})["a"]
    assert found is not None
    return found


def test_what_flows_together_is_one(small: Graph, photographs: np.ndarray) -> None:
    found = quantizations(small, observe(small, photographs, lambda n: None))
    assert set(found) == set(small.tensors)
    assert found["input"] == Quantization(1.0, 0)
    for node in small.nodes:
        if OPERATORS[node.op].keeps:
            assert all(found[name] == found[node.name] for name in node.inputs), node.name
    without = [name for name, each in found.items() if each is None]
    assert small.output in without
    assert set(without) <= {small.output, logits_node(small)}
    assert len({(q.scale, q.zero_point) for q in found.values() if q is not None}) > 3


def test_groups(networks: dict[str, Graph]) -> None:
    graph = networks["medley"]
    groups = {name: frozenset(members) for members in together(graph) for name in members}
    assert groups["grouped_hard_swish"] == {
        *("grouped_hard_swish", "shuffle", "left", "right", "dilated", "joined")
    }
    assert groups["sum"] == {"sum", "smaller", "flat"}
    assert groups["kept"] == {"kept"}
    assert sorted(name for members in together(graph) for name in members) == sorted(graph.tensors)


def test_logits(networks: dict[str, Graph]) -> None:
    found = {name: graph.node(logits_node(graph) or "").op for name, graph in networks.items()}
    assert found == {
        "squeezenet": "global_avg_pool",
        "mobilenet_v2": "linear",
        "efficientnet": "linear",
        "medley": "linear",
    }
    relu = Graph(Tensor("input", (4,)), (Node("relu", "relu", ("input",)),), "relu")
    assert logits_node(relu) is None
    assert logits_node(Graph(Tensor("input", (4,)), (), "input")) is None


def test_zero_is_exact() -> None:
    random = np.random.default_rng(0)
    for values in (
        random.normal(size=999),
        random.normal(3, 1, 999),
        -random.random(999),
        random.random(999),
    ):
        quantization = chosen(values)
        assert fake(np.zeros(1), quantization)[0] == 0
        error = np.abs(fake(values, quantization) - values)
        assert error.max() < 0.05 * np.abs(values).max()
        assert np.median(error) < 0.3 * quantization.scale
    assert chosen(random.random(999)).zero_point == 0
    assert chosen(-random.random(999)).zero_point == 255


def test_few_extremes_are_cut_off() -> None:
    random = np.random.default_rng(0)
    values = np.append(random.normal(size=200_000), 9.0)
    quantization = chosen(values)
    full = Quantization(float(np.float32((values.max() - values.min()) / 255)), 85)
    assert quantization.scale < 0.99 * full.scale
    cube = [(np.abs(fake(values, each) - values) ** 3).sum() for each in (quantization, full)]
    assert cube[0] < cube[1]
    # Where extremes are not rare nothing is lost to them.
    plain = random.uniform(-1, 1, 20_000)
    assert chosen(plain).scale == pytest.approx(2 / 255, rel=0.02)


def test_nothing_ever_there() -> None:
    assert chosen(np.zeros(10)) == Quantization(1.0, 0)
    tiny = chosen(np.full(10, 1e-6))
    assert fake(np.array([1e-6]), tiny)[0] == pytest.approx(1e-6, rel=0.01)


def test_wider() -> None:
    assert wider(Quantization(0.5, 7), 2) == Quantization(1.0, 7)
    odd = wider(Quantization(0.25, 7), 1.35)  # 0.3375 is no float32
    assert (odd.scale, odd.zero_point) == (float(np.float32(0.3375)), 7)


def test_fake_is_the_nearest() -> None:
    quantization = Quantization(0.5, 100)
    levels = (np.arange(256) - 100) * 0.5
    values = np.random.default_rng(0).uniform(-60, 90, 1000)
    nearest = levels[np.abs(values[:, None] - levels).argmin(axis=1)]
    assert np.array_equal(fake(values, quantization), nearest)
