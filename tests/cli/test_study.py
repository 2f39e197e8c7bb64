"""``squeezekit study``: one command, one folder, one JSON value; mistakes are one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from squeezekit.cli.main import main

QUICK = ("--quick", "--seeds", "1", "--epochs", "1", "--pictures", "64")


def test_a_study_and_going_on_with_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["study", "bypass", "digits", "--out", str(tmp_path / "s"), *QUICK]
    assert main([*words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["study"]["name"] == "bypass"
    assert len(result["rows"]) == 3
    assert main(words) == 0  # nothing is left to do: only shown
    said = capsys.readouterr()
    assert "3 of 3 rows are there" in said.err
    assert "complex bypass" in said.out
    assert "not told apart" in said.out or "from one seed" in said.out
    # Rows of other settings would not compare.
    assert main([*words[:-2], "--pictures", "65"]) == 2
    assert "holds a study with train = 64, not 65" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("bypas", "digits"), "did you mean 'bypass'?"),
        (("bypass", "no/such/folder"), "no/such/folder"),
        (("bypass", "digits", "--seeds", "0"), "--seeds 0: must be at least 1"),
        (("bypass", "digits", "--model", "run/"), "--model: the study bypass trains networks of its own"),
        (("bypass", "digits", "--size", "2"), "2"),
    ],
)
def test_mistakes_are_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], complaint: str
) -> None:
    assert main(["study", *words, "--out", str(tmp_path / "s"), *QUICK[:1]]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert complaint in error
    assert not (tmp_path / "s" / "study.json").exists()
