"""Pictures a second of a training step: squeezekit's loop against a plain PyTorch one, in the same run.

SqueezeNet v1.1, 224 px, batches of 32. "plain" is what a tutorial writes: float32, default memory
format, no augmentation. "squeezekit" is the step of ``squeezekit train``: normalisation, forward,
loss, backward, clipping, SGD, moving average, in Lightning's loop; like the plain one without
augmentation, unless --augmentation names a policy. The two take turns, a few steps each, so that
both see the same machine; the ratio is the median over the turns.

    python benchmarks/training_step.py [--augmentation none] [--turns 8] [--steps 3] [--json]
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import time
import warnings
from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F

from squeezekit import create_model
from squeezekit.data.augment import Augmentation, named_policy
from squeezekit.data.preparation import Preparation
from squeezekit.train.module import ClassifierModule
from squeezekit.train.precision import bf16_pays
from squeezekit.train.recipes import RECIPES

BATCH, SIZE, CLASSES = 32, 224, 1000


def batches(count: int, side: int) -> list[dict[str, Any]]:
    return [
        {
            "pictures": torch.randint(0, 256, (BATCH, side, side, 3), dtype=torch.uint8),
            "labels": torch.randint(0, CLASSES, (BATCH,)),
            "index": torch.arange(BATCH),
            "broken": [],
        }
        for _ in range(count)
    ]


class Plain:
    """The loop of a tutorial."""

    def __init__(self) -> None:
        self.network = create_model("squeezenet1_1", CLASSES).train()
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.001, momentum=0.9)
        self.pictures = torch.randn(BATCH, 3, SIZE, SIZE)
        self.labels = torch.randint(0, CLASSES, (BATCH,))

    def step(self) -> None:
        loss = F.cross_entropy(self.network(self.pictures), self.labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


class Turns(pl.Callback):
    """After every few steps of squeezekit's, the same number of plain ones."""

    def __init__(self, steps: int) -> None:
        self.steps, self.plain = steps, Plain()
        self.seconds: dict[str, list[float]] = {"squeezekit": [], "plain": []}
        self.started = 0.0

    def on_train_start(self, *_: Any) -> None:
        self.started = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step % self.steps:
            return
        now = time.perf_counter()
        self.seconds["squeezekit"].append(now - self.started)
        for _ in range(self.steps):
            self.plain.step()
        self.started = time.perf_counter()
        self.seconds["plain"].append(self.started - now)


def measure(turns: int, steps: int, augmentation: str) -> dict[str, Any]:
    torch.manual_seed(0)
    policy = named_policy(augmentation, SIZE)
    module = ClassifierModule(
        create_model("squeezenet1_1", CLASSES),
        Preparation(SIZE),
        Augmentation(policy, SIZE, CLASSES),
        RECIPES["modern"],
        lr=0.001,
        steps=1000,
        epochs=1,
        seed=0,
    )
    clock = Turns(steps)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pl.Trainer(
            accelerator="cpu",
            precision="bf16-mixed" if bf16_pays("cpu") else "32-true",
            max_epochs=1,
            logger=False,
            callbacks=[clock],
            gradient_clip_val=RECIPES["modern"].gradient_clip,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        ).fit(
            module,
            torch.utils.data.DataLoader(batches((turns + 1) * steps, policy.canvas(SIZE)), batch_size=None),
        )  # type: ignore[arg-type]
    ours, plain = (clock.seconds[k][1:] for k in ("squeezekit", "plain"))  # the first turn warms up
    return {
        "network": "squeezenet1_1",
        "size": SIZE,
        "batch": BATCH,
        "augmentation": augmentation,
        "threads": torch.get_num_threads(),
        "precision": "bf16" if bf16_pays("cpu") else "float32",
        "squeezekit_pictures_per_second": BATCH * steps / statistics.median(ours),
        "plain_pictures_per_second": BATCH * steps / statistics.median(plain),
        "ratio": statistics.median(p / o for p, o in zip(plain, ours, strict=True)),
        "ratio_min": min(p / o for p, o in zip(plain, ours, strict=True)),
        "ratio_max": max(p / o for p, o in zip(plain, ours, strict=True)),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--augmentation", default="none")
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result = measure(arguments.turns, arguments.steps, arguments.augmentation)
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        for key, value in result.items():
            print(f"{key:32} {value:.2f}" if isinstance(value, float) else f"{key:32} {value}")
