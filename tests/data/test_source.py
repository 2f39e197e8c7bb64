"""DATA: folders and embedded sets."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from squeezekit.data.picture import PictureError, decode
from squeezekit.data.source import SUFFIXES, open_pictures
from squeezekit.errors import UserError


def names(pictures):
    return [pictures.picture_name(i) for i in range(len(pictures))]


def test_classes_are_folders_in_sorted_order(photos):
    pictures = open_pictures(photos("dog/b.png", "cat/2.png", "cat/10.png", "cat/old/1.jpg", "dog/a.PNG"))
    assert pictures.classes == ("cat", "dog")
    assert names(pictures) == ["cat/10.png", "cat/2.png", "cat/old/1.jpg", "dog/a.PNG", "dog/b.png"]
    assert pictures.labels.tolist() == [0, 0, 0, 1, 1]
    assert pictures.labels.dtype == np.int32
    assert pictures.splits == {}
    assert decode(pictures.read(0), "x").size == (12, 10)


def test_what_systems_leave_behind_is_ignored(photos):
    root = photos(
        "cat/1.png", "cat/Thumbs.db", "cat/.hidden.png", "cat/notes.txt", "dog/1.png", ".git/x/1.png",
        "__MACOSX/cat/1.png", "loose.png", "dog/desktop.ini",
    )  # fmt: skip
    assert names(open_pictures(root)) == ["cat/1.png", "dog/1.png"]


@pytest.mark.parametrize("val", ["val", "validation", "valid", "Val"])
def test_splits_on_disk(photos, val):
    root = photos(
        "train/a/1.png", "train/b/1.png", f"{val}/a/2.png", f"{val}/b/3.png", "test/a/9.png", "test/b/8.png"
    )
    pictures = open_pictures(root)
    assert pictures.classes == ("a", "b")
    assert {k: v.tolist() for k, v in pictures.splits.items()} == {
        "train": [0, 1],
        "val": [2, 3],
        "test": [4, 5],
    }
    assert names(pictures)[2] == f"{val}/a/2.png"


def test_a_test_split_alone_will_do_for_evaluation(photos):
    assert list(open_pictures(photos("test/a/1.png", "test/b/1.png")).splits) == ["test"]


def test_a_class_may_be_called_train(photos):
    pictures = open_pictures(photos("train/1.png", "car/1.png", "bus/1.png"))
    assert pictures.classes == ("bus", "car", "train")


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["cat/", "dog/"], "no pictures found"),
        (["1.png", "2.png"], r"no class folders found \(expected photos/CLASS/image.jpg"),
        (["cat/1.png"], "one class only, cat/"),
        (["cat/1.png", "dog/1.png", "cow/"], "no pictures in cow/"),
        (["cat/1.png", "dog/1.png", "cow/notes.txt"], "no pictures in cow/"),
        (["Cat/1.png", "cat/2.png", "dog/1.png"], "'cat' is there twice, also as 'Cat'"),
        (["train/Cat/1.png", "train/dog/1.png", "val/cat/1.png", "val/dog/1.png"], "is there twice"),
        (["train/a/1.png", "train/b/1.png", "val/a/1.png"], "differ in their classes: val/ has no b"),
        (["train/a/1.png", "train/b/1.png", "val/a/1.png", "val/b/1.png", "val/c/1.png"], "train/ has no c"),
        (["train/a/1.png", "train/b/1.png", "val/a/1.png", "val/b/"], "no pictures in val/b/"),
        (
            ["train/a/1.png", "train/b/1.png", "valid/a/1.png", "valid/b/1.png", "val/a/1.png"],
            "the same split",
        ),
        (["train/a/1.png", "train/b/1.png", "extra/1.png"], "extra/ lies beside it"),
        (["train/1.png", "val/1.png"], "pictures lie directly in train/"),
        (["stra\u00dfe/1.png", "STRASSE/1.png"], "is there twice"),
    ],
)
def test_each_mistake_has_its_own_error(photos, paths, message):
    root = photos(*paths)
    with pytest.raises(UserError, match=message) as caught:
        open_pictures(root)
    assert str(caught.value).startswith(str(root))
    assert "\n" not in str(caught.value)


def test_one_class_may_pass_for_evaluation(photos):
    assert open_pictures(photos("cat/1.png"), min_classes=1).classes == ("cat",)


def test_paths_that_lead_nowhere(tmp_path, photos):
    with pytest.raises(UserError, match=r"no such folder or archive.*embedded sets: digits"):
        open_pictures(tmp_path / "absent")
    with pytest.raises(UserError, match="did you mean 'digits'"):
        open_pictures("digit")
    (tmp_path / "text.zip").write_text("not an archive")
    with pytest.raises(UserError, match="neither a folder nor a"):
        open_pictures(tmp_path / "text.zip")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="neither a folder nor a file"):
        open_pictures(tmp_path / "pipe")


def test_loops_of_links_end(photos):
    root = photos("cat/1.png", "cat/deep/2.png", "dog/1.png")
    (root / "cat" / "up").symlink_to(root)
    (root / "cat" / "self").symlink_to(root / "cat")
    (root / "dog" / "other").symlink_to(root / "cat" / "deep")
    (root / "cat" / "deep" / "dog").symlink_to(root / "dog")
    (root / "loop").symlink_to("loop")
    pictures = open_pictures(root)
    assert len(names(pictures)) == len(set(names(pictures))) < 12
    assert {"cat/1.png", "cat/deep/2.png", "dog/1.png", "dog/other/2.png"} <= set(names(pictures))


def test_classes_may_be_links_to_one_place(photos, tmp_path):
    store = photos("a/1.png", "b/1.png", root="store")
    root = tmp_path / "linked"
    for split in ("train", "val"):
        (root / split).mkdir(parents=True)
        for c in "ab":
            (root / split / c).symlink_to(store / c)
    assert names(open_pictures(root)) == ["train/a/1.png", "train/b/1.png", "val/a/1.png", "val/b/1.png"]


def test_a_link_to_nothing_is_a_broken_picture_and_a_pipe_is_none(photos):
    root = photos("cat/1.png", "dog/1.png")
    (root / "cat" / "gone.png").symlink_to(root / "nothing.png")
    os.mkfifo(root / "cat" / "pipe.png")
    pictures = open_pictures(root)
    assert names(pictures) == ["cat/1.png", "cat/gone.png", "dog/1.png"]
    with pytest.raises(PictureError, match=r"cat/gone.png: cannot be read"):
        pictures.read(1)


def test_names_that_are_not_utf8(photos, picture_bytes):
    root = photos("cat/1.png", "dog/1.png")
    (root / "cat" / os.fsdecode(b"\xff.png")).write_bytes(picture_bytes(5))
    pictures = open_pictures(root)
    assert names(pictures)[1] == "cat/\\xff.png"
    assert pictures.read(1) == picture_bytes(5)
    (root / os.fsdecode(b"\xfe")).mkdir()
    (root / os.fsdecode(b"\xfe") / "1.png").write_bytes(picture_bytes(5))
    with pytest.raises(UserError, match="no name in UTF-8"):
        open_pictures(root)


def test_subset_keeps_labels_names_and_splits(photos):
    pictures = open_pictures(
        photos("train/a/1.png", "train/a/2.png", "train/b/1.png", "test/a/1.png", "test/b/1.png")
    )
    part = pictures.subset(np.array([4, 0, 2]))
    assert names(part) == ["test/b/1.png", "train/a/1.png", "train/b/1.png"]
    assert part.labels.tolist() == [1, 0, 1]
    assert {k: v.tolist() for k, v in part.splits.items()} == {"train": [1, 2], "test": [0]}
    assert part.read(1) == pictures.read(0)


def test_pickling_and_threads(photos):
    pictures = open_pictures(photos(*(f"{c}/{i}.png" for c in "ab" for i in range(20))))
    again = pickle.loads(pickle.dumps(pictures))
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(again.read, range(40))) == [pictures.read(i) for i in range(40)]


def test_the_index_is_small(tmp_path):
    for c in ("first", "second"):
        (tmp_path / c).mkdir()
        for i in range(1000):
            (tmp_path / c / f"picture_{i:06d}.jpg").touch()
    pictures = open_pictures(tmp_path)
    assert pictures.nbytes / len(pictures) < 50
    assert len(pickle.dumps(pictures)) / len(pictures) < 50


def test_digits():
    pictures = open_pictures("digits")
    assert (len(pictures), pictures.classes) == (1797, tuple("0123456789"))
    assert pictures.picture_name(0) == "0/0000.png"
    image = decode(pickle.loads(pickle.dumps(pictures)).read(1796), "nine")
    assert (image.mode, image.size) == ("RGB", (8, 8))
    assert np.asarray(image).max() == 255


def test_every_common_format_is_a_picture():
    assert {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm"} <= SUFFIXES
    assert not {".txt", ".pdf", ".mpg", ".eps", ".ps", ".h5", ".zip"} & SUFFIXES


def test_torch_is_not_imported():
    code = (
        "import sys; from squeezekit.data import source, picture, preparation, split, check\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_shared_sets(shared):
    pictures = open_pictures(shared / "data" / "ants-bees")
    assert {k: len(v) for k, v in pictures.splits.items()} == {"train": 244, "val": 153}
    assert len(open_pictures(shared / "data" / "imagenet-500").classes) == 500
    cifar = open_pictures(shared / "data" / "cifar10.zip")
    assert {k: len(v) for k, v in cifar.splits.items()} == {"train": 50000, "test": 10000}
    assert cifar.nbytes / len(cifar) < 60
    assert np.bincount(cifar.labels[cifar.splits["train"]]).tolist() == [5000] * 10
