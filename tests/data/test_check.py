"""The check: a few broken pictures are named, many are an error."""

from __future__ import annotations

import os

import pytest

from squeezekit.data import check
from squeezekit.data.check import check_pictures
from squeezekit.data.source import open_pictures
from squeezekit.errors import UserError


def spoil(root, *paths):
    for path in paths:
        (root / path).write_bytes((root / path).read_bytes()[:60])


@pytest.fixture
def root(photos):
    return photos(*(f"{c}/{i:02d}.png" for c in "ab" for i in range(30)))


def test_all_is_well(root):
    report = check_pictures(open_pictures(root))
    assert (report.names, report.counted, report.total) == ((), 60, 60)


def test_a_few_are_named_and_left_out(root):
    spoil(root, "a/03.png", "b/29.png")
    pictures, calls = open_pictures(root), []
    report = check_pictures(pictures, lambda done, total: calls.append((done, total)))
    assert report.names == ("a/03.png", "b/29.png")
    assert report.reasons[0].startswith("a/03.png: damaged")
    assert calls[-1] == (60, 60)
    good = report.good(pictures)
    assert len(good) == 58
    assert check_pictures(good).names == ()


def test_five_percent_pass_and_more_do_not(root):
    spoil(root, "a/01.png", "a/02.png", "b/03.png")
    assert len(check_pictures(open_pictures(root)).names) == 3
    spoil(root, "b/04.png")
    with pytest.raises(
        UserError, match=r"4 of 60 pictures are broken, 7 % \(at most 5% .* a/01.png: damaged"
    ):
        check_pictures(open_pictures(root))


def test_a_class_without_a_whole_picture(photos):
    root = photos(*(f"a/{i:02d}.png" for i in range(30)), "b/1.png")
    spoil(root, "b/1.png")
    with pytest.raises(UserError, match="every picture in b/ is broken"):
        check_pictures(open_pictures(root))


def test_a_split_without_a_whole_picture_of_a_class(photos):
    root = photos(*(f"train/{c}/{i:02d}.png" for c in "ab" for i in range(20)), "val/a/1.png", "val/b/1.png")
    spoil(root, "val/b/1.png")
    with pytest.raises(UserError, match="every picture in val/b/ is broken"):
        check_pictures(open_pictures(root))


def test_of_large_sets_a_sample(root, monkeypatch):
    monkeypatch.setattr(check, "CHECK_BYTES", 1000)
    monkeypatch.setattr(check, "MIN_CHECKED", 10)
    report = check_pictures(open_pictures(root))
    assert 10 <= report.counted < 60
    assert report.total == 60


def test_files_that_cannot_be_opened(root):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    (root / "a" / "00.png").chmod(0)
    assert check_pictures(open_pictures(root)).names == ("a/00.png",)
