"""Width, depth and resolution coefficients of networks whose papers have none."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from squeezekit.errors import UserError
from squeezekit.models import Network, create_model
from squeezekit.models.blocks import scaled_repeats


def meta(name: str, **metaparameters: Any) -> Network:
    with torch.device("meta"):
        return create_model(name, **metaparameters).eval()


def names(network: Network, prefix: str) -> list[str]:
    return [name for name, _ in network.features.named_children() if name.startswith(prefix)]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.floats(0.05, 8))
def test_repeats_add_up(repeats: list[int], depth: float) -> None:
    scaled = scaled_repeats(repeats, depth)
    assert len(scaled) == len(repeats)
    assert min(scaled) >= 1
    if depth >= 1:  # no stage needs more than its share
        assert abs(sum(scaled) - depth * sum(repeats)) <= 0.5 + 1e-9
    assert scaled_repeats(repeats, 1) == repeats
    # A stage is never more than a layer from its share, but where it keeps its only one.
    assert all(
        abs(new - depth * old) <= 1 + 1e-9 or new == 1 for old, new in zip(repeats, scaled, strict=True)
    )


@pytest.mark.parametrize(
    ("name", "prefix", "depth", "count"),
    [
        ("squeezenet1_0", "fire", 2.0, 16),
        ("squeezenet1_0", "fire", 1.2, 10),
        ("squeezenet1_1", "fire", 0.5, 4),
        ("squeezenet1_0_simple_bypass", "fire", 1.5, 12),
        ("squeezenet1_0_complex_bypass", "fire", 0.4, 4),
        ("mobilenet_v1", "block", 2.0, 26),
        ("mobilenet_v1", "block", 0.5, 7),
        ("mobilenet_v2", "bottleneck", 1.2, 20),
        ("alexnet", "conv", 2.0, 9),
        ("alexnet", "conv", 0.5, 3),
    ],
)
@pytest.mark.parametrize("stem", ["standard", "small"])
def test_depth(name: str, prefix: str, depth: float, count: int, stem: str) -> None:
    network = meta(name, depth_coefficient=depth, stem=stem, num_classes=7)
    assert len(names(network, prefix)) == count
    side = network.input_size
    assert network(torch.empty(1, 3, side, side, device="meta")).shape == (1, 7)
    # As many halvings as before: the maps are as large.
    plain = meta(name, stem=stem)
    pictures = torch.empty(1, 3, side, side, device="meta")
    assert network.features(pictures).shape[2:] == plain.features(pictures).shape[2:]


def test_a_deeper_squeezenet_keeps_its_widths_and_pools() -> None:
    network = meta("squeezenet1_0", depth_coefficient=1.5)
    fires = [getattr(network.features, name) for name in names(network, "fire")]
    widths = [fire.expand1x1.out_channels + fire.expand3x3.out_channels for fire in fires]
    assert widths == [128] * 3 + [256] * 3 + [384] * 3 + [512] * 3
    # v1.0 has three modules, four and one between its pools; now five, six and one.
    assert names(network, "pool") == ["pool1", "pool6", "pool12"]


def test_a_deeper_alexnet_names_what_it_repeats() -> None:
    features = meta("alexnet", depth_coefficient=1.5).features
    convolutions = [name for name, _ in features.named_children() if name.startswith("conv")]
    assert convolutions == ["conv1", "conv2", "conv2_2", "conv3", "conv4", "conv4_2", "conv5"]
    assert features.conv4_2.groups == 2


@pytest.mark.parametrize(
    ("name", "channels"),
    [("squeezenet1_0", (144, 192, 768)), ("squeezenet1_1", (96, 192, 768)), ("alexnet", (144, 384, 384))],
)
def test_width(name: str, channels: tuple[int, int, int]) -> None:
    network = meta(name, width_coefficient=1.5)
    first, second, last = channels
    assert network.features.conv1.out_channels == first
    side = network.input_size
    maps = network.features(torch.empty(1, 3, side, side, device="meta"))
    assert maps.shape[1] == last
    if name == "alexnet":
        assert network.features.conv2.out_channels == second
        assert network.classifier.fc7.out_features == 6144
    else:
        assert network.features.fire2(torch.empty(1, first, 9, 9, device="meta")).shape[1] == second


@pytest.mark.parametrize(("resolution", "side"), [(227, 6), (128, 2), (67, 1), (320, 8)])
def test_alexnet_sees_every_position_of_its_last_maps(resolution: int, side: int) -> None:
    network = meta("alexnet", resolution=resolution)
    assert network.input_size == resolution
    assert network.classifier.fc6.in_features == 256 * side**2
    assert network(torch.empty(1, 3, resolution, resolution, device="meta")).shape == (1, 1000)
    with pytest.raises(UserError, match=f"takes pictures of {resolution} x {resolution}"):
        network(torch.empty(1, 3, resolution + 64, resolution + 64, device="meta"))


def test_efficientnet_can_round_its_layers_to_the_nearest() -> None:
    def layers(**metaparameters: Any) -> list[int]:
        features = meta("efficientnet", **metaparameters).features
        return [len(getattr(features, f"stage{i}")) for i in range(2, 9)]

    assert layers(depth_coefficient=1.2) == [2, 3, 3, 4, 4, 5, 2]  # B2
    assert layers(depth_coefficient=1.2, depth_rounding="nearest") == [1, 3, 2, 4, 3, 5, 1]
    assert layers(depth_coefficient=0.8) == layers()
    assert sum(layers(depth_coefficient=0.75, depth_rounding="nearest")) == 12
    with pytest.raises(UserError, match="depth_rounding='down'"):
        layers(depth_rounding="down")
