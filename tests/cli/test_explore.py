"""``squeezekit explore`` from end to end: search, retrain, and a file of the size that was asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from squeezekit.cli.main import main


def test_a_search_is_retrained_and_ready_for_compress(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "study"
    words = ["explore", "digits", "--out", str(out), "--budget", "bytes<=8k,macs<=1M", "--size", "16"]
    words += ["--trials", "2", "--pictures", "100", "--epochs", "1", "--device", "cpu", "--json"]
    assert main([*words, "--retrain", "best", "--retrain-epochs", "1"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["trials"] == 2
    best = told["best"]
    run = out / f"trial-{best['trial']}"
    assert told["retrained"]["out"] == str(run)
    assert told["retrained"]["parameters"] == best["parameters"]
    assert (run / "model.safetensors").is_file()
    assert (run / "report.html").is_file()


def test_an_impossible_budget_ends_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "study"
    assert main(["explore", "digits", "--out", str(out), "--budget", "ram<=1", "--size", "16"]) == 2
    error = capsys.readouterr().err
    assert "ram is impossible" in error
    assert "nearest that can be met: ram<=" in error
    assert not out.exists()


def test_a_design_that_cannot_be_meant_is_told_before_the_search(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "study"
    assert main(["explore", "digits", "--out", str(out), "--retrain", "bets"]) == 2
    assert capsys.readouterr().err == "error: --retrain bets: expected best, or a trial's number\n"
    assert not out.exists()
