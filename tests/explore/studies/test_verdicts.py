"""Means over seeds, and claims held against them."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squeezekit.explore.studies.rows import Row
from squeezekit.explore.studies.study import Claim, Variant
from squeezekit.explore.studies.verdicts import judge, summarise


def row(variant: str, seed: int, test: float, train: float | None = None, size: int = 1000) -> Row:
    return Row(variant, seed, 32, 250, 5000, size, test, train, 1.0)


def rows(**accuracies: list[float]) -> list[Row]:
    return [row(name, seed, value) for name, all_ in accuracies.items() for seed, value in enumerate(all_)]


def verdict(found: list[Row], expects: Any, figure: Any = "test_accuracy") -> Any:
    (one,) = judge([Claim("the paper says so", "a", "b", expects, figure)], found)
    return one


def test_a_clear_difference_agrees_or_disagrees() -> None:
    found = rows(a=[0.80, 0.81, 0.82], b=[0.60, 0.61, 0.62])
    assert verdict(found, "more").verdict == "agrees"
    assert verdict(found, "less").verdict == "disagrees"
    assert verdict(found, "same").verdict == "disagrees"


def test_the_margin_is_students() -> None:
    # Two variants of three seeds, deviation 1 point each: 4 degrees of freedom, t = 2.776.
    one = verdict(rows(a=[0.80, 0.81, 0.82], b=[0.60, 0.61, 0.62]), "more")
    assert one.difference == pytest.approx(20)
    assert one.margin == pytest.approx(2.776 * math.sqrt(2 / 3), rel=1e-3)


def test_seeds_of_other_variants_make_the_margin_surer() -> None:
    few = rows(a=[0.80, 0.81, 0.82], b=[0.60, 0.61, 0.62])
    many = few + rows(c=[0.1, 0.11, 0.12], d=[0.2, 0.21, 0.22])
    assert verdict(many, "more").margin < verdict(few, "more").margin


def test_what_chance_can_do_is_open() -> None:
    found = rows(a=[0.80, 0.84, 0.82], b=[0.81, 0.83, 0.79])
    assert verdict(found, "more").verdict == "open"
    assert "not told apart from chance" in verdict(found, "more").sentence
    same = verdict(found, "same")
    assert same.verdict == "agrees"
    assert "as far as can be told" in same.sentence


def test_one_seed_tells_nothing() -> None:
    one = verdict(rows(a=[0.9], b=[0.1]), "more")
    assert (one.verdict, one.margin) == ("open", None)


def test_bytes_are_exact() -> None:
    found = [row("a", 0, 0.5, size=3000), row("b", 0, 0.5, size=1000)]
    assert verdict(found, "more", "bytes").verdict == "agrees"
    assert verdict(found, "less", "bytes").verdict == "disagrees"
    assert "3.00 times the bytes" in verdict(found, "more", "bytes").sentence


def test_the_gap_is_training_less_test() -> None:
    found = [row("a", seed, 0.7 + 0.01 * seed, 0.95) for seed in range(3)]
    found += [row("b", seed, 0.7 + 0.01 * seed, 0.75) for seed in range(3)]
    one = verdict(found, "more", "gap")
    assert (one.verdict, one.difference) == ("agrees", pytest.approx(20))


def test_a_claim_waits_for_its_variants() -> None:
    assert judge([Claim("", "a", "b", "more")], rows(a=[0.5, 0.6])) == []


def test_the_summary_keeps_the_order_of_the_variants() -> None:
    found = rows(b=[0.5, 0.7], a=[0.9])
    summary = summarise([Variant(name, lambda *_: None, 32, "s|t") for name in ("a", "b", "c")], found)  # type: ignore[arg-type,return-value]
    assert [each["variant"] for each in summary] == ["a", "b"]
    assert summary[0]["series"] == ["s", "t"]
    assert (summary[0]["seeds"], summary[0]["test_deviation"]) == (1, None)
    assert summary[1]["test_accuracy"] == pytest.approx(0.6)
    assert summary[1]["test_deviation"] == pytest.approx(0.2 / math.sqrt(2))
    assert summary[1]["train_accuracy"] is None


@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=5),
    st.lists(st.floats(0, 1), min_size=2, max_size=5),
)
def test_more_and_less_never_both_agree(a: list[float], b: list[float]) -> None:
    found = rows(a=a, b=b)
    more, less, same = (verdict(found, expects).verdict for expects in ("more", "less", "same"))
    assert [more, less, same].count("agrees") == 1
    assert {more, less} <= {"agrees", "disagrees"} or more == less == "open"
