"""``squeezekit info``: its figures are those of the file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from squeezekit.cli.main import main
from squeezekit.data.preparation import CAFFE
from squeezekit.format import Model, write
from squeezekit.graph.graph import Codebook, Graph, Node, Tensor


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    values = np.array([-1, -0.5, 0, 0.5, 1], np.float32)
    indices = np.full((8, 3, 3, 3), 2, np.uint8)
    indices.ravel()[:54] = rng.integers(3, 5, 54)
    window = {"kernel": (3, 3), "stride": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1), "groups": 1}
    bias = rng.normal(size=8).astype(np.float32)
    nodes = (
        Node("first", "conv", ("input",), window, {"weight": Codebook(values, indices), "bias": bias}),
        Node("mean", "global_avg_pool", ("first",)),
        Node("flat", "flatten", ("mean",)),
        Node("head", "linear", ("flat",), {}, {"weight": rng.normal(size=(2, 8)).astype(np.float32)}),
    )
    graph = Graph(Tensor("input", (3, 8, 8)), nodes, "head")
    path = tmp_path / "model.sqz"
    write(path, Model(graph, CAFFE.to_dict(), ("ants", "bees"), ("n02206856", "n02219486"), {"note": "x"}))
    return path


def test_json(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(file), "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert info["bytes"] == file.stat().st_size == sum(info["sections"].values())
    assert (info["numbers"], info["coding"], info["version"]) == ("float32", "range", "1.0")
    assert (info["input"], info["output"], info["nodes"]) == ([3, 8, 8], [2], 4)
    assert (info["parameters"], info["weights"]) == (216 + 8 + 16, 216 + 16)
    assert info["sparsity"] == pytest.approx(162 / 232)
    first, head = info["layers"]
    assert (first["name"], first["operation"], first["shape"]) == ("first", "conv", [8, 3, 3, 3])
    assert (first["weights"], first["zeros"], first["values"]) == (216, 162, 3)
    assert 20 < head["bits_per_weight"] < 32
    assert abs(first["bytes"] + head["bytes"] - info["sections"]["weights"]) < 16
    assert (info["names"], info["synsets"]) == (["ants", "bees"], ["n02206856", "n02219486"])
    assert info["preparation"] == CAFFE.to_dict()
    assert info["metadata"] == {"note": "x"}


def test_table_and_plot(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(file), "--plot", str(tmp_path / "plot.png")]) == 0
    out = capsys.readouterr().out
    for text in (f"{file.stat().st_size:,} bytes", "range coded", "ants, bees", "first", "size 227", "note"):
        assert text in out
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_what_it_refuses(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "no.sqz").write_bytes(b"no")
    for arguments, why in (
        ([str(tmp_path / "no.sqz")], "not a .sqz file"),
        ([str(tmp_path / "absent.sqz")], "cannot be read"),
        ([str(file), "--plot", "plot.docx"], "ends in .png, .svg or .pdf"),
        ([str(file), "--plot", str(tmp_path / "no" / "plot.png")], "cannot be written"),
    ):
        assert main(["info", *arguments]) == 2
        captured = capsys.readouterr()
        assert why in captured.err
        assert captured.out == ""
