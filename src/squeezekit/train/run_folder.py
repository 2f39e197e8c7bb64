"""The run folder: everything a training run leaves behind, written so that a kill at any moment does no harm.

::

    run/
      config.json          every choice of the run, resolved
      model.safetensors    the best weights so far, with preparation and class names; evaluate reads it
      last.ckpt            the state after the last whole epoch: what --resume reads
      metrics.csv          a line an epoch
      metrics.json         the final evaluation
      report.html          what a person looks at; its plots lie beside it as PNG
      tensorboard/         the curves for TensorBoard
"""

from __future__ import annotations

import csv
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.io import TorchCheckpointIO

from squeezekit.data.shards import ShardSet
from squeezekit.data.source import PictureSet
from squeezekit.errors import UserError
from squeezekit.files import write_atomically
from squeezekit.models.checkpoint import save_checkpoint
from squeezekit.train.origin import WEIGHTS

__all__ = ["AtomicCheckpoints", "KeepRun", "fingerprint", "read_config", "write_json"]

CONFIG, LAST, METRICS = "config.json", "last.ckpt", "metrics.csv"


def fingerprint(pictures: PictureSet) -> str:
    """Return a hash of the classes and the pictures' names: the same data, wherever it lies."""
    if isinstance(pictures, ShardSet):
        return pictures.fingerprint
    digest = hashlib.sha256(repr(pictures.classes).encode())
    for i in range(len(pictures)):
        digest.update(pictures.picture_name(i).encode("utf-8", "surrogateescape") + b"\0")
    return digest.hexdigest()


def write_json(path: Path, content: Any) -> None:
    """Write `content` as JSON, whole or not at all."""
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_config(out: Path) -> dict[str, Any]:
    """Read a run folder's configuration.

    Raises
    ------
    UserError
        It is missing or no JSON.
    """
    try:
        config = json.loads((out / CONFIG).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{out}/: no run to resume here (no readable {CONFIG})") from error
    except ValueError as error:
        raise UserError(f"{out / CONFIG}: damaged ({error})") from error
    if not isinstance(config, dict):
        raise UserError(f"{out / CONFIG}: damaged (not an object)")
    return config


class AtomicCheckpoints(TorchCheckpointIO):
    """Lightning's checkpoints, moved into place only when they are whole."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        with write_atomically(path) as temporary:
            torch.save(checkpoint, temporary)


class KeepRun(Callback):
    """At the end of every epoch keeps the best weights, the curves' table and the state to resume from.

    In that order. A run killed between two of them repeats the epoch from the state before it, and writes
    the same again.

    Parameters
    ----------
    out : Path
    checkpoint : dict
        What a checkpoint says beside its weights (see :mod:`squeezekit.models.checkpoint`).
    """

    def __init__(self, out: Path, checkpoint: dict[str, Any]) -> None:
        self.out, self.checkpoint = out, checkpoint
        self.history: list[dict[str, float]] = []
        self.best = -1.0
        self._earlier, self._started = 0.0, time.perf_counter()

    @property
    def seconds(self) -> float:
        """Of training so far, with those of the sittings before a resumption up to the state it read."""
        return self._earlier + time.perf_counter() - self._started

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history, "best": self.best, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history, self.best = list(state_dict["history"]), float(state_dict["best"])
        self._earlier = float(state_dict.get("seconds", 0.0))  # earlier versions did not keep them

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._started = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        metrics: dict[str, float] = dict(pl_module.epoch_metrics)  # type: ignore[arg-type]
        self.history.append(metrics)
        # Of equal ones the later: it has seen more.
        if metrics["val_accuracy"] >= self.best:
            self.best = metrics["val_accuracy"]
            if trainer.is_global_zero:
                training = {
                    **self.checkpoint["training"],
                    "epoch": metrics["epoch"],
                    "val_accuracy": self.best,
                }
                save_checkpoint(
                    self.out / WEIGHTS,
                    pl_module.best_network,  # type: ignore[arg-type]
                    {**self.checkpoint, "training": training},
                )
        if trainer.is_global_zero:
            with write_atomically(self.out / METRICS) as temporary, temporary.open("w", newline="") as file:
                writer = csv.DictWriter(file, fieldnames=list(metrics))
                writer.writeheader()
                writer.writerows(self.history)
        # Every process calls it; Lightning writes on the first one.
        trainer.save_checkpoint(self.out / LAST)
