"""A run over shards goes on in the middle of an epoch: its state is kept within epochs too.

An epoch of a million pictures takes hours, so a run that was stopped shall not begin it again. Which pictures
a batch holds follows from (seed, epoch, processes, streams) and its number
(:mod:`squeezekit.data.shard_stream`), so these few numbers are the place that is kept.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from squeezekit.data.shard_stream import Place
from squeezekit.train.run_folder import LAST

__all__ = ["KeepPlace"]

#: Seconds between two states.
SECONDS = 120.0
#: Steps between two looks at the first process's clock, where there are several.
LOOK = 20
#: Its entry in ``last.ckpt``.
_KEY = "place"


class KeepPlace(Callback):
    """Keeps the state every few minutes, and finds the way back to it.

    Parameters
    ----------
    out : Path
        The run folder.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self._kept: dict[str, Any] | None = None
        self._saved = time.monotonic()

    def place(self, trainer: Trainer) -> Place:
        """Return where training is to begin.

        Where the place was left by another number of processes, the rest of that epoch is dealt anew among
        those of now: as many batches as were left, some of whose pictures may have been seen.
        """
        kept = self._kept
        if kept is None:
            return Place()
        same = kept["processes"] == trainer.world_size
        return Place(kept["epoch"], kept["batch"], kept["streams"] if same else None)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx + 1 < trainer.num_training_batches and self._is_time(trainer, batch_idx):
            trainer.save_checkpoint(self.out / LAST)
            self._saved = time.monotonic()

    def _is_time(self, trainer: Trainer, batch_idx: int) -> bool:
        """All processes must say the same: they write a state together."""
        due = time.monotonic() - self._saved >= SECONDS
        if trainer.world_size == 1:
            return due
        return batch_idx % LOOK == LOOK - 1 and bool(trainer.strategy.broadcast(due))

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        loop = trainer.fit_loop
        done: int = loop.epoch_loop.batch_progress.current.processed  # type: ignore[attr-defined]
        within = done < trainer.num_training_batches
        sums: Any = pl_module.train_sums
        if within and trainer.world_size > 1:
            sums = pl_module.all_gather(sums)
        checkpoint[_KEY] = {
            "epoch": loop.epoch_progress.current.processed,  # type: ignore[attr-defined]
            "batch": done if within else 0,
            "processes": trainer.world_size,
            "streams": trainer.train_dataloader.dataset.dealing.streams,  # type: ignore[union-attr]
            "sums": sums.reshape(trainer.world_size, -1).tolist() if within else [],  # a row a process
        }

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._kept = checkpoint.get(_KEY)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._kept is None or not self._kept["batch"]:
            return
        # Within an epoch Lightning leaves out its beginning. Nor had the module its turn at the end of the
        # batch that the state was kept after: callbacks come first.
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            callback.on_train_epoch_start(trainer, pl_module)
        pl_module.on_train_epoch_start()
        pl_module.on_train_batch_end(None, None, 0)
        sums = torch.tensor(self._kept["sums"], device=pl_module.device)
        if len(sums) == trainer.world_size:
            pl_module.train_sums = sums[trainer.global_rank]
        elif trainer.is_global_zero:  # for all
            pl_module.train_sums = sums.sum(0)
