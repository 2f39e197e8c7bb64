"""The search: ask for a design, train it briefly, tell how good it is; on one machine or on many.

Optuna keeps the study, proposes the designs and stops the poor ones. Any number of processes may run this on
one storage. A trial belongs to the process that trains it; if that dies, its heart stops and the trial goes
back into the queue with its design and its seed.
"""

from __future__ import annotations

import os
import socket
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.pruners import SuccessiveHalvingPruner
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.trial import FrozenTrial, TrialState

from squeezekit.errors import UserError
from squeezekit.explore.budget import Budget
from squeezekit.explore.counting import built, count, sums
from squeezekit.explore.design import Design
from squeezekit.explore.halving import REDUCTION, goes_on, rungs
from squeezekit.explore.latency import latency
from squeezekit.explore.objective import Objective
from squeezekit.explore.possible import least, possible
from squeezekit.explore.sampler import WithinBudget
from squeezekit.explore.short import ShortTraining
from squeezekit.explore.space import Space
from squeezekit.explore.storage import LOST_AFTER, open_storage, reachable

__all__ = ["Search", "Settings", "Watcher"]

_COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)
_CLAIMED = (*_COUNTED, TrialState.RUNNING, TrialState.WAITING)


@dataclass(frozen=True)
class Settings:
    """What makes a study this study: the same on every machine, and whenever it is taken up again.

    Attributes
    ----------
    space, objective, budget : str
        As on the command line.
    target_macs : float or None
        T of MnasNet's product.
    sampler : str
    halving : bool
        Whether poor designs are stopped early.
    seed : int
        Of the split, of what is proposed, and of every training.
    size : int
        Side of the pictures in pixels.
    pictures : int or None
        That train; None: all.
    epochs : int
        Of a trial.
    bits : float
        That a weight is taken to need in the file.
    data : str
        Fingerprint of the pictures.
    """

    space: str
    objective: str
    budget: str
    target_macs: float | None
    sampler: str
    halving: bool
    seed: int
    size: int
    pictures: int | None
    epochs: int
    bits: float
    data: str


class Watcher:
    """Is told how a search goes on; this one does not care."""

    def started(self, number: int, design: Design, costs: Mapping[str, float]) -> None:
        """Say that this process begins a trial."""

    def epoch(self, epoch: int, accuracy: float) -> None:
        """Say that an epoch of it has ended."""

    def progress(self, share: float) -> None:
        """Say which share of the trial is done."""

    def ended(self, number: int) -> None:
        """Say that a trial of this process has ended."""

    def waiting(self, others: int) -> None:
        """Say that nothing is left but what others are at."""


class _Superfluous(Exception):  # noqa: N818 (it is no error)
    """Enough trials have been begun before this one."""


class Search:
    """A study, and one process that works on it.

    Parameters
    ----------
    short
        The pictures.
    space, objective, budget
    settings
        Must be those the study was made with.
    out
        The study folder, made once the budget is known to be possible.
    storage
        See :func:`squeezekit.explore.storage.open_storage`.
    name
        Of the study in its storage.
    heartbeat
        Seconds between signs of life.
    watcher

    Raises
    ------
    UserError
        The budget cannot be met, the storage not be reached, or it holds another study of this name.
    """

    def __init__(
        self,
        short: ShortTraining,
        space: Space,
        objective: Objective,
        budget: Budget,
        settings: Settings,
        out: Path,
        *,
        storage: str | None = None,
        name: str = "explore",
        heartbeat: int = 20,
        watcher: Watcher | None = None,
    ) -> None:
        self.short, self.space, self.objective, self.budget = short, space, objective, budget
        self.settings, self.heartbeat, self.watcher = settings, heartbeat, watcher or Watcher()
        self._costs: dict[Design, dict[str, float] | None] = {}
        self.worker = f"{socket.gethostname()}:{os.getpid()}"
        bounds = tuple(bound for bound in budget.bounds if bound[0] != "latency")
        counted = Budget(bounds, budget.added)
        known = possible(space, counted, self.counts, settings.seed)
        if "latency" in budget.names:
            known = self._quick_enough(counted)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        out.mkdir(parents=True, exist_ok=True)
        self.storage: RDBStorage = open_storage(storage, out, heartbeat)
        self.address = str(self.storage.engine.url)
        pruner = SuccessiveHalvingPruner(
            min_resource=rungs(settings.epochs)[0] if settings.epochs > 1 else 1,
            reduction_factor=REDUCTION,
            min_early_stopping_rate=0,
        )
        with reachable(self.address):
            self.study = optuna.create_study(
                study_name=name,
                storage=self.storage,
                sampler=WithinBudget(settings.sampler, space, settings.seed, self.fits, known, built),
                pruner=pruner,
                directions=objective.directions,
                load_if_exists=True,
            )
            self._agree(name)

    # -- what designs cost

    def counts(self, parameters: Mapping[str, Any]) -> dict[str, float] | None:
        """Return what is counted of a design; None where it cannot be built."""
        design = self.space.design(parameters)
        if design not in self._costs:
            try:
                counted = count(design, self.short.classes, self.short.channels, self.settings.bits)
                self._costs[design] = {k: float(v) for k, v in counted.to_dict().items()}
            except UserError:
                self._costs[design] = None
        return self._costs[design]

    def costs(self, parameters: Mapping[str, Any]) -> dict[str, float] | None:
        """Return what a design costs: what is counted and, where the study asks for it, its latency."""
        found = self.counts(parameters)
        wanted = "latency" in (*self.budget.names, *self.objective.costs)
        # Measured once: the second time it would be another number.
        if found is not None and wanted and "latency" not in found:
            design = self.space.design(parameters)
            found["latency"] = latency(design, len(self.short.classes), self.short.channels)
        return found

    def fits(self, parameters: Mapping[str, Any]) -> bool:
        """Whether a design can be built and meets the budget; what takes least is looked at first."""
        looks = (self._sums, self.counts, self.costs)
        return all((found := look(parameters)) is not None and self.budget.holds(found) for look in looks)

    def _sums(self, parameters: Mapping[str, Any]) -> Mapping[str, float] | None:
        design = self.space.design(parameters)
        try:
            return sums(design, self.short.classes, self.short.channels, self.settings.bits)
        except UserError:
            return None

    def _quick_enough(self, counted: Budget) -> dict[str, Any]:
        """Return a design that is quick enough: if any is, one of the least work."""
        limit = dict(self.budget.bounds)["latency"]

        def macs(parameters: Mapping[str, Any]) -> dict[str, float] | None:
            found = self.counts(parameters)
            return None if found is None or not counted.holds(found) else {"macs": found["macs"]}

        parameters, _ = least(self.space, macs, lambda found: found["macs"])
        found = self.costs(parameters)
        assert found is not None
        if found["latency"] > limit:
            raise UserError(
                f"--budget {self.budget.asked}: latency is impossible here, the design of the least work "
                f"takes {1000 * found['latency']:.3g} ms (nearest that can be met: "
                f"latency<={1000 * found['latency'] * 1.1:.3g}ms)"
            )
        return parameters

    # -- the study

    def _agree(self, name: str) -> None:
        """Compare the settings with those that the study was made with."""
        mine = asdict(self.settings)
        theirs = self.study.user_attrs.get("settings")
        if theirs is None:
            if self.study.get_trials(deepcopy=False):
                raise UserError(f"{self._where(name)}: a study of something else (name another: --study)")
            self.study.set_user_attr("settings", mine)
            self.study.set_user_attr("classes", list(self.short.classes))
            return
        # The pictures first: of others the size may differ, and with it the bound that is added.
        for key, value in sorted(mine.items(), key=lambda item: item[0] != "data"):
            if theirs.get(key) != value:
                told = "other pictures" if key == "data" else f"{key} {theirs.get(key)}, not {value}"
                raise UserError(
                    f"{self._where(name)}: this study was made for {told} (give the same, or another --out "
                    "or --study)"
                )

    def _where(self, name: str) -> str:
        url = self.storage.engine.url
        return f"{url.render_as_string(hide_password=True).replace('+psycopg://', '://')} study {name!r}"

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """Return the trials of the study in these states, or all."""
        return self.study.get_trials(deepcopy=False, states=states or None)

    def run(self, trials: int | None, minutes: float | None) -> None:
        """Work on the study until it has so many trials, or for so many minutes.

        Where others are still at theirs, wait: one of them may die, and its trial has to be taken up.

        Raises
        ------
        UserError
            The storage went away.
        KeyboardInterrupt
            The trial it was at has been given back.
        """
        began = time.monotonic()
        deadline = None if minutes is None else began + 60 * minutes
        lonely: dict[int, float] = {}
        with warnings.catch_warnings(), reachable(self.address):
            warnings.simplefilter("ignore", ExperimentalWarning)
            while True:
                claimed = self.trials(*_CLAIMED)
                self._drop_unborn(claimed, lonely)
                queued = any(t.state == TrialState.WAITING for t in claimed)
                if deadline is not None and time.monotonic() + self._usual(claimed) > deadline:
                    return
                if queued or trials is None or len(claimed) < trials:
                    self._one(trials)
                    continue
                others = sum(t.state == TrialState.RUNNING for t in claimed)
                if not others:
                    return
                self.watcher.waiting(others)
                time.sleep(min(1.0, self.heartbeat / 4))
                fail_stale_trials(self.study)  # as Optuna does before each trial

    def _usual(self, claimed: list[FrozenTrial]) -> float:
        """Return how long a trial usually takes this process, seconds."""
        mine = [
            t.user_attrs["seconds"]
            for t in claimed
            if t.user_attrs.get("worker") == self.worker and "seconds" in t.user_attrs
        ]
        return sum(mine) / len(mine) if mine else 0.0

    def _one(self, trials: int | None) -> None:
        """Ask for one trial and train it."""
        asked: list[int] = []

        def objective(trial: optuna.Trial) -> Any:
            asked.append(trial.number)
            everything = self.trials()
            before = [t for t in everything if t.number < trial.number and t.state in _CLAIMED]
            if trials is not None and len(before) >= trials:
                raise _Superfluous
            mine = next(t for t in everything if t.number == trial.number)
            retried = RetryHeartbeatStaleTrialCallback.retried_trial_number(mine)
            return self._train(trial, trial.number if retried is None else retried)

        try:
            self.study.optimize(objective, n_trials=1, catch=(_Superfluous,))
        except UpdateFinishedTrialError:
            return  # this process stood still for so long that another took the trial up
        except KeyboardInterrupt:
            for number in asked:  # back into the queue with it
                RetryHeartbeatStaleTrialCallback()(self.study, self._trial(number))
            raise
        for number in asked:
            self.watcher.ended(number)

    def _trial(self, number: int) -> FrozenTrial:
        return next(t for t in self.trials() if t.number == number)

    def _drop_unborn(self, claimed: list[FrozenTrial], lonely: dict[int, float]) -> None:
        """Fail trials whose process died before the heart's first beat: they would count for ever."""
        now = time.monotonic()
        for trial in claimed:
            if trial.state != TrialState.RUNNING or "worker" in trial.user_attrs:
                continue
            if now - lonely.setdefault(trial.number, now) > LOST_AFTER * self.heartbeat:
                self.study.tell(trial.number, state=TrialState.FAIL)

    def _train(self, trial: optuna.Trial, first: int) -> Any:
        """Train a design for its trial, and return the objective's numbers; `first` numbers its seed."""
        parameters = self._suggested(trial)
        design = self.space.design(parameters)
        costs = self.costs(parameters)
        assert costs is not None
        seed = (self.settings.seed * 1_000_003 + first) % 2**31
        facts = {"worker": self.worker, "design": design.to_dict(), "costs": costs, "seed": seed}
        for key, value in facts.items():
            trial.set_user_attr(key, value)
        self.watcher.started(trial.number, design, costs)
        go_on = self._halving(trial, costs)

        def on_epoch(epoch: int, accuracy: float) -> bool:
            self.watcher.epoch(epoch, accuracy)
            return go_on(epoch, accuracy)

        try:
            outcome = self.short.run(
                design,
                epochs=self.settings.epochs,
                seed=seed,
                on_epoch=on_epoch,
                progress=self.watcher.progress,
            )
        except (UserError, torch.OutOfMemoryError) as error:  # it diverged, or does not fit the device
            trial.set_user_attr("error", str(error).splitlines()[0])
            trial.set_user_attr("accuracy", 0.0)
            return self.objective.values(0.0, costs)
        trial.set_user_attr("accuracy", outcome.val_accuracy)
        trial.set_user_attr("train_accuracy", outcome.train_accuracy)
        trial.set_user_attr("seconds", outcome.seconds)
        trial.set_user_attr("stopped", outcome.stopped)
        if outcome.stopped and not self.objective.several:
            raise optuna.TrialPruned
        return self.objective.values(outcome.val_accuracy, costs)

    def _suggested(self, trial: optuna.Trial) -> dict[str, Any]:
        """Return the parameters that the sampler has for this trial: of one family."""
        parameters: dict[str, Any] = {}
        if len(self.space.families) > 1:
            parameters["family"] = trial.suggest_categorical("family", self.space.families)
        for name, each in self.space.of(self.space.family(parameters)).items():
            if isinstance(each, CategoricalDistribution):
                parameters[name] = trial.suggest_categorical(name, each.choices)
            elif isinstance(each, IntDistribution):
                parameters[name] = trial.suggest_int(name, each.low, each.high, step=each.step)
            else:
                assert isinstance(each, FloatDistribution)
                parameters[name] = trial.suggest_float(name, each.low, each.high, step=each.step)
        return parameters

    def _halving(self, trial: optuna.Trial, costs: Mapping[str, float]) -> Callable[[int, float], bool]:
        """Return what says after each epoch whether to go on."""
        curve: list[float] = []
        others = [costs[name] for name in self.objective.costs]

        def single(epoch: int, accuracy: float) -> bool:
            trial.report(self.objective.values(accuracy, costs)[0], epoch)
            return not trial.should_prune()

        def several(epoch: int, accuracy: float) -> bool:
            if epoch not in rungs(self.settings.epochs):
                return True
            rivals = [
                (t.user_attrs["curve"][epoch - 1], [t.user_attrs["costs"][n] for n in self.objective.costs])
                for t in self.trials(*_COUNTED, TrialState.RUNNING)
                if t.number != trial.number and len(t.user_attrs.get("curve", ())) >= epoch
            ]
            return goes_on(accuracy, others, rivals)

        def go_on(epoch: int, accuracy: float) -> bool:
            curve.append(accuracy)
            trial.set_user_attr("curve", curve)
            if not self.settings.halving or epoch >= self.settings.epochs:
                return True
            ask = several if self.objective.several else single
            return ask(epoch, accuracy)

        return go_on
