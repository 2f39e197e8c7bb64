"""Networks from files that hold a graph."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from squeezekit.data.preparation import IMAGENET, Preparation
from squeezekit.errors import UserError
from squeezekit.format import Model, write
from squeezekit.graph import Graph, Node, Tensor
from squeezekit.graph.from_torch import from_torch
from squeezekit.graph.to_torch import to_torch
from squeezekit.models import create_model
from squeezekit.train.classifier import load_classifier


def onnx_file(path: Path, channels: int, sides: tuple[Any, Any] = (32, 32)) -> Path:
    """A mean over the picture and a linear layer, of three classes."""
    weight = numpy_helper.from_array(np.ones((3, channels), np.float32), "w")
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w"], ["y"], transB=1),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, channels, *sides])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])
    graph = helper.make_graph(nodes, "network", [x], [y], [weight])
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    )
    return path


def sqz_file(path: Path, training: str | None) -> Path:
    """A float32 file that tells this of its training."""
    arrays = {"weight": np.ones((2, 3), np.float32), "bias": np.zeros(2, np.float32)}
    nodes = (
        Node("pool", "global_avg_pool", ("input",)),
        Node("flat", "flatten", ("pool",)),
        Node("fc", "linear", ("flat",), {}, arrays),
    )
    graph = Graph(Tensor("input", (3, 8, 8)), nodes, "fc")
    metadata = {} if training is None else {"training": training}
    write(path, Model(graph, Preparation(8).to_dict(), ("a", "b"), None, metadata))
    return path


def test_one_channel_is_grey(tmp_path: Path) -> None:
    classifier = load_classifier(onnx_file(tmp_path / "grey.onnx", 1))
    preparation = classifier.preparation
    assert (preparation.channel_order, preparation.channels, preparation.size) == ("L", 1, 32)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 1), dtype=np.uint8)
    grey = (pixels.mean(axis=(1, 2, 3)) - 114.495) / 57.38
    assert np.allclose(classifier.logits(pixels), grey[:, None].repeat(3, 1), atol=2e-3)


def test_two_channels_are_no_picture(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"two\.onnx: its input is 2 × 32 × 32"):
        load_classifier(onnx_file(tmp_path / "two.onnx", 2))


def test_a_whole_network_is_no_weights(tmp_path: Path) -> None:
    for path in (onnx_file(tmp_path / "a.onnx", 3), sqz_file(tmp_path / "a.sqz", None)):
        with pytest.raises(UserError, match="holds a whole network, not weights for squeezenet"):
            load_classifier("squeezenet", weights=path)


@pytest.mark.parametrize(
    "training",
    ["{", "[" * 100_000, "[]", '{"fingerprint": "ab"}', '{"fingerprint": "ab", "seed": 0, "halves": 1}'],
)
def test_nonsense_about_the_training_is_one_clear_error(tmp_path: Path, training: str) -> None:
    path = sqz_file(tmp_path / "a.sqz", training)
    with pytest.raises(UserError, match=r"a\.sqz: damaged"):
        load_classifier(path)


def test_what_a_file_tells_of_its_training(tmp_path: Path) -> None:
    known: dict[str, Any] = {"fingerprint": "ab", "seed": 0, "halves": True}
    classifier = load_classifier(sqz_file(tmp_path / "a.sqz", json.dumps(known)))
    assert classifier.training == known
    assert load_classifier(sqz_file(tmp_path / "b.sqz", None)).training is None
    pixels = np.zeros((1, 8, 8, 3), np.uint8)
    assert classifier.logits(pixels).shape == (1, 2)


def test_a_size_that_is_open_comes_with_the_preparation(tmp_path: Path) -> None:
    path = onnx_file(tmp_path / "open.onnx", 3, sides=("h", "w"))
    with pytest.raises(UserError, match=r"open\.onnx: .*size open \(.*--preparation imagenet"):
        load_classifier(path)
    assert load_classifier(path, preparation="imagenet").preparation == IMAGENET
    told = tmp_path / "preparation.json"
    told.write_text(json.dumps(Preparation(40, mean=(1.0, 2.0, 3.0)).to_dict()))
    assert load_classifier(path, preparation=told).preparation == Preparation(40, mean=(1.0, 2.0, 3.0))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", r"p\.json: not JSON"),
        ("[]", r"p\.json: preparation: \[\] is no table"),
        (
            json.dumps(Preparation(8, channel_order="L", mean=(0.0,), scale=(1.0,)).to_dict()),
            "takes 3 x 8 x 8",
        ),
    ],
)
def test_a_preparation_that_is_none(tmp_path: Path, text: str, complaint: str) -> None:
    told = tmp_path / "p.json"
    told.write_text(text)
    with pytest.raises(UserError, match=complaint):
        load_classifier(onnx_file(tmp_path / "a.onnx", 3), preparation=told)


def test_a_preparation_is_for_onnx(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="carries its own"):
        load_classifier(sqz_file(tmp_path / "a.sqz", None), preparation="caffe")
    with pytest.raises(UserError, match=r"--preparation missing\.json: cannot be read"):
        load_classifier(onnx_file(tmp_path / "a.onnx", 3), preparation="missing.json")


def test_a_network_with_pools_can_be_copied(tmp_path: Path) -> None:
    network = create_model("squeezenet1_1", 3, stem="small", norm=True).eval()
    module = to_torch(from_torch(network, (3, 32, 32)))
    x = torch.rand(1, 3, 32, 32)
    assert torch.equal(copy.deepcopy(module)(x), module(x))
