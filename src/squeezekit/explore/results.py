"""What a study has found: its designs in order, the Pareto front, and what mattered."""

from __future__ import annotations

import csv
import shlex
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from squeezekit.explore.budget import Budget
from squeezekit.explore.design import Design
from squeezekit.explore.objective import Objective
from squeezekit.files import write_atomically

__all__ = ["Results", "Row", "front", "rows"]

#: Fewer designs than this say nothing about what mattered.
_FEWEST = 8
COSTS = ("bytes", "parameters", "macs", "ram", "latency")


@dataclass(frozen=True)
class Row:
    """A trial that has ended.

    Attributes
    ----------
    number : int
        Of the trial.
    design : Design
    parameters, distributions : dict
        The search's own, which the design was made of, and what they were drawn from.
    costs : dict of str to float
    accuracy : float
        Of the pictures that choose, 0 to 1, after a short training: it ranks designs and is no figure to
        report.
    value : float or None
        Of the objective, where it is one number.
    stopped : bool
        After fewer epochs, for being behind.
    epochs : int
    seconds : float
    seed : int
        Of its training.
    worker : str
        Who trained it.
    retry_of : int or None
        The trial that it took up.
    error : str or None
        Why there is no accuracy.
    """

    number: int
    design: Design
    parameters: dict[str, Any]
    distributions: dict[str, BaseDistribution]
    costs: dict[str, float]
    accuracy: float
    value: float | None
    stopped: bool
    epochs: int
    seconds: float
    seed: int
    worker: str
    retry_of: int | None = None
    error: str | None = None


def rows(trials: Sequence[FrozenTrial], objective: Objective) -> list[Row]:
    """Return the trials that have ended, in the order of their numbers."""
    found = []
    for trial in trials:
        attrs = trial.user_attrs
        if trial.state not in (TrialState.COMPLETE, TrialState.PRUNED) or "accuracy" not in attrs:
            continue
        accuracy, costs = float(attrs["accuracy"]), dict(attrs["costs"])
        found.append(
            Row(
                number=trial.number,
                design=Design.from_dict(attrs["design"]),
                parameters=dict(trial.params),
                distributions=dict(trial.distributions),
                costs=costs,
                accuracy=accuracy,
                value=None if objective.several else objective.values(accuracy, costs)[0],
                stopped=bool(attrs.get("stopped", False)),
                epochs=len(attrs.get("curve", ())),
                seconds=float(attrs.get("seconds", 0.0)),
                seed=int(attrs["seed"]),
                worker=str(attrs["worker"]),
                retry_of=trial.system_attrs.get("failed_trial"),
                error=attrs.get("error"),
            )
        )
    return found


def front(candidates: Sequence[Row], costs: Sequence[str]) -> list[Row]:
    """Return the rows that no other beats: as accurate for as little of every cost, and better in one.

    Parameters
    ----------
    candidates
    costs
        Names of those that count.

    Returns
    -------
    list of Row
        The most accurate first.
    """

    def numbers(row: Row) -> tuple[float, ...]:
        return (-row.accuracy, *(row.costs[name] for name in costs))

    def beats(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
        return a != b and all(x <= y for x, y in zip(a, b, strict=True))

    found = [row for row in candidates if not any(beats(numbers(r), numbers(row)) for r in candidates)]
    return sorted(found, key=lambda row: (-row.accuracy, row.costs["bytes"]))


@dataclass(frozen=True)
class Results:
    """All of a study that has ended.

    Attributes
    ----------
    objective : Objective
    budget : Budget
    rows : list of Row
        In the order of their numbers.
    """

    objective: Objective
    budget: Budget
    rows: list[Row]

    @property
    def whole(self) -> list[Row]:
        """Those that were trained for all epochs and came to something."""
        return [row for row in self.rows if not row.stopped and row.error is None]

    @property
    def ranked(self) -> list[Row]:
        """The whole ones, the best first: by the one objective, or by accuracy."""
        return sorted(
            self.whole, key=lambda r: (-(r.accuracy if r.value is None else r.value), r.costs["bytes"])
        )

    @property
    def best(self) -> Row | None:
        """The first of them."""
        return next(iter(self.ranked), None)

    @property
    def front(self) -> list[Row]:
        """The Pareto front of accuracy against the costs that are asked about: bytes, if none is."""
        product = ("macs",) if self.objective.target else ()  # MnasNet's
        asked = dict.fromkeys((*self.objective.costs, *product, *self.budget.asked.names))
        return front(self.whole, tuple(asked) or ("bytes",))

    def importance(self) -> dict[str, float]:
        """Return the share of the accuracy's variation that each parameter explains (fANOVA).

        Hutter et al., ICML 2014. Of the family that was tried most often, and of its whole trainings; nothing
        where they are too few, or all came out alike.
        """
        whole = self.whole
        if not whole:
            return {}
        family = Counter(row.design.model for row in whole).most_common(1)[0][0]
        own = [row for row in whole if row.design.model == family]
        if len(own) < _FEWEST:
            return {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            study = optuna.create_study()
            for row in own:
                own_names = [name for name in row.parameters if name != "family"]
                study.add_trial(
                    optuna.create_trial(
                        params={name: row.parameters[name] for name in own_names},
                        distributions={name: row.distributions[name] for name in own_names},
                        value=row.accuracy,
                    )
                )
            evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
            try:
                found = optuna.importance.get_param_importances(study, evaluator=evaluator)
            except RuntimeError:  # no variance: all came out alike
                return {}
        return {name.partition(".")[2]: float(share) for name, share in found.items()}

    def write_csv(self, path: Path) -> None:
        """Write a line a trial: numbers for those who want them."""
        names = sorted({name for row in self.rows for name in row.parameters})
        costs = [name for name in COSTS if any(name in row.costs for row in self.rows)]
        fields = ["trial", "model", "size", "val_accuracy", "objective", *costs, "stopped", "epochs"]
        fields += ["seconds", "seed", "worker", "retry_of", "error", *names]
        with write_atomically(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=fields)
            writer.writeheader()
            for row in self.rows:
                writer.writerow(
                    {
                        "trial": row.number,
                        "model": row.design.model,
                        "size": row.design.size,
                        "val_accuracy": row.accuracy,
                        "objective": row.value,
                        **{name: row.costs.get(name) for name in costs},
                        "stopped": row.stopped,
                        "epochs": row.epochs,
                        "seconds": round(row.seconds, 3),
                        "seed": row.seed,
                        "worker": row.worker,
                        "retry_of": row.retry_of,
                        "error": row.error,
                        **row.parameters,
                    }
                )

    def to_dict(self) -> dict[str, Any]:
        """The numbers, for ``--json``."""
        return {
            "objective": str(self.objective),
            "budget": str(self.budget),
            "trials": len(self.rows),
            "stopped": sum(row.stopped for row in self.rows),
            "best": None if self.best is None else told(self.best),
            "front": [told(row) for row in self.front],
            "importance": self.importance(),
        }


def told(row: Row) -> dict[str, Any]:
    """Return a row as plain values."""
    return {
        "trial": row.number,
        **row.design.to_dict(),
        "val_accuracy": row.accuracy,
        "objective": row.value,
        **row.costs,
        "epochs": row.epochs,
        "stopped": row.stopped,
        "seed": row.seed,
        "seconds": row.seconds,
    }


def commands(row: Row, data: str, out: Path, seed: int, budget: Budget) -> tuple[str, str]:
    """Return the lines for a shell that train a design in full and compress what comes of it."""
    folder = out / f"trial-{row.number}"
    limit = dict(budget.bounds).get("bytes")
    words = ["squeezekit", "compress", str(folder), "--data", data, "--out", f"{folder}.sqz"]
    words += [] if limit is None else ["--max-bytes", str(int(limit))]
    train = row.design.command(data, str(folder)) + (f" --seed {seed}" if seed else "")
    return train, shlex.join(words)
