from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squeezekit.errors import UserError
from squeezekit.train.recipes import RECIPES, learning_rate_factor, recipe


def test_the_authors_recipe_is_the_papers() -> None:
    r = recipe("squeezenet")
    assert (r.momentum, r.weight_decay, r.dropout, r.schedule) == (0.9, 2e-4, 0.5, "linear")
    assert r.lr * 512 / 256 == pytest.approx(0.04)  # their batch was 512
    assert not r.norm
    assert r.decay_all


@given(
    st.integers(1, 10_000),
    st.floats(0, 0.5),
    st.sampled_from(["linear", "cosine"]),
)
def test_rate_rises_to_its_peak_and_falls_to_zero(steps: int, warmup: float, schedule: str) -> None:
    rates = [learning_rate_factor(i, steps, warmup, schedule) for i in range(steps + 1)]  # type: ignore[arg-type]
    assert all(0 <= r <= 1 for r in rates)
    assert rates[-1] == pytest.approx(0, abs=1e-9)
    peak = rates.index(max(rates))
    assert peak <= warmup * steps + 1
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)


def test_linear_decay_is_a_line() -> None:
    rates = [learning_rate_factor(i, 100, 0, "linear") for i in range(101)]
    assert rates == pytest.approx([1 - i / 100 for i in range(101)])


@given(st.sampled_from(sorted(RECIPES)), st.integers(1, 2_000_000))
def test_defaults_are_usable_for_any_number_of_pictures(name: str, pictures: int) -> None:
    r = recipe(name)
    assert r.min_epochs <= r.epochs_for(pictures) <= r.max_epochs
    assert 1 <= r.batch_size_for(pictures) <= r.batch_size


def test_unknown_recipe_is_one_clear_error() -> None:
    with pytest.raises(UserError, match="did you mean 'modern'"):
        recipe("moderm")
