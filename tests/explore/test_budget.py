"""Budgets and objectives, as words and as bounds."""

from __future__ import annotations

import pytest

from squeezekit.errors import UserError
from squeezekit.explore.budget import parse_budget, written
from squeezekit.explore.objective import Objective, parse_objective


def test_a_budget_is_read_and_written() -> None:
    budget = parse_budget("bytes<=250k, macs <= 50M,ram≤256Ki,latency<=5ms")
    assert dict(budget.bounds) == {"bytes": 250_000, "macs": 50_000_000, "ram": 262_144, "latency": 0.005}
    assert str(budget) == "bytes<=250k,macs<=50M,ram<=262.1k,latency<=5ms"
    assert budget.excess({"bytes": 500_000, "macs": 50_000_000}) == {"bytes": 2.0}
    assert budget.holds({"bytes": 250_000, "latency": 0.005})
    assert parse_budget("").holds({"bytes": 1e12})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("bites<=250k", "unknown metric 'bites'; did you mean 'bytes'?"),
        ("bytes<=many", "'many' is no size"),
        ("bytes", "'bytes' is no bound"),
        ("bytes<=1k,bytes<=2k", "bytes is bounded twice"),
        ("latency<=5", "'5' is no time"),
        ("latency<=0ms", "is no time"),
        ("bytes<=1k,", "'' is no bound"),
    ],
)
def test_what_is_no_budget_is_told(text: str, told: str) -> None:
    with pytest.raises(UserError, match="--budget") as error:
        parse_budget(text)
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [("bytes", 84_300, "84.3k"), ("macs", 12.1e6, "12.1M"), ("latency", 0.0032, "3.2ms"), ("ram", 7, "7")],
)
def test_costs_are_written_for_people(name: str, value: float, text: str) -> None:
    assert written(name, value) == text


def test_mnasnets_objective_is_the_papers() -> None:
    aim = parse_objective("mnasnet", 1e6)
    assert aim.values(0.75, {"macs": 1e6}) == [0.75]  # at T, the accuracy itself
    assert aim.values(0.75, {"macs": 2e6})[0] == pytest.approx(0.75 * 2**-0.07)
    assert aim.directions == ["maximize"]


def test_several_objectives_have_their_directions() -> None:
    aim = parse_objective("accuracy, bytes,macs", None)
    assert aim == Objective(("accuracy", "bytes", "macs"))
    assert aim.directions == ["maximize", "minimize", "minimize"]
    assert aim.values(0.5, {"bytes": 10.0, "macs": 3.0, "ram": 1.0}) == [0.5, 10.0, 3.0]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("acuracy", "unknown metric 'acuracy'; did you mean 'accuracy'?"),
        ("bytes", "accuracy first"),
        ("accuracy,bytes,bytes", "each once"),
        ("accuracy,mnasnet", "mnasnet alone"),
        ("mnasnet", "needs its T"),
    ],
)
def test_what_is_no_objective_is_told(text: str, told: str) -> None:
    with pytest.raises(UserError, match="--objective") as error:
        parse_objective(text, None)
    assert told in str(error.value)
