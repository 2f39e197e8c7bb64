"""Do pictures come as quickly from shards as from an image folder?

    python benchmarks/shards.py [--data ../shared/data] [--sets cifar10 imagenet-500] [--json]

The pictures of each set lie as files in a folder, and in shards of 64 MB made of it by ``write_shards``. For
each number of workers the two loaders take turns, `rounds` times, through training batches as a run would
load them. Given are medians of pictures a second and of the ratio within a round: warm, from
the page cache; and cold, after the kernel was asked to forget the files (``posix_fadvise``), one pass over at
most `--cold` pictures. Beside it what opening takes, and what the two hold in memory.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from squeezekit.data.loader import make_loader
from squeezekit.data.preparation import IMAGENET, Preparation
from squeezekit.data.shard_write import write_shards
from squeezekit.data.shards import ShardSet
from squeezekit.data.source import PictureSet, open_pictures

#: Where the set is, how its pictures are prepared, side of the canvas, pictures a batch.
SETS = {
    "cifar10": ("cifar10.zip", Preparation(32), 32, 256),
    "imagenet-500": ("imagenet-500", IMAGENET, 256, 32),
}
#: CIFAR-10's files that are unpacked: as many folders and names as all, in a tenth of the time.
MOST = 20_000


def unpacked(source: Path, work: Path) -> Path:
    """Return an image folder with the pictures of a set."""
    if source.is_dir():
        return source
    folder = work / source.stem
    with zipfile.ZipFile(source) as archive:
        names = [n for n in archive.namelist() if "/train/" in f"/{n}" and not n.endswith("/")]
        archive.extractall(folder, names[:: max(1, len(names) // MOST)])
    return folder


def training(pictures: PictureSet) -> Any:
    if isinstance(pictures, ShardSet):
        return pictures.part("train") if "train" in pictures.given else pictures.part()
    return pictures.splits.get("train", np.arange(len(pictures)))


def loader(pictures: PictureSet, name: str, workers: int) -> Any:
    _, preparation, canvas, batch = SETS[name]
    return make_loader(
        pictures,
        training(pictures),
        preparation,
        train=True,
        batch_size=batch,
        workers=workers,
        canvas=canvas,
    )


def epochs(batches: Any, first: int) -> Iterator[dict[str, Any]]:
    for number in range(first, first + 10_000):
        batches.set_epoch(number)
        yield from batches


def rate(source: Iterator[dict[str, Any]], seconds: float) -> float:
    """Pictures a second."""
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        count += len(next(source)["labels"])
    return count / (time.perf_counter() - start)


def forget(folder: Path) -> None:
    """Ask the kernel to drop a folder's files from its cache."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            file = os.open(path, os.O_RDONLY)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)


def cold(pictures: PictureSet, folder: Path, name: str, most: int) -> float:
    forget(folder)
    batches = iter(loader(pictures, name, 0))
    count, start = 0, time.perf_counter()
    for batch in batches:
        count += len(batch["labels"])
        if count >= most:
            break
    return count / (time.perf_counter() - start)


def opening(path: Path) -> tuple[PictureSet, float]:
    start = time.perf_counter()
    pictures = open_pictures(path)
    return pictures, time.perf_counter() - start


def measure(name: str, source: Path, work: Path, options: argparse.Namespace) -> dict[str, Any]:
    folder, made = unpacked(source, work), work / f"{name}-shards"
    start = time.perf_counter()
    write_shards(open_pictures(folder), made, size=64 * 10**6)
    writing = time.perf_counter() - start
    (files, files_open), (shards, shards_open) = opening(folder), opening(made)
    row: dict[str, Any] = {
        "set": name,
        "pictures": len(files),
        "shards": len(list(made.rglob("*.tar"))),
        "write_pictures_per_second": len(files) / writing,
        "open_seconds": {"folder": files_open, "shards": shards_open},
        "index_bytes": {"folder": files.nbytes, "shards": shards.nbytes},
        "workers": {},
    }
    for workers in options.workers:
        sources = {
            kind: epochs(loader(pictures, name, workers), 0)
            for kind, pictures in (("folder", files), ("shards", shards))
        }
        for each in sources.values():
            rate(each, min(3.0, options.seconds))  # start the workers, fill the page cache
        rounds = []
        for turn in range(options.rounds):
            order = sorted(sources, reverse=bool(turn % 2))
            rounds.append({kind: rate(sources[kind], options.seconds) for kind in order})
        row["workers"][workers] = {
            "folder": statistics.median(r["folder"] for r in rounds),
            "shards": statistics.median(r["shards"] for r in rounds),
            "ratio": statistics.median(r["shards"] / r["folder"] for r in rounds),
        }
        print(f"{name}, {workers} workers: {row['workers'][workers]}", file=sys.stderr)
    row["cold"] = {
        "folder": cold(files, folder, name, options.cold),
        "shards": cold(shards, made, name, options.cold),
    }
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--seconds", type=float, default=8.0, help="per measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--cold", type=int, default=4000, help="pictures of the cold pass")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "torch": torch.__version__,
        "load_before": os.getloadavg()[0],
    }
    with tempfile.TemporaryDirectory(prefix="squeezekit-benchmark-") as work:
        sets = [measure(name, options.data / SETS[name][0], Path(work), options) for name in options.sets]
    if options.json:
        print(json.dumps({"machine": machine, "sets": sets}, indent=2))
        return
    print(f"{machine}\npictures a second, training batches:\n")
    print("| set | workers | folder | shards | shards / folder |\n| --- | --- | --- | --- | --- |")
    for one in sets:
        for workers, m in one["workers"].items():
            print(f"| {one['set']} | {workers} | {m['folder']:.0f} | {m['shards']:.0f} | {m['ratio']:.2f} |")
        m = one["cold"]
        print(
            f"| {one['set']}, cold | 0 | {m['folder']:.0f} | {m['shards']:.0f} "
            f"| {m['shards'] / m['folder']:.2f} |"
        )
    for one in sets:
        opened, held = one["open_seconds"], one["index_bytes"]
        print(
            f"\n{one['set']}: {one['pictures']:,} pictures in {one['shards']} shards, written at "
            f"{one['write_pictures_per_second']:.0f} a second; opening takes {opened['folder']:.2f} s "
            f"(folder), {opened['shards']:.3f} s (shards); the index holds {held['folder']:,} and "
            f"{held['shards']:,} bytes"
        )


if __name__ == "__main__":
    main()
