"""Memory of a training run, against the number of pictures in DATA.

Runs ``squeezekit train`` on more and more of CIFAR-10 and samples the memory of all its processes from
/proc: the proportional set size (PSS), in which a page that several processes share counts once.

    python benchmarks/memory.py [--pictures 2000 10000 50000] [--data ../shared/data/cifar10.zip] [--json]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]


def family(root: int) -> list[int]:
    """The process and all its descendants."""
    found, queue = [], [root]
    while queue:
        process = queue.pop()
        found.append(process)
        for task in Path(f"/proc/{process}/task").glob("*/children"):
            queue += [int(child) for child in task.read_text().split()]
    return found


def pss(process: int) -> int:
    try:
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # it has just ended
    return 0


def peak(command: list[str]) -> int:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    highest = 0
    while process.poll() is None:
        highest = max(highest, sum(map(pss, family(process.pid))))
        time.sleep(0.25)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
    return highest


def subset(source: Path, pictures: int, target: Path) -> None:
    """Write a zip with so many of the training pictures, evenly from all classes."""
    with zipfile.ZipFile(source) as all_, zipfile.ZipFile(target, "w") as some:
        names = [n for n in all_.namelist() if n.startswith("train/") and n.endswith(".jpg")]
        for name in names[:: len(names) // pictures][:pictures]:
            some.writestr(name.removeprefix("train/"), all_.read(name))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, nargs="+", default=[2_000, 10_000, 50_000])
    parser.add_argument("--data", type=Path, default=HERE.parent / "shared" / "data" / "cifar10.zip")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for count in arguments.pictures:
            data = Path(temporary) / f"{count}.zip"
            subset(arguments.data, count, data)
            out = Path(temporary) / f"run-{count}"
            # A small network: what grows with the pictures shall not hide behind activations.
            settings = ["--set", "base_e=16", "--set", "incr_e=16", "--set", "conv1_channels=16"]
            command = ["-m", "squeezekit", "train", str(data), "--out", str(out), "--epochs", "1", *settings]
            rows.append(
                {"pictures": count, "peak_bytes": peak([sys.executable, *command, "--batch-size", "256"])}
            )
            if not arguments.json:
                print(f"{count:>8,} pictures: {rows[-1]['peak_bytes'] / 2**20:8.1f} MiB", flush=True)
    if arguments.json:
        print(json.dumps(rows, indent=2))
