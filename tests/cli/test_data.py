"""``squeezekit data``: shards made, indexed and checked; and other commands that take them for DATA."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from squeezekit.cli.main import main


@pytest.fixture
def shards(tinted: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    out = tmp_path / "shards"
    assert (
        main(["data", "shard", str(tinted(20, (12, 12))), "--out", str(out), "--size", "40k", "--json"]) == 0
    )
    made = json.loads(capsys.readouterr().out)
    assert made["data"] == str(out)
    assert made["classes"] == ["blue", "green", "red"]
    assert made["pictures"] == {"all": 60}
    assert made["broken"] == []
    assert made["shards"] == len(list(out.glob("*.tar"))) > 2
    assert made["bytes"] == sum(p.stat().st_size for p in out.glob("*.tar"))
    return out


def test_a_table_for_people(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(shards)]) == 0
    said = capsys.readouterr().out
    assert "3 classes" in said
    assert "60" in said


def test_an_index_elsewhere(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shards / "index.json").unlink()
    assert main(["data", "index", f"{shards}/*.tar", "--out", str(tmp_path / "index"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pictures"] == {"all": 60}
    assert main(["data", "check", str(tmp_path / "index"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["classes"] == ["0", "1", "2"]  # the .cls hold numbers


def test_an_index_moves_with_its_shards(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", "index", "shards"]) == 0
    assert main(["data", "check", str(shards.rename(tmp_path / "moved"))]) == 0
    capsys.readouterr()


def test_an_index_stays_where_it_cannot_be_made_anew(
    shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {p.name: p.read_bytes() for p in shards.iterdir() if p.suffix != ".tar"}
    last = max(shards.glob("*.tar"))
    os.truncate(last, 3000)
    assert main(["data", "index", str(shards)]) == 2
    assert f"{last}: truncated" in capsys.readouterr().err
    assert {p.name: p.read_bytes() for p in shards.iterdir() if p.suffix != ".tar"} == before


def test_mistakes_are_one_line(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = shards / "000000.tar"
    for words, message in (
        (["shard", "digits", "--out", str(shards)], "exists already"),
        (["shard", "digits", "--out", str(tmp_path / "x"), "--size", "much"], "--size much"),
        (["shard", "nowhere/", "--out", str(tmp_path / "x")], "no such folder or archive"),
        (["index", "s3://bucket/{0..3}.tar"], "--out"),
        (["index", f"{tmp_path}/none*.tar", "--out", str(tmp_path / "y")], "no such files"),
    ):
        assert main(["data", *words]) == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1
    data = bytearray(first.read_bytes())
    data[700] ^= 1
    first.write_bytes(data)
    assert main(["data", "check", str(shards)]) == 2
    assert "000000.tar: damaged" in capsys.readouterr().err
    os.truncate(first, 3000)
    for words in (["data", "check", str(shards)], ["train", str(shards), "--out", str(tmp_path / "run")]):
        assert main(words) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.startswith(f"error: {first}: truncated, 3,000 bytes")
    assert not (tmp_path / "run").exists()


def test_from_shards_to_a_compressed_file(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, file = str(tmp_path / "run"), str(tmp_path / "model.sqz")
    tiny = ["base_e=8", "incr_e=8", "fires=2", "conv1_channels=8", "pools=(1,)"]
    words = [word for each in tiny for word in ("--set", each)]
    assert (
        main(["train", str(shards), "--out", run, *words, "--epochs", "1", "--workers", "0", "--json"]) == 0
    )
    test = json.loads(capsys.readouterr().out)["test"]
    assert main(["compress", run, "--data", str(shards), "--out", file, "--max-bytes", "20k", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["judged"] > 0
    assert main(["evaluate", file, str(shards), "--workers", "0", "--json"]) == 0
    judged = json.loads(capsys.readouterr().out)
    assert (judged["split"], judged["images"]) == ("test", test["images"])
