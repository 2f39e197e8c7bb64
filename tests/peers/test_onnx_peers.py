"""The QDQ files in ONNX Runtime: the bytes and the answers of the graph. Runs in .venv-peers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

onnxruntime = pytest.importorskip("onnxruntime")

from tests.export.graphs import classifier, int8_graphs, pictures  # noqa: E402

from squeezekit.export.onnx import to_onnx  # noqa: E402
from squeezekit.graph.graph import Graph  # noqa: E402
from squeezekit.graph.run import run  # noqa: E402

INT8 = int8_graphs()


def session(model: onnx.ModelProto, **options: Any) -> Any:
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level, settings.intra_op_num_threads = 3, 1
    settings.add_session_config_entry("session.x64quantprecision", "1")  # exact without VNNI too
    for key, value in options.items():
        setattr(settings, key, value)
    return onnxruntime.InferenceSession(
        model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
    )


def answers(graph: Graph, batch: np.ndarray) -> np.ndarray:
    (found,) = session(to_onnx(graph)).run(None, {"input": np.ascontiguousarray(batch.transpose(0, 3, 1, 2))})
    return np.asarray(found)


@pytest.mark.parametrize("name", INT8)
def test_every_operator(name: str) -> None:
    graph = INT8[name]
    batch = pictures(graph, 2)
    expected, found = run(graph, batch), answers(graph, batch)
    quantization = graph.tensors[graph.output].quantization
    off = np.abs(found - expected)
    assert off.max() <= (quantization.scale if quantization else 0.0) + 1e-5 * expected.std()
    if quantization:
        assert (off > 0).mean() < 0.02
    if name.startswith(("conv", "linear")) and quantization:
        assert not off.any(), "the sums of a layer are whole numbers, and its multiplier is met to the bit"


def test_the_same_first_answer() -> None:
    graph = classifier()
    batch = pictures(graph, 400)
    expected, found = run(graph, batch), answers(graph, batch)
    assert len(set(expected.argmax(1).tolist())) > 3
    assert (expected.argmax(1) == found.argmax(1)).mean() >= 0.995


def test_layers_run_in_integers(tmp_path: Any) -> None:
    file = str(tmp_path / "as_run.onnx")
    session(to_onnx(classifier()), optimized_model_filepath=file)
    kinds = [node.op_type for node in onnx.load(file).graph.node]
    assert "Conv" not in kinds
    assert "Gemm" not in kinds
    assert {"QLinearConv", "QGemm", "QLinearAdd", "QLinearMul", "QLinearConcat"} <= set(kinds)


def test_openvino_opens_it() -> None:
    openvino = pytest.importorskip("openvino")
    graph = classifier()
    batch = pictures(graph, 100)
    core = openvino.Core()
    model = core.compile_model(core.read_model(to_onnx(graph).SerializeToString()), "CPU")
    found = model(np.ascontiguousarray(batch.transpose(0, 3, 1, 2)))[0]
    expected = run(graph, batch)
    assert (expected.argmax(1) == found.argmax(1)).mean() >= 0.95
