"""The quick count of a design equals the slow one of its exported network, to the last number."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from squeezekit.errors import UserError
from squeezekit.explore.counting import built, count, layers
from squeezekit.explore.design import Design
from squeezekit.graph.cost import cost
from squeezekit.graph.from_torch import from_torch

squeezenets = st.fixed_dictionaries(
    {
        "base_e": st.integers(2, 40),
        "incr_e": st.integers(0, 24),
        "freq": st.integers(1, 3),
        "pct_3x3": st.floats(0.01, 0.99),
        "squeeze_ratio": st.floats(0.05, 1.0),
        "bypass": st.sampled_from(["none", "simple", "complex"]),
        "fires": st.integers(1, 5),
        "pools": st.lists(st.integers(1, 2), unique=True).map(tuple),
        "conv1_channels": st.integers(1, 40),
        "conv1_kernel": st.sampled_from([3, 7]),
        "norm": st.booleans(),
        "width_coefficient": st.sampled_from([1.0, 0.6]),
        "depth_coefficient": st.sampled_from([1.0, 0.5, 1.6]),
        "stem": st.sampled_from(["small", "standard"]),
    }
)
widths, depths = st.floats(0.05, 1.0), st.floats(0.2, 1.2)
others = st.one_of(
    st.tuples(
        st.just("mobilenet_v1"), st.fixed_dictionaries({"width_mult": widths, "depth_coefficient": depths})
    ),
    st.tuples(
        st.just("mobilenet_v2"), st.fixed_dictionaries({"width_mult": widths, "depth_coefficient": depths})
    ),
    st.tuples(
        st.just("efficientnet"),
        st.fixed_dictionaries(
            {
                "width_coefficient": widths,
                "depth_coefficient": st.floats(0.2, 0.5),
                "depth_rounding": st.sampled_from(["up", "nearest"]),
                "phi": st.sampled_from([None, -4.0]),
                "se_ratio": st.sampled_from([0.0, 0.25]),
            }
        ),
    ),
)


def agrees(design: Design, classes: int, channels: int) -> None:
    with torch.device("meta"):
        network = design.build(classes, channels)
    exported = cost(from_torch(network, (channels, design.size, design.size)), "int8")
    quick = count(design, [str(c) for c in range(classes)], channels)
    assert (quick.parameters, quick.macs, quick.ram) == (
        exported.parameters,
        exported.macs,
        exported.peak_bytes,
    )
    assert cost(layers(design, classes, channels), "int8").weight_bytes == exported.weight_bytes


@settings(max_examples=8)
@given(squeezenets, st.integers(1, 20), st.sampled_from([1, 3]))
def test_squeezenets_count_as_exported(meta: dict[str, Any], classes: int, channels: int) -> None:
    agrees(Design.of("squeezenet", 33, **meta), classes, channels)


@settings(max_examples=4)
@given(others, st.sampled_from([32, 65]))
def test_mobilenets_and_efficientnets_count_as_exported(
    chosen: tuple[str, dict[str, Any]], size: int
) -> None:
    meta = chosen[1]
    if meta.get("phi") is not None:  # in place of the coefficients
        meta = {key: value for key, value in meta.items() if not key.endswith("_coefficient")}
    agrees(Design.of(chosen[0], size, **meta), 10, 3)


@pytest.mark.parametrize("model", ["squeezenet", "mobilenet_v1", "mobilenet_v2", "efficientnet"])
def test_counting_is_a_matter_of_milliseconds(model: str) -> None:
    design = Design.of(model, 32)
    times = []
    for _ in range(5):
        started = time.process_time()
        count(design, "abc", 3)
        times.append(time.process_time() - started)
    assert min(times) < 0.02  # 0.005 on a quiet machine: benchmarks/explore.py


def test_a_network_too_deep_for_its_pictures_is_told() -> None:
    with pytest.raises(UserError, match="pool"):
        count(Design.of("squeezenet", 8, stem="standard"), "ab", 3)


def test_only_families_are_counted() -> None:
    with pytest.raises(UserError, match="alexnet: cannot be explored"):
        count(Design.of("alexnet", 224), "ab", 3)


def test_designs_whose_filters_round_to_the_same_are_built_alike() -> None:
    def of(**changed: Any) -> Any:
        chosen = {"base_e": 16, "incr_e": 0, "fires": 3, "pools": (1,), "pct_3x3": 0.1, **changed}
        return built(Design.of("squeezenet", 32, **chosen))

    assert of() == of(pct_3x3=0.15) is not None  # 2 of 16 filters either way
    others = [of(pct_3x3=0.2), of(bypass="simple"), of(pools=(2,)), of(fires=4), of(stem="standard")]
    assert len({of(), *others}) == 6
    assert built(Design.of("squeezenet", 8, stem="standard", pools=(1, 2, 3))) is None
