"""The journey as a user types it: train, evaluate, predict; and what goes wrong on the way."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from squeezekit.cli import main as cli

TINY = ["base_e=8", "incr_e=8", "fires=2", "conv1_channels=8", "squeeze_ratio=0.5", "pools=(1,)"]
SETTINGS = [word for setting in TINY for word in ("--set", setting)]


@pytest.fixture(scope="module")
def photos(tinted: Callable[..., Path]) -> Path:
    return tinted(40, (40, 36), tint=80)


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "run"
    words = [
        "train",
        str(photos),
        "--out",
        str(out),
        *SETTINGS,
        "--epochs",
        "8",
        "--lr",
        "0.1",
        "--workers",
        "0",
    ]
    assert cli.main(words) == 0
    return out


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = cli.main(words)
    said = capsys.readouterr()
    return code, said.out, said.err


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    code, out, err = call(capsys, *words)
    assert (code, out) == (2, ""), err
    assert err.startswith("error: "), err
    assert err.count("\n") == 1, err
    return err


def test_evaluate_prints_a_table_or_json(run: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(
        capsys, "evaluate", str(run), str(photos), "--workers", "0", "--against", str(run), "--json"
    )
    figures = json.loads(out)
    assert code == 0
    assert figures["images"] == 24  # a fifth
    assert figures["top1"] > 0.9
    assert figures["agreement"] == 1.0
    assert {row["class"] for row in figures["per_class"]} == {"red", "green", "blue"}
    code, out, _ = call(
        capsys, "evaluate", str(run), str(photos), "--workers", "0", "--split", "all", "--mirror"
    )
    assert code == 0
    assert "top-1" in out
    assert "green" in out


def test_predict_takes_files_folders_and_patterns(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / "sheet.png"
    words = [str(photos / "red" / "000.png"), str(photos / "green"), str(photos / "blue" / "00*.png")]
    code, out, err = call(
        capsys, "predict", str(run), *words, "--top", "2", "--mirror", "--out", str(sheet), "--json"
    )
    answers = json.loads(out)
    assert code == 0, err
    assert len(answers) == 1 + 40 + 10
    assert answers[0]["top"][0]["class"] == "red"
    assert len(answers[0]["top"]) == 2
    with Image.open(sheet) as image:
        assert min(image.size) > 300


def test_predict_reads_standard_input(run: Path, photos: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "squeezekit", "predict", str(run), "-", "--json"],
        input=(photos / "blue" / "000.png").read_bytes(),
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["top"][0]["class"] == "blue"


def test_a_broken_picture_is_named_and_the_rest_answered(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes((photos / "red" / "000.png").read_bytes()[:200])
    code, out, err = call(capsys, "predict", str(run), str(broken), str(photos / "red" / "001.png"), "--json")
    assert code == 2
    assert len(json.loads(out)) == 1
    assert "broken.png" in err


def test_mistakes_are_one_clear_line(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = str(photos / "red" / "000.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "other" / "cat").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "other" / "cat" / "1.png")
    (tmp_path / "other" / "red").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "other" / "red" / "1.png")
    new = ("--out", str(tmp_path / "new"))
    for words, complaint in [
        (("predict", str(run), "none.jpg"), "none.jpg: no such picture"),
        (("predict", str(run), str(tmp_path / "empty")), "no pictures"),
        (("predict", "nothing/", picture), "nothing/: no such run folder"),
        (("predict", "squeezenet1_1", picture), "without weights"),
        (("predict", str(run), picture, "--out", "sheet.xyz"), "sheet.xyz"),
        (("predict", str(run), picture, "--out", "/no/such/folder/sheet.png"), "folder"),
        (("evaluate", str(run), str(tmp_path / "none")), "none"),
        (("evaluate", str(run), str(tmp_path / "empty")), "empty"),
        (("evaluate", str(run), str(tmp_path / "other")), "no class for 1 folder: cat"),
        (("evaluate", str(run), str(photos), "--split", "val2"), "--split val2"),
        (("train", str(tmp_path / "none"), *new), "none"),
        (("train", str(photos), *new, "--model", "squeezenet11"), "did you mean"),
        (("train", str(photos), *new, "--set", "base"), "--set base"),
        (("train", str(photos), *new, "--set", "base_x=3"), "base_x"),
        (("train", str(photos), *new, "--recipe", "old"), "--recipe old"),
        (("train", str(photos), *new, "--augmentation", "wild"), "wild"),
        (("train", str(photos), *new, "--weights", "none.pth"), "none.pth"),
        (("train", str(photos), *new, "--epochs", "0"), "--epochs 0"),
        (
            ("train", str(photos), *new, "--weights", "imagenet", "--model", "alexnet"),
            "no published ImageNet",
        ),
        (("train", str(photos), "--out", str(run)), "holds a run already"),
    ]:
        assert complaint in refused(capsys, *words), words
    assert not (tmp_path / "new").exists()


def test_demo_does_it_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "demo", "--out", str(tmp_path / "demo"), "--epochs", "1", "--json")
    assert code == 0, err
    assert json.loads(out)["test"]["images"] > 300
    assert (tmp_path / "demo" / "run" / "report.html").is_file()
    assert (tmp_path / "demo" / "digit.png").is_file()
    # An earlier demo may be replaced; anything else may not.
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    assert "no earlier demo" in refused(capsys, "demo", "--out", str(tmp_path / "mine"))
    assert (tmp_path / "mine" / "thesis.txt").is_file()


def test_the_digits_are_what_the_embedded_set_shows() -> None:
    from squeezekit.data.source import open_pictures

    digits = open_pictures("digits")
    with Image.open(io.BytesIO(digits.read(0))) as image:
        assert image.size == (8, 8)
