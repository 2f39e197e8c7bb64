"""Optuna's samplers, kept to designs that meet the budget and that nobody has tried yet."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from squeezekit.errors import UserError, suggest
from squeezekit.explore.design import Design
from squeezekit.explore.space import Space

__all__ = ["SAMPLERS", "WithinBudget"]

Parameters = dict[str, Any]

#: Trials drawn evenly before a model is asked.
STARTUP = 10
#: Proposals of the model, then even draws, then neighbours of what fits, before a design may come twice.
_PROPOSALS, _DRAWS, _NEIGHBOURS = 30, 300, 300

#: Optuna's, each made anew for a trial from the trial's own seed.
SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(multivariate=True, group=True, n_startup_trials=STARTUP, seed=seed),
    "nsgaii": lambda seed: NSGAIISampler(population_size=20, seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
}


class WithinBudget(BaseSampler):
    """Asks one of Optuna's samplers until what it proposes can be built, meets the budget and is new.

    A design that does not costs a count, some milliseconds, and no trial. Every trial has a sampler of its
    own, made from (seed, number of the trial), so that with one worker a study repeats itself.

    Parameters
    ----------
    kind
        A key of :data:`SAMPLERS`.
    space
    seed
    fits
        Whether a design of these parameters meets the budget.
    known
        Parameters of a design that does.
    built
        What becomes of a design: those for which it is equal are one.

    Raises
    ------
    UserError
        There is no such sampler.
    """

    def __init__(
        self,
        kind: str,
        space: Space,
        seed: int,
        fits: Callable[[Parameters], bool],
        known: Parameters,
        built: Callable[[Design], Hashable],
    ) -> None:
        if kind not in SAMPLERS:
            raise UserError(f"--sampler {kind}: unknown{suggest(kind, SAMPLERS)} ({', '.join(SAMPLERS)})")
        self._kind, self._space, self._seed, self._fits, self._known = kind, space, seed, fits, known
        self._built = built
        self._inner: BaseSampler = RandomSampler(seed=seed)
        self._rng = np.random.default_rng(seed)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Begin anew from this trial's own seed."""
        self._rng = np.random.default_rng([self._seed, trial.number])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._inner = SAMPLERS[self._kind](int(self._rng.integers(2**31)))
        self._inner.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the whole space, which is known; the inner sampler works out its own part of it."""
        self._part = self._inner.infer_relative_search_space(study, trial)
        return self._space.distributions()

    def sample_relative(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: Mapping[str, BaseDistribution],  # noqa: ARG002 (Optuna's interface; it is the space's)
    ) -> Parameters:
        """Return the parameters of a design that meets the budget."""
        states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.WAITING)
        trials = study.get_trials(deepcopy=False, states=states)
        tried = {
            self._built(self._space.design(each.params))
            for each in trials
            if each.number != trial.number and self._complete(each.params)
        }
        fitting = [self._known, *(each.params for each in trials if self._complete(each.params))]
        given = dict(trial.params)  # of a trial whose worker died while it asked

        def good(parameters: Parameters) -> bool:
            return self._built(self._space.design(parameters)) not in tried and self._fits(parameters)

        if self._kind != "random" and len(trials) > STARTUP:
            for _ in range(_PROPOSALS):
                asked = self._inner.sample_relative(study, trial, dict(self._part))
                proposed = self._space.random(self._rng, {**asked, **given})
                if good(proposed):
                    return proposed
        for _ in range(_DRAWS):
            if good(drawn := self._space.random(self._rng, given)):
                return drawn
        for _ in range(0 if given else _NEIGHBOURS):
            if good(near := self._near(fitting)):
                return near
            if self._built(self._space.design(near)) in tried:
                fitting.append(near)  # it fits, in other words: go on from it
        return self._known  # the whole space has been tried

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Not come to: every parameter is sampled with the others."""
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Let the inner sampler know."""
        self._inner.after_trial(study, trial, state, values)

    def _near(self, fitting: list[Parameters]) -> Parameters:
        """Take a design that fits and move one or two of its parameters a few steps."""
        near = dict(fitting[int(self._rng.integers(len(fitting)))])
        own = self._space.of(self._space.family(near))
        for name in self._rng.choice(list(own), size=int(self._rng.integers(1, 3)), replace=False):
            near[str(name)] = self._space.moved(own[str(name)], near[str(name)], self._rng)
        return near

    def _complete(self, parameters: Mapping[str, Any]) -> bool:
        """Whether parameters are all that a design needs."""
        several = len(self._space.families) > 1
        if not parameters or (several and "family" not in parameters):
            return False
        return self._space.of(self._space.family(parameters)).keys() <= parameters.keys()
