"""The accuracies that squeezekit promises, each by the command that a user would type.

    python benchmarks/accuracy.py sign-digits|cifar10|cifar10-small|ants-bees [--seeds 1] [--data ../shared]

Every run trains with one seed from scratch (or from the published weights), chooses its epoch on pictures
kept from training, and is judged on the test pictures: a fifth of sign-digits, CIFAR-10's own 10,000,
ants-bees' ``val``. The wall time is that of the whole command, start and evaluation included. Then the same
pictures are judged again with ``squeezekit evaluate --mirror``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from command import squeezekit

HERE = Path(__file__).resolve().parents[1]

CIFAR10 = [
    *("data/cifar10.zip", "--model", "vgg", "--set", "convs=3", "--set", "pools=1,6"),
    *("--recipe", "quick", "--augmentation", "cutout"),
]
TASKS: dict[str, list[str]] = {
    "sign-digits": ["data/sign-digits"],
    "cifar10": [*CIFAR10, "--set", "widths=64,128,176", "--epochs", "22"],
    # To be compressed to 96,000 bytes.
    "cifar10-small": [*CIFAR10, "--set", "widths=56,88,112", "--epochs", "52"],
    "ants-bees": ["data/ants-bees", "--weights", "weights/compressed_SqueezeNet.net"],
}


def run(task: str, shared: Path, seed: int, out: Path) -> dict[str, Any]:
    data, *options = TASKS[task]
    options = [str(shared / o) if o.startswith("weights/") else o for o in options]
    pictures = str(shared / data)
    started = time.perf_counter()
    result = squeezekit("train", pictures, *options, "--out", str(out), "--seed", str(seed))
    seconds = time.perf_counter() - started
    mirrored = squeezekit("evaluate", str(out), pictures, "--mirror")
    return {
        "task": task,
        "seed": seed,
        "seconds": seconds,
        "top1": result["test"]["top1"],
        "mirrored_top1": mirrored["top1"],
        "images": result["test"]["images"],
        "parameters": result["parameters"],
        "epochs": result["epochs"],
        "model": result["model"],
        "curve": [round(row["val_accuracy"], 4) for row in result["history"]],
        "epoch_seconds": result["seconds"] / max(1, result["epochs"]),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--data", type=Path, default=HERE.parent / "shared")
    parser.add_argument("--keep", type=Path, help="keep the run folders here")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for seed in range(arguments.seeds):
            folder = (arguments.keep or Path(temporary)) / f"{arguments.task}-{seed}"
            rows.append(run(arguments.task, arguments.data, seed, folder))
            if not arguments.json:
                row = rows[-1]
                print(
                    f"{row['task']} seed {seed}: top-1 {row['top1']:.2%} of {row['images']} "
                    f"({row['mirrored_top1']:.2%} with mirror images), "
                    f"{row['parameters']:,} parameters, {row['epochs']} epochs, {row['seconds']:.0f} s"
                )
    if arguments.json:
        print(json.dumps(rows, indent=2))
    elif len(rows) > 1:
        accuracies = [row["top1"] for row in rows]
        print(f"mean {statistics.mean(accuracies):.2%}, from {min(accuracies):.2%} to {max(accuracies):.2%}")
