"""Short trainings of many networks on the same pictures, which are decoded once and kept in memory."""

from __future__ import annotations

import copy
import logging
import math
import os
import signal
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from squeezekit.data.augment import Augmentation, named_policy
from squeezekit.data.check import check_pictures
from squeezekit.data.loader import EpochOrder, make_loader
from squeezekit.data.preparation import Preparation
from squeezekit.data.source import open_pictures
from squeezekit.data.split import resolve_splits, stratified_split
from squeezekit.errors import UserError
from squeezekit.explore.design import Design
from squeezekit.report.progress import progress_bar
from squeezekit.train.allocator import keep_freed_memory
from squeezekit.train.classifier import best_device
from squeezekit.train.module import ClassifierModule, Normalise, has_norm
from squeezekit.train.plan import Options, balance, size_for
from squeezekit.train.precision import mixed
from squeezekit.train.recipes import recipe as named_recipe
from squeezekit.train.run_folder import fingerprint
from squeezekit.train.whiten import MOST, whiten

__all__ = ["Outcome", "ShortTraining"]

Batch = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What a short training came to.

    Attributes
    ----------
    val_accuracy : float
        Best of all epochs, 0 to 1; of the pictures that choose, so not a figure to report.
    train_accuracy : float
        Of the last epoch, on pictures as augmented.
    curve : tuple of float
        Validation accuracy after each epoch.
    seconds : float
        Of training and validation.
    network : nn.Module
        With the best weights, on the CPU, in evaluation mode.
    stopped : bool
        `on_epoch` had seen enough.
    """

    val_accuracy: float
    train_accuracy: float
    curve: tuple[float, ...]
    seconds: float
    network: nn.Module
    stopped: bool


class ShortTraining:
    """Pictures in memory, split as ``train`` splits them, and networks trained on them for a few epochs.

    Parameters
    ----------
    data : str or Path
        An image folder, a .zip or .tar of one, or the name of an embedded set.
    pictures : int, optional
        Train with so many only, a stratified part chosen by the seed.
    seed : int
        Of the split and of that part.
    val_fraction : float, optional
        As for ``train``.
    device, precision : str
        As for ``train``.
    console : Console, optional
        Where progress goes; standard error by default.

    Attributes
    ----------
    name : str
        DATA, as the user called it.
    classes : tuple of str
    channels : int
        Of the pictures.
    counts : dict of str to int
        Pictures of ``"train"``, ``"val"`` and ``"test"``.
    size : int
        Side in pixels that ``train`` would choose.
    fingerprint : str
        The same for the same pictures, wherever they lie.
    dealing : dict
        Which pictures were used for what, as a checkpoint tells it, so that ``evaluate`` takes others.

    Raises
    ------
    UserError
        For anything wrong with DATA, and for an option that ``train`` would not take.

    Examples
    --------
    >>> short = ShortTraining("digits")  # doctest: +SKIP
    >>> outcome = short.run(Design.of("squeezenet", 32, base_e=16), epochs=3)
    >>> outcome.val_accuracy, short.test(outcome.network, 32)
    """

    def __init__(
        self,
        data: str | Path,
        *,
        pictures: int | None = None,
        seed: int = 0,
        val_fraction: float | None = None,
        device: str = "auto",
        precision: str = "auto",
        console: Console | None = None,
    ) -> None:
        # Complains of what there is not.
        asked = Options(seed=seed, val_fraction=val_fraction, device=device, precision=precision)  # type: ignore[arg-type]
        self.console = console or Console(stderr=True)
        self.device, self.precision, self.seed = device, precision, seed
        self._pictures = found = open_pictures(data)
        with progress_bar("checking the pictures", self.console) as advance:
            broken = check_pictures(found, advance)
        fraction = val_fraction or min(0.1, 2000 / len(found))  # as train
        self._splits = resolve_splits(found, seed, fraction, asked.test_fraction, without=broken.names)
        self.size = size_for(found, self._splits["train"])
        if pictures is not None:
            self._splits["train"] = _part(self._splits["train"], found.labels, pictures, seed)
        weights = balance(found, self._splits["train"], "auto")
        self._class_weights = None if weights is None else torch.tensor(weights)
        self.name, self.classes = found.name, found.classes
        self.channels = Preparation(self.size).channels
        self.counts = {part: len(members) for part, members in self._splits.items()}
        self.fingerprint = fingerprint(found)
        self.dealing = {
            "data": self.name,
            "fingerprint": self.fingerprint,
            "seed": seed,
            "val_fraction": fraction,
            "test_fraction": asked.test_fraction,
            "broken": list(broken.names),
        }
        self._kept: dict[tuple[str, int, int], _Part] = {}
        keep_freed_memory()

    def run(
        self,
        network_or_design: nn.Module | Design,
        *,
        size: int | None = None,
        epochs: float,
        seed: int = 0,
        batch_size: int | None = None,
        recipe: str = "modern",
        on_epoch: Callable[[int, float], bool] | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> Outcome:
        """Train a network for a few epochs with the same step, augmentation and recipe as ``train``.

        Parameters
        ----------
        network_or_design : nn.Module or Design
            A module with ``features`` and ``classifier``, trained in place; or a design to build.
        size : int, optional
            Side of the pictures; the design's own, or :attr:`size`.
        epochs : float
            Of 2.5, each of three epochs takes five sixths of the pictures.
        seed : int
            Of initial weights (of a design), order and augmentation. The same seed gives the same weights on
            a CPU with as many threads.
        batch_size : int, optional
            By default the recipe's.
        recipe : str
        on_epoch : callable, optional
            Called with (epoch from 1, validation accuracy); False stops.
        progress : callable, optional
            Called with the share that is done, 0 to 1.

        Raises
        ------
        UserError
            Training diverged, or there is no such recipe, or the pictures do not fit in memory.
        """
        if epochs <= 0:
            raise UserError(f"{epochs:g} epochs: must be more than 0")
        if isinstance(network_or_design, Design):
            torch.manual_seed(seed)
            size = size or network_or_design.size
            network: nn.Module = network_or_design.build(len(self.classes), self.channels)
        else:
            size, network = size or self.size, network_or_design
        chosen = named_recipe(recipe)
        count = self.counts["train"]
        batch = min(batch_size or chosen.batch_size_for(count), count)
        whole = math.ceil(epochs)
        steps = max(1, round(epochs / whole * (count // batch)))
        augmentation = chosen.augmentation_for(count)
        early = _early_size(network, self.channels, size)
        if round(chosen.low_resolution * whole) >= whole:
            early = None  # so few epochs that none would see the full size
        module = ClassifierModule(
            network,
            Preparation(size),
            Augmentation(augmentation, size, len(self.classes), self.channels),
            chosen,
            lr=chosen.lr_for(batch, has_norm(network)),
            steps=whole * steps,
            epochs=whole,
            seed=seed,
            early_size=early if chosen.low_resolution else None,
            class_weights=self._class_weights,
        )
        canvas = named_policy(augmentation, size).canvas(size)
        known = self._part("train", size, canvas)
        train = _batches(known, batch, seed=seed)
        some = known.pictures[:: math.ceil(len(known.labels) / MOST)]  # they lie class by class
        whiten(network, Preparation(size), torch.split(some, 64))
        val = _batches(self._part("val", size), max(64, batch))
        watch = _Watch(on_epoch, progress)
        trainer = self._trainer(whole, steps, chosen.gradient_clip, watch)
        started = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Lightning's advice is for its own users
            try:
                trainer.fit(module, train, val)
            except SystemExit:  # Lightning's answer to Ctrl-C, after which it ignores any further one
                signal.signal(signal.SIGINT, signal.default_int_handler)
                raise KeyboardInterrupt from None
        best = copy.deepcopy(module.best_network).cpu()
        best.load_state_dict(watch.best)
        return Outcome(
            val_accuracy=max(watch.curve),
            train_accuracy=float(module.epoch_metrics["train_accuracy"]),
            curve=tuple(watch.curve),
            seconds=time.perf_counter() - started,
            network=best.eval().requires_grad_(False),
            stopped=watch.stopped,
        )

    def test(self, network: nn.Module, size: int | None = None) -> float:
        """Return the top-1 accuracy, 0 to 1, on the test pictures, which neither train nor choose."""
        return self.accuracy(network, size or self.size, "test")

    def accuracy(self, network: nn.Module, size: int, part: str) -> float:
        """Return the top-1 accuracy, 0 to 1, on ``"train"``, ``"val"`` or ``"test"``, not augmented."""
        device = best_device() if self.device == "auto" else torch.device(self.device)
        network = network.eval().to(device)
        normalise = Normalise(Preparation(size)).to(device)
        right = 0
        with torch.inference_mode():
            for batch in _batches(self._part(part, size), 256):
                pictures = batch["pictures"].to(device).permute(0, 3, 1, 2)
                right += int((network(normalise(pictures)).argmax(1).cpu() == batch["labels"]).sum())
        network.cpu()
        return right / self.counts[part]

    def load(self, size: int) -> None:
        """Decode the training and validation pictures for a size now, so that no training's time holds it."""
        policy = named_policy(named_recipe("modern").augmentation_for(self.counts["train"]), size)
        self._part("train", size, policy.canvas(size))
        self._part("val", size)

    def _part(self, part: str, size: int, canvas: int | None = None) -> _Part:
        """Return the decoded pictures of a part; those of sizes asked for longest ago may have to go."""
        side = canvas or size
        key = (part, size, side)
        if key in self._kept:
            self._kept[key] = self._kept.pop(key)  # the youngest last
            return self._kept[key]
        indices = self._splits[part]
        a_picture = side * side * self.channels
        limit = _memory() // 2
        if len(indices) * a_picture > limit:
            raise UserError(
                f"{self.name}: {len(indices):,} pictures of {side} px need "
                f"{len(indices) * a_picture / 1e9:.1f} GB in memory, and half of this machine's is "
                f"{limit / 1e9:.1f} GB (take at most --pictures {limit // a_picture})"
            )
        while self._kept and sum(k.nbytes for k in self._kept.values()) + len(indices) * a_picture > limit:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = decoded = self._decode(part, indices, size, side)
        return decoded

    def _decode(self, part: str, indices: NDArray[np.int64], size: int, side: int) -> _Part:
        loader = make_loader(
            self._pictures,
            indices,
            Preparation(size),
            train=part == "train",
            batch_size=64,
            seed=self.seed,
            canvas=side,
            workers="auto" if len(indices) * size * size > 2**26 else 0,  # starting processes takes a second
        )
        position = {int(index): i for i, index in enumerate(indices)}
        pixels = torch.zeros((len(indices), side, side, self.channels), dtype=torch.uint8)
        done = 0
        with progress_bar(f"decoding for {size} px ({part})", self.console) as advance:
            for batch in loader:
                if batch["broken"]:  # found only now: the check looks at a sample of large sets
                    raise UserError(f"{batch['broken'][0]} (remove it)")
                pixels[[position[i] for i in batch["index"].tolist()]] = batch["pictures"]
                done += len(batch["labels"])
                advance(done, len(indices))
        return _Part(pixels, torch.from_numpy(self._pictures.labels[indices].astype(np.int64)))

    def _trainer(self, epochs: int, steps: int, gradient_clip: float, watch: Callback) -> Trainer:
        for name in ("lightning.pytorch", "lightning.fabric"):
            logging.getLogger(name).setLevel(logging.ERROR)
        return pl.Trainer(
            accelerator=self.device,
            devices=1,
            precision=mixed(self.precision, self.device),
            max_epochs=epochs,
            limit_train_batches=steps,
            gradient_clip_val=gradient_clip or None,
            logger=False,
            callbacks=[watch],
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
        )


@dataclass(frozen=True)
class _Part:
    """Decoded pictures: uint8 (N, H, W, C), and int64 labels (N,)."""

    pictures: Tensor
    labels: Tensor

    @property
    def nbytes(self) -> int:
        return self.pictures.nbytes


class _Decoded(Dataset[Batch]):
    """Gives whole batches at once, so that a picture costs no Python object."""

    def __init__(self, part: _Part) -> None:
        self.part = part

    def __getitems__(self, turns: list[tuple[int, int]]) -> Batch:
        chosen = torch.tensor([position for _, position in turns])
        return {
            "pictures": self.part.pictures[chosen],
            "labels": self.part.labels[chosen],
            "index": chosen,
        }


def _batches(part: _Part, size: int, *, seed: int | None = None) -> DataLoader[Batch]:
    """Batches of `size` pictures; with a seed, in a new order every epoch, and whole ones only."""
    return DataLoader(
        _Decoded(part),
        batch_size=size,
        sampler=EpochOrder(len(part.labels), shuffle=seed is not None, seed=seed or 0),
        collate_fn=lambda batch: batch,
        drop_last=seed is not None,
    )


class _Watch(Callback):
    """Keeps the best weights and the curve, and asks after every epoch whether to go on."""

    def __init__(
        self,
        on_epoch: Callable[[int, float], bool] | None,
        progress: Callable[[float], None] | None,
    ) -> None:
        self.on_epoch, self.progress = on_epoch, progress
        self.curve: list[float] = []
        self.best: dict[str, Any] = {}
        self.stopped = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.progress is not None:
            total = int(trainer.num_training_batches) * int(trainer.max_epochs or 1)
            self.progress(min(1.0, trainer.global_step / total))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, ClassifierModule)
        accuracy = pl_module.epoch_metrics["val_accuracy"]
        if accuracy >= max(self.curve, default=0.0):  # of equal ones the later: it has seen more
            weights = pl_module.best_network.state_dict()
            self.best = {key: value.detach().cpu().clone() for key, value in weights.items()}
        self.curve.append(accuracy)
        if self.on_epoch is not None and not self.on_epoch(len(self.curve), accuracy):
            self.stopped = trainer.should_stop = True


def _part(members: NDArray[np.int64], labels: NDArray[np.int32], count: int, seed: int) -> NDArray[np.int64]:
    if count < 1:
        raise UserError(f"--pictures {count}: must be at least 1")
    if count >= len(members):
        return members
    share = count / len(members)
    return members[stratified_split(labels[members], {"part": share, "rest": 1 - share}, seed)["part"]]


def _early_size(network: nn.Module, channels: int, size: int) -> int | None:
    """Return three quarters of the size, if the network takes such pictures."""
    early = round(size * 0.75)
    where = next(network.parameters()).device
    training = network.training
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, channels, early, early, device=where))
    except RuntimeError:
        return None
    finally:
        network.train(training)
    return early


def _memory() -> int:
    """Bytes of memory that this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
