"""Every design that a space can propose can be built, or is told to be impossible by its count."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution

from squeezekit.errors import UserError
from squeezekit.explore.budget import Budget, parse_budget
from squeezekit.explore.counting import count
from squeezekit.explore.halving import goes_on, rungs
from squeezekit.explore.possible import possible
from squeezekit.explore.space import SPACES, Space


@settings(max_examples=25)
@given(st.sampled_from(sorted(SPACES)), st.sampled_from([16, 32, 64, 96, 224]), st.integers(0, 2**31))
def test_what_is_drawn_lies_in_the_space_and_can_be_built(name: str, size: int, seed: int) -> None:
    space = Space(name, size)
    drawn = space.random(np.random.default_rng(seed))
    everything = space.distributions()
    for key, value in drawn.items():
        each = everything[key]
        assert each._contains(each.to_internal_repr(value))
    design = space.design(drawn)
    assert design.model in SPACES[name]
    assert design.size in space.sizes
    with torch.device("meta"):
        design.build(10, 3)


@given(st.integers(0, 2**31))
def test_what_is_given_stays(seed: int) -> None:
    space = Space("all", 32)
    given_ = {"family": "squeezenet", "squeezenet.base_e": 64, "efficientnet.se_ratio": 0.25}
    drawn = space.random(np.random.default_rng(seed), given_)
    assert (drawn["family"], drawn["squeezenet.base_e"]) == ("squeezenet", 64)
    assert all(name == "family" or name.startswith("squeezenet.") for name in drawn)


def test_small_pictures_have_no_standard_stem_and_large_ones_no_small_one() -> None:
    both = Space("squeezenet", 32).distributions()["squeezenet.stem"]
    assert isinstance(both, CategoricalDistribution)
    assert both.choices == ("small", "standard")
    assert "squeezenet.stem" not in Space("squeezenet", 224).distributions()
    assert "squeezenet.stem" not in Space("squeezenet", 16).distributions()


def test_what_makes_no_difference_is_one_design() -> None:
    space = Space("squeezenet", 32)
    drawn = {**space.random(np.random.default_rng(0)), "squeezenet.incr_e": 0}
    assert len({space.design({**drawn, "squeezenet.freq": freq}) for freq in (1, 2, 3, 4)}) == 1
    drawn |= {"squeezenet.incr_e": 64, "squeezenet.fires": 6}
    assert len({space.design({**drawn, "squeezenet.freq": freq}) for freq in (1, 2, 3, 4)}) == 4


def test_an_unknown_space_is_told() -> None:
    with pytest.raises(UserError, match="no such space; did you mean 'mobilenet'"):
        Space("mobilnet", 32)


def costs(space: Space) -> Any:
    def of(parameters: dict[str, Any]) -> dict[str, float] | None:
        try:
            return {k: float(v) for k, v in count(space.design(parameters), "abc", 3).to_dict().items()}
        except UserError:
            return None

    return of


@pytest.mark.parametrize("space", [Space("squeezenet", 32), Space("mobilenet", 32)])
def test_a_tight_budget_is_found_to_be_possible(space: Space) -> None:
    with pytest.raises(UserError, match="bytes is impossible") as error:
        possible(space, parse_budget("bytes<=100"), costs(space))
    nearest = str(error.value).rpartition("nearest that can be met: ")[2].rstrip(")")
    budget = parse_budget(nearest)
    found = costs(space)(possible(space, budget, costs(space)))  # what is named can indeed be met
    assert budget.holds(found)
    limit = budget.bounds[0][1]
    with pytest.raises(UserError, match="bytes is impossible"):  # and nothing less
        possible(space, Budget((("bytes", limit - 1),)), costs(space))


def test_bounds_that_exclude_each_other_are_told_together() -> None:
    space = Space("squeezenet", 32)

    def opposed(parameters: dict[str, Any]) -> dict[str, float]:
        wide = float(parameters["squeezenet.base_e"])
        return {"macs": wide, "ram": 300 - wide}

    with pytest.raises(UserError, match=r"no design .* meets macs and ram together .*nearest"):
        possible(space, parse_budget("macs<=50,ram<=60"), opposed)


def test_all_impossible_bounds_are_told_with_what_can_be_met_together() -> None:
    space = Space("squeezenet", 32)

    def opposed(parameters: dict[str, Any]) -> dict[str, float]:
        wide = float(parameters["squeezenet.base_e"])
        return {
            "bytes": 900 + wide,
            "macs": 1000.0 + parameters["squeezenet.fires"],
            "ram": 600 - wide,  # rises as bytes fall
        }

    with pytest.raises(UserError, match=r"bytes and macs are impossible, .* are 916 and 1,003 ") as error:
        possible(space, parse_budget("bytes<=900,macs<=1000,ram<=400"), opposed)
    nearest = parse_budget(str(error.value).rpartition("nearest that can be met: ")[2].rstrip(")"))
    assert nearest.names == ("bytes", "macs", "ram")
    assert nearest.holds(opposed(possible(space, nearest, opposed)))


def test_a_bound_that_nobody_asked_for_is_not_quoted() -> None:
    space = Space("squeezenet", 32)
    budget = Budget((("bytes", 100.0), ("macs", 5e9)), added=("macs",))
    with pytest.raises(UserError, match=r"^--budget bytes<=100: bytes is impossible") as error:
        possible(space, budget, costs(space))
    assert "macs" not in str(error.value)


def test_halving_with_accuracy_alone_keeps_the_best_half() -> None:
    rivals = [(a / 10, ()) for a in range(10)]
    kept = [a for a in range(10) if goes_on(a / 10, (), [r for r in rivals if r[0] != a / 10])]
    assert kept == [5, 6, 7, 8, 9]
    assert goes_on(0.1, (), [])  # nobody to compare with


def test_halving_compares_with_what_costs_no_more() -> None:
    large = [(0.9, (1000.0,))] * 9
    assert goes_on(0.2, (100.0,), large)
    assert not goes_on(0.2, (2000.0,), large)


@pytest.mark.parametrize(
    ("epochs", "expected"), [(1, ()), (2, (1,)), (3, (1, 2)), (8, (2, 4)), (20, (5, 10))]
)
def test_rungs_are_a_quarter_and_a_half(epochs: int, expected: tuple[int, ...]) -> None:
    assert rungs(epochs) == expected
