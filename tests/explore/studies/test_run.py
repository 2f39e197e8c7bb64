"""Studies, run for real on scikit-learn's digits."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from squeezekit.errors import UserError
from squeezekit.explore.short import ShortTraining
from squeezekit.explore.studies import compression
from squeezekit.explore.studies.rows import STATE, Row, StudyFolder
from squeezekit.explore.studies.run import STUDIES, StudyOptions, _finish, run_study
from squeezekit.explore.studies.study import Setting


def run(out: Path, name: str = "bypass", **options: Any) -> dict[str, Any]:
    asked = StudyOptions(**{"quick": True, "seeds": 1, "epochs": 1, "pictures": 96, **options})
    return run_study(name, "digits", out, asked, Console(quiet=True))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("studies") / "bypass"
    return out, run(out, epochs=6, pictures=400)


def test_a_study_leaves_table_figure_and_text(done: tuple[Path, dict[str, Any]]) -> None:
    out, result = done
    assert {path.name for path in out.iterdir()} == {STATE, "study.csv", "study.svg", "study.md"}
    assert json.loads((out / STATE).read_text(encoding="utf-8")) == result
    with (out / "study.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["variant"] for row in rows] == ["no bypass", "simple bypass", "complex bypass"]
    for row, kept in zip(rows, result["rows"], strict=True):
        assert int(row["bytes"]) == kept["bytes"] == 4 * kept["parameters"]
        assert float(row["test_accuracy"]) == kept["test_accuracy"]
    text = (out / "study.md").read_text(encoding="utf-8")
    assert (
        "    squeezekit study bypass digits --quick --seeds 1 --epochs 6 --pictures 400 --out DIR\n" in text
    )
    assert "| simple bypass |" in text
    assert "Of 3 claims of the paper" in text
    assert "</svg>" in (out / "study.svg").read_text(encoding="utf-8")


def test_the_networks_have_learned(done: tuple[Path, dict[str, Any]]) -> None:
    for row in done[1]["variants"]:
        assert row["test_accuracy"] > 0.2  # ten classes
        assert row["train_accuracy"] > 0.2


def test_more_seeds_go_on_where_the_study_stopped(tmp_path: Path) -> None:
    first = run(tmp_path / "study")
    state = json.loads((tmp_path / "study" / STATE).read_text(encoding="utf-8"))
    # As a kill leaves it: two of three rows, and nothing drawn.
    state = {"settings": state["settings"], "rows": state["rows"][:2]}
    (tmp_path / "study" / STATE).write_text(json.dumps(state), encoding="utf-8")
    for name in ("study.csv", "study.svg", "study.md"):
        (tmp_path / "study" / name).unlink()
    second = run(tmp_path / "study", seeds=2)
    assert second["rows"][:2] == first["rows"][:2]  # the seconds too: they were not run again
    again, before = second["rows"][2], first["rows"][2]
    assert {**again, "seconds": 0} == {**before, "seconds": 0}  # the same network from the same seed
    assert [row["seed"] for row in second["rows"]] == [0, 0, 0, 1, 1, 1]
    assert all(row["seeds"] == 2 for row in second["variants"])
    # Fewer seeds than there are: only those are in the table, and none is lost.
    third = run(tmp_path / "study", seeds=1)
    assert all(row["seeds"] == 1 for row in third["variants"])
    assert third["rows"] == second["rows"]


def filled(folder: Path, *variants: str) -> dict[str, Any]:
    """Write table, figure and text of a study whose every row is there."""
    setting = {"train": 96, "val": 9, "test": 9, "size": 32, "epochs": 1, "split_seed": 0}
    study = STUDIES["pct-3x3"]
    plan = study.plan(Setting(32, quick=True))
    there = StudyFolder(folder, setting)
    for name in (*variants, *(variant.name for variant in plan.variants)):
        there.append(Row(name, 0, 32, 100, 200, 400, 0.5, 0.5, 1.5))
    return _finish(study, plan, there, "digits", StudyOptions(seeds=1))


def test_files_are_utf8_whatever_the_machine_prefers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.open

    def ascii_unless_told(path: Path, mode: str = "r", *rest: Any, **named: Any) -> Any:
        text = {} if "b" in mode else {"encoding": "ascii"}
        return real(path, mode, *rest, **{**text, **named})

    monkeypatch.setattr(Path, "open", ascii_unless_told)
    filled(tmp_path)
    assert "12.5 % 3×3,0,32," in (tmp_path / "study.csv").read_text(encoding="utf-8")


def test_a_variant_that_a_version_no_longer_has_is_kept_and_not_shown(tmp_path: Path) -> None:
    result = filled(tmp_path, "2 % 3×3")
    assert result["rows"][0]["variant"] == "2 % 3×3"
    assert "2 % 3×3" not in {row["variant"] for row in result["variants"]}
    assert "\n2 % 3×3" not in (tmp_path / "study.csv").read_text(encoding="utf-8")


@pytest.mark.slow
def test_compression_is_measured_on_the_same_pictures(tmp_path: Path) -> None:
    result = run(tmp_path / "study", "compression", epochs=4, pictures=300)
    rows = {row["variant"]: row for row in result["rows"]}
    assert list(rows) == ["float32", "svd", "pruning", "deep-compression", "best"]
    for name, row in rows.items():
        if name != "float32":
            size = (tmp_path / "study" / "seed-0" / f"{name}.sqz").stat().st_size
            assert row["bytes"] < size if name == "pruning" else row["bytes"] == size
            assert row["bytes"] < rows["float32"]["bytes"]
    # A network that is there already is taken in place of a new one: here the one just trained.
    trained = str(tmp_path / "study" / "seed-0" / "model.safetensors")
    again = run(tmp_path / "again", "compression", epochs=4, pictures=300, model=trained)
    assert again["rows"][0]["test_accuracy"] == rows["float32"]["test_accuracy"]


def test_compression_that_is_killed_before_its_first_row_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ShortTraining, "run", kill)  # in its training: there is nothing yet
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, "compression")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(compression, "evaluate", kill)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, "compression")
    trained = (tmp_path / "seed-0" / "model.safetensors").stat().st_mtime_ns
    with pytest.raises(KeyboardInterrupt):  # neither refused nor trained again
        run(tmp_path, "compression")
    assert (tmp_path / "seed-0" / "model.safetensors").stat().st_mtime_ns == trained


def test_mistakes_cost_no_training(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"squeeze-rato: no such study; did you mean 'squeeze-ratio'\?"):
        run(tmp_path / "a", "squeeze-rato")
    with pytest.raises(UserError, match="--model"):
        run(tmp_path / "a", model="run/")
    with pytest.raises(UserError, match="--seeds 0"):
        run(tmp_path / "a", seeds=0)
    assert not (tmp_path / "a").exists()
