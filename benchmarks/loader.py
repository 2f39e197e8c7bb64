"""How fast do pictures come, alone and beside a training loop? Does loading keep two cores busy?

    python benchmarks/loader.py [--data ../shared/data] [--seconds 10] [--workers 0 1 2] [--json]

For CIFAR-10 (32 px, batch 256), ants-bees and imagenet-500 (224 px, batch 32) and each number of workers:

- alone: pictures a second when nothing else runs;
- beside: pictures a second of a loop that augments, normalises and trains a stand-in network on the batches;
- ideal: the same loop on one batch that lies in memory already. ``beside / ideal`` is what loading leaves.

Each set is read through the page cache, as in every epoch but the first. Then what each augmentation costs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from itertools import chain, repeat
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from squeezekit.data.augment import POLICIES, Augmentation, Policy, named_policy
from squeezekit.data.loader import choose_workers, make_loader
from squeezekit.data.preparation import IMAGENET, Preparation
from squeezekit.data.source import open_pictures

SETS = {
    "cifar10.zip": (Preparation(32), 256),
    "ants-bees": (IMAGENET, 32),
    "imagenet-500": (IMAGENET, 32),
}
OPERATIONS = {
    "to float": Policy(),
    "shift crop": Policy(crop="shift"),
    "resized crop": Policy(crop="resized"),
    "flip": Policy(flip=0.5),
    "color": Policy(color=0.2),
    "hue": Policy(hue=0.1),
    "randaugment 1": Policy(randaugment=1),
    "randaugment 2": Policy(randaugment=2),
    "erase": Policy(erase=0.25),
    "mixup": Policy(mixup=0.2),
    "cutmix": Policy(cutmix=1.0),
}


def stand_in(size: int) -> nn.Module:
    """About the work of a small network of its size: 100 M multiplications at 32 px, 350 M at 224 px."""
    widths, layers, channels = ((32, 64, 128, 192) if size <= 96 else (48, 64, 96, 160, 256)), [], 3
    for i, width in enumerate(widths):
        layers += [
            nn.Conv2d(channels, width, 3, stride=2 if size > 96 or i else 1, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            *(
                (nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
                if i
                else ()
            ),
        ]
        channels = width
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1000))
    return network.to(memory_format=torch.channels_last)


class Loop:
    """Augments, normalises and trains."""

    def __init__(self, preparation: Preparation, policy: Policy, classes: int) -> None:
        self.network = stand_in(preparation.size)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.01, momentum=0.9)
        self.augment = Augmentation(policy, preparation.size, classes)
        self.mean = torch.tensor(preparation.mean).view(1, -1, 1, 1)
        self.scale = torch.tensor(preparation.scale).view(1, -1, 1, 1)

    def step(self, batch: dict) -> None:
        pictures, targets = self.augment(batch["pictures"].permute(0, 3, 1, 2), batch["labels"])
        x = ((pictures - self.mean) * self.scale).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            logits = self.network(x)
        loss = F.cross_entropy(logits.float(), targets)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def rate(batches, seconds: float, step=lambda _: None) -> float:
    """Pictures a second, once the first three batches are through."""
    iterator = iter(batches)
    for _ in range(3):
        step(next(iterator))
    count, start = 0, time.perf_counter()
    for batch in iterator:
        step(batch)
        count += len(batch["labels"])
        if time.perf_counter() - start > seconds:
            break
    return count / (time.perf_counter() - start)


def epochs(loader):
    for number in range(1000):
        loader.sampler.set_epoch(number)
        yield from loader


def measure_set(
    path: Path, preparation: Preparation, batch_size: int, workers: list[int], seconds: float
) -> dict:
    pictures = open_pictures(path)
    indices = pictures.splits.get("train", np.arange(len(pictures)))
    policy = named_policy("medium", preparation.size)
    result: dict = {"set": path.name, "size": preparation.size, "batch": batch_size, "workers": {}}
    for count in workers:
        loader = make_loader(
            pictures,
            indices,
            preparation,
            train=True,
            batch_size=batch_size,
            workers=count,
            canvas=policy.canvas(preparation.size),
            drop_last=True,
        )
        loop = Loop(preparation, policy, len(pictures.classes))
        alone = rate(epochs(loader), seconds)
        beside = rate(epochs(loader), seconds, loop.step)
        ideal = rate(chain(repeat(next(iter(loader)))), seconds, loop.step)
        print(
            f"{path.name}, {count} workers: {alone:.0f} alone, {beside:.0f} beside, {ideal:.0f}",
            file=sys.stderr,
        )
        result["workers"][count] = {"alone": alone, "beside": beside, "ideal": ideal, "share": beside / ideal}
        del loader  # and with it its processes
    return result


def measure_augmentation() -> list[dict]:
    rows = []
    named = {f"policy {name}": name for name in POLICIES}
    for name, policy in {**OPERATIONS, **named}.items():
        row = {"operation": name}
        for size, n in ((32, 256), (224, 32)):
            chosen = named_policy(policy, size) if isinstance(policy, str) else policy
            side = chosen.canvas(size)
            pictures = torch.randint(0, 256, (n, side, side, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
            augment, labels = Augmentation(chosen, size, 10), torch.arange(n) % 10
            times = []
            for _ in range(13):
                start = time.perf_counter()
                augment(pictures, labels)
                times.append(time.perf_counter() - start)
            row[f"{n}x{size}px_ms"] = 1000 * statistics.median(times[1:])
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--seconds", type=float, default=10.0, help="per measurement")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": options.threads,
        "torch": torch.__version__,
        "load_before": os.getloadavg()[0],
    }
    sets = [
        measure_set(options.data / name, preparation, batch_size, options.workers, options.seconds)
        for name, (preparation, batch_size) in SETS.items()
        if (options.data / name).exists()
    ]
    augmentation = measure_augmentation()
    if options.json:
        print(json.dumps({"machine": machine, "sets": sets, "augmentation": augmentation}, indent=2))
        return
    print(f"{machine}\nauto is {choose_workers()} worker(s); pictures a second:\n")
    print("| set | workers | loader alone | beside training | training alone | share |")
    print("| --- | --- | --- | --- | --- | --- |")
    for one in sets:
        for count, m in one["workers"].items():
            print(
                f"| {one['set']}, {one['size']} px | {count} | {m['alone']:.0f} | {m['beside']:.0f} "
                f"| {m['ideal']:.0f} | {m['share']:.0%} |"
            )
    print("\n| augmentation, ms a batch | 256 × 32 px | 32 × 224 px |\n| --- | --- | --- |")
    for row in augmentation:
        print(f"| {row['operation']} | {row['256x32px_ms']:.1f} | {row['32x224px_ms']:.1f} |")


if __name__ == "__main__":
    main()
