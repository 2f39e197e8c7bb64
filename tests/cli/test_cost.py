"""``squeezekit cost``: its table, its JSON, its plot, and one line where it cannot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from squeezekit.cli.main import main

FLAX = Path(__file__).parents[1] / "graph" / "data" / "flax_cnn.onnx"


def run_json(*words: str, capsys: Any) -> Any:
    assert main(["cost", *words, "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return json.loads(captured.out)


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    found = run_json("squeezenet1_1", "--fits", "10MB", capsys=capsys)
    assert found["parameters"] == 1_235_496
    assert found["macs"] == 349_151_936
    assert set(found["precisions"]) == {"float32", "int8"}
    floats = found["precisions"]["float32"]
    assert floats["weight_bytes"] == 4 * 1_235_496
    assert sum(layer["macs"] for layer in floats["layers"]) == found["macs"]
    assert [(each["precision"], each["what"], each["fits"]) for each in found["fits"]] == [
        ("float32", "weights", True),
        ("float32", "weights + activations", floats["weight_bytes"] + floats["peak_bytes"] <= 10_000_000),
        ("int8", "weights", True),
        ("int8", "weights + activations", True),
    ]


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", "squeezenet1_0", "--input", "227", "--fits", "flash=1MB,ram=512KB"]) == 0
    out = capsys.readouterr().out
    # Table 1 of the paper: 111 × 111 × 96 after conv1, 14,208 parameters; 55 × 55 × 128 after fire2.
    (conv1,) = (line for line in out.splitlines() if "features.conv1 " in line)
    assert "111 × 111 × 96" in conv1
    assert "14,208" in conv1
    assert "conv 7 × 7 / 2, relu" in conv1
    assert any("fire2.concat" in line and "55 × 55 × 128" in line for line in out.splitlines())
    assert "1,248,424" in out
    assert "float32 weights, 4.99 MB, do not fit 1 MB of flash" in out


def test_other_inputs_and_classes(capsys: pytest.CaptureFixture[str]) -> None:
    found = run_json("squeezenet1_1", "--input", "96", "--classes", "10", capsys=capsys)
    assert found["parameters"] == 727_626
    assert found["precisions"]["float32"]["input"] == [3, 96, 96]


def test_weight_files(tmp_path: Path, shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from squeezekit.models import create_model, save_checkpoint

    found = run_json(str(shared / "weights" / "compressed_SqueezeNet.net"), capsys=capsys)
    assert found["parameters"] == 1_248_424
    assert found["precisions"]["float32"]["input"] == [3, 227, 227]
    network = create_model("squeezenet1_1", num_classes=7, stem="small", norm=True)
    run = tmp_path / "run"
    run.mkdir()
    preparation = {
        "size": 40,
        "resize": "short-side",
        "resize_to": 40,
        "interpolation": "bilinear",
        "mean": [1.0, 2.0, 3.0],
        "scale": [1.0, 1.0, 1.0],
        "channel_order": "RGB",
    }
    save_checkpoint(run / "model.safetensors", network, {"model": network.config, "preparation": preparation})
    found = run_json(str(run), capsys=capsys)
    assert found["parameters"] == sum(each.numel() for each in network.parameters())
    assert found["precisions"]["float32"]["input"] == [3, 40, 40]


def test_onnx(capsys: pytest.CaptureFixture[str]) -> None:
    found = run_json(str(FLAX), capsys=capsys)
    layers = found["precisions"]["float32"]["layers"]
    assert [layer["macs"] for layer in layers if layer["macs"]][:2] == [8 * 8 * 10 * 27, 8 * 8 * 10 * 9]


def test_sqz(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from squeezekit.data.preparation import IMAGENET
    from squeezekit.format import write
    from squeezekit.format.model import Model
    from squeezekit.graph import Graph, Node, Quantization, Tensor

    weights = {
        "weight": np.ones((2, 3, 3, 3), np.int8),
        "bias": np.zeros(2, np.int32),
        "multiplier": np.ones(2, np.float32),
    }
    window = {"kernel": (3, 3), "stride": (1, 1), "padding": (0,) * 4, "dilation": (1, 1), "groups": 1}
    conv = Node("conv", "conv", ("input",), window, weights, Quantization(0.5, 7))
    pool_weights = {"multiplier": np.ones(1, np.float32)}
    pool = Node("pool", "global_avg_pool", ("conv",), {"logits": 1}, pool_weights)
    nodes = (conv, pool, Node("flat", "flatten", ("pool",)))
    graph = Graph(Tensor("input", (3, 8, 8), Quantization(1.0, 0)), nodes, "flat")
    file = tmp_path / "model.sqz"
    write(file, Model(graph, IMAGENET.at(8).to_dict(), ("cat", "dog"), None, {}))
    found = run_json(str(file), capsys=capsys)
    assert list(found["precisions"]) == ["int8"]
    assert found["macs"] == 2 * 27 * 36
    assert found["precisions"]["int8"]["weight_bytes"] == 54 + 2 * 8
    assert found["precisions"]["int8"]["peak_bytes"] == 3 * 64 + 2 * 36


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_the_plot(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / f"cost{suffix}"
    assert main(["cost", "squeezenet1_1", "--input", "64", "--plot", str(file)]) == 0
    assert file.stat().st_size > 5000
    assert list(tmp_path.iterdir()) == [file]
    if suffix == ".png":
        from PIL import Image

        assert np.asarray(Image.open(file).convert("L")).std() > 10


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["squeezenet1.1"], "did you mean 'squeezenet1_1'?"),
        (["squeezenet1_1", "--input", "10"], "pictures of 10 x 10 pixels are too small"),
        (["squeezenet1_1", "--fits", "lots"], "--fits lots"),
        (["squeezenet1_1", "--plot", "cost.txt"], "ends in .png, .svg or .pdf"),
        (["missing.onnx"], "no such network, run folder or file"),
        (["alexnet", "--input", "224"], "227"),
        ([str(FLAX), "--input", "2"], "too small for a window"),
    ],
)
def test_one_line_for_a_mistake(words: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert text in captured.err


def test_a_file_that_is_no_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("model.onnx", "weights.safetensors", "notes.txt"):
        file = tmp_path / name
        file.write_text("something else")
        assert main(["cost", str(file)]) == 2
        assert capsys.readouterr().err.count("\n") == 1
