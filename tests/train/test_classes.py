from __future__ import annotations

from pathlib import Path

import pytest

from squeezekit.errors import UserError
from squeezekit.train.classes import Classes, read_classes


def test_folders_match_by_name_by_synset_and_regardless_of_case() -> None:
    classes = Classes(("tench", "goldfish", "crane", "crane"), ("n1", "n2", "n3", "n4"))
    assert classes.match(["n2", "Tench", "n4"], "photos").tolist() == [1, 0, 3]


def test_a_name_of_two_classes_means_neither() -> None:
    with pytest.raises(UserError, match=r"photos: the model has no class for 1 folder: crane"):
        Classes(("crane", "crane"), ("n3", "n4")).match(["crane"], "photos")


def test_unknown_folders_are_listed() -> None:
    with pytest.raises(UserError, match="2 folders: wasp, fly"):
        Classes(("ants", "bees")).match(["ants", "wasp", "fly"], "photos")


def test_shipped_table_reads(shared: Path) -> None:
    classes = read_classes(shared / "data" / "imagenet-classes.csv", 1000)
    assert classes.names[0] == "tench"
    assert classes.synsets is not None
    assert classes.synsets[0] == "n01440764"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "not a table"),
        ("a,b\n1,2\n", "not a table"),
        ("index,name\n0,a\n2,b\n", "not 0 to 1"),
        ("index,name\nzero,a\n", "not a number"),
        ("index,name\n0,\n", "no name"),
        ("index,name\n0,a\n1,b\n", "names 2 classes, but the model has 3"),
    ],
)
def test_bad_tables_are_refused(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "classes.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=complaint):
        read_classes(path, 3)


def test_missing_or_binary_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_classes(tmp_path / "none.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(UserError, match=r"binary.csv"):
        read_classes(tmp_path / "binary.csv")
