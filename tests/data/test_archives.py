"""Archives: the same as the folder they were made of, and harmless whatever they hold."""

from __future__ import annotations

import io
import pickle
import shutil
import stat
import struct
import tarfile
import zipfile
from multiprocessing import get_context
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from squeezekit.data.picture import PictureError
from squeezekit.data.source import PictureSet, open_pictures
from squeezekit.errors import UserError

PATHS = [
    "train/b/2.png",
    "train/b/10.png",
    "train/a/\u00e4 1.jpg",
    "train/a/deep/1.png",
    "val/a/x.png",
    "val/b/x.png",
]


def content(pictures):
    return [
        (pictures.picture_name(i), int(pictures.labels[i]), pictures.read(i)) for i in range(len(pictures))
    ]


def make_zip(path, members, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def make_tar(path, members, **options):
    with tarfile.open(path, "w", **options) as archive:
        for name, data in members:
            member = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def pack(root, path, wrapped):
    start, base = (root.parent, root.name) if wrapped else (root, ".")
    if path.suffix == ".zip":
        shutil.make_archive(str(path.with_suffix("")), "zip", start, base)
    else:
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
            archive.add(root, "photos" if wrapped else ".")
    return path


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_is_its_folder(photos, tmp_path, kind, wrapped):
    root = photos(*PATHS)
    folder = open_pictures(root)
    archive = open_pictures(pack(root, tmp_path / f"p.{kind}", wrapped))
    assert content(archive) == content(folder)
    assert archive.classes == folder.classes
    assert {k: v.tolist() for k, v in archive.splits.items()} == {
        k: v.tolist() for k, v in folder.splits.items()
    }
    assert content(pickle.loads(pickle.dumps(archive))) == content(folder)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_empty_classes_show_in_archives_too(photos, tmp_path, kind):
    root = photos("a/1.png", "b/1.png", "c/")
    with pytest.raises(UserError, match="no pictures in c/"):
        open_pictures(pack(root, tmp_path / f"p.{kind}", wrapped=True))


def test_the_order_of_the_members_does_not_matter(tmp_path, picture_bytes):
    members = [(f"{c}/{i}.png", picture_bytes(i)) for c in "ab" for i in range(5)]
    one = open_pictures(make_zip(tmp_path / "1.zip", members))
    two = open_pictures(make_zip(tmp_path / "2.zip", members[::-1], compression=zipfile.ZIP_DEFLATED))
    assert content(one) == content(two)


def test_a_member_written_twice_counts_once_and_last(tmp_path, picture_bytes):
    members = [("a/1.png", b"old"), ("b/1.png", picture_bytes(1)), ("a/1.png", picture_bytes(2))]
    pictures = open_pictures(make_tar(tmp_path / "p.tar", members))
    assert content(pictures) == [("a/1.png", 0, picture_bytes(2)), ("b/1.png", 1, picture_bytes(1))]


def test_names_in_old_and_new_zip_files(tmp_path, picture_bytes):
    path = make_zip(
        tmp_path / "p.zip", [("a/x\u00e9.png", picture_bytes()), ("b/\u732b.png", picture_bytes())]
    )
    raw = path.read_bytes()
    without_flag = raw.replace(struct.pack("<H", 0x800), b"\0\0")  # UTF-8, but not said so
    (tmp_path / "q.zip").write_bytes(without_flag)
    expected = ["a/x\u00e9.png", "b/\u732b.png"]
    for name in ("p.zip", "q.zip"):
        pictures = open_pictures(tmp_path / name)
        assert [pictures.picture_name(i) for i in range(2)] == expected


def test_bytes_before_a_zip_and_zip64(tmp_path, picture_bytes, monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 10)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    path = make_zip(tmp_path / "p.zip", [("a/1.png", picture_bytes(1)), ("b/1.png", picture_bytes(2))])
    assert b"PK\x06\x06" in path.read_bytes()
    assert [c[2] for c in content(open_pictures(path))] == [picture_bytes(1), picture_bytes(2)]
    monkeypatch.undo()
    path = make_zip(tmp_path / "q.zip", [("a/1.png", picture_bytes(1)), ("b/1.png", picture_bytes(2))])
    path.write_bytes(b"#!/bin/sh\n" * 100 + path.read_bytes())
    assert [c[2] for c in content(open_pictures(path))] == [picture_bytes(1), picture_bytes(2)]


def test_a_long_extra_field_in_the_local_header(tmp_path, picture_bytes):
    path = tmp_path / "p.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for c in "ab":
            info = zipfile.ZipInfo(f"{c}/1.png")
            info.extra = struct.pack("<HH", 0x9999, 3000) + bytes(3000)
            archive.writestr(info, picture_bytes())
    assert [c[2] for c in content(open_pictures(path))] == [picture_bytes()] * 2


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_reading_in_other_processes(photos, tmp_path, method):
    pictures = open_pictures(pack(photos(*PATHS), tmp_path / "p.zip", wrapped=False))
    rows = range(len(pictures))
    with get_context(method).Pool(2) as pool:
        assert pool.starmap(PictureSet.read, [(pictures, i) for i in rows]) == [
            pictures.read(i) for i in rows
        ]


@pytest.mark.parametrize(
    "name", ["/etc/a/1.png", "../a/1.png", "a/../../b/1.png", "a\\..\\..\\b.png", "C:/a/1.png"]
)
@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_members_that_point_outside_are_refused(tmp_path, picture_bytes, make, name):
    path = make(tmp_path / "evil", [("a/1.png", picture_bytes()), ("b/1.png", picture_bytes()), (name, b"x")])
    with pytest.raises(UserError, match="points outside the archive"):
        open_pictures(path)


def tar_link(name, target, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


def zip_link(name, target):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return info, target


@pytest.mark.parametrize("target", ["/etc/passwd", "../../x.png", "../b/../../../x.png"])
@pytest.mark.parametrize("kind", ["tar", "hard", "zip"])
def test_links_that_point_outside_are_refused(tmp_path, picture_bytes, kind, target):
    members = [("a/1.png", picture_bytes()), ("b/1.png", picture_bytes())]
    if kind == "zip":
        path = make_zip(tmp_path / "p.zip", [*members, zip_link("a/2.png", target)])
    else:
        link = tar_link("a/2.png", target, tarfile.LNKTYPE if kind == "hard" else tarfile.SYMTYPE)
        path = make_tar(tmp_path / "p.tar", [*members, link])
    with pytest.raises(UserError, match="outside the archive"):
        open_pictures(path)


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_links_within_are_followed_and_loops_of_them_end(tmp_path, picture_bytes, kind):
    link, make = (tar_link, make_tar) if kind == "tar" else (zip_link, make_zip)
    members = [("a/1.png", picture_bytes(1)), ("b/1.png", picture_bytes(2))]
    links = [("b/2.png", "../a/1.png"), ("b/3.png", "2.png"), ("b/4.png", "5.png"), ("b/5.png", "4.png")]
    path = make(tmp_path / "p", [*members, *(link(*pair) for pair in links)])
    names = {name: data for name, _, data in content(open_pictures(path))}
    assert sorted(names) == ["a/1.png", "b/1.png", "b/2.png", "b/3.png"]
    assert names["b/3.png"] == names["b/2.png"] == picture_bytes(1)


def test_hard_links_count_from_the_root(tmp_path, picture_bytes):
    members = [("p/a/1.png", picture_bytes(1)), ("p/b/1.png", picture_bytes(2))]
    path = make_tar(tmp_path / "p.tar", [*members, tar_link("p/b/2.png", "p/a/1.png", tarfile.LNKTYPE)])
    assert content(open_pictures(path))[2] == ("b/2.png", 1, picture_bytes(1))


@pytest.mark.parametrize("mode", ["gz", "bz2", "xz"])
def test_compressed_tars_say_what_to_do(tmp_path, picture_bytes, mode):
    path = tmp_path / f"photos.tar.{mode}"
    with tarfile.open(path, f"w:{mode}") as archive:
        archive.addfile(tarfile.TarInfo("a/1.png"), io.BytesIO())
    with pytest.raises(UserError, match=rf"-c photos.tar.{mode} > photos.tar"):
        open_pictures(path)
    path.rename(tmp_path / "photos.tgz")
    with pytest.raises(UserError, match=r"photos.tgz > photos.tar"):
        open_pictures(tmp_path / "photos.tgz")


def test_encrypted_and_strange_methods_are_named(tmp_path, picture_bytes):
    members = [("a/1.png", picture_bytes()), ("b/1.png", picture_bytes())]
    path = make_zip(tmp_path / "p.zip", members, compression=zipfile.ZIP_LZMA)
    with pytest.raises(UserError, match=r"a/1.png uses LZMA"):
        open_pictures(path)
    raw = bytearray(make_zip(tmp_path / "q.zip", members).read_bytes())
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "q.zip").write_bytes(raw)
    with pytest.raises(UserError, match=r"a/1.png is encrypted"):
        open_pictures(tmp_path / "q.zip")


def test_a_zip_bomb_is_a_broken_picture(tmp_path, picture_bytes):
    members = [("a/1.png", bytes(50_000_000)), ("b/1.png", picture_bytes())]
    path = make_zip(tmp_path / "p.zip", members, compression=zipfile.ZIP_DEFLATED)
    raw = bytearray(path.read_bytes())
    for size in (1000, 0xFFFFFFF0):  # what it says it holds: less than it does, and far too much
        at = raw.index(b"PK\x01\x02") + 24
        raw[at : at + 4] = struct.pack("<I", size)
        path.write_bytes(raw)
        with pytest.raises(PictureError, match=r"damaged in the archive|larger than"):
            open_pictures(path).read(0)


def test_a_flipped_bit_is_found(tmp_path, picture_bytes):
    path = make_zip(tmp_path / "p.zip", [("a/1.png", picture_bytes()), ("b/1.png", picture_bytes())])
    raw = bytearray(path.read_bytes())
    raw[200] ^= 1
    path.write_bytes(raw)
    pictures = open_pictures(path)
    with pytest.raises(PictureError, match=r"a/1.png: damaged in the archive"):
        pictures.read(0)
    assert pictures.read(1) == picture_bytes()


@pytest.mark.parametrize("make", [make_zip, make_tar])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(data=st.data())
def test_damage_is_an_error_or_a_broken_picture(tmp_path, picture_bytes, make, data):
    path = make(tmp_path / "p", [(f"{c}/{i}.png", picture_bytes(i)) for c in "ab" for i in range(3)])
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.none(), st.integers(0, len(raw))))
    (tmp_path / "q").write_bytes(raw[:cut])
    try:
        pictures = open_pictures(tmp_path / "q")
        for i in range(len(pictures)):
            assert len(pictures.read(i)) < 100_000
    except UserError:
        pass


def test_file_descriptors_are_given_back(photos, tmp_path):
    path = pack(photos(*PATHS), tmp_path / "p.zip", wrapped=False)
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("no /proc here to count file descriptors in")
    before = len(list(descriptors.iterdir()))
    for _ in range(20):
        open_pictures(path)
    assert len(list(descriptors.iterdir())) <= before + 1
