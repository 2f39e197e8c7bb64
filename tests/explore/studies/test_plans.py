"""The variants: each differs from the next in what its name says, and in nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from squeezekit.explore.studies.run import STUDIES
from squeezekit.explore.studies.strategies import (
    Module,
    depthwise_separable,
    spatially_separable,
    without_strategy_1,
    without_strategy_1_in_squeeze,
    without_strategy_2,
)
from squeezekit.explore.studies.study import Setting, Variant
from squeezekit.graph.cost import cost
from squeezekit.graph.from_torch import from_torch
from squeezekit.models import Fire

QUICK, FULL = Setting(32, quick=True), Setting(224, quick=False)


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def hollow(variant: Variant, classes: int = 10) -> nn.Module:
    with torch.device("meta"):
        return variant.build(classes, 3)


@pytest.mark.parametrize("setting", [QUICK, FULL], ids=["quick", "full"])
@pytest.mark.parametrize("name", STUDIES)
def test_every_variant_takes_its_pictures(name: str, setting: Setting) -> None:
    plan = STUDIES[name].plan(setting)
    names = [variant.name for variant in plan.variants]
    assert len(set(names)) == len(names) > 2
    for claim in plan.claims:
        assert {claim.one, claim.other} <= set(names)
        assert claim.one != claim.other
    for variant in plan.variants:
        network = hollow(variant).eval()
        with torch.device("meta"):
            assert network(torch.empty(2, 3, variant.size, variant.size)).shape == (2, 10)
        assert isinstance(network.features, nn.Module)
        assert isinstance(network.classifier, nn.Module)


def by_name(name: str, setting: Setting = QUICK) -> dict[str, Variant]:
    return {variant.name: variant for variant in STUDIES[name].plan(setting).variants}


def test_the_full_forms_are_the_papers() -> None:
    # Batch normalisation, which the paper has not, adds its own; conv10 is for ten classes.
    variant = by_name("squeeze-ratio", FULL)["SR = 0.125"]
    convolutions = [m for m in hollow(variant, 1000).modules() if isinstance(m, nn.Conv2d)]
    assert sum(m.weight.numel() for m in convolutions) == 1_244_448  # 1,248,424 less biases
    assert parameters(hollow(by_name("multipliers", FULL)["α = 0.5"], 1000)) == 1_331_592
    assert parameters(hollow(by_name("scaling", FULL)["baseline"], 1000)) == 5_288_548


def test_size_grows_along_figure_3() -> None:
    for name in ("squeeze-ratio", "pct-3x3"):
        sizes = [parameters(hollow(variant)) for variant in STUDIES[name].plan(QUICK).variants]
        assert sizes == sorted(set(sizes))


def test_a_simple_bypass_costs_no_parameter() -> None:
    no, simple, complex_ = (parameters(hollow(variant)) for variant in by_name("bypass").values())
    assert no == simple < complex_


def test_resolution_changes_no_weight() -> None:
    multipliers = by_name("multipliers")
    whole = parameters(hollow(multipliers["α = 0.25"]))
    for name, variant in multipliers.items():
        assert (parameters(hollow(variant)) == whole) == (name.startswith("ρ") or name == "α = 0.25")
    assert [v.size for n, v in multipliers.items() if n.startswith("ρ")] == [27, 23, 18]


def test_scaling_grows_the_work_alike() -> None:
    counts: dict[str, int] = {}
    for name, variant in by_name("scaling").items():
        counts[name] = cost(from_torch(hollow(variant), (3, variant.size, variant.size))).macs
    base = counts.pop("baseline")
    for name, count in counts.items():
        times = 4 if name in ("d = 4", "w = 2", "r = 2", "φ = 2") else 2
        assert 0.8 * times < count / base < 1.1 * times, name


# --- the strategies ---------------------------------------------------------------------------------------


def weights(module: nn.Module) -> int:
    return sum(m.weight.numel() for m in module.modules() if isinstance(m, nn.Conv2d))


@pytest.fixture
def fire() -> Fire:
    return Fire(24, 4, 16, 12, norm=True)


@pytest.mark.parametrize(
    ("exchange", "count"),
    [
        (without_strategy_1, 24 * 4 + 9 * 4 * 28),
        (without_strategy_1_in_squeeze, 9 * 24 * 4 + 4 * 16 + 9 * 4 * 12),
        (without_strategy_2, 24 * 16 + 9 * 24 * 12),
        (depthwise_separable, 24 * 4 + 4 * 16 + 9 * 4 + 4 * 12),
        (spatially_separable, 24 * 4 + 4 * 16 + 3 * 4 * 4 + 3 * 4 * 12),
    ],
)
def test_what_is_exchanged(fire: Fire, exchange: Any, count: int) -> None:
    module: Module = exchange(fire)
    assert weights(module) == count
    x = torch.randn(2, 24, 5, 5)
    assert module(x).shape == fire(x).shape == (2, 28, 5, 5)
    assert (module(x) >= 0).all()  # ReLU behind every layer, as in a Fire module


def test_each_strategy_leaves_the_rest_alone() -> None:
    variants = by_name("strategies")
    base = hollow(variants["SqueezeNet"])
    for name in ("all expand filters 3×3", "no squeeze layers", "depthwise separable", "spatially separable"):
        network = hollow(variants[name])
        assert list(dict(network.features.named_children())) == list(dict(base.features.named_children()))
        assert parameters(network.classifier) == parameters(base.classifier)
        assert not any(isinstance(m, Fire) for m in network.modules())
        assert network.config == {}  # it no longer is what its configuration would build


def test_late_downsampling_is_compared_at_equal_parameters() -> None:
    variants = by_name("strategies")
    late, early = (variants[name] for name in ("SqueezeNet", "early downsampling"))
    assert parameters(hollow(late)) == parameters(hollow(early))
    counts = [cost(from_torch(hollow(v), (3, 32, 32))) for v in (late, early)]
    assert counts[1].macs < counts[0].macs / 2
    assert counts[0].parameters == parameters(hollow(late))


def test_fully_connected_layers_see_every_place() -> None:
    network = by_name("strategies")["fully connected"].build(10, 3).eval()
    x = torch.zeros(1, 3, 32, 32)
    maps = network.features(x)
    assert network.classifier.fc1.in_features == maps[0].numel()
    assert network(torch.zeros(1, 3, 24, 24)).shape == (1, 10)  # the early epochs' smaller pictures
    assert not torch.equal(
        network.classifier(maps), network.classifier(maps.flip(2) + torch.randn_like(maps))
    )
