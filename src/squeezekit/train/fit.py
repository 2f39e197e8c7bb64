"""From a folder of pictures to a trained network: ``squeezekit train`` in Python."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.text import Text

from squeezekit.data.augment import Augmentation, named_policy
from squeezekit.data.check import check_pictures
from squeezekit.data.loader import PictureLoader, make_loader
from squeezekit.data.shards import ShardSet
from squeezekit.data.source import PictureSet, open_pictures
from squeezekit.errors import UserError
from squeezekit.models import Network, create_model, load_weights
from squeezekit.report.progress import progress_bar
from squeezekit.report.style import plain
from squeezekit.train.allocator import keep_freed_memory
from squeezekit.train.classifier import load_classifier
from squeezekit.train.distributed import data_parallel
from squeezekit.train.evaluate import Evaluation, evaluate
from squeezekit.train.inherit import inherit_classifier
from squeezekit.train.module import ClassifierModule
from squeezekit.train.origin import WEIGHTS, weights_file
from squeezekit.train.page import write_page
from squeezekit.train.place import KeepPlace
from squeezekit.train.plan import Options, Plan, make_plan
from squeezekit.train.precision import mixed
from squeezekit.train.progress import RunProgress
from squeezekit.train.recipes import Recipe
from squeezekit.train.run_folder import (
    CONFIG,
    LAST,
    AtomicCheckpoints,
    KeepRun,
    fingerprint,
    read_config,
    write_json,
)
from squeezekit.train.sample import sample
from squeezekit.train.whiten import MOST, whiten

__all__ = ["Run", "train"]


@dataclass
class Run:
    """A training run, ended or interrupted.

    Attributes
    ----------
    out : Path
        The run folder.
    plan : Plan
    history : list of dict
        A row an epoch.
    evaluation : Evaluation or None
        Of the best weights, on pictures that neither trained nor chose them; None if no epoch ended.
    seconds : float
        Of training, the sittings before a resumption included.
    interrupted : bool
    worker : bool
        One of several processes, and not the first, which speaks for all.
    broken : tuple of str
        ``name: reason`` of each picture that was left out. Empty in a resumed run, whose plan has the names.
    """

    out: Path
    plan: Plan
    history: list[dict[str, float]]
    evaluation: Evaluation | None
    seconds: float
    interrupted: bool
    worker: bool = False
    broken: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The numbers, for ``--json``."""
        return {
            "out": str(self.out),
            "model": self.plan.model,
            "parameters": self.plan.parameters,
            "epochs": len(self.history),
            "seconds": self.seconds,
            "interrupted": self.interrupted,
            "best_val_accuracy": max((row["val_accuracy"] for row in self.history), default=None),
            "test": self.evaluation.to_dict() if self.evaluation else None,
            "history": self.history,
        }


def train(
    data: str | Path, out: str | Path, *, resume: bool = False, console: Console | None = None, **options: Any
) -> Run:
    """Train a network on labelled pictures and leave a run folder.

    Parameters
    ----------
    data : str or Path
        An image folder, a .zip or .tar of one, shards, or the name of an embedded set.
    out : str or Path
        The run folder; made here.
    resume : bool
        Go on with the run in `out`, by its plan. On the CPU the final weights are those of a run that was
        never stopped.
    console : rich.console.Console, optional
        Where progress goes; standard error by default.
    **options
        Fields of :class:`squeezekit.train.plan.Options`.

    Returns
    -------
    Run

    Raises
    ------
    UserError
        For anything that a user can mend.
    """
    asked = Options(**options)
    main = getattr(rank_zero_only, "rank", 0) == 0
    console = Console(quiet=True) if not main else console or Console(stderr=True)
    out = Path(out)
    with progress_bar("opening", console) as advance:
        pictures = open_pictures(data, progress=advance)
    mark = fingerprint(pictures) if main else ""  # the first process speaks for all
    faults: tuple[str, ...] = ()
    if resume:
        plan = _resumed(out, asked, pictures.name, mark)
    else:
        if main:
            _claim(out)
        with progress_bar("checking the pictures", console) as advance:
            report = check_pictures(pictures, advance)
        faults = report.reasons
        plan = make_plan(asked, pictures, report, mark)
    network = _network(plan)  # before anything is written: it may still find that the weights cannot be had
    # A run that was killed in its first epoch left no state: all of it begins again.
    state = out / LAST if resume and (out / LAST).is_file() else None
    if plan.weights and state is None:
        with progress_bar("asking the old classifier", console) as advance:
            inherit_classifier(network, plan, pictures, _weights(plan), advance)
    elif state is None:
        with progress_bar("whitening", console) as advance:
            whiten(network, plan.prepared, (shown for shown, _ in sample(plan, pictures, MOST, advance)))
    module = _module(plan, network)
    interrupted = False
    with _begun(out, plan) if main and not resume else contextlib.nullcontext():
        _introduce(console, plan, faults or plan.broken)
        keep = KeepRun(out, _checkpoint(plan, module))
        trainer = _trainer(asked, plan, out, keep, console)
        batches = _Batches(plan, pictures, "auto" if asked.workers is None else asked.workers)
        if isinstance(pictures, ShardSet):
            batches.place = KeepPlace(out)
            trainer.callbacks.append(batches.place)  # type: ignore[attr-defined]
        keep_freed_memory()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Lightning's advice on workers and logging is for its own users.
            try:
                trainer.fit(module, batches, ckpt_path=state, weights_only=True)
            except SystemExit:  # Lightning's answer to Ctrl-C, after which it ignores any further one
                interrupted = True
                signal.signal(signal.SIGINT, signal.default_int_handler)
    seconds = keep.seconds
    evaluation = None
    if main and (out / WEIGHTS).is_file():
        with progress_bar("evaluating", console) as advance:
            evaluation = evaluate(load_classifier(out), pictures, progress=advance)
    run = Run(out, plan, keep.history, evaluation, seconds, interrupted, not main, faults)
    if main:
        write_json(out / "metrics.json", run.to_dict())
        write_page(run, pictures)
    return run


class _Batches(pl.LightningDataModule):
    """Makes the loaders once Lightning knows which of how many processes this is."""

    def __init__(self, plan: Plan, pictures: PictureSet, workers: int | Literal["auto"]) -> None:
        super().__init__()
        self.plan, self.pictures, self.workers = plan, pictures, workers
        self.splits = plan.splits(pictures)
        self.place: KeepPlace | None = None

    def train_dataloader(self) -> PictureLoader:
        assert self.trainer is not None
        loader = self._loader("train", self.plan.batch_size)
        # Lightning sets it only after the workers of a resumed run have begun to read.
        progress: Any = self.trainer.fit_loop.epoch_progress
        loader.set_epoch(progress.current.processed)
        return loader

    def val_dataloader(self) -> PictureLoader:
        return self._loader("val", max(64, self.plan.batch_size))

    def _loader(self, part: str, batch_size: int) -> PictureLoader:
        assert self.trainer is not None
        preparation = self.plan.prepared
        world = self.trainer.world_size
        return make_loader(
            self.pictures,
            self.splits[part],
            preparation,
            train=part == "train",
            batch_size=max(1, batch_size // world),
            seed=self.plan.seed,
            workers=self.workers,
            canvas=named_policy(self.plan.augmentation, preparation.size).canvas(preparation.size),
            rank=self.trainer.global_rank,
            world_size=world,
            drop_last=part == "train",
            pin_memory=self.trainer.strategy.root_device.type == "cuda",
            place=self.place.place(self.trainer) if self.place and part == "train" else None,
        )


def _claim(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: a file, not a folder (name another --out)")
    if any((out / name).exists() for name in (CONFIG, WEIGHTS, LAST)):
        raise UserError(f"{out}/: holds a run already (--resume goes on with it; or name another --out)")


@contextlib.contextmanager
def _begun(out: Path, plan: Plan) -> Iterator[None]:
    """Write the plan into the run folder; take all away again where the run fails before it leaves a state.

    Else what is left would stand in the way of the next try. An interrupted run keeps what it has.
    """
    board = out / "tensorboard"

    def there() -> list[Path]:
        return [path for path in (*board.glob("*"), board, out / CONFIG, out) if path.exists()]

    before = there()
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / CONFIG, plan.to_dict())
        yield
    except Exception:
        if not any((out / name).is_file() for name in (WEIGHTS, LAST)):
            for path in there():
                if path not in before:
                    with contextlib.suppress(OSError):  # a folder in which somebody else put something
                        path.rmdir() if path.is_dir() else path.unlink()
        raise


def _resumed(out: Path, asked: Options, data: str, mark: str) -> Plan:
    plan = Plan.from_dict(read_config(out), str(out / CONFIG))
    if mark and mark != plan.fingerprint:
        raise UserError(f"{data}: not the pictures that {out}/ was trained on ({plan.data})")
    # Where the work is done may differ this time; what is done may not.
    free = {"device", "precision", "devices", "nodes", "workers", "gradient_compression"}
    before, default = plan.asked, asdict(Options())
    for name, value in json.loads(json.dumps(asdict(asked))).items():  # as the run folder tells it
        if name not in free and value != default[name] and value != before.get(name):
            raise UserError(
                f"{out}/: was started with {name} = {before.get(name)}, not {value} "
                "(--resume takes the run's own options)"
            )
    return plan


def _weights(plan: Plan) -> str | Path:
    """The file that a run starts from, or the word imagenet."""
    assert plan.weights is not None
    return plan.weights if plan.weights == "imagenet" else weights_file(plan.weights)


def _network(plan: Plan) -> Network:
    torch.manual_seed(plan.seed)
    network = create_model(plan.model, len(plan.classes), plan.prepared.channels, **plan.metaparameters)
    if plan.weights:
        load_weights(network, _weights(plan))
    return network


def _module(plan: Plan, network: Network) -> ClassifierModule:
    preparation = plan.prepared
    return ClassifierModule(
        network,
        preparation,
        Augmentation(plan.augmentation, preparation.size, len(plan.classes), preparation.channels),
        Recipe(**plan.recipe),
        lr=plan.lr,
        steps=plan.epochs * (plan.pictures["train"] // plan.batch_size),
        epochs=plan.epochs,
        seed=plan.seed,
        early_size=plan.early_size,
        class_weights=torch.tensor(plan.class_weights) if plan.class_weights else None,
    )


def _checkpoint(plan: Plan, module: ClassifierModule) -> dict[str, Any]:
    return {
        "format": 1,
        "model": module.network.config,
        "preparation": plan.preparation,
        "classes": list(plan.classes),
        "training": {
            "data": plan.data,
            "fingerprint": plan.fingerprint,
            "seed": plan.seed,
            "val_fraction": plan.val_fraction,
            "test_fraction": plan.test_fraction,
            "broken": list(plan.broken),
            "recipe": plan.recipe["name"],
            "epochs": plan.epochs,
        },
    }


def _trainer(asked: Options, plan: Plan, out: Path, keep: KeepRun, console: Console) -> pl.Trainer:
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    devices, nodes = asked.devices, asked.nodes
    if "TORCHELASTIC_RUN_ID" in os.environ:  # started by torchrun, which has decided already
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    several = devices * nodes > 1
    return pl.Trainer(
        accelerator=asked.device,
        devices=devices,
        num_nodes=nodes,
        strategy=data_parallel(asked.gradient_compression, find_unused=plan.recipe["frozen"] > 0)
        if several
        else "auto",
        precision=mixed(asked.precision, asked.device),
        max_epochs=plan.epochs,
        gradient_clip_val=plan.recipe["gradient_clip"] or None,
        logger=TensorBoardLogger(out, name="", version="tensorboard"),
        callbacks=[keep, RunProgress(console)],
        plugins=[AtomicCheckpoints()],
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        log_every_n_steps=10**9,
    )


def _introduce(console: Console, plan: Plan, broken: Sequence[str]) -> None:
    # As Text and plain: names of folders and files are neither markup nor orders to the terminal.
    meta = ", ".join(f"{k}={v}" for k, v in plan.metaparameters.items())
    line = (
        f" ({meta}) on {plan.data}: {len(plan.classes)} classes, "
        + ", ".join(f"{n:,} {part}" for part, n in plan.pictures.items())
        + f"; recipe {plan.recipe['name']}, {plan.epochs} epochs of {plan.batch_size}-picture batches "
        f"at {plan.preparation['size']} px, seed {plan.seed}"
    )
    console.print(Text.assemble((plan.model, "bold"), plain(line)), highlight=False, soft_wrap=True)
    if not broken:
        return
    lines = [f"skipped {len(broken):,} broken picture{'s' if len(broken) > 1 else ''}:"]
    lines += [f"  {fault}" for fault in broken[:5]]
    if len(broken) > 5:
        lines.append(f"  and {len(broken) - 5:,} more")
    for text in lines:
        console.print(Text(plain(text)), highlight=False, soft_wrap=True)
