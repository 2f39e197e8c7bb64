"""Whole searches, tiny ones, in SQLite: what they leave, that they repeat, and that they go on."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from rich.console import Console

from squeezekit.errors import UserError
from squeezekit.explore import search as searching
from squeezekit.explore.budget import Budget, parse_budget
from squeezekit.explore.counting import built
from squeezekit.explore.design import Design
from squeezekit.explore.explore import Exploration, explore
from squeezekit.explore.objective import parse_objective
from squeezekit.explore.results import Results, Row, front
from squeezekit.explore.search import Search, Settings
from squeezekit.explore.short import ShortTraining
from squeezekit.explore.space import Space

BUDGET = "bytes<=20k,macs<=1M"


def settings(**changed: Any) -> Settings:
    chosen: dict[str, Any] = {
        "space": "squeezenet",
        "objective": "accuracy",
        "budget": BUDGET,
        "target_macs": None,
        "sampler": "tpe",
        "halving": True,
        "seed": 3,
        "size": 16,
        "pictures": 150,
        "epochs": 2,
        "bits": 2.5,
        "data": "x",
    }
    return Settings(**{**chosen, **changed})


def make(short: ShortTraining, out: Path, **changed: Any) -> Search:
    out.mkdir(exist_ok=True)
    chosen = settings(**changed)
    aim = parse_objective(chosen.objective, chosen.target_macs)
    return Search(short, Space(chosen.space, 16), aim, parse_budget(chosen.budget), chosen, out, heartbeat=1)


def told(search: Search) -> list[tuple[Any, ...]]:
    return [(t.state, t.user_attrs["design"], t.user_attrs.get("curve")) for t in search.trials()]


@pytest.fixture(scope="module")
def first(digits: ShortTraining, tmp_path_factory: pytest.TempPathFactory) -> Search:
    """Four trials, of which two went before an interruption."""
    search = make(digits, tmp_path_factory.mktemp("first"))
    search.run(4, None)
    return search


def test_every_design_meets_the_budget_and_is_another(first: Search) -> None:
    trials = first.trials()
    assert [t.number for t in trials] == [0, 1, 2, 3]
    assert all(t.state in (TrialState.COMPLETE, TrialState.PRUNED) for t in trials)
    assert all(parse_budget(BUDGET).holds(t.user_attrs["costs"]) for t in trials)
    assert len({str(t.user_attrs["design"]) for t in trials}) == 4


def test_no_network_is_proposed_twice(digits: ShortTraining, tmp_path: Path) -> None:
    """So few bytes leave seven networks; most of their parameters round to the same."""
    search = make(digits, tmp_path, budget="bytes<=1k", sampler="random", epochs=1)
    networks = []
    for _ in range(7):
        trial = search.study.ask()
        networks.append(built(search.space.design(search._suggested(trial))))
        search.study.tell(trial, 0.5)
    assert len(set(networks)) == len(networks)


def test_a_trial_repeats_itself_from_its_seed(first: Search, digits: ShortTraining) -> None:
    trial = first.trials()[2]
    design = Design.from_dict(trial.user_attrs["design"])
    epochs = len(trial.user_attrs["curve"])
    seen: list[float] = []

    def on_epoch(epoch: int, accuracy: float) -> bool:
        seen.append(accuracy)
        return epoch < epochs

    digits.run(design, epochs=2, seed=trial.user_attrs["seed"], on_epoch=on_epoch)
    assert seen == trial.user_attrs["curve"]


def test_a_search_that_was_interrupted_goes_on_and_ends_the_same(
    first: Search, digits: ShortTraining, tmp_path: Path
) -> None:
    search = make(digits, tmp_path)

    class Interrupts(searching.Watcher):
        def epoch(self, epoch: int, accuracy: float) -> None:
            if len(search.trials()) == 3:  # in the middle of the third
                raise KeyboardInterrupt

    search.watcher = Interrupts()
    with pytest.raises(KeyboardInterrupt):
        search.run(4, None)
    assert [t.state for t in search.trials()][2:] == [TrialState.FAIL, TrialState.WAITING]

    again = make(digits, tmp_path)
    again.run(4, None)
    done = [row for row in told(again) if row[0] in (TrialState.COMPLETE, TrialState.PRUNED)]
    whole = told(first)
    # What was interrupted came to the same in the end; the fourth was proposed from another history.
    assert done[:2] == whole[:2]
    assert whole[2][1:] in [row[1:] for row in done]
    assert len(done) == 4
    again.run(4, None)  # nothing is left to do
    assert len(again.trials()) == 5


def test_a_trial_whose_worker_fell_silent_is_taken_up(digits: ShortTraining, tmp_path: Path) -> None:
    """As after a SIGKILL: a trial that runs, with a heart that has stopped."""
    search = make(digits, tmp_path, epochs=1)
    design = {"worker": "elsewhere:1", "seed": 17}
    trial = search.study.ask()
    parameters = search._suggested(trial)
    for key, value in {**design, "design": search.space.design(parameters).to_dict()}.items():
        trial.set_user_attr(key, value)
    search.storage.record_heartbeat(trial._trial_id)
    unborn = search.study.ask()  # and one whose worker died before its heart beat once
    started = time.monotonic()
    search.run(2, None)
    assert time.monotonic() - started < 60
    states = {t.number: t.state for t in search.trials()}
    assert states[trial.number] == states[unborn.number] == TrialState.FAIL
    counted = [t for t in search.trials() if t.state == TrialState.COMPLETE]
    assert len(counted) == 2
    (again,) = [t for t in counted if t.system_attrs.get("failed_trial") == trial.number]
    assert again.params == trial.params


@pytest.mark.parametrize("objective", ["accuracy,bytes", "mnasnet"])
def test_other_objectives(digits: ShortTraining, tmp_path: Path, objective: str) -> None:
    search = make(
        digits,
        tmp_path,
        objective=objective,
        target_macs=2e5,
        space="mobilenet",
        epochs=1,
        budget="macs<=400k",
    )
    search.run(2, None)
    for trial in search.trials():
        costs, accuracy = trial.user_attrs["costs"], trial.user_attrs["accuracy"]
        expected = (
            [accuracy, costs["bytes"]] if "," in objective else [accuracy * (costs["macs"] / 2e5) ** -0.07]
        )
        assert trial.values == pytest.approx(expected)


def test_a_study_made_for_something_else_is_told_and_left_alone(
    first: Search, digits: ShortTraining, tmp_path: Path
) -> None:
    out = Path(str(first.storage.engine.url.database)).parent
    before = told(first)
    for changed, words in (
        ({"space": "mobilenet"}, "made for space squeezenet, not mobilenet"),
        ({"data": "y"}, "made for other pictures"),
        ({"data": "y", "budget": "bytes<=20k,macs<=2M", "size": 16}, "made for other pictures"),
        ({"seed": 4}, "made for seed 3, not 4"),
    ):
        with pytest.raises(UserError, match=words):
            make(digits, out, **changed)
    assert told(first) == before
    (tmp_path / "study.db").write_bytes(b"no database" * 100)
    with pytest.raises(UserError, match="storage cannot be used"):
        make(digits, tmp_path)


def test_latency_is_measured_and_bounds(digits: ShortTraining, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"latency is impossible here.*nearest that can be met: latency<="):
        make(digits, tmp_path, budget=f"{BUDGET},latency<=1us")
    search = make(digits, tmp_path, budget=f"{BUDGET},latency<=500ms", epochs=1)
    search.run(1, None)
    assert 0 < search.trials()[0].user_attrs["costs"]["latency"] < 0.5


def test_nothing_is_begun_that_would_end_too_late(first: Search) -> None:
    started = time.monotonic()
    first.run(None, 1e-9)
    assert time.monotonic() - started < 5
    assert len(first.trials()) == 4


def row(number: int, accuracy: float, **costs: float) -> Row:
    return Row(number, Design.of("squeezenet", 32), {}, {}, costs, accuracy, accuracy, False, 1, 1.0, 0, "w")


def test_the_front_is_what_nothing_beats() -> None:
    rows = [
        row(0, 0.9, bytes=100, macs=9),
        row(1, 0.8, bytes=50, macs=9),
        row(2, 0.8, bytes=60, macs=8),  # more bytes than 1, but less work
        row(3, 0.7, bytes=60, macs=9),  # beaten by 1
        row(4, 0.9, bytes=100, macs=9),  # the same as 0
    ]
    assert [r.number for r in front(rows, ("bytes", "macs"))] == [0, 4, 1, 2]
    assert [r.number for r in front(rows, ("bytes",))] == [0, 4, 1]


def test_a_bound_that_nobody_asked_for_does_not_count_for_the_front() -> None:
    rows = [row(0, 0.9, bytes=50, macs=9), row(1, 0.8, bytes=60, macs=8)]
    bounds = (("bytes", 100.0), ("macs", 10.0))

    def ahead(objective: str, budget: Budget) -> list[int]:
        return [r.number for r in Results(parse_objective(objective, 5.0), budget, rows).front]

    assert ahead("accuracy", Budget(bounds, added=("macs",))) == [0]
    assert ahead("accuracy", Budget(bounds[1:], added=("macs",))) == [0]
    assert ahead("accuracy", Budget(bounds)) == [0, 1]
    assert ahead("accuracy,macs", Budget(bounds, added=("macs",))) == [0, 1]
    assert ahead("mnasnet", Budget(bounds, added=("macs",))) == [0, 1]


def judged(accuracy: Callable[[dict[str, Any]], float]) -> Results:
    """Thirty designs, each as good as `accuracy` says of its parameters."""
    space, rng = Space("squeezenet", 32), np.random.default_rng(0)
    rows = []
    for number in range(30):
        drawn = space.random(rng)
        value = accuracy(drawn)
        costs = {"bytes": 1.0}
        rows.append(
            Row(
                number,
                space.design(drawn),
                drawn,
                space.distributions(),
                costs,
                value,
                value,
                False,
                1,
                1.0,
                0,
                "w",
            )
        )
    return Results(parse_objective("accuracy", None), parse_budget(""), rows)


def test_importance_finds_what_mattered() -> None:
    importance = judged(lambda drawn: drawn["squeezenet.squeeze_ratio"]).importance()
    assert max(importance, key=lambda name: importance[name]) == "squeeze_ratio"
    assert importance["squeeze_ratio"] > 0.5
    assert sum(importance.values()) == pytest.approx(1)


def test_designs_that_came_out_alike_tell_no_importance() -> None:
    assert judged(lambda _: 0.5).importance() == {}


@pytest.fixture(scope="module")
def explored(tmp_path_factory: pytest.TempPathFactory) -> Exploration:
    return explore(
        "digits",
        tmp_path_factory.mktemp("explored") / "study",
        budget=BUDGET,
        size=16,
        trials=3,
        pictures=100,
        epochs=2,
        device="cpu",
        console=Console(quiet=True),
    )


def test_a_search_leaves_page_table_and_pictures(explored: Exploration) -> None:
    made = {path.name for path in explored.out.iterdir()}
    assert made >= {"study.db", "study.csv", "report.html", "pareto.png", "slices.png"}
    with (explored.out / "study.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(r["trial"]) for r in rows] == [0, 1, 2]
    best = explored.results.best
    assert best is not None
    assert float(rows[best.number]["val_accuracy"]) == best.accuracy
    page = (explored.out / "report.html").read_text()
    assert f"--out {explored.out}/trial-{best.number}" in page
    assert "--max-bytes 20000" in page
    assert "<script" not in page


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"trials": 0}, "--trials 0: must be more than 0"),
        ({"minutes": float("nan")}, "--minutes nan: must be more than 0"),
        ({"space": "squeeznet"}, "no such space; did you mean 'squeezenet'"),
        ({"sampler": "tpo"}, "--sampler tpo: unknown"),
        ({"budget": "bytes<=10"}, "bytes is impossible, the least in the space squeezenet"),
        ({"storage": "nowhere"}, "--storage nowhere: no address"),
        ({"storage": "oracel://x/y"}, "no such kind of storage"),
        (
            {"storage": "postgresql://me:secret@127.0.0.1:1/x"},
            r"postgresql://me:\*\*\*@127.0.0.1:1/x: (the storage cannot be used|needs psycopg)",
        ),
        ({"bits": 0.0}, "--bits"),
        ({"study": ""}, "--study '': expected a name"),
    ],
)
def test_bad_input_is_one_clear_line(tmp_path: Path, asked: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told) as error:
        explore("digits", tmp_path / "s", size=16, device="cpu", console=Console(quiet=True), **asked)
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)
    assert optuna.logging.get_verbosity() >= 0
