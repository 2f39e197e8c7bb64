"""What a person sees while a search goes on: trials, the best so far, and the time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from squeezekit.explore.budget import written
from squeezekit.explore.design import Design
from squeezekit.explore.results import Results
from squeezekit.explore.search import Watcher
from squeezekit.report.style import duration

__all__ = ["SearchProgress"]


class SearchProgress(Watcher):
    """On a terminal two bars, the study's and this trial's; everywhere a line for each trial.

    Parameters
    ----------
    console
    results
        Gives what the study has found so far, that of other workers included.
    trials, minutes
        How much there is to do.
    """

    def __init__(
        self, console: Console, results: Callable[[], Results], trials: int | None, minutes: float | None
    ) -> None:
        self.console, self.results, self.trials, self.minutes = console, results, trials, minutes
        self._began = time.monotonic()
        self._before: int | None = None
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[numbers]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        total = trials if trials is not None else 60 * (minutes or 0)
        self._study = self._progress.add_task("search", total=total, numbers="")
        self._trial = self._progress.add_task("", total=1.0, numbers="", visible=False)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the bars while a block runs."""
        self._began = time.monotonic()
        with self._progress:
            self._update()
            yield

    def started(self, number: int, design: Design, costs: Mapping[str, float]) -> None:
        """Show the design that is trained."""
        told = f"trial {number}  {design.model}  {written('bytes', costs['bytes'])}B"
        self._progress.update(self._trial, description=told, completed=0, numbers="", visible=True)

    def epoch(self, epoch: int, accuracy: float) -> None:
        """Show its accuracy."""
        self._progress.update(self._trial, numbers=f"epoch {epoch}  val {accuracy:.1%}")

    def progress(self, share: float) -> None:
        """Move its bar."""
        self._progress.update(self._trial, completed=share)
        if self.trials is None:
            self._progress.update(self._study, completed=time.monotonic() - self._began)

    def waiting(self, others: int) -> None:
        """Say for whom one waits."""
        plural = "" if others == 1 else "s"
        told = f"waiting for {others} trial{plural} of other workers"
        self._progress.update(self._trial, description=told, completed=0, numbers="", visible=True)
        self._update()

    def ended(self, number: int) -> None:
        """Print a line."""
        results = self._update()
        row = next((r for r in results.rows if r.number == number), None)
        if row is None:  # one too many, or given back
            return
        costs = "  ".join(f"{name} {written(name, value)}" for name, value in row.costs.items())
        end = f"stopped after {row.epochs}" if row.stopped else row.error or f"{row.epochs} epochs"
        best = results.best
        tail = "" if best is None else f"  best {best.accuracy:.1%} (trial {best.number})"
        self.console.print(
            f"trial {number:>3}  {row.design.model}  {costs}  val {row.accuracy:6.1%}  {end}  "
            f"{row.seconds:.0f} s{tail}",
            highlight=False,
            soft_wrap=True,
        )

    def _update(self) -> Results:
        results = self.results()
        done, passed = len(results.rows), time.monotonic() - self._began
        if self._before is None:
            self._before = done
        fresh, left = done - self._before, None
        if self.trials is not None and fresh:
            left = passed / fresh * max(0, self.trials - done)
        if self.minutes is not None:
            rest = max(0.0, 60 * self.minutes - passed)
            left = rest if left is None else min(left, rest)
        front = results.front
        bests = [f"{written(name, min(r.costs[name] for r in front))} least {name}"
                 for name in results.objective.costs if front]  # fmt: skip
        if results.best is not None:
            bests.insert(0, f"best {results.best.accuracy:.1%}")
        of = "" if self.trials is None else f"/{self.trials}"
        words = [f"{done}{of} trials", *bests, *([] if left is None else [f"{duration(left)} left"])]
        self._progress.update(
            self._study, numbers="  ".join(words), completed=done if self.trials is not None else passed
        )
        return results
