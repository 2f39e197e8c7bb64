"""``squeezekit scale``: its tables, its JSON, and the search from the command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from squeezekit.cli.main import main
from squeezekit.explore.scale_search import Search


def run_json(*words: str, capsys: Any) -> Any:
    assert main(["scale", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_build(capsys: pytest.CaptureFixture[str]) -> None:
    found = run_json("build", "--baseline", "efficientnet_b0", "--phi", "3", capsys=capsys)
    assert (found["alpha"], found["beta"], found["gamma"]) == (1.2, 1.1, 1.15)
    assert found["baseline"]["flops"] == 385_814_752
    assert found["target"] == 8
    assert found["within_tolerance"]
    assert abs(found["flops_ratio"] / 8 - 1) <= 0.1
    assert sum(stage["flops"][1] for stage in found["stages"]) == found["scaled"]["flops"]
    assert found["command"].startswith(
        "squeezekit train DATA --out run-phi3 --model efficientnet --set depth_co"
    )
    assert found["command"].endswith(f"--size {found['scaled']['size']}")


def test_the_tables(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--baseline", "squeezenet1_1", "--size", "32", "--classes", "10", "--data", "my photos"]
    assert main(["scale", "build", *words, "--phi", "-2"]) == 0
    out = capsys.readouterr().out
    assert "fire6 … fire9" in out
    assert "8 layers become 6, not 5.56" in out
    assert "α · β² · γ² is 1.920, not 2" in out
    assert "squeezekit train 'my photos' --out run-phi-2 --model squeezenet1_1" in out


def test_departing_as_published(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scale", "build", "--baseline", "efficientnet_b0", "--phi", "1", "--as-published"]) == 0
    captured = capsys.readouterr()
    assert "+28.6 %" in captured.out
    assert captured.err == "warning: the FLOPS are not within 10 % of 2^φ\n"


def test_search_and_build_from_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "scaling"
    words = ["scale", "search", "--baseline", "squeezenet", "--data", "digits", "--out", str(out)]
    words += ["--set", "base_e=8", "--set", "incr_e=8", "--set", "conv1_channels=8", "--set", "fires=3"]
    words += ["--set", "pools=(1,2)", "--set", "stem=standard", "--pictures", "64", "--batch-size", "32"]
    words += ["--epochs", "1", "--alphas", "1,1.4", "--betas", "1.0"]
    assert main([*words, "--plot", str(tmp_path / "search.png")]) == 0
    captured = capsys.readouterr()
    assert "3/3 alpha 1.4 beta 1 gamma 1.2: " in captured.err
    assert f"squeezekit scale build --search {out} --phi 2" in captured.out.replace("\n", "")
    assert (tmp_path / "search.png").stat().st_size > 5000
    assert "<svg" in (out / "search.svg").read_text()
    with (out / "search.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["alpha"] for row in rows] == ["1.0", "1.4"]
    assert "conv1_channels=8" in rows[0]["metaparameters"]

    assert main([*words, "--json"]) == 0  # nothing is trained again
    captured = capsys.readouterr()
    assert "3 of them done" in captured.err
    assert "3/3" not in captured.err
    best = json.loads(captured.out)["best"]
    found = run_json("build", "--search", str(out), "--phi", "1", capsys=capsys)
    assert found["classes"] == 10
    assert found["scaled"]["flops"] == best["flops"]


def test_an_interrupted_search_says_that_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(search: Search, *_: object) -> None:
        search.path.write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(Search, "run", stopped)
    words = ["--baseline", "squeezenet1_1", "--data", "digits", "--alphas", "2", "--betas", "1"]
    assert main(["scale", "search", *words, "--out", str(tmp_path / "s")]) == 130
    said = capsys.readouterr().err.splitlines()[-2:]
    assert said == [f"stopped; what is done is in {tmp_path / 's'} (the same command goes on)", "interrupted"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["build", "--phi", "1"], "--baseline NAME|RUN, or --search FOLDER"),
        (["build", "--baseline", "squeezenet1.1", "--phi", "1"], "did you mean 'squeezenet1_1'?"),
        (["build", "--baseline", "squeezenet1_1"], "--phi"),
        (["build", "--baseline", "squeezenet1_1", "--phi", "1", "--alpha", "2"], "must be about 2"),
        (
            ["build", "--baseline", "squeezenet1_1", "--size", "9", "--phi", "-3"],
            "6 x 6 pixels are too small",
        ),
        (["build", "--search", "nowhere", "--phi", "1"], "nowhere: no search in it"),
        (["build", "--baseline", "squeezenet", "--set", "fire=3", "--phi", "1"], "no metaparameter 'fire'"),
        (
            ["search", "--baseline", "squeezenet", "--data", "digits", "--out", "x", "--alphas", "3"],
            "--alphas 3",
        ),
        (["search", "--baseline", "squeezenet", "--data", "digits", "--out", "x", "--phi", "0"], "--phi 0"),
        (["search", "--baseline", "nothing", "--data", "digits", "--out", "x"], "no such network"),
        (["search", "--baseline", "squeezenet", "--data", "nothing", "--out", "x"], "nothing"),
    ],
)
def test_one_line_for_a_mistake(
    words: list[str],
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["scale", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert text in captured.err
    assert list(tmp_path.iterdir()) == []
