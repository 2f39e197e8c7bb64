"""The int8 graph computes what the network with rounded values and weights computes in torch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch

from squeezekit import format as sqz
from squeezekit.compress.calibration import observe, quantized_values
from squeezekit.compress.integers import int8_graph, rounded_weight, table
from squeezekit.compress.layers import layers
from squeezekit.compress.ranges import quantizations
from squeezekit.compress.rounding import Rounded
from squeezekit.graph import Graph, Node, Quantization, same
from squeezekit.graph import Tensor as Value
from squeezekit.graph.run import run
from squeezekit.graph.to_torch import GraphModule, to_torch

PREPARATION = {"size": 32, "mean": [0, 0, 0], "scale": [1, 1, 1]}


def nearest(node: Node, levels: int) -> Rounded:
    """Plain rounding to ± `levels`."""
    weight = torch.from_numpy(node.dense("weight").astype(np.float64)).flatten(1)
    largest = weight.abs().amax(1).clamp(min=1e-12) / levels
    step = torch.exp2(torch.ceil(4 * torch.log2(largest)) / 4)
    q = (weight / step.unsqueeze(1)).round()
    return Rounded(q.long(), step, 0.0, 0.0)


def pair(graph: Graph, pictures: np.ndarray, levels: int) -> tuple[Graph, GraphModule]:
    """Quantize plainly: as integers, and as a module with the same weights that rounds its values."""
    values = quantizations(graph, observe(graph, pictures, lambda n: None))
    rounded = {node.name: nearest(node, levels) for node in layers(graph)}
    biases = {node.name: torch.from_numpy(node.dense("bias").copy()) for node in layers(graph)}
    student = to_torch(graph).requires_grad_(False)
    for node in layers(graph):
        student.part(node.name).get_parameter("weight").data = rounded_weight(rounded[node.name], node)
    quantized_values(student, graph, values)
    return int8_graph(graph, values, rounded, biases), student


def answers(student: GraphModule, pictures: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float()
        found: np.ndarray = student(x).flatten(1).numpy()
    return found


@pytest.mark.parametrize("levels", [126, 20, 5])
def test_as_in_torch(small: Graph, photographs: np.ndarray, levels: int) -> None:
    ours, student = pair(small, photographs, levels)
    assert ours.is_int8
    a, b = run(ours, photographs).reshape(len(photographs), -1), answers(student, photographs)
    assert a.dtype == np.float32
    assert a.shape == b.shape
    spread = b.std(axis=0).mean()
    assert spread > 0.1
    assert np.abs(a - b).mean() < 0.05 * spread
    assert np.abs(a - b).max() < 0.35 * spread
    assert np.abs((a - b).mean(axis=0)).max() < 0.04 * spread
    assert (a.argmax(1) == b.argmax(1)).mean() > 0.95


def test_the_answers_stay(small: Graph, photographs: np.ndarray) -> None:
    """With the finest weights nearly nothing changes."""
    ours, _ = pair(small, photographs, 126)
    a, b = run(ours, photographs).reshape(len(photographs), -1), answers(to_torch(small), photographs)
    assert (a.argmax(1) == b.argmax(1)).mean() > 0.95
    assert np.abs(a - b).mean() < 0.15 * b.std(axis=0).mean()


def test_value_by_value(small: Graph, photographs: np.ndarray) -> None:
    """Each layer alone, given what the integers gave it, is within a byte of torch."""
    from squeezekit.graph.run import trace

    ours, student = pair(small, photographs, 20)
    module = to_torch(small)
    values = {"input": photographs[:8].transpose(0, 3, 1, 2).astype(np.float32)}
    for name, value in trace(ours, photographs[:8]):
        node, quantization = ours.node(name), ours.tensors[name].quantization
        if quantization is None:
            break
        module.part(name).load_state_dict(student.part(name).state_dict())
        with torch.no_grad():
            exact = module.part(name)(*(torch.from_numpy(values[each]) for each in node.inputs)).numpy()
        values[name] = (value.astype(np.float32) - quantization.zero_point) * np.float32(quantization.scale)
        inside = (value > 0) & (value < 255)
        error = (values[name] - exact)[inside] / quantization.scale
        assert np.abs(error).mean() < 0.3, name
        assert np.abs(error).max() < 1.25, (
            name
        )  # half for the value, an eighth for the bias; colours of padding
        assert abs(error.mean()) < 0.08 or error.size < 1000, name


def test_weights_are_on_the_grids_of_the_file(small: Graph, photographs: np.ndarray) -> None:
    ours, _ = pair(small, photographs, 20)
    for node in layers(small):
        written, multiplier = ours.node(node.name), ours.node(node.name).dense("multiplier")
        assert np.array_equal(written.dense("weight").reshape(-1), nearest(node, 20).q.numpy().reshape(-1))
        steps = 4 * np.log2(multiplier.astype(np.float64) / multiplier[0])
        assert np.allclose(steps, np.rint(steps), atol=1e-5)
        base = multiplier[np.argmin(multiplier)]
        k = 4 * np.rint(4 * np.log2(multiplier.astype(np.float64) / base)).astype(np.int64)
        assert np.allclose(sqz.scale_grid(base, k), multiplier, rtol=2e-7)
        if not written.attributes["logits"]:
            unit = 2.0 ** sqz.bias_shift(multiplier)
            assert (written.dense("bias") % unit == 0).all()
        seen, out = ours.tensors[node.inputs[0]].quantization, ours.tensors[node.name].quantization
        assert seen is not None
        scale = 1.0 if out is None else out.scale
        assert np.allclose(multiplier * scale, seen.scale * nearest(node, 20).step.numpy(), rtol=1e-6)
        error = written.dense("bias") * multiplier.astype(np.float64) - node.dense("bias") / scale
        tolerance = 0.125 if out is not None else 0
        assert (np.abs(error) <= np.maximum(tolerance, 0.5001 * multiplier)).all()


def test_padding_is_the_mean_colour(small: Graph, photographs: np.ndarray) -> None:
    ours, _ = pair(small, photographs, 20)
    assert ours.input.quantization == Quantization(1.0, 0)
    assert ours.nodes[0].dense("pad_value").tolist() == [118, 122, 104]
    for node in ours.nodes[1:]:
        assert "pad_value" not in node.weights


def test_a_file_and_back(small: Graph, photographs: np.ndarray) -> None:
    ours, _ = pair(small, photographs, 20)
    model = sqz.Model(ours, PREPARATION, ("a", "b", "c", "d"), None, {})
    data = sqz.dumps(model)
    again = sqz.loads(data)
    assert same(again.graph, ours)
    assert np.array_equal(run(again.graph, photographs), run(ours, photographs))
    assert sqz.dumps(again) == data
    assert len(data) < small.parameters + 3000


def test_tables() -> None:
    seen, out = Quantization(0.0625, 128), Quantization(0.03125, 9)
    x = (np.arange(256) - 128) * 0.0625
    for op, exact in (
        ("silu", x / (1 + np.exp(-x))),
        ("relu", np.maximum(x, 0)),
        ("hard_swish", x * np.clip(x + 3, 0, 6) / 6),
        ("relu6", np.clip(x, 0, 6)),
    ):
        found = table(op, seen, out)
        assert found.dtype == np.uint8
        meant = (found.astype(np.float64) - 9) * 0.03125
        inside = (found > 0) & (found < 255)
        assert inside.sum() > 50
        assert np.abs(meant - exact)[inside].max() <= 0.03125 / 2 + 1e-6
        assert (meant[exact > 8] == 246 * 0.03125).all()


def pointwise(weight: np.ndarray, bias: np.ndarray) -> Graph:
    attributes = {"kernel": (1, 1), "stride": (1, 1), "padding": (0,) * 4, "dilation": (1, 1), "groups": 1}
    arrays = {"weight": weight.astype(np.float32), "bias": bias.astype(np.float32)}
    nodes = (Node("conv", "conv", ("input",), attributes, arrays), Node("end", "relu", ("conv",)))
    return Graph(Value("input", (3, 32, 32)), nodes, "end")


@pytest.mark.parametrize("dead", [0.0, 1e-13, 1e-9])
def test_a_bias_beyond_its_step(photographs: np.ndarray, dead: float) -> None:
    """A filter of next to nothing, as training with batch norms leaves many, keeps its bias."""
    weight = np.random.default_rng(0).normal(0, 0.02, (6, 3, 1, 1))
    weight[2:4] *= dead
    bias = np.array([0, 1, 2.5, -1.25, 0.5, 1])
    graph = pointwise(weight, bias)
    ours, student = pair(graph, photographs, 100)
    a, b = run(ours, photographs), answers(student, photographs).reshape(len(photographs), 6, 32, 32)
    quantization = ours.tensors["conv"].quantization
    assert quantization is not None
    assert np.abs(a - b).max() <= 2.01 * quantization.scale
    assert a[:, 2].mean() == pytest.approx(2.5, abs=quantization.scale)
    data = sqz.dumps(sqz.Model(ours, PREPARATION))
    assert same(sqz.loads(data).graph, ours)
    if dead == 0:
        usual = ours.node("conv").dense("multiplier")
        assert usual[2] in usual[[0, 1, 4, 5]]


def test_what_is_nearly_nothing_everywhere(photographs: np.ndarray) -> None:
    graph = pointwise(np.zeros((4, 3, 1, 1)), np.array([1.0, 0.5, 0.25, -1]))
    ours, _ = pair(graph, photographs, 100)
    found = run(ours, photographs)[:, :, 0, 0]
    assert np.allclose(found, [1.0, 0.5, 0.25, 0], atol=0.01)


def test_means_of_windows_of_unequal_size(networks: Mapping[str, Graph], photographs: np.ndarray) -> None:
    ours, _ = pair(networks["medley"], photographs, 100)
    multiplier = ours.node("pool").dense("multiplier")
    assert multiplier.shape == (9,)
    assert np.allclose(multiplier * np.arange(1, 10), multiplier[0], rtol=1e-6)
