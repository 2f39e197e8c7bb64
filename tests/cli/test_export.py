"""``squeezekit export``: the file it writes, what it says, and one line where it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.export.graphs import classifier

from squeezekit.cli.main import main
from squeezekit.export import export_onnx
from squeezekit.format import Model, write
from squeezekit.graph.from_onnx import from_onnx
from squeezekit.graph.graph import INPUT, Graph, Node, Tensor
from squeezekit.graph.run import run


@pytest.fixture
def sqz(tmp_path: Path) -> Path:
    write(tmp_path / "model.sqz", Model(classifier(), {"size": 32}, tuple("abcdefghij")))
    return tmp_path / "model.sqz"


def test_an_int8_file(sqz: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = sqz.with_name("model.onnx")
    assert main(["export", str(sqz), "--to", "onnx", "--out", str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["precision"], said["bytes"]) == ("int8", out.stat().st_size)
    assert "QuantizeLinear" in [node.op_type for node in onnx.load(out).graph.node]


def test_a_float_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = {"weight": np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)}
    nodes = (
        Node("mean", "global_avg_pool", (INPUT,)),
        Node("flat", "flatten", ("mean",)),
        Node("head", "linear", ("flat",), {}, weights),
    )
    first = Graph(Tensor(INPUT, (3, 8, 8)), nodes, "head")
    export_onnx(first, tmp_path / "first.onnx")
    words = [str(tmp_path / "first.onnx"), "--to", "onnx", "--out", str(tmp_path / "again.onnx")]
    assert main(["export", *words]) == 0
    assert "float32" in capsys.readouterr().out
    again = from_onnx(tmp_path / "again.onnx")
    batch = np.random.default_rng(0).random((1, *first.input.shape)).astype(np.float32)
    np.testing.assert_allclose(run(again, batch), run(first, batch), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--to", "onx", "--out", "x.onnx"], "did you mean 'onnx'?"),
        (["--to", "onnx", "--out", "."], "is a folder"),
        (["--to", "onnx", "--out", "nowhere/x.onnx"], "its folder does not exist"),
        (["--to", "onnx", "--out", "x.onnx", "--weights", "imagenet"], "carries its own"),
    ],
)
def test_mistakes(words: list[str], said: str, sqz: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(sqz), *words]) == 2
    assert said in capsys.readouterr().err


def test_a_damaged_file(sqz: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sqz.write_bytes(sqz.read_bytes()[:-5])
    out = sqz.with_name("model.onnx")
    assert main(["export", str(sqz), "--to", "onnx", "--out", str(out)]) == 2
    assert str(sqz) in capsys.readouterr().err
    assert not out.exists()
