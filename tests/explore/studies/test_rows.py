"""The study's folder: whole at any moment, and never of two studies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from squeezekit.errors import UserError
from squeezekit.explore.studies.rows import STATE, Row, StudyFolder

SETTINGS = {"study": "bypass", "size": 32, "epochs": 5, "model": None}


def row(seed: int) -> Row:
    return Row("SR = 0.5", seed, 32, 100, 200, 400, 0.5, None, 1.5)


def test_rows_are_there_again(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "made" / "here", SETTINGS)
    for seed in range(3):
        folder.append(row(seed))
        again = StudyFolder(folder.path, SETTINGS)
        assert again.rows == folder.rows == [row(k) for k in range(seed + 1)]
        assert again.has("SR = 0.5", seed)
        assert not again.has("SR = 0.5", seed + 1)
        assert not again.has("SR = 0.25", seed)
    assert [path.name for path in folder.path.iterdir()] == [STATE]


def test_a_folder_of_another_study_is_left_as_it_is(tmp_path: Path) -> None:
    StudyFolder(tmp_path, SETTINGS).append(row(0))
    before = (tmp_path / STATE).read_bytes()
    with pytest.raises(UserError, match=r"holds a study with epochs = 5, not 6 \(name another --out\)"):
        StudyFolder(tmp_path, {**SETTINGS, "epochs": 6})
    assert (tmp_path / STATE).read_bytes() == before


def test_what_is_no_study_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="is not empty and holds no study"):
        StudyFolder(tmp_path, SETTINGS)
    with pytest.raises(UserError, match="a file, not a folder"):
        StudyFolder(tmp_path / "thesis.txt", SETTINGS)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"settings": {}}', '{"settings": {}, "rows": [{"seed": 1}]}']
)
def test_a_damaged_state_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / STATE).write_text(text)
    with pytest.raises(UserError, match=r"study\.json: damaged"):
        StudyFolder(tmp_path, SETTINGS)
    assert (tmp_path / STATE).read_text() == text


def test_the_state_is_json_for_anyone(tmp_path: Path) -> None:
    StudyFolder(tmp_path, SETTINGS).append(row(7))
    state = json.loads((tmp_path / STATE).read_text(encoding="utf-8"))
    assert state["settings"] == SETTINGS
    assert state["rows"][0]["seed"] == 7
