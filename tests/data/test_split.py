"""Splits: stratified, disjoint, whole, and the same every time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from squeezekit.data.source import open_pictures
from squeezekit.data.split import resolve_splits, stratified_split
from squeezekit.errors import UserError

SHARES = st.sampled_from(
    [
        {"train": 0.8, "val": 0.1, "test": 0.1},
        {"train": 0.9, "val": 0.1},
        {"train": 0.5, "val": 0.5},
        {"train": 1 / 3, "val": 1 / 3, "test": 1 / 3},
        {"train": 1.0, "val": 0.0},
        {"train": 0.985, "val": 0.01, "test": 0.005},
    ]
)


@given(st.lists(st.integers(0, 300), min_size=1, max_size=12), SHARES, st.integers(0, 2**31), st.randoms())
def test_stratified(sizes, fractions, seed, random):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    order = list(range(len(labels)))
    random.shuffle(order)
    labels = labels[order]
    parts = stratified_split(labels, fractions, seed)
    assert list(parts) == list(fractions)
    together = np.concatenate(list(parts.values()))
    np.testing.assert_array_equal(np.sort(together), np.arange(len(labels)))  # disjoint, and all of them
    wanted = sum(share > 0 for share in fractions.values())
    for name, share in fractions.items():
        assert (np.diff(parts[name]) > 0).all()
        counts = np.bincount(labels[parts[name]], minlength=len(sizes))
        for count, size in zip(counts, sizes, strict=True):
            assert abs(count - share * size) < 3
            if size >= wanted and share > 0:
                assert count >= 1
            if share == 0:
                assert count == 0
    again = stratified_split(labels, fractions, seed)
    assert all((parts[name] == again[name]).all() for name in parts)


def test_many_small_classes_even_out():
    labels = np.repeat(np.arange(100), 15)  # 1.5 pictures of each class for val
    parts = stratified_split(labels, {"train": 0.8, "val": 0.1, "test": 0.1}, 0)
    assert {k: len(v) for k, v in parts.items()} == {"train": 1200, "val": 150, "test": 150}


def test_a_class_that_grows_leaves_the_others_alone():
    one = stratified_split(np.repeat([0, 1], [50, 50]), {"train": 0.8, "val": 0.2}, 7)
    two = stratified_split(np.repeat([0, 1], [50, 60]), {"train": 0.8, "val": 0.2}, 7)
    np.testing.assert_array_equal(one["val"][one["val"] < 50], two["val"][two["val"] < 50])


def test_the_seed_counts_and_the_split_is_this_one():
    labels = np.repeat([0, 1], 20)
    parts = stratified_split(labels, {"train": 0.8, "val": 0.2}, 0)
    assert parts["val"].tolist() == [1, 9, 14, 15, 22, 25, 28, 32]  # on every machine, for ever
    assert parts["val"].tolist() != stratified_split(labels, {"train": 0.8, "val": 0.2}, 1)["val"].tolist()


@pytest.mark.parametrize("fractions", [{"a": 0.5}, {"a": 1.5, "b": -0.5}])
def test_shares_must_add_up(fractions):
    with pytest.raises(ValueError, match="add up to 1"):
        stratified_split(np.zeros(3, int), fractions)


def several(*splits):
    prefixes = [f"{s}/" for s in splits] or [""]
    return [f"{p}{c}/{i}.png" for p in prefixes for c in "ab" for i in range(20)]


@pytest.mark.parametrize(
    ("on_disk", "expected"),
    [
        ((), {"train": 32, "val": 4, "test": 4}),
        (("train",), {"train": 32, "val": 4, "test": 4}),
        (("train", "test"), {"train": 36, "val": 4, "test": 40}),
        (("train", "val"), {"train": 36, "val": 4, "test": 40}),
        (("train", "val", "test"), {"train": 40, "val": 40, "test": 40}),
    ],
)
def test_what_is_missing_comes_from_training(photos, on_disk, expected):
    pictures = open_pictures(photos(*several(*on_disk)))
    splits = resolve_splits(pictures, seed=3)
    assert {k: len(v) for k, v in splits.items()} == expected
    assert len(np.unique(np.concatenate(list(splits.values())))) == len(pictures)
    for name, members in pictures.splits.items():
        if name != "train":
            part = "test" if on_disk == ("train", "val") else name
            np.testing.assert_array_equal(splits[part], members)


def test_no_test_split_is_made_if_none_is_wanted(photos):
    splits = resolve_splits(open_pictures(photos(*several())), test_fraction=0, val_fraction=0.25)
    assert {k: len(v) for k, v in splits.items()} == {"train": 30, "val": 10}


def test_broken_pictures_are_left_out_and_the_rest_stays(photos):
    pictures = open_pictures(photos(*several()))
    whole = resolve_splits(pictures)
    gone = {"a/3.png", "b/7.png"}
    for name, members in resolve_splits(pictures, without=gone).items():
        kept = [i for i in whole[name] if pictures.picture_name(i) not in gone]
        assert members.tolist() == kept


def test_errors(photos):
    pictures = open_pictures(photos("test/a/1.png", "test/b/1.png"))
    with pytest.raises(UserError, match="no train/ folder beside test/"):
        resolve_splits(pictures)
    few = open_pictures(photos("a/1.png", "b/1.png", root="few"))
    with pytest.raises(UserError, match="no pictures for val"):
        resolve_splits(few)
    for val, test in ((0, 0.1), (0.6, 0.6), (0.1, -1)):
        with pytest.raises(UserError, match="cannot keep back"):
            resolve_splits(few, val_fraction=val, test_fraction=test)
