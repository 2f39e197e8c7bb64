"""Compound scaling: every step of φ doubles the work of any network, and departures are explained."""

from __future__ import annotations

import math
import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from squeezekit.cli._options import metaparameters
from squeezekit.errors import UserError
from squeezekit.explore.design import Design
from squeezekit.explore.scaling import Bases, Compound, compound, scaled
from squeezekit.explore.stages import work
from squeezekit.models import list_models, model_spec

SMALL = Design.of("squeezenet", 32, base_e=16, incr_e=16, conv1_channels=16)


def meta(design: Design) -> dict[str, object]:
    return dict(design.metaparameters)


def assert_consistent(scaling: Compound) -> None:
    assert math.prod(step.got for step in scaling.steps) == pytest.approx(scaling.ratio)
    assert math.prod(step.wanted for step in scaling.steps) == pytest.approx(
        scaling.bases.growth**scaling.phi
    )
    assert scaling.after.macs == work(scaling.design, 10).macs
    assert len(scaling.stages) == len(scaling.before.stages)


@pytest.mark.parametrize("model", list_models())
def test_every_network_becomes_smaller(model: str) -> None:
    """All of the way down but the last per cents, whose search takes the largest networks seconds."""
    baseline = Design.of(model, 64)
    half = scaled(baseline, depth=0.7, width=0.7, size=56)
    assert work(half, 10).parameters < work(scaled(baseline, depth=0.7), 10).parameters
    assert work(half, 10).macs < 0.6 * work(baseline, 10).macs


@pytest.mark.parametrize("model", [name for name in list_models() if name[-3:-1] != "_b" or name[-1] < "2"])
def test_networks_can_be_halved(model: str) -> None:
    scaling = compound(Design.of(model, model_spec(model).input_size), -1, classes=10)
    assert scaling.holds
    assert scaling.after.parameters < scaling.before.parameters
    assert_consistent(scaling)


@pytest.mark.parametrize(
    "model", ["squeezenet1_1", "alexnet", "mobilenet_v1", "mobilenet_v2", "efficientnet_b0", "vgg"]
)
@pytest.mark.parametrize(("phi", "size"), [(2.5, 224), (-2, 64)])
def test_every_family_at_other_sizes(model: str, phi: float, size: int) -> None:
    if model == "alexnet" and size == 224:
        size = 227
    scaling = compound(Design.of(model, size), phi, classes=10)
    assert scaling.holds
    assert_consistent(scaling)
    assert meta(scaling.design)["stem"] == ("small" if size <= 64 else "standard")  # the baseline's


def test_phi_zero_is_the_baseline() -> None:
    for model in ("efficientnet_b1", "mobilenet_v1", "squeezenet1_1"):
        scaling = compound(Design.of(model, 64), 0, classes=10)
        assert scaling.ratio == 1
        assert scaling.mended == ()
        assert scaling.before.parameters == scaling.after.parameters


def test_as_published_is_the_authors_own() -> None:
    baseline = Design.of("efficientnet_b0", 224)
    scaling = compound(baseline, 1, classes=1000, as_published=True)
    assert scaling.after.parameters == 9_109_994  # B2, whose coefficients are those of φ = 1
    assert scaling.design.size == 258
    # Layers rounded up are a fifth too many: the paper's table 2 has 1.0 B for B2, 2.6 times B0's 0.39.
    assert scaling.ratio == pytest.approx(2.573, abs=0.001)
    assert not scaling.holds
    mended = compound(baseline, 1, classes=1000)
    assert mended.after.layers == 19  # 1.2 · 16 is 19.2
    assert mended.holds


def test_what_departs_is_told() -> None:
    scaling = compound(Design.of("mobilenet_v2", 224, stem="standard"), -2, classes=1000)
    depth, width, resolution = scaling.steps
    assert depth.why.startswith("17 layers become 12, not 11.81")
    assert "grow with β alone" in width.why
    assert scaling.mended == ("resolution",)
    assert resolution.why.startswith(f"{scaling.design.size} px: 169.38 by the equation")
    stages = {stage["name"]: stage for stage in scaling.to_dict()["stages"]}
    assert stages["conv2"]["channels"] == [1280, pytest.approx(1280 / 1.21), 1280]  # section 6.1 of its paper


def test_small_pictures_are_mended_by_channels() -> None:
    scaling = compound(Design.of("squeezenet1_1", 32), -2, classes=10)
    assert scaling.mended == ("width",) or scaling.mended == ("resolution", "width")
    assert scaling.width == meta(scaling.design)["width_coefficient"]
    assert "to make good for the others" in scaling.steps[1].why
    assert scaling.holds


@settings(max_examples=6)
@given(phi=st.floats(-2, 2), alpha=st.floats(1, 1.9), beta=st.floats(1, 1.35))
def test_any_constants(phi: float, alpha: float, beta: float) -> None:
    if alpha * beta**2 > 2:
        beta = math.sqrt(2 / alpha)
    bases = Bases(alpha, beta, max(1.0, math.sqrt(2 / (alpha * beta**2))))
    scaling = compound(SMALL, phi, bases, classes=10)
    assert scaling.holds
    assert_consistent(scaling)


@pytest.mark.parametrize(
    "bases", [{"alpha": 0.9}, {"beta": 5.0}, {"alpha": 2.0}, {"gamma": 1.0}, {"gamma": math.nan}]
)
def test_constants_that_do_not_double_the_work(bases: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(bases))):
        Bases(**bases)


def test_too_far_down() -> None:
    with pytest.raises(UserError, match=r"phi=-9: alexnet: resolution=65: expected a whole number from 67"):
        compound(Design.of("alexnet", 227), -9, classes=10)
    with pytest.raises(UserError, match=r"phi=-8: squeezenet1_1: pictures of 10 x 10 pixels are too small"):
        compound(Design.of("squeezenet1_1", 32, stem="standard"), -8, classes=10)
    with pytest.raises(UserError, match="phi=21"):
        compound(SMALL, 21, classes=10)


class TestScaled:
    def test_coefficients_multiply(self) -> None:
        design = scaled(Design.of("mobilenet_v1", 64, width_mult=0.5), depth=1.5, width=0.5, size=48)
        assert (meta(design)["width_mult"], meta(design)["depth_coefficient"], design.size) == (0.25, 1.5, 48)

    def test_published_efficientnets_become_coefficients(self) -> None:
        design = scaled(Design.of("efficientnet_b5", 456), width=2)
        assert design.model == "efficientnet"
        assert meta(design)["width_coefficient"] == 3.2
        assert meta(design)["norm_eps"] == 1e-3
        assert work(scaled(Design.of("efficientnet_b5", 456)), 1000).parameters == 30_389_784

    def test_phi_of_efficientnet_becomes_coefficients(self) -> None:
        baseline = Design.of("efficientnet", 258, phi=1)
        same = scaled(baseline)
        assert meta(same)["depth_coefficient"] == pytest.approx(1.2)
        assert "phi" not in meta(same)
        assert work(same, 1000).parameters == work(baseline, 1000).parameters

    def test_nearest_layers_begin_from_those_there_are(self) -> None:
        # B1's 23 layers are those of depth 1.1 rounded up; ten per cent more are 25, not 1.21 · 16.
        assert work(scaled(Design.of("efficientnet_b1", 64), depth=1.1), 10).layers == 25

    def test_the_command_trains_what_was_counted(self) -> None:
        design = compound(
            Design.of("squeezenet", 96, pools=(1, 3, 5), bypass="simple"), -1, classes=10
        ).design
        words = shlex.split(design.command("photos/", "run/"))
        given = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
        again = Design.of(words[words.index("--model") + 1], int(words[-1]), **metaparameters(given))
        assert again == design
