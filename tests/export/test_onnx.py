"""What is written is ONNX, and means what the graph means, by ONNX's own reference of its operators."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from tests.export.graphs import BYTE, HALF, classifier, int8_graphs, pictures
from tests.format.conftest import float_graph

from squeezekit.errors import UserError
from squeezekit.export.onnx import export_onnx, to_onnx
from squeezekit.export.onnx_qdq import layer_scales, table_function
from squeezekit.format import Model, write
from squeezekit.graph.from_onnx import from_onnx
from squeezekit.graph.graph import INPUT, Graph, Node, Quantization, Tensor
from squeezekit.graph.run import run

INT8 = int8_graphs()


def answers(model: onnx.ModelProto, batch: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(model, full_check=True)
    model = onnx.ModelProto.FromString(model.SerializeToString())
    # ONNX's reference knows DequantizeLinear from here on; no operator means anything else there.
    model.opset_import[0].version, model.ir_version = 21, 10
    if batch.dtype == np.uint8:
        batch = batch.transpose(0, 3, 1, 2)
    (found,) = ReferenceEvaluator(model).run(None, {"input": batch})
    return np.asarray(found)


def quantum(graph: Graph) -> float:
    """What the last byte of a result means; of logits a part in a million of their spread."""
    quantization = graph.tensors[graph.output].quantization
    return quantization.scale if quantization else 0.0


@pytest.mark.parametrize("name", INT8)
def test_every_operator_in_int8(name: str) -> None:
    graph = INT8[name]
    batch = pictures(graph, 2)
    expected = run(graph, batch)
    assert len(np.unique(expected)) > 5
    found = answers(to_onnx(graph), batch)
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    off = np.abs(found - expected)
    assert off.max() <= quantum(graph) + 1e-5 * expected.std()
    if quantum(graph):
        # The reference divides where engines multiply: what is a tie for one may not be for the other.
        assert (off > 0).mean() < 0.02


def test_a_network_in_int8() -> None:
    graph = classifier()
    batch = pictures(graph, 8)
    expected, found = run(graph, batch), answers(to_onnx(graph), batch)
    assert np.abs(found - expected).max() < 0.05 * expected.std()


def test_bytes_are_named_as_in_the_graph() -> None:
    graph = classifier()
    model = to_onnx(graph)
    noted = {value.name: value for value in model.graph.value_info}
    for node in graph.nodes[:-1]:
        shape = [each.dim_value for each in noted[node.name].type.tensor_type.shape.dim][1:]
        assert noted[node.name].type.tensor_type.elem_type == onnx.TensorProto.UINT8
        assert tuple(shape) == graph.tensors[node.name].shape


def test_weights_and_biases_are_the_integers_of_the_graph() -> None:
    graph = INT8["conv"]
    constants = {each.name: numpy_helper.to_array(each) for each in to_onnx(graph).graph.initializer}
    node = graph.nodes[0]
    np.testing.assert_array_equal(constants["first/weight/bytes"], node.dense("weight"))
    np.testing.assert_array_equal(constants["first/bias/bytes"], node.dense("bias"))
    scale = constants["first/weight/scale"]
    again = np.float32(BYTE.scale) * scale / np.float32(HALF.scale)
    np.testing.assert_array_equal(again, node.dense("multiplier"))


def test_scales_give_the_multipliers_back() -> None:
    rng = np.random.default_rng(0)
    seen, out = np.exp(rng.normal(-3, 2, (2, 200))).astype(np.float32)
    multipliers = np.exp(rng.normal(-6, 2, (200, 50))).astype(np.float32)
    hits = []
    for multiplier, a, b in zip(multipliers, seen, out, strict=True):
        again = a * layer_scales(multiplier, float(a), float(b)) / b
        np.testing.assert_allclose(again, multiplier, rtol=3e-7)
        hits.append((again == multiplier).mean())
    assert np.mean(hits) > 0.75  # between two scales next to each other there may lie a multiplier


def test_tables_are_recognised() -> None:
    for name, graph in INT8.items():
        if name.startswith("table"):
            entries = graph.nodes[-1].dense("table")
            found = table_function(entries, HALF, Quantization(0.0625, 10))
            assert found == (None if name == "table of its own" else name.removeprefix("table "))


def test_float_graphs_come_back(tmp_path: Path) -> None:
    graph = float_graph()
    rng = np.random.default_rng(0)
    batch = rng.random((3, *graph.input.shape)).astype(np.float32)
    expected = run(graph, batch)
    export_onnx(graph, tmp_path / "network.onnx")
    found = answers(onnx.load(tmp_path / "network.onnx"), batch)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    again = from_onnx(tmp_path / "network.onnx")
    np.testing.assert_allclose(run(again, batch), expected, rtol=1e-4, atol=1e-6)
    assert "norm" in [node.name for node in again.nodes]


@pytest.mark.parametrize("op", ["relu", "relu6", "silu", "sigmoid", "hard_swish", "hard_sigmoid"])
def test_activations_come_back(op: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    attributes: dict[str, Any] = {
        "kernel": (3, 3),
        "stride": (1, 1),
        "padding": (1, 1, 1, 1),
        "dilation": (1, 1),
        "groups": 1,
        "activation": op,
    }
    weights = {"weight": rng.normal(size=(4, 3, 3, 3)).astype(np.float32)}
    nodes = (Node("c", "conv", (INPUT,), attributes, weights), Node("a", op, ("c",)))
    graph = Graph(Tensor(INPUT, (3, 6, 6)), nodes, "a")
    export_onnx(graph, tmp_path / "network.onnx")
    batch = rng.normal(size=(1, 3, 6, 6)).astype(np.float32)
    again = from_onnx(tmp_path / "network.onnx")
    np.testing.assert_allclose(run(again, batch), run(graph, batch), rtol=1e-5, atol=1e-6)
    assert sum(node.op == op for node in again.nodes) == 2


def test_a_graph_of_nothing() -> None:
    graph = Graph(Tensor(INPUT, (3, 4, 4)), (Node("same", "identity", (INPUT,)),), "same")
    batch = np.ones((1, 3, 4, 4), np.float32)
    np.testing.assert_array_equal(answers(to_onnx(graph), batch), batch)


def test_names_that_are_taken() -> None:
    relu = Node("logits", "relu", (INPUT,))
    graph = Graph(Tensor(INPUT, (3, 4, 4)), (relu, Node("end", "relu", ("logits",))), "end")
    onnx.checker.check_model(to_onnx(graph), full_check=True)


def test_what_a_model_carries(tmp_path: Path) -> None:
    graph = INT8["linear logits"]
    names = tuple("abcdefg")
    write(tmp_path / "model.sqz", Model(graph, {"size": 9}, names, None, {"made by": "a test"}))
    size = export_onnx(tmp_path / "model.sqz", tmp_path / "model.onnx")
    assert size == (tmp_path / "model.onnx").stat().st_size
    found = onnx.load(tmp_path / "model.onnx")
    properties = {each.key: each.value for each in found.metadata_props}
    assert json.loads(properties["names"]) == list(names)
    assert json.loads(properties["preparation"]) == {"size": 9}
    assert properties["made by"] == "a test"
    batch = pictures(graph, 2)
    np.testing.assert_allclose(answers(found, batch), run(graph, batch), rtol=1e-4, atol=1e-4)


def test_what_onnx_has_no_word_for(tmp_path: Path) -> None:
    norm = Node("lrn", "local_response_norm", (INPUT,), {"size": 4, "alpha": 1e-4, "beta": 0.75, "k": 1.0})
    graph = Graph(Tensor(INPUT, (3, 4, 4)), (norm,), "lrn")
    with pytest.raises(UserError, match=r"lrn .*even number of channels"):
        export_onnx(graph, tmp_path / "network.onnx")
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match="cannot be written"):
        export_onnx(classifier(), tmp_path / "nowhere" / "network.onnx")
