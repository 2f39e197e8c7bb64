"""What a person sees while a network trains: one bar for the whole run, and a line for each epoch."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

__all__ = ["RunProgress"]


class RunProgress(ProgressBar):
    """Loss, accuracy, pictures per second and the time left of the whole run.

    Parameters
    ----------
    console : Console
        On a terminal a live bar; elsewhere only the epochs' lines, which suit a log.
    """

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._seen, self._since, self._shown = 0, 0.0, 0.0
        self._loss, self._accuracy = 0.0, 0.0
        self._epoch_started = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        total = int(trainer.num_training_batches) * int(trainer.max_epochs or 1)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self._task = self._progress.add_task(
            "epoch 1", total=total, completed=trainer.global_step, numbers=""
        )
        self._progress.start()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._seen, self._since = 0, time.monotonic()
        self._epoch_started = self._since

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._progress is None or self._task is None:
            return
        self._seen += len(batch["labels"]) * trainer.world_size
        now = time.monotonic()
        if now - self._shown > 0.5:  # reading the loss waits for the device: not at every step
            self._shown = now
            self._loss = float(outputs["loss"])
            _, right, seen = pl_module.train_sums.tolist()  # type: ignore[operator]
            self._accuracy = right / max(seen, 1)
        rate = self._seen / max(now - self._since, 1e-9)
        metrics = getattr(pl_module, "epoch_metrics", {})
        val = f"  val {metrics['val_accuracy']:.1%}" if metrics else ""
        self._progress.update(
            self._task,
            completed=trainer.global_step,
            description=f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}",
            numbers=f"loss {self._loss:.3f}  train {self._accuracy:.1%}{val}  {rate:,.0f} pictures/s",
        )

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # The rate is that of training: the clock stops here.
        self._rate = self._seen / max(time.monotonic() - self._since, 1e-9)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        m = getattr(pl_module, "epoch_metrics", {})
        if not m:
            return
        self.console.print(
            f"epoch {int(m['epoch']):>3}/{trainer.max_epochs}  "
            f"train {m['train_loss']:.3f} {m['train_accuracy']:6.1%}  "
            f"val {m['val_loss']:.3f} {m['val_accuracy']:6.1%}  "
            f"{self._rate:,.0f} pictures/s  {time.monotonic() - self._epoch_started:.0f} s",
            highlight=False,
        )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    # Lightning's interface for bars; nothing to switch here.
    def disable(self) -> None: ...

    def enable(self) -> None: ...

    def print(self, *args: Any, **kwargs: Any) -> None:
        self.console.print(*args, **kwargs)
