"""Which constants of compound scaling suit a network and these pictures.

EfficientNet (arXiv:1905.11946, section 4, step 1): fix φ = 1, so that the work doubles, and try α, β and γ on
a grid under α · β² · γ² = 2. Every candidate is trained as briefly as the others, from the same seeds, and
its work is counted exactly. Validation pictures choose; test pictures only tell what was chosen.
"""

from __future__ import annotations

import itertools
import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from squeezekit.errors import UserError
from squeezekit.explore.design import Design
from squeezekit.explore.scaling import Bases, Compound, compound
from squeezekit.explore.short import ShortTraining
from squeezekit.files import write_bytes

__all__ = ["ALPHAS", "BETAS", "SEARCH", "Candidate", "Search", "Settings", "Training", "grid", "read_bases"]

#: Depth and width of the grid; what they leave of the doubling is resolution.
ALPHAS = (1.0, 1.2, 1.4, 1.6, 1.8, 2.0)
BETAS = (1.0, 1.1, 1.2, 1.3, 1.4)

#: Where a search is kept in its folder.
SEARCH = "search.json"


@dataclass(frozen=True)
class Settings:
    """What a search tries, and how long it trains.

    Attributes
    ----------
    phi : float
        φ of the candidates: 1 doubles the work; −1 halves it, for constants to shrink by.
    alphas, betas : tuple of float
        The grid.
    epochs : float
        Of each training.
    seeds : int
        Trainings of each candidate.
    seed : int
        Of the first.
    pictures : int or None
        Train with so many.
    recipe : str
    batch_size : int or None
    """

    phi: float = 1.0
    alphas: tuple[float, ...] = ALPHAS
    betas: tuple[float, ...] = BETAS
    epochs: float = 8.0
    seeds: int = 1
    seed: int = 0
    pictures: int | None = None
    recipe: str = "modern"
    batch_size: int | None = None

    def __post_init__(self) -> None:
        if self.phi == 0:
            raise UserError("--phi 0: all constants give the baseline (1 doubles its work, -1 halves it)")
        if not 0 < self.epochs < math.inf:  # nor is nan
            raise UserError(f"--epochs {self.epochs:g}: must be more than 0")
        if self.seeds < 1:
            raise UserError(f"--seeds {self.seeds}: must be at least 1")


@dataclass(frozen=True)
class Training:
    """One short training; accuracies from 0 to 1."""

    design: Design
    seed: int
    val_accuracy: float
    train_accuracy: float
    test_accuracy: float
    seconds: float


@dataclass(frozen=True)
class Candidate:
    """Constants of the grid, the network they make, and what its trainings came to.

    Attributes
    ----------
    scaling : Compound
    trainings : tuple of Training
        One a seed, as far as they are done.
    val_pictures : int
    """

    scaling: Compound
    trainings: tuple[Training, ...]
    val_pictures: int

    @property
    def val_accuracy(self) -> float:
        """Mean over the seeds: what chooses."""
        return statistics.fmean(each.val_accuracy for each in self.trainings)

    @property
    def test_accuracy(self) -> float:
        """Mean over the seeds: what is reported."""
        return statistics.fmean(each.test_accuracy for each in self.trainings)

    @property
    def error(self) -> float:
        """Standard error of :attr:`val_accuracy`: from the seeds, or of one training from its pictures."""
        if len(self.trainings) > 1:
            deviation = statistics.stdev(each.val_accuracy for each in self.trainings)
            return deviation / math.sqrt(len(self.trainings))
        return math.sqrt(self.val_accuracy * (1 - self.val_accuracy) / self.val_pictures)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            **asdict(self.scaling.bases),
            "design": self.scaling.design.to_dict(),
            "flops": self.scaling.after.macs,
            "flops_ratio": self.scaling.ratio,
            "parameters": self.scaling.after.parameters,
            "val_accuracy": self.val_accuracy,
            "val_error": self.error,
            "test_accuracy": self.test_accuracy,
            "seeds": len(self.trainings),
            "seconds": sum(each.seconds for each in self.trainings),
        }


def grid(alphas: Sequence[float] = ALPHAS, betas: Sequence[float] = BETAS) -> list[Bases]:
    """Give the constants to try: each pair of α and β with the γ that makes α · β² · γ² = 2.

    Pairs that more than double the work by themselves have no γ and are left out.

    Raises
    ------
    UserError
        Nothing is left.

    Examples
    --------
    >>> [round(bases.gamma, 2) for bases in grid([1.0, 1.2, 2.0], [1.0, 1.4])]
    [1.41, 1.01, 1.29, 1.0]
    """
    pairs = [(a, b) for a, b in itertools.product(sorted(set(alphas)), sorted(set(betas))) if a * b * b <= 2]
    if not pairs:
        raise UserError("--alphas, --betas: every pair more than doubles the work (alpha·beta² is at most 2)")
    return [Bases(a, b, round(max(1.0, math.sqrt(2 / (a * b * b))), 4)) for a, b in pairs]


class Search:
    """A search in a folder. What is trained there already is not trained again.

    Parameters
    ----------
    out
        The folder; made if it is not there.
    short
        The pictures.
    baseline
    settings

    Attributes
    ----------
    candidates : list of Candidate
        As far as they have been trained, in the order of the grid.

    Raises
    ------
    UserError
        The folder holds a search of something else, or a candidate is too small for its pictures.
    """

    def __init__(
        self,
        out: str | Path,
        short: ShortTraining,
        baseline: Design,
        settings: Settings,
        progress: Callable[[int, int], None] = lambda *_: None,
    ) -> None:
        self.short, self.baseline, self.settings = short, baseline, settings
        self.path = Path(out) / SEARCH
        self.trainings = _resumed(self.path, self._about())
        self.path.parent.mkdir(parents=True, exist_ok=True)
        classes, channels = len(short.classes), short.channels
        bases = grid(settings.alphas, settings.betas)
        self.scalings = [compound(baseline, 0, classes=classes, channels=channels)]
        for number, each in enumerate(bases):
            progress(number, len(bases))
            self.scalings.append(compound(baseline, settings.phi, each, classes=classes, channels=channels))

    @property
    def to_train(self) -> list[tuple[Compound, int]]:
        """Networks and seeds, one for each design: neighbours on the grid may round to the same network."""
        first = {scaling.design: scaling for scaling in reversed(self.scalings)}
        ordered = [scaling for scaling in self.scalings if first[scaling.design] is scaling]
        seeds = range(self.settings.seed, self.settings.seed + self.settings.seeds)
        return [(scaling, seed) for seed in seeds for scaling in ordered]

    def run(
        self,
        on_training: Callable[[int, int, Compound], Callable[[float], None]] | None = None,
        on_result: Callable[[int, int, Compound, Training], None] | None = None,
    ) -> None:
        """Train what is not trained yet, the baseline first; each result is written as it comes.

        Parameters
        ----------
        on_training
            Called with (number from 1, how many, the network) before each; gives what is called with the
            share of it that is done.
        on_result
            Called with (number, how many, the network, the result) after each.
        """
        wanted = self.to_train
        known = {(each.design, each.seed) for each in self.trainings}
        for number, (scaling, seed) in enumerate(wanted, start=1):
            if (scaling.design, seed) in known:
                continue
            progress = on_training(number, len(wanted), scaling) if on_training else None
            outcome = self.short.run(
                scaling.design,
                epochs=self.settings.epochs,
                seed=seed,
                batch_size=self.settings.batch_size,
                recipe=self.settings.recipe,
                progress=progress,
            )
            test = self.short.test(outcome.network, scaling.design.size)
            accuracies = outcome.val_accuracy, outcome.train_accuracy, test
            result = Training(scaling.design, seed, *accuracies, outcome.seconds)
            self.trainings.append(result)
            self._write()
            if on_result:
                on_result(number, len(wanted), scaling, result)

    def _candidate(self, scaling: Compound) -> Candidate | None:
        seeds = range(self.settings.seed, self.settings.seed + self.settings.seeds)
        of_it = (each for each in self.trainings if each.design == scaling.design and each.seed in seeds)
        trainings = tuple(sorted(of_it, key=lambda each: each.seed))
        return Candidate(scaling, trainings, self.short.counts["val"]) if trainings else None

    @property
    def reference(self) -> Candidate | None:
        """The baseline, trained like the others."""
        return self._candidate(self.scalings[0])

    @property
    def candidates(self) -> list[Candidate]:
        """Those of the grid that are trained."""
        return [found for found in map(self._candidate, self.scalings[1:]) if found is not None]

    @property
    def best(self) -> Candidate:
        """The one of highest validation accuracy; of equal ones the one with fewer parameters."""
        return max(self.candidates, key=lambda each: (each.val_accuracy, -each.scaling.after.parameters))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for ``--json`` and the file."""
        candidates = self.candidates
        return {
            "format": 1,
            **self._about(),
            "seeds": self.settings.seeds,
            "classes": len(self.short.classes),
            "pictures": dict(self.short.counts),
            "reference": self.reference.to_dict() if self.reference else None,
            "candidates": [each.to_dict() for each in candidates],
            "best": self.best.to_dict() if candidates else None,
            "trainings": [{**asdict(each), "design": each.design.to_dict()} for each in self.trainings],
        }

    def _about(self) -> dict[str, Any]:
        """What must be the same for results to belong together."""
        settings = {key: value for key, value in asdict(self.settings).items() if key != "seeds"}
        return {
            "data": self.short.name,
            "fingerprint": self.short.fingerprint,
            "baseline": self.baseline.to_dict(),
            "settings": json.loads(json.dumps(settings)),
        }

    def _write(self) -> None:
        write_bytes(self.path, json.dumps(self.to_dict(), indent=2).encode())


def _resumed(path: Path, about: dict[str, Any]) -> list[Training]:
    if not path.exists():
        return []
    values = _read(path)
    for key in ("fingerprint", "baseline"):
        if values.get(key) != about[key]:
            what = {"fingerprint": "pictures", "baseline": "network"}[key]
            raise UserError(f"{path}: a search with another {what} (name another --out)")
    before = values.get("settings", {})
    for key, value in about["settings"].items():
        if before.get(key) != value:
            raise UserError(
                f"{path}: was searched with {key} = {before.get(key)}, not {value} (name another --out)"
            )
    try:
        return [
            Training(**{**each, "design": Design.from_dict(each["design"])}) for each in values["trainings"]
        ]
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: damaged, or written by another version ({error})") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    if not isinstance(values, dict) or values.get("format") != 1:
        raise UserError(f"{path}: not a search, or written by another version")
    return values


def read_bases(folder: str | Path) -> tuple[Bases, Design, int]:
    """Read what a search came to.

    Returns
    -------
    bases : Bases
        The best constants.
    baseline : Design
    classes : int

    Raises
    ------
    UserError
        There is no search in the folder, or it has no result yet.
    """
    path = Path(folder) / SEARCH
    if not path.is_file():
        raise UserError(f"{folder}: no search in it (squeezekit scale search --out {folder} makes one)")
    values = _read(path)
    best = values.get("best")
    if best is None:
        raise UserError(f"{path}: has no result yet (squeezekit scale search goes on with it)")
    try:
        bases = Bases(*(float(best[name]) for name in ("alpha", "beta", "gamma")))
        return bases, Design.from_dict(values["baseline"]), int(values["classes"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: damaged, or written by another version ({error!r})") from error
