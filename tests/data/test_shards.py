"""Shards: written whole, opened quickly, and read exactly once by any number of processes and workers."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import pickle
import random
import shutil
import tarfile
import threading
import tracemalloc
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from squeezekit.data.check import check_pictures
from squeezekit.data.files_anywhere import resolve
from squeezekit.data.loader import make_loader
from squeezekit.data.preparation import Preparation
from squeezekit.data.shard_index import TABLE, Index, Shard, load_table, read_index
from squeezekit.data.shard_stream import Dealing, Place, Stream, _Buffer
from squeezekit.data.shard_write import verify, write_shards
from squeezekit.data.shards import ShardPart, ShardSet
from squeezekit.data.source import open_pictures
from squeezekit.data.split import deal, resolve_splits
from squeezekit.errors import UserError

COUNT, EACH = 430, 35


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """430 noisy pictures in three classes."""
    root = tmp_path_factory.mktemp("pictures")
    noise = np.random.default_rng(0)
    for i in range(COUNT):
        place = root / "abc"[i % 3]
        place.mkdir(exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (8, 8, 3), np.uint8)).save(place / f"{i:03d}.png")
    return root


@pytest.fixture(scope="session")
def shards(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in 13 shards of 35, the last one of 10."""
    out = tmp_path_factory.mktemp("shards") / "pictures"
    write_shards(open_pictures(folder), out, size=EACH * 2048 + 1024, seed=1)
    return out


def content(pictures) -> dict[str, tuple[bytes, str]]:
    return {
        pictures.picture_name(i): (pictures.read(i), pictures.classes[pictures.labels[i]])
        for i in range(len(pictures))
    }


def names(pictures) -> list[str]:
    return [pictures.picture_name(i) for i in range(len(pictures))]


# -- writing ---------------------------------------------------------------------------------------------


def test_shards_hold_the_same_bytes_names_and_classes(folder: Path, shards: Path) -> None:
    before, after = open_pictures(folder), open_pictures(shards)
    assert isinstance(after, ShardSet)
    assert after.classes == before.classes
    assert content(after) == content(before)
    assert names(after) != names(before)  # shuffled
    assert [shard.pictures for shard in after.index.shards] == [EACH] * 12 + [10]
    assert all(shard.bytes <= EACH * 2048 + 1024 for shard in after.index.shards)
    # What tar makes of it, and WebDataset's rule: files that differ in their endings follow each other.
    with tarfile.open(after.index.shards[0].path) as tar:
        members = tar.getnames()
        first = tar.extractfile(members[1])
        assert first is not None
        assert first.read().decode() == str(after.labels[0])
    assert members[0] == after.picture_name(0)
    assert [Path(m).suffix for m in members[:4]] == [".png", ".cls"] * 2
    assert members[0].removesuffix(".png") == members[1].removesuffix(".cls")


def test_the_same_seed_writes_the_same_bytes(folder: Path, shards: Path, tmp_path: Path) -> None:
    index, _ = write_shards(open_pictures(folder), tmp_path / "again", size=EACH * 2048 + 1024, seed=1)
    assert [s.sha256 for s in index.shards] == [s.sha256 for s in read_index(str(shards)).shards]
    other, _ = write_shards(open_pictures(folder), tmp_path / "other", size=EACH * 2048 + 1024, seed=2)
    assert other.shards[0].sha256 != index.shards[0].sha256


def test_splits_become_folders_and_names_stay_apart(photos, tmp_path: Path) -> None:
    root = photos(
        "train/a/1.png", "train/a/1.jpg", "train/a/my.photo.png", f"train/a/{'long' * 30}.png",
        "train/b/deep/2.png", "val/a/1.png", "val/b/x.png",
    )  # fmt: skip
    index, broken = write_shards(open_pictures(root), tmp_path / "shards")
    assert broken == []
    assert [Path(s.path).parent.name for s in index.shards] == ["train", "val"]
    after = open_pictures(tmp_path / "shards")
    assert {k: len(v) for k, v in after.splits.items()} == {"train": 5, "val": 2}
    found = content(after)
    assert len(found) == 7
    assert "val/b/x.png" in found
    assert "train/b/deep/2.png" in found
    before = sorted(content(open_pictures(root)).values())
    assert sorted(found.values()) == before
    # The sample's key is all up to the first dot: no two are alike.
    keys = [name.partition(".")[0] for name in found]
    assert len(set(keys)) == 7


def test_what_cannot_be_read_is_named_and_left_out(photos, tmp_path: Path) -> None:
    root = photos("a/1.png", "a/2.png", "b/1.png")
    (root / "a" / "gone.png").symlink_to(root / "nothing.png")
    _, broken = write_shards(open_pictures(root), tmp_path / "shards")
    assert len(broken) == 1
    assert broken[0].startswith("a/gone.png: cannot be read")
    assert len(open_pictures(tmp_path / "shards")) == 3


def test_a_folder_appears_whole_or_not_at_all(photos, tmp_path: Path) -> None:
    pictures = open_pictures(photos("a/1.png", "b/1.png"))

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(pictures, tmp_path / "shards", progress=stop)
    assert [p.name for p in tmp_path.iterdir()] == ["photos"]
    write_shards(pictures, tmp_path / "shards")
    with pytest.raises(UserError, match="exists already"):
        write_shards(pictures, tmp_path / "shards")
    with pytest.raises(UserError, match="too small for a shard"):
        write_shards(pictures, tmp_path / "other", size=100)


# -- opening ---------------------------------------------------------------------------------------------


def test_patterns() -> None:
    assert resolve("a/{008..011}.tar") == ["a/008.tar", "a/009.tar", "a/010.tar", "a/011.tar"]
    assert resolve("{train,val}/{0..1}.tar") == ["train/0.tar", "train/1.tar", "val/0.tar", "val/1.tar"]
    for pattern, message in (
        ("{5..2}.tar", "runs backwards"),
        ("nowhere/*.tar", "no such files"),
        ("{0..99999999}.tar", "names 99,999,999 files"),
        ("{0..99999}{0..99999}.tar", "names 10,000,000,000 files"),
    ):
        with pytest.raises(UserError, match=message):
            resolve(pattern)


def test_a_pattern_takes_what_the_index_tells_of_it(shards: Path) -> None:
    whole, some = open_pictures(shards), open_pictures(f"{shards}/{{000000..000002}}.tar")
    assert len(some) == 3 * EACH
    assert names(some) == names(whole)[: len(some)]
    assert some.classes == whole.classes
    assert some.part().class_counts.tolist() == np.bincount(whole.labels[: len(some)]).tolist()
    assert some.fingerprint != whole.fingerprint


def sample(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


@pytest.fixture
def foreign(tmp_path: Path, picture_bytes: Callable[..., bytes]) -> Path:
    """Shards as others make them: numbers for classes, other files among them, splits in the names."""
    root = tmp_path / "foreign"
    root.mkdir()
    number = 0
    for name, count in (("set-train-0", 7), ("set-train-1", 5), ("set-validation-0", 4)):
        with tarfile.open(root / f"{name}.tar", "w") as tar:
            for _ in range(count):
                sample(tar, f"{number:04d}.json", b"{}")
                sample(tar, f"{number:04d}.JPEG", picture_bytes(number, kind="JPEG"))
                sample(tar, f"{number:04d}.cls", str(number % 11).encode())
                number += 1
    return root


def test_shards_without_an_index_are_looked_through(foreign: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    pictures = open_pictures(foreign, progress=lambda *p: seen.append(p))
    assert seen[-1] == (3, 3)
    assert pictures.classes == tuple(str(n) for n in range(11))  # 10 after 9
    assert {k: len(v) for k, v in pictures.splits.items()} == {"train": 12, "val": 4}
    assert pictures.labels.tolist() == [n % 11 for n in range(16)]
    assert names(pictures)[:2] == ["train/0000.JPEG", "train/0001.JPEG"]
    assert check_pictures(pictures).counted == 16
    assert not list(foreign.glob("*.json"))  # nothing is left among a user's files
    again = pickle.loads(pickle.dumps(pictures))
    assert again.read(3) == pictures.read(3)
    only = open_pictures(f"{foreign}/set-train-*.tar")
    assert list(only.splits) == ["train"]


def test_classes_may_be_names_or_folders(tmp_path: Path, picture_bytes: Callable[..., bytes]) -> None:
    for name, told in (("cls", [("1", "cat"), ("2", "dog")]), ("folder", [("cat/1", ""), ("dog/2", "")])):
        (tmp_path / name).mkdir()
        with tarfile.open(tmp_path / name / "0.tar", "w", format=tarfile.PAX_FORMAT) as tar:
            for key, text in told:
                sample(tar, f"{key}.png", picture_bytes())
                if text:
                    sample(tar, f"{key}.cls", text.encode())
        pictures = open_pictures(tmp_path / name)
        assert (pictures.classes, pictures.labels.tolist()) == (("cat", "dog"), [0, 1])


def test_folders_that_are_no_shards(photos, shards: Path) -> None:
    root = photos("a/1.png", "b/1.png")
    (root / "backup.tar").write_bytes(b"")
    assert not isinstance(open_pictures(root), ShardSet)
    # A tar file of an image folder, as ever.
    assert not isinstance(open_pictures(shards / "000000.tar"), ShardSet)


def test_a_url_is_read_in_pieces(shards: Path) -> None:
    pytest.importorskip("aiohttp")
    asked: list[str] = []

    class Ranged(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers.get("Range", ""))
            path = Path(self.translate_path(self.path))
            if not path.is_file() or not asked[-1]:
                super().do_GET()
                return
            first, _, last = asked[-1].removeprefix("bytes=").partition("-")
            data = path.read_bytes()[int(first) : int(last) + 1]
            self.send_response(206)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Ranged, directory=shards.parent))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/pictures"
        here, there = open_pictures(shards), open_pictures(url)
        assert isinstance(there, ShardSet)
        assert there.fingerprint == here.fingerprint
        assert there.read(40) == here.read(40)
        few = f"{url}/{{000000..000001}}.tar"
        asked.clear()
        loader = make_loader(
            few_of := open_pictures(few), few_of.part(), Preparation(8), train=True, batch_size=20, workers=1
        )
        found = sorted(i for batch in loader for i in batch["index"].tolist())
        assert found == list(range(2 * EACH))
        assert len([r for r in asked if r]) == 2  # a read a shard, not one a picture
        with pytest.raises(UserError, match="no such file"):
            open_pictures(f"{url}/{{000100..000101}}.tar")
    finally:
        server.shutdown()
        server.server_close()


def test_places_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such files"):
        open_pictures(f"{tmp_path}/*.tar")
    pytest.importorskip("aiohttp")
    refused = (
        r"^http://127.0.0.1:1/0000.tar: cannot be reached \(connection refused; check the address .* again\)$"
    )
    with pytest.raises(UserError, match=refused):
        open_pictures("http://127.0.0.1:1/{0000..0003}.tar")
    with pytest.raises(UserError, match=r"^nosuch://x/.*nosuch") as caught:
        open_pictures("nosuch://x/{0..1}.tar")
    assert "\n" not in str(caught.value)


# -- damage ----------------------------------------------------------------------------------------------


def copied(shards: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shards, tmp_path / "copy"))


def test_a_truncated_shard_is_one_line(shards: Path, tmp_path: Path) -> None:
    copy = copied(shards, tmp_path)
    shard = copy / "000004.tar"
    os.truncate(shard, shard.stat().st_size // 2)
    with pytest.raises(UserError, match=r"000004.tar: truncated, 36,352 bytes where .* 72,704 \(copy"):
        open_pictures(copy)
    (copy / "index.json").unlink()
    with pytest.raises(
        UserError, match=r"000004.tar: truncated, it ends in the middle of a picture \(copy"
    ) as caught:
        open_pictures(copy)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("sample", [2, 11])
def test_a_shard_that_ends_or_is_damaged_between_pictures_is_found(
    shards: Path, tmp_path: Path, sample: int
) -> None:
    copy = copied(shards, tmp_path)
    (copy / "index.json").unlink()
    shard, header = copy / "000004.tar", sample * 2048
    data = bytearray(shard.read_bytes())
    for length in (header, header + 100):  # before a header, and in it
        shard.write_bytes(data[:length])
        with pytest.raises(UserError, match=r"000004.tar: truncated, it ends in the middle"):
            open_pictures(copy)
    data[header + 10] ^= 1
    shard.write_bytes(data)
    with pytest.raises(UserError, match=rf"000004.tar: .*damaged \(no header at byte {header:,}\)"):
        open_pictures(copy)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("chosen", [ShardSet.part, lambda pictures: np.arange(len(pictures))])
def test_a_shard_that_is_cut_while_it_is_read_is_one_line(
    shards: Path, tmp_path: Path, workers: int, chosen: Callable[..., Any]
) -> None:
    copy = copied(shards, tmp_path)
    pictures = open_pictures(copy)
    os.truncate(copy / "000004.tar", 5000)
    loader = make_loader(
        pictures, chosen(pictures), Preparation(8), train=True, batch_size=64, workers=workers
    )
    with pytest.raises(UserError, match=r"^\S*000004.tar: truncated[^\n]*$"):
        list(loader)


def test_damaged_indexes_and_tables(shards: Path, tmp_path: Path) -> None:
    copy = copied(shards, tmp_path)
    index = json.loads((copy / "index.json").read_text())

    def write(**changed: object) -> None:
        (copy / "index.json").write_text(json.dumps({**index, **changed}))

    for changed, message in (
        ({"version": 9}, "of version 9"),
        ({"classes": ["a", "b"]}, "do not add up"),
        ({"shards": [{}]}, "damaged"),
        ({"counts": None}, "damaged"),
    ):
        write(**changed)
        with pytest.raises(UserError, match=message):
            open_pictures(copy)
    write()
    (copy / "000001.npy").write_bytes((copy / "000000.npy").read_bytes()[:-24])
    with pytest.raises(UserError, match=r"000001.npy: damaged"):
        open_pictures(copy).read(40)
    (copy / "000001.npy").write_bytes((copy / "000012.npy").read_bytes())
    with pytest.raises(UserError, match=r"000001.npy: not the table of \S*000001.tar"):
        open_pictures(copy).read(40)


def test_checksums_find_a_flipped_bit(shards: Path, tmp_path: Path) -> None:
    copy = copied(shards, tmp_path)
    assert list(verify(read_index(str(copy)))) == []
    data = bytearray((copy / "000003.tar").read_bytes())
    data[5000] ^= 1
    (copy / "000003.tar").write_bytes(data)
    (fault,) = verify(read_index(str(copy)))
    assert "000003.tar: damaged" in fault


def test_a_broken_picture_is_named_and_passed_over(photos, tmp_path: Path) -> None:
    root = photos(*(f"{c}/{i}.png" for c in "ab" for i in range(30)))
    (root / "a" / "7.png").write_bytes(b"no picture")
    write_shards(open_pictures(root), tmp_path / "shards")
    pictures = open_pictures(tmp_path / "shards")
    assert check_pictures(pictures).names == ("a/7.png",)
    loader = make_loader(pictures, pictures.part(), Preparation(8), train=True, batch_size=10, workers=0)
    batches = list(loader)
    assert sum(len(b["labels"]) for b in batches) == 59
    (said,) = [text for b in batches for text in b["broken"]]
    assert said.startswith("a/7.png: not a picture")


# -- parts -----------------------------------------------------------------------------------------------


def test_parts_by_rule_hold_every_picture_once(folder: Path, shards: Path, tmp_path: Path) -> None:
    pictures = open_pictures(shards)
    parts = pictures.parts(seed=3, val_fraction=0.1, test_fraction=0.2)
    positions = {name: np.asarray(part) for name, part in parts.items()}
    assert sorted(np.concatenate(list(positions.values())).tolist()) == list(range(COUNT))
    assert abs(len(parts["val"]) - 43) < 20  # three standard deviations
    assert abs(len(parts["test"]) - 86) < 26
    for name, part in parts.items():
        assert len(part) == len(positions[name]) == part.counts.sum()
        assert part.class_counts.tolist() == np.bincount(pictures.labels[positions[name]]).tolist()
        assert part[::7].tolist() == positions[name][::7].tolist()
    other = np.asarray(pictures.parts(seed=4, val_fraction=0.1, test_fraction=0.2)["test"])
    assert len(np.intersect1d(other, positions["test"])) < 40
    # Another share for validation leaves the test pictures as they are.
    more = pictures.parts(seed=3, val_fraction=0.4, test_fraction=0.2)
    assert np.asarray(more["test"]).tolist() == positions["test"].tolist()
    # A picture's part does not depend on its shard.
    write_shards(open_pictures(folder), tmp_path / "otherwise", size=50_000, seed=9)
    moved = open_pictures(tmp_path / "otherwise")
    there = {moved.picture_name(i) for i in np.asarray(moved.parts(3, 0.1, 0.2)["test"]).tolist()}
    assert there == {pictures.picture_name(i) for i in positions["test"].tolist()}


def test_given_splits_are_used_as_of_any_set(photos, tmp_path: Path) -> None:
    root = photos(*(f"{s}/{c}/{i}.png" for s in ("train", "val") for c in "ab" for i in range(20)))
    write_shards(open_pictures(root), tmp_path / "shards")
    pictures = open_pictures(tmp_path / "shards")
    parts = deal(pictures, 0, 0.3, 0.2)
    assert set(parts) == {"train", "val", "test"}
    assert isinstance(parts["train"], ShardPart)
    assert np.asarray(parts["test"]).tolist() == pictures.splits["val"].tolist()
    assert len(parts["train"]) + len(parts["val"]) == 40
    lists = resolve_splits(pictures, 0, 0.3, 0.2)
    assert {k: v.tolist() for k, v in lists.items()} == {k: np.asarray(v).tolist() for k, v in parts.items()}
    with pytest.raises(UserError, match="nothing to train with"):
        open_pictures(f"{tmp_path}/shards/val/*.tar").parts(0, 0.1, 0.1)


# -- the stream ------------------------------------------------------------------------------------------


def shard_part(counts: list[int]) -> ShardPart:
    """A part of shards that nobody reads."""
    shards = tuple(Shard(str(i), "", "", n, 1000 * n, "") for i, n in enumerate(counts))
    index = Index(("a", "b"), shards, {"": [sum(counts), 0]})
    return ShardSet("counts", index).part()


@given(
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=9).filter(lambda c: sum(c) >= 4),
    world_size=st.integers(1, 4),
    streams=st.integers(1, 3),
    batch_size=st.integers(1, 9),
    train=st.booleans(),
)
def test_dealing_is_even_and_complete(counts, world_size, streams, batch_size, train) -> None:
    total = sum(counts)
    dealings = [Dealing(total, batch_size, r, world_size, streams, train) for r in range(world_size)]
    pieces = [d.piece(s) for d in dealings for s in range(streams)]
    assert [p for start, stop in pieces for p in range(start, stop)] == list(range(total))
    if train:  # all-reduce waits for everybody
        assert len({d.batches for d in dealings}) == 1
    for d in dealings:
        sizes = [n for s in range(streams) for n in d.sizes(s).tolist()]
        assert len(sizes) == d.batches
        assert sum(sizes) == d.share
        if sizes:
            assert max(sizes) - min(sizes) <= 1
            assert min(sizes) >= 1
            assert max(sizes) <= batch_size or train
            # Not much more than asked for: the remainder, spread.
            assert max(sizes) <= batch_size + -(-batch_size // d.batches) + 1


def run_rank(data: Path, rank: int, epoch: int, place: Place, answers) -> None:
    pictures = open_pictures(data)
    part = deal(pictures, 0, 0.1, 0.2)["train"]
    loader = make_loader(
        pictures, part, Preparation(8), train=True, batch_size=16, seed=5, workers=2, rank=rank,
        world_size=2, place=place,
    )  # fmt: skip
    loader.set_epoch(epoch)
    batches = list(loader)
    answers.put((rank, [b["index"].tolist() for b in batches], [b["labels"].tolist() for b in batches]))


def two_processes(data: Path, epoch: int, place: Place) -> list[list[list[int]]]:
    """An epoch as two processes with two workers each see it."""
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    made = [context.Process(target=run_rank, args=(data, r, epoch, place, answers)) for r in range(2)]
    for process in made:
        process.start()
    found = {rank: rest for rank, *rest in (answers.get(timeout=60) for _ in made)}
    for process in made:
        process.join()
    truth = open_pictures(data).labels
    for index, labels in found.values():
        assert [truth[batch].tolist() for batch in index] == labels
    return [found[rank][0] for rank in range(2)]


def test_exactly_once_with_two_processes_and_two_workers_each(shards: Path) -> None:
    train = np.asarray(deal(open_pictures(shards), 0, 0.1, 0.2)["train"]).tolist()
    epochs = [two_processes(shards, epoch, Place()) for epoch in (0, 1)]
    for ranks in epochs:
        assert len(ranks[0]) == len(ranks[1]) == len(train) // 32
        assert sorted(i for rank in ranks for batch in rank for i in batch) == train
    assert epochs[0] != epochs[1]
    # Going on in the middle of an epoch: the rest of it, and nothing else.
    assert two_processes(shards, 1, Place(1, 5, 2)) == [rank[5:] for rank in epochs[1]]


def test_the_order_follows_the_streams_and_not_the_workers(shards: Path) -> None:
    pictures = open_pictures(shards)

    def order(workers: int, place: Place, epoch: int = 0, seed: int = 0) -> list[list[int]]:
        loader = make_loader(
            pictures, pictures.part(), Preparation(8), train=True, batch_size=16, seed=seed,
            workers=workers, place=place,
        )  # fmt: skip
        loader.set_epoch(epoch)
        return [b["index"].tolist() for b in loader]

    three = order(0, Place(streams=3))
    assert order(2, Place(streams=3)) == three
    assert sorted(i for batch in three for i in batch) == list(range(COUNT))
    assert order(0, Place(streams=3), seed=1) != three
    assert order(1, Place(0, 7, 3)) == three[7:]
    assert order(1, Place(0, 7, 3), epoch=1) == order(0, Place(streams=3), epoch=1)  # only that epoch is cut


@given(st.integers(1, 300), st.integers(1, 40), st.data())
def test_a_stream_that_skips_goes_on_the_same(count: int, capacity: int, data: st.DataObject) -> None:
    def stream() -> Stream:
        made = Stream(shard_part([100, 50, 0, 150]), 0, count, 1, 2)
        made._buffer = _Buffer(count, capacity, random.Random(7))

        def read(numbers: list[int]) -> dict[int, int]:
            reads.extend(numbers)
            return {n: n for n in numbers}

        made._reader = SimpleNamespace(  # no files: what is read, and when
            read=read, read_on=lambda n: read(list(range(n, min(n + 5, count))))
        )
        return made

    reads: list[int] = []
    whole = list(stream().take(count))
    assert sorted(whole) == sorted(reads) == list(range(count))
    cuts = sorted(data.draw(st.lists(st.integers(0, count), min_size=3, max_size=3)))
    reads.clear()
    cut = stream()
    first = list(cut.take(cuts[0]))
    cut.skip(cuts[1] - cuts[0])
    second = list(cut.take(cuts[2] - cuts[1]))
    assert first + second == whole[: cuts[0]] + whole[cuts[1] : cuts[2]]
    assert len(reads) == len(set(reads))
    assert len(cut._held) <= capacity + 5


def test_the_buffer_mixes(shards: Path) -> None:
    pictures = open_pictures(shards)
    seen = np.array([s.position for s in Stream(pictures.part(), 0, COUNT, 0, 0).take(COUNT)])
    # Neighbours in a shard do not stay neighbours.
    assert (np.abs(np.diff(seen)) == 1).mean() < 0.02


def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path: Path) -> None:
    """A hundred times the pictures, in the same number of shards, read through the same few tables."""
    peaks = []
    for pictures in (1_000, 100_000):
        shards = []
        for number in range(8):
            table = np.zeros(pictures, TABLE)
            table["offset"] = 512 + 1024 * np.arange(pictures)
            table["size"], table["label"] = 100, np.arange(pictures) % 2
            table["key"] = np.random.default_rng(number).integers(0, 2**63, pictures)
            path = tmp_path / f"{pictures}-{number}.npy"
            np.save(path, table)
            shards.append(Shard(str(number), str(path), "", pictures, 1024 * pictures + 512, ""))
        index = Index(("a", "b"), tuple(shards), {"": [4 * pictures, 4 * pictures]})
        tracemalloc.start()
        held = ShardSet("many", index)
        parts = held.parts(0, 0.1, 0.1)
        assert abs(len(parts["train"]) - 6.4 * pictures) < 0.1 * pictures
        Dealing(len(parts["train"]), 64, 1, 2, 2, True).piece(1)
        load_table.cache_clear()
        peaks.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 20_000
