"""From a folder of pictures and a budget to the network that suits them: ``squeezekit explore`` in Python."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from squeezekit.errors import UserError
from squeezekit.explore.budget import Budget, parse_budget
from squeezekit.explore.counting import BITS_A_WEIGHT
from squeezekit.explore.objective import parse_objective
from squeezekit.explore.page import write_page
from squeezekit.explore.progress import SearchProgress
from squeezekit.explore.results import Results, Row, rows
from squeezekit.explore.search import Search, Settings
from squeezekit.explore.short import ShortTraining
from squeezekit.explore.space import Space
from squeezekit.train.fit import Run, train
from squeezekit.train.run_folder import CONFIG

__all__ = ["Exploration", "explore", "retrain"]

#: Multiply-accumulates for each pixel of the picture that a design may take where nobody bounds them: twice
#: SqueezeNet v1.0's. Without a bound a search drifts to networks that take hours to train.
MACS_A_PIXEL = 32_000

#: (trials where no time is given, training pictures, epochs)
_FULL, _QUICK = (60, 10_000, 8), (12, 2_000, 3)


@dataclass
class Exploration:
    """A search, ended or interrupted.

    Attributes
    ----------
    out : Path
        The study folder: page, pictures, table.
    results : Results
    data : str
    settings : Settings
    interrupted : bool
    """

    out: Path
    results: Results
    data: str
    settings: Settings
    interrupted: bool

    def to_dict(self) -> dict[str, Any]:
        """The numbers, for ``--json``."""
        return {"out": str(self.out), "interrupted": self.interrupted, **self.results.to_dict()}


def explore(
    data: str | Path,
    out: str | Path,
    *,
    space: str = "squeezenet",
    budget: str = "",
    objective: str = "accuracy",
    target_macs: float | None = None,
    trials: int | None = None,
    minutes: float | None = None,
    quick: bool = False,
    pictures: int | None = None,
    epochs: int | None = None,
    size: int | None = None,
    bits: float = BITS_A_WEIGHT,
    seed: int = 0,
    sampler: str = "tpe",
    halving: bool = True,
    storage: str | None = None,
    study: str = "explore",
    heartbeat: int = 20,
    device: str = "auto",
    precision: str = "auto",
    console: Console | None = None,
) -> Exploration:
    """Search a design space for the networks that suit these pictures and this budget.

    Parameters
    ----------
    data : str or Path
        As for ``train``.
    out : str or Path
        The study folder. One that is there already goes on.
    space, budget, objective, target_macs, sampler : str
        See :mod:`~squeezekit.explore.space`, :mod:`~squeezekit.explore.budget`,
        :mod:`~squeezekit.explore.objective`, :mod:`~squeezekit.explore.sampler`.
    trials : int, optional
        Of the whole study, all workers together.
    minutes : float, optional
        Of this process; no trial is begun that would not end in time. Without both: 60 trials.
    quick : bool
        12 trials of 3 epochs with 2,000 pictures, instead of 60 of 8 with 10,000.
    pictures, epochs : int, optional
        Of a trial.
    size : int, optional
        Side of the pictures; by default what ``train`` would choose.
    bits : float
        That a weight is taken to need in the file, for the bytes of a design. Fewer bits for more weights may
        well be better: ``compress --max-bytes`` reaches the size in the end.
    seed : int
    halving : bool
        Stop designs that fall behind.
    storage : str, optional
        Address of a database that several machines reach.
    study : str
        Name of the study in it.
    heartbeat : int
        Seconds between a worker's signs of life.
    device, precision : str
        As for ``train``.
    console : Console, optional
        Where progress goes; standard error by default.

    Raises
    ------
    UserError
        For anything that a user can mend.
    """
    console = console or Console(stderr=True)
    default = _QUICK if quick else _FULL
    for name, value in (("trials", trials), ("minutes", minutes), ("pictures", pictures), ("epochs", epochs),
                        ("heartbeat", heartbeat), ("size", size)):  # fmt: skip
        if value is not None and not value > 0:  # nor is nan
            raise UserError(f"--{name} {value}: must be more than 0")
    if not study.strip():
        raise UserError(f"--study {study!r}: expected a name")
    if not 0.1 <= bits <= 8:
        raise UserError(f"--bits {bits}: must be from 0.1 to 8")
    if trials is None and minutes is None:
        trials = default[0]
    asked = parse_budget(budget)
    bounds = dict(asked.bounds)
    aim = parse_objective(objective, target_macs or bounds.get("macs"))
    Space(space, 32)  # complains of an unknown one before pictures are looked at
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: a file, not a folder (name another --out)")
    short = ShortTraining(
        data, pictures=pictures or default[1], seed=seed, device=device, precision=precision, console=console
    )
    side = size or short.size
    if "macs" not in bounds:
        most = max(MACS_A_PIXEL * side * side, 4 * (aim.target or 0))
        asked = Budget((*asked.bounds, ("macs", float(most))), added=("macs",))
    settings = Settings(
        space=space,
        objective=str(aim),
        budget=str(asked),
        target_macs=aim.target,
        sampler=sampler,
        halving=halving,
        seed=seed,
        size=side,
        pictures=pictures or default[1],
        epochs=epochs or default[2],
        bits=bits,
        data=short.fingerprint,
    )
    search = Search(
        short, Space(space, side), aim, asked, settings, out, storage=storage, name=study, heartbeat=heartbeat
    )
    for each in search.space.sizes:
        short.load(each)

    def found() -> Results:
        return Results(aim, asked, rows(search.trials(), aim))

    watcher = search.watcher = SearchProgress(console, found, trials, minutes)
    _introduce(console, settings, short, trials, minutes)
    interrupted = False
    with watcher.shown():
        try:
            search.run(trials, minutes)
        except KeyboardInterrupt:
            interrupted = True
    done = Exploration(out, found(), str(data), settings, interrupted)
    write_page(out, done.results, str(data), settings)
    return done


def retrain(
    done: Exploration,
    which: str,
    *,
    epochs: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    console: Console | None = None,
) -> Run:
    """Train a design in full; leaves a run folder in the study folder, ready for ``compress``.

    Parameters
    ----------
    done
    which
        ``"best"``, or the number of a trial.
    epochs, device, precision, console
        As for ``train``. A run that was stopped goes on.

    Raises
    ------
    UserError
        There is no such trial.
    """
    row = _chosen(done.results, which)
    folder = done.out / f"trial-{row.number}"
    return train(
        done.data,
        folder,
        resume=(folder / CONFIG).is_file(),
        console=console,
        model=row.design.model,
        metaparameters=dict(row.design.metaparameters),
        size=row.design.size,
        seed=done.settings.seed,
        epochs=epochs,
        device=device,
        precision=precision,
    )


def _chosen(results: Results, which: str) -> Row:
    if which == "best":
        if results.best is None:
            raise UserError("--retrain best: no design has been trained to the end yet (more --trials)")
        return results.best
    for row in results.rows:
        if str(row.number) == which:
            return row
    raise UserError(f"--retrain {which}: no such trial (best, or a number of the table)")


def _introduce(
    console: Console, settings: Settings, short: ShortTraining, trials: int | None, minutes: float | None
) -> None:
    counts = ", ".join(f"{n:,} {part}" for part, n in short.counts.items())
    goal = " or ".join(
        [*([f"{trials} trials"] if trials else []), *([f"{minutes:g} minutes"] if minutes else [])]
    )
    console.print(
        f"[bold]exploring {settings.space}[/] on {short.name}: {len(short.classes)} classes, {counts}; "
        f"{settings.objective} under {settings.budget}; {settings.epochs} epochs a trial at "
        f"{settings.size} px, {goal}, seed {settings.seed}",
        highlight=False,
        soft_wrap=True,
    )
