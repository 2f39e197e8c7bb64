"""ONNX files: one that JAX wrote, small ones put together here, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from squeezekit.errors import UserError
from squeezekit.graph.from_onnx import from_onnx
from squeezekit.graph.run import run
from squeezekit.graph.to_torch import to_torch

DATA = Path(__file__).parent / "data"


def test_a_file_that_another_framework_wrote(assert_close: Any) -> None:
    """Of JAX and Flax: channels last, padding "same", a flattened map before a linear layer."""
    graph = from_onnx(DATA / "flax_cnn.onnx")
    stored = np.load(DATA / "flax_cnn.npz")
    x = np.ascontiguousarray(stored["pictures"].transpose(0, 3, 1, 2))
    assert_close(run(graph, x), stored["logits"])
    import torch

    with torch.no_grad():
        assert_close(to_torch(graph)(torch.from_numpy(x)).numpy(), stored["logits"])
    assert {"silu", "concat", "add"} <= {node.op for node in graph.nodes}


Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Give a function that writes a file of these nodes and constants."""

    def write(
        nodes: Sequence[Any],
        constants: dict[str, Any] | None = None,
        shape: Sequence[Any] = ("n", 4, 8, 8),
        version: int = 17,
    ) -> Path:
        stored = [
            numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()
        ]
        graph = helper.make_graph(
            nodes,
            "test",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
            stored,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)])
        model.ir_version = 8
        path = tmp_path / "model.onnx"
        onnx.save(model, path)
        return path

    return write


def node(op: str, *inputs: str, to: str | Sequence[str] = "y", **attributes: Any) -> Any:
    return helper.make_node(op, inputs, [to] if isinstance(to, str) else to, **attributes)


RANDOM = np.random.default_rng(0)
W = RANDOM.standard_normal((6, 4, 3, 3)).astype(np.float32)
B = RANDOM.standard_normal(6).astype(np.float32)
C4 = {key: RANDOM.uniform(0.5, 1.5, 4).astype(np.float32) for key in ("gamma", "beta", "mean", "var")}
FLAT = RANDOM.standard_normal((4 * 64, 5)).astype(np.float32)

CASES: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "conv": (
        [node("Conv", "x", "w", "b", pads=[1, 0, 2, 1], strides=[2, 1], dilations=[1, 2])],
        {"w": W, "b": B},
    ),
    "same upper": ([node("Conv", "x", "w", auto_pad="SAME_UPPER", strides=[2, 3])], {"w": W}),
    "same lower": ([node("Conv", "x", "w", auto_pad="SAME_LOWER", strides=[3, 2])], {"w": W}),
    "grouped": ([node("Conv", "x", "w", group=2)], {"w": W[:, :2]}),
    "pad before": (
        [node("Pad", "x", "p", to="a"), node("Conv", "a", "w")],
        {"p": np.array([0, 0, 1, 2, 0, 0, 0, 1]), "w": W},
    ),
    "norm": ([node("BatchNormalization", "x", *C4, epsilon=0.01)], C4),
    "clip": ([node("Clip", "x", "low", "high")], {"low": np.float32(0), "high": np.float32(6)}),
    "clip below": ([node("Clip", "x", "low")], {"low": np.float32(0)}),
    "swish": ([node("Sigmoid", "x", to="a"), node("Mul", "a", "x")], {}),
    "hard": ([node("HardSigmoid", "x", alpha=1 / 6, beta=0.5, to="a"), node("Mul", "x", "a")], {}),
    "hard swish": ([node("HardSwish", "x")], {}),
    "scaled": (
        [
            node("Sub", "x", "m", to="a"),
            node("Div", "a", "s", to="b"),
            node("Mul", "two", "b", to="c"),
            node("Sub", "one", "c"),
        ],
        {
            "m": C4["mean"].reshape(4, 1, 1),
            "s": C4["var"].reshape(1, 4, 1, 1),
            "two": np.float32(2),
            "one": np.float32(1),
        },
    ),
    "split": (
        [
            node("Split", "x", "sizes", to=["a", "b"], axis=1),
            node("Relu", "a", to="c"),
            node("Concat", "b", "c", axis=1),
        ],
        {"sizes": np.array([1, 3])},
    ),
    "slice": ([node("Slice", "x", "from", "to", "axes")], {"from": [-3], "to": [2**31], "axes": [1]}),
    "max pool": ([node("MaxPool", "x", kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1])], {}),
    "max pool, ceil": ([node("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)], {}),
    "mean pool": ([node("AveragePool", "x", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])], {}),
    "mean pool, zeros count": (
        [node("AveragePool", "x", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)],
        {},
    ),
    "head": (
        [
            node("GlobalAveragePool", "x", to="a"),
            node("Flatten", "a", to="b"),
            node("Gemm", "b", "w", "c", alpha=0.5, transB=1),
        ],
        {"w": W[:, :, 0, 0].copy(), "c": B},
    ),
    "mean head": (
        [
            node("ReduceMean", "x", axes=[-2, -1], keepdims=0, to="a"),
            node("MatMul", "a", "w", to="b"),
            node("Add", "b", "c"),
        ],
        {"w": W[:, :, 0, 0].T.copy(), "c": B},
    ),
    "reshape": ([node("Reshape", "x", "s", to="a"), node("MatMul", "a", "w")], {"s": [0, -1], "w": FLAT}),
    "reshape of a batch of one": (
        [node("Reshape", "x", "s", to="a"), node("MatMul", "a", "w")],
        {"s": [-1, 256], "w": FLAT},
    ),
    "shuffle": (
        [
            node("Reshape", "x", "s", to="a"),
            node("Transpose", "a", perm=[0, 2, 1, 3, 4], to="b"),
            node("Reshape", "b", "t"),
        ],
        {"s": [-1, 2, 2, 8, 8], "t": [-1, 4, 8, 8]},
    ),
    "shapes computed": (
        [
            node("Shape", "x", to="a"),
            node("Gather", "a", "zero", to="b"),
            node("Unsqueeze", "b", "axes", to="c"),
            node("Concat", "c", "rest", axis=0, to="d"),
            node("Reshape", "x", "d", to="e"),
            node("MatMul", "e", "w"),
        ],
        {"zero": np.int64(0), "axes": [0], "rest": [-1], "w": FLAT},
    ),
    "dropout": ([node("Dropout", "x", to="a"), node("Identity", "a")], {}),
    "constants": (
        [
            helper.make_node("Constant", [], ["k"], value_float=2.5),
            node("Mul", "x", "k", to="a"),
            node("Sum", "a", "x"),
        ],
        {},
    ),
    "squeeze and excitation": (
        [
            node("GlobalAveragePool", "x", to="a"),
            node("Conv", "a", "w", to="b"),
            node("Sigmoid", "b", to="c"),
            node("Mul", "x", "c"),
        ],
        {"w": W[:4, :, :1, :1].copy()},
    ),
    "channels last inside": (
        [
            node("Transpose", "x", perm=[0, 2, 3, 1], to="a"),
            node("Add", "a", "m", to="b"),
            node("Relu", "b", to="c"),
            node("Concat", "c", "a", axis=-1, to="d"),
            node("ReduceMean", "d", axes=[1, 2], keepdims=0),
        ],
        {"m": C4["mean"]},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_operators(name: str, make: Make, pictures: Any) -> None:
    nodes, constants = CASES[name]
    path = make(nodes, constants)
    x = pictures(4, 8, 8)
    (expected,) = ReferenceEvaluator(onnx.load(path)).run(None, {"x": x})
    got = run(from_onnx(path), x)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_response_norm(make: Make, pictures: Any) -> None:
    """Against torch: ONNX's own reference takes the batch for the channels here."""
    import torch

    path = make([node("LRN", "x", size=3, alpha=0.2, beta=0.7, bias=1.5)])
    x = pictures(4, 8, 8)
    expected = torch.nn.functional.local_response_norm(torch.from_numpy(x), 3, 0.2, 0.7, 1.5)
    np.testing.assert_allclose(run(from_onnx(path), x), expected.numpy(), rtol=1e-5, atol=1e-6)


def test_older_operators_have_attributes(make: Make, pictures: Any) -> None:
    nodes = [
        node("Clip", "x", min=0.0, max=6.0, to="a"),
        node("Split", "a", axis=1, split=[2, 2], to=["b", "c"]),
        node("Slice", "b", axes=[1], starts=[0], ends=[1], to="d"),
        node("Concat", "d", "c", axis=1),
    ]
    path = make(nodes, version=9)
    x = pictures(4, 8, 8)
    clipped = np.clip(x, 0, 6)
    np.testing.assert_array_equal(run(from_onnx(path), x), clipped[:, [0, 2, 3]])


def test_a_softmax_at_the_end_is_left_out(make: Make, pictures: Any) -> None:
    nodes = [node("ReduceMean", "x", axes=[2, 3], keepdims=0, to="a"), node("Softmax", "a", axis=1)]
    x = pictures(4, 8, 8)
    np.testing.assert_allclose(run(from_onnx(make(nodes)), x), x.mean(axis=(2, 3)), rtol=1e-4, atol=1e-6)
    nodes = [nodes[0], node("Softmax", "a", axis=1, to="b"), node("Relu", "b")]
    with pytest.raises(UserError, match="a softmax that is not the end"):
        from_onnx(make(nodes))


def test_the_size_of_a_picture(make: Make) -> None:
    path = make([node("Relu", "x")], shape=("n", 3, "h", "w"))
    with pytest.raises(UserError, match=r"leaves the picture's size open \(cost: --input SIZE"):
        from_onnx(path)
    assert from_onnx(path, 20).input.shape == (3, 20, 20)
    with pytest.raises(UserError, match=r"y \(conv\): its input of 2 × 2 is too small for a window of 3 × 3"):
        from_onnx(make([node("Conv", "x", "w")], {"w": W}), 2)


@pytest.mark.parametrize(
    ("nodes", "constants", "text"),
    [
        (
            [node("Relu", "x", to="a"), node("Gelu", "a", to="b"), node("Tanh", "b")],
            {},
            "b: the operator Gelu is not supported; nor Tanh",
        ),
        ([node("Clip", "x", "low")], {"low": np.float32(-1)}, r"y \(Clip\): limiting values to -1"),
        ([node("Transpose", "x", perm=[1, 0, 2, 3])], {}, "a permutation of dimensions"),
        ([node("Concat", "x", "x", axis=2)], {}, "concatenation along dimension 2"),
        ([node("MaxPool", "x", kernel_shape=[2, 2], dilations=[2, 2])], {}, "a dilated max pool"),
        (
            [node("Pad", "x", "p", mode="reflect")],
            {"p": [0, 0, 1, 1, 0, 0, 1, 1]},
            "padding with something else",
        ),
        (
            [node("Pad", "x", "p", to="a"), node("Relu", "a")],
            {"p": [0, 0, 1, 1, 0, 0, 1, 1]},
            "padding that no",
        ),
        ([node("Pad", "x", "p")], {"p": [0, 1, 0, 0, 0, 1, 0, 0]}, "padding of other dimensions"),
        ([node("Reshape", "x", "s")], {"s": [8, -1]}, "across the pictures"),
        ([node("Sigmoid", "x", to="a"), node("Div", "x", "a")], {}, "div of two values"),
        ([node("Conv", "x")], {}, "damaged, or not ONNX"),
        ([node("Conv", "x", "w")], {"w": W * np.nan}, "not finite"),
        ([node("Conv", "x", "w")], {"w": W[:, :3]}, "its weight is 6 × 3 × 3 × 3"),
        ([node("Softmax", "x", axis=1)], {}, "a softmax over several positions"),
        ([node("ReduceMean", "x", axes=[1])], {}, "a mean over other dimensions"),
    ],
)
def test_what_is_refused(nodes: list[Any], constants: dict[str, Any], text: str, make: Make) -> None:
    path = make(nodes, constants)
    with pytest.raises(UserError, match=text) as error:
        from_onnx(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_files_that_are_something_else(tmp_path: Path, make: Make) -> None:
    with pytest.raises(UserError, match="no such file"):
        from_onnx(tmp_path / "missing.onnx")
    path = tmp_path / "other.onnx"
    for content in (b"", b"not a model", b"\x00" * 1000):
        path.write_bytes(content)
        with pytest.raises(UserError) as error:
            from_onnx(path)
        assert "\n" not in str(error.value)
    whole = make([node("Conv", "x", "w", "b")], {"w": W, "b": B}).read_bytes()
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError):
            from_onnx(path)
