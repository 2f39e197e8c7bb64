"""``squeezekit compress``: from a run folder or an .onnx to a file that answers as the network did."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from squeezekit.cli.main import main
from squeezekit.format import read

NETWORK = (
    *("--set", "fires=2", "--set", "base_e=16", "--set", "incr_e=8", "--set", "pools=1,2"),
    *("--size", "32", "--batch-size", "16", "--workers", "0"),
)


@pytest.fixture(scope="module")
def photos(tinted: Callable[..., Path]) -> Path:
    return tinted(30)


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "run"
    words = ["train", str(photos), "--out", str(out), *NETWORK, "--epochs", "6", "--lr", "0.1", "--json"]
    assert main(words) == 0
    return out


def said(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def test_a_run_becomes_one_small_file(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "model.sqz"
    done = said(capsys, "compress", str(run), "--data", str(photos), "--out", str(file), "--effort", "low")
    assert done["bytes"] == file.stat().st_size < done["original_bytes"] / 4
    assert (
        done["judged"] == 9
    )  # the tenth that chose the epoch of the run: 60 train, 9 choose, 18 are left alone
    assert done["agreement"] >= 8 / 9
    # The file answers as the network, on the pictures that neither trained, chose nor calibrated.
    against = said(capsys, "evaluate", str(file), str(photos), "--against", str(run))
    assert (against["split"], against["images"]) == ("test", 18)
    assert against["agreement"] >= 17 / 18
    picture = next((photos / "red").iterdir())
    answers: Any = said(capsys, "predict", str(file), str(picture))
    assert answers[0]["top"][0]["class"] == "red"
    info = said(capsys, "info", str(file))
    assert (info["numbers"], info["names"]) == ("int8", ["blue", "green", "red"])


def test_a_network_that_is_sure_of_its_answers_keeps_them(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Near certainty the loss has no curvature left that would predict what rounding changes."""
    run, file = str(tmp_path / "run"), str(tmp_path / "sure.sqz")
    assert main(["train", str(photos), "--out", run, *NETWORK, "--epochs", "15", "--lr", "0.1"]) == 0
    done = said(capsys, "compress", run, "--data", str(photos), "--out", file, "--effort", "low")
    assert done["original_top1"] == 1
    assert done["agreement"] >= 8 / 9


def test_the_same_bytes_again_within_the_bytes_asked_for(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("compress", str(run), "--data", str(photos), "--effort", "low", "--max-bytes", "2.2k")
    for name in ("a.sqz", "b.sqz"):
        assert said(capsys, *words, "--out", str(tmp_path / name))["bytes"] <= 2200
    assert (tmp_path / "a.sqz").read_bytes() == (tmp_path / "b.sqz").read_bytes()


def test_huffman_coding_is_the_same_network_in_more_bytes(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("compress", str(run), "--data", str(photos), "--effort", "low")
    small = said(capsys, *words, "--out", str(tmp_path / "range.sqz"))
    quick = said(capsys, *words, "--coding", "huffman", "--out", str(tmp_path / "huffman.sqz"))
    assert small["bytes"] < quick["bytes"]
    a, b = (read(tmp_path / name).graph for name in ("range.sqz", "huffman.sqz"))
    for one, other in zip(a.nodes, b.nodes, strict=True):
        assert all(np.array_equal(one.dense(role), other.dense(role)) for role in one.weights)


def test_the_drop_is_kept(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("compress", str(run), "--data", str(photos), "--effort", "low", "--max-drop", "12")
    done = said(capsys, *words, "--out", str(tmp_path / "a.sqz"))
    (chosen,) = (row for row in done["attempts"] if row["bytes"] == done["bytes"])
    assert 100 * (chosen["original_top1"] - chosen["top1"]) <= 12
    assert done["judged"] == 6  # of nine judges three choose the size
    assert len(done["attempts"]) > 1
    assert done["bytes"] <= max(row["bytes"] for row in done["attempts"])


def test_a_sweep_is_a_curve(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.sqz"
    done = said(
        capsys, "compress", str(run), "--data", str(photos), "--effort", "low", "--sweep", "--out", str(file)
    )
    sizes = [row["bytes"] for row in done["attempts"]]
    assert len(sizes) == 9
    assert sizes == sorted(sizes)
    assert sizes[-1] > 1.3 * sizes[0]
    assert all("agreement" in row for row in done["attempts"])
    assert (tmp_path / "a.sweep.png").read_bytes().startswith(b"\x89PNG")
    assert (done["out"], done["bytes"]) == (str(file), sizes[-1])


def test_a_sweep_into_a_folder_keeps_every_size(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("compress", str(run), "--data", str(photos), "--effort", "low", "--sweep")
    done = said(capsys, *words, "--out", str(tmp_path / "sizes"))
    for row in done["attempts"]:
        assert Path(row["file"]).stat().st_size == row["bytes"]
    assert done["out"] == done["attempts"][-1]["file"]
    kept = {path.name for path in (tmp_path / "sizes").iterdir()}
    assert kept == {f"{row['bytes']}.sqz" for row in done["attempts"]} | {"sweep.png"}


@pytest.mark.parametrize("method", ["deep-compression", "pruning", "svd"])
def test_the_papers_methods(
    run: Path, photos: Path, tmp_path: Path, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.sqz"
    words = ("compress", str(run), "--data", str(photos), "--method", method, "--effort", "low")
    done = said(capsys, *words, "--out", str(file))
    assert done["bytes"] == file.stat().st_size < done["original_bytes"]
    assert 0 <= done["agreement"] <= 1
    assert said(capsys, "info", str(file))["numbers"] == "float32"
    assert said(capsys, "evaluate", str(file), str(photos))["images"] == 18


def test_svd_takes_the_bytes_of_the_whole_file(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("compress", str(run), "--data", str(photos), "--method", "svd", "--effort", "low")
    whole = said(capsys, *words, "--energy", "1", "--out", str(tmp_path / "a.sqz"))["bytes"]
    assert said(capsys, *words, "--max-bytes", str(whole), "--out", str(tmp_path / "b.sqz"))["bytes"] == whole
    most = int(0.8 * whole)
    cut = said(capsys, *words, "--max-bytes", str(most), "--out", str(tmp_path / "c.sqz"))["bytes"]
    assert 0.93 * most < cut <= most


def test_pruning_tells_what_gaps_would_take(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("compress", str(run), "--data", str(photos), "--method", "pruning", "--effort", "low")
    stages = said(capsys, *words, "--out", str(tmp_path / "a.sqz"))["stages"]
    assert list(stages) == ["original", "pruning"]
    assert stages["pruning"] < 0.6 * stages["original"]


def test_without_pictures_noise_calibrates(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.sqz"
    capsys.readouterr()
    assert main(["compress", str(run), "--effort", "low", "--out", str(file), "--json"]) == 0
    output = capsys.readouterr()
    assert "no DATA" in output.err
    assert json.loads(output.out)["agreement"] is None
    against = said(capsys, "evaluate", str(file), str(photos), "--against", str(run))
    assert against["agreement"] > 0.6
    assert (against["split"], against["images"]) == ("test", 18)  # it knows what trained the run


def test_answers_of_one_by_one_pixel_are_answers(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A network need not flatten what it averages."""
    random = np.random.default_rng(3)
    weight = numpy_helper.from_array(random.normal(size=(5, 3, 3, 3)).astype(np.float32), "w")
    bias = numpy_helper.from_array(random.normal(size=5).astype(np.float32), "b")
    conv = helper.make_node("Conv", ["x", "w", "b"], ["conv"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    found = []
    for name, shape in (("flat", [1, 5]), ("mean", [1, 5, 1, 1])):
        nodes = [conv, helper.make_node("GlobalAveragePool", ["conv"], ["mean"])]
        nodes += [helper.make_node("Flatten", ["mean"], ["flat"])] if name == "flat" else []
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 32, 32])
        y = helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        graph = helper.make_graph(nodes, "network", [x], [y], [weight, bias])
        path = tmp_path / f"{name}.onnx"
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        path.write_bytes(made.SerializeToString())
        words = ("compress", str(path), "--data", str(photos), "--effort", "low", "--out")
        found.append(said(capsys, *words, str(tmp_path / f"{name}.sqz"))["agreement"])
    assert found[0] == found[1] > 0.5


def test_an_onnx_goes_the_same_way(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(3)
    shapes = {"w": (8, 3, 3, 3), "b": (8,), "v": (5, 8)}
    weights = [
        numpy_helper.from_array(random.normal(size=shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["conv"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("GlobalAveragePool", ["relu"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Gemm", ["flat", "v"], ["y"], transB=1),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 32, 32])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])
    path = tmp_path / "network.onnx"
    made = helper.make_model(
        helper.make_graph(nodes, "network", [x], [y], weights), opset_imports=[helper.make_opsetid("", 17)]
    )
    path.write_bytes(made.SerializeToString())
    file = tmp_path / "a.sqz"
    done = said(capsys, "compress", str(path), "--data", str(photos), "--effort", "low", "--out", str(file))
    assert done["bytes"] == file.stat().st_size
    assert done["top1"] is None  # its classes have other names
    assert done["agreement"] > 0.5


def test_an_exported_network_comes_back_with_its_names_and_preparation(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exported, file = tmp_path / "run.onnx", tmp_path / "a.sqz"
    assert main(["export", str(run), "--to", "onnx", "--out", str(exported)]) == 0  # a network with pools
    capsys.readouterr()
    one, other = (said(capsys, "evaluate", str(each), str(photos)) for each in (run, exported))
    assert (one["images"], one["top1"]) == (other["images"], other["top1"])  # of what was held out, again
    done = said(
        capsys, "compress", str(exported), "--data", str(photos), "--effort", "low", "--out", str(file)
    )
    assert done["top1"] is not None
    assert said(capsys, "evaluate", str(file), str(photos), "--against", str(run))["agreement"] > 0.6


def test_pictures_need_no_labels(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for i, path in enumerate(sorted(photos.rglob("*.png"))[:40]):
        (flat / f"{i}.png").write_bytes(path.read_bytes())
    file = tmp_path / "a.sqz"
    done = said(capsys, "compress", str(run), "--data", str(flat), "--effort", "low", "--out", str(file))
    assert done["judged"] == 20
    assert done["agreement"] > 0.5
    assert done["top1"] is None
    # The file knows both what calibrated it and what trained the run.
    assert said(capsys, "evaluate", str(file), str(photos))["images"] == 18


def test_the_bytes_of_an_empty_network_are_too_few(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compress", str(run), "--data", str(photos), "--effort", "low", "--out", str(tmp_path / "a.sqz")]
    assert main([*words, "--max-bytes", "100"]) == 2
    empty = re.search(r"takes ([\d,]+) bytes", capsys.readouterr().err)
    assert empty
    for more in (0, 1, 20):
        assert main([*words, "--max-bytes", str(int(empty[1].replace(",", "")) + more)]) == 2
        error = capsys.readouterr().err
        assert "cannot be reached" in error or "not reached" in error
    assert not (tmp_path / "a.sqz").exists()


def test_deep_compression_takes_its_settings_and_tells_its_stages(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("compress", str(run), "--data", str(photos), "--effort", "low", "--method", "deep-compression")
    found = []
    for i, more in enumerate(((), ("--bits", "3", "--sparsity", "0.8", "--initialisation", "density"))):
        done = said(capsys, *words, *more, "--out", str(tmp_path / f"{i}.sqz"))
        assert list(done["stages"]) == ["original", "pruning", "shared weights", "Huffman coding"]
        found.append(done)
    sizes = list(found[1]["stages"].values())
    assert (
        sorted(sizes, reverse=True) == sizes
    )  # with 8 bits the tables of shared values outweigh so few weights
    assert found[1]["stages"]["pruning"] < 0.7 * found[0]["stages"]["pruning"]
    assert found[1]["bytes"] < found[0]["bytes"]
    capsys.readouterr()
    assert main([*words, "--out", str(tmp_path / "2.sqz")]) == 0
    assert "Huffman coding" in capsys.readouterr().out


def test_mistakes_are_one_clear_line(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.sqz"
    given = ("compress", str(run), "--out", str(file), "--data", str(photos), "--effort", "low")
    one = tmp_path / "one"
    (one / "only").mkdir(parents=True)
    Image.new("RGB", (32, 32)).save(one / "only" / "a.png")
    (tmp_path / "empty").mkdir()
    other = tmp_path / "other.sqz"
    other.write_bytes(b"something else")
    (tmp_path / "sizes").write_bytes(b"a file of this name")
    for words, complaint in [
        ((*given, "--max-bytes", "100"), "every weight zero"),
        ((*given, "--max-bytes", "many"), "is no size"),
        ((*given, "--method", "magic"), "magic"),
        ((*given, "--effort", "huge"), "huge"),
        ((*given, "--coding", "zip"), "--coding zip"),
        ((*given, "--max-drop", "-1"), "--max-drop"),
        ((*given, "--method", "svd", "--max-drop", "1"), "--method svd"),
        ((*given, "--method", "pruning", "--max-bytes", "9k"), "--method pruning: takes no --max-bytes"),
        ((*given, "--sparsity", "0.5"), "--sparsity: not for --method best"),
        ((*given, "--method", "pruning", "--sparsity", "1"), "--sparsity 1"),
        ((*given, "--method", "deep-compression", "--bits", "9"), "--bits 9"),
        ((*given, "--method", "deep-compression", "--initialisation", "x"), "--initialisation x"),
        ((*given, "--method", "svd", "--energy", "0"), "--energy 0"),
        ((*given, "--method", "svd", "--energy", "0.9", "--max-bytes", "9k"), "take one"),
        ((*given, "--preparation", "imagenet"), "carries its own"),
        (("compress", str(run), "--out", "/proc/a.sqz"), "cannot be written"),
        (("compress", str(run), "--out", str(tmp_path / "a.txt")), "end its name in .sqz"),
        (("compress", str(run), "--out", str(file), "--max-drop", "1"), "--data"),
        (("compress", str(run), "--out", str(file), "--data", str(one)), "one"),
        (("compress", str(run), "--out", str(file), "--data", str(tmp_path / "empty")), "empty"),
        (("compress", str(other), "--out", str(file)), "other.sqz"),
        (("compress", str(run), "--out", str(tmp_path / "no" / "a.sqz")), "no folder"),
        (("compress", str(run), "--out", str(tmp_path)), "is a folder"),
        (("compress", str(run), "--out", str(tmp_path / "sizes"), "--sweep"), "is a file, not a folder"),
        (("compress", "alexnet", "--out", str(file)), "without weights"),
    ]:
        capsys.readouterr()
        assert main(list(words)) == 2, words
        error = capsys.readouterr().err
        assert complaint in error.strip().splitlines()[-1], (words, error)
        assert not file.exists()


def test_a_file_that_is_int8_already(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.sqz"
    assert main(["compress", str(run), "--out", str(file), "--effort", "low"]) == 0
    assert main(["compress", str(file), "--out", str(tmp_path / "b.sqz")]) == 2
    assert "int8 file already" in capsys.readouterr().err
