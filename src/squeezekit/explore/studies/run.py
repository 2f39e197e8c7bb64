"""Runs a study: every variant from every seed, each row kept as soon as it is there."""

from __future__ import annotations

import csv
import shlex
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from squeezekit.errors import UserError, suggest
from squeezekit.explore.short import ShortTraining
from squeezekit.explore.studies.bypass import BYPASS
from squeezekit.explore.studies.compression import COMPRESSION
from squeezekit.explore.studies.ground import Ground, train_and_measure
from squeezekit.explore.studies.microarchitecture import PCT_3X3, SQUEEZE_RATIO
from squeezekit.explore.studies.multipliers import MULTIPLIERS
from squeezekit.explore.studies.rows import Row, StudyFolder
from squeezekit.explore.studies.scaling import SCALING
from squeezekit.explore.studies.strategies import STRATEGIES
from squeezekit.explore.studies.study import Plan, Setting, Study
from squeezekit.explore.studies.verdicts import judge, summarise
from squeezekit.files import write_atomically
from squeezekit.report.studies import study_figure, study_markdown
from squeezekit.report.style import duration, percent
from squeezekit.train.recipes import recipe

__all__ = ["STUDIES", "StudyOptions", "run_study"]

STUDIES: dict[str, Study] = {
    study.name: study
    for study in (SQUEEZE_RATIO, PCT_3X3, BYPASS, STRATEGIES, SCALING, MULTIPLIERS, COMPRESSION)
}

#: In the quick form pictures are at most so large, and so many of them train.
_QUICK_SIZE, _QUICK_PICTURES = 32, 3000


@dataclass(frozen=True)
class StudyOptions:
    """What may be asked of a study. None leaves it to the form, or to ``train``'s own choice.

    Attributes
    ----------
    quick : bool
        Networks of a few ten thousand parameters, 32 pixels, at most 3,000 pictures, few epochs.
    seeds : int
        Trainings of each variant: seeds 0, 1, 2, … An earlier study of fewer seeds goes on with the others.
    epochs, pictures, size : int, optional
        Of every training. `size` is that of the unscaled network.
    model : str, optional
        For the study of compression: a network that was trained before, in place of new ones.
    device, precision : str
        As for ``train``.
    """

    quick: bool = False
    seeds: int = 3
    epochs: int | None = None
    pictures: int | None = None
    size: int | None = None
    model: str | None = None
    device: str = "auto"
    precision: str = "auto"

    def __post_init__(self) -> None:
        for name in ("seeds", "epochs", "pictures", "size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"--{name} {value}: must be at least 1")


def run_study(
    name: str, data: str | Path, out: str | Path, options: StudyOptions, console: Console | None = None
) -> dict[str, Any]:
    """Run a study of a paper, or go on with one that was stopped.

    Parameters
    ----------
    name : str
        One of :data:`STUDIES`.
    data : str or Path
        An image folder, a .zip or .tar of one, or the name of an embedded set.
    out : str or Path
        The study's folder: ``study.json`` (every row, from the first on), and in the end ``study.csv``,
        ``study.svg`` and ``study.md``.
    options : StudyOptions
    console : rich.console.Console, optional
        Where progress goes; standard error by default.

    Returns
    -------
    dict
        What ``study.json`` says in the end: ``"study"``, ``"settings"``, ``"variants"`` (means over the
        seeds), ``"verdicts"``, ``"rows"``.

    Raises
    ------
    UserError
        For anything that a user can mend.
    """
    if name not in STUDIES:
        raise UserError(f"{name}: no such study{suggest(name, STUDIES)} ({', '.join(STUDIES)})")
    study = STUDIES[name]
    if options.model is not None and study is not COMPRESSION:
        raise UserError(f"--model: the study {name} trains networks of its own (compression takes one)")
    console = console or Console(stderr=True)
    training = ShortTraining(
        data,
        pictures=options.pictures or (_QUICK_PICTURES if options.quick else None),
        device=options.device,
        precision=options.precision,
        console=console,
    )
    size = options.size or (min(training.size, _QUICK_SIZE) if options.quick else training.size)
    train_pictures = training.counts["train"]
    epochs = options.epochs or (
        max(4, round(study.pictures_seen / train_pictures))
        if options.quick
        else recipe("modern").epochs_for(train_pictures)
    )
    plan = study.plan(Setting(size, options.quick))
    folder = StudyFolder(
        Path(out),
        {
            "study": name,
            "quick": options.quick,
            "fingerprint": training.fingerprint,
            "train": train_pictures,
            "val": training.counts["val"],
            "test": training.counts["test"],
            "size": size,
            "epochs": epochs,
            "split_seed": training.seed,
            "model": options.model,
        },
    )
    ground = Ground(training, epochs, options.quick, folder, console, str(data), options.model)
    _fill(study, plan, ground, options.seeds)
    return _finish(study, plan, folder, str(data), options)


def _fill(study: Study, plan: Plan, ground: Ground, seeds: int) -> None:
    """Measure what is missing, seed by seed, so that a study that is stopped can compare."""
    measure, folder = study.measure or train_and_measure, ground.folder
    wanted = [(variant, seed) for seed in range(seeds) for variant in plan.variants]
    missing = [(variant, seed) for variant, seed in wanted if not folder.has(variant.name, seed)]
    if len(missing) < len(wanted):
        ground.console.print(
            f"{folder.path}/: {len(wanted) - len(missing)} of {len(wanted)} rows are there; going on",
            highlight=False,
            soft_wrap=True,
        )
    started = time.perf_counter()
    for done, (variant, seed) in enumerate(missing, start=1):
        row = measure(ground, variant, seed)
        folder.append(row)
        left = (time.perf_counter() - started) / done * (len(missing) - done)
        ground.console.print(
            f"{len(wanted) - len(missing) + done}/{len(wanted)}  {variant.name}, seed {seed}: "
            f"test {percent(row.test_accuracy)} in {duration(row.seconds)}"
            + (f", about {duration(left)} left" if done < len(missing) else ""),
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


def _finish(
    study: Study, plan: Plan, folder: StudyFolder, data: str, options: StudyOptions
) -> dict[str, Any]:
    """Write table, figure and text, of the seeds that were asked for."""
    found = {(row.variant, row.seed): row for row in folder.rows}
    wanted = ((variant.name, seed) for variant in plan.variants for seed in range(options.seeds))
    rows = [found[each] for each in wanted if each in found]
    result = {
        "study": {**study.to_dict(), "figure": study.figure},
        "command": _command(study.name, data, options),
        "data": data,
        "threads": torch.get_num_threads(),
        "seconds": sum(row.seconds for row in rows),
        "settings": folder.settings,
        "variants": summarise(plan.variants, rows),
        "verdicts": [verdict.to_dict() for verdict in judge(plan.claims, rows)],
        "rows": [asdict(row) for row in folder.rows],
    }
    folder.write(result)
    table = folder.path / "study.csv"
    with write_atomically(table) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(Row.__dataclass_fields__))
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    with write_atomically(folder.path / "study.svg") as temporary:
        study_figure(result).savefig(temporary, metadata={"Date": None})
    with write_atomically(folder.path / "study.md") as temporary:
        temporary.write_text(study_markdown(result), encoding="utf-8")
    return result


def _command(name: str, data: str, options: StudyOptions) -> str:
    """Return the line for a shell that makes the same study again."""
    words = ["squeezekit", "study", name, data]
    if options.quick:
        words.append("--quick")
    for option in ("seeds", "epochs", "pictures", "size", "model"):
        value = getattr(options, option)
        if value is not None:
            words += [f"--{option}", str(value)]
    return shlex.join([*words, "--out", "DIR"])
