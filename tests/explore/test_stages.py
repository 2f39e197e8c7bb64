"""The work of a network, stage by stage, against the papers and against the exported graph."""

from __future__ import annotations

import pytest
import torch

from squeezekit.errors import UserError
from squeezekit.explore.design import Design
from squeezekit.explore.stages import work
from squeezekit.graph.cost import cost
from squeezekit.graph.from_torch import from_torch


@pytest.mark.parametrize(
    ("model", "size", "macs"),
    [
        ("squeezenet1_0", 224, 818_924_576),
        ("squeezenet1_1", 224, 349_151_936),
        ("mobilenet_v2", 224, 300_774_272),
        ("efficientnet_b0", 224, 385_814_752),
        ("alexnet", 227, 724_406_816),
        ("efficientnet_b7", 600, 37_745_884_192),
    ],
)
def test_the_documented_figures(model: str, size: int, macs: int) -> None:
    assert work(Design.of(model, size), 1000).macs == macs


@pytest.mark.parametrize(
    "design",
    [
        Design.of("squeezenet", 40, bypass="complex", depth_coefficient=1.5, width_coefficient=0.4),
        Design.of("mobilenet_v1", 33, width_mult=0.25, depth_coefficient=0.6),
        Design.of("vgg", 32, widths=(8, 16)),
    ],
    ids=lambda design: design.model,
)
def test_as_the_exported_graph(design: Design) -> None:
    with torch.device("meta"):
        network = design.build(7, 3)
    exported = cost(from_torch(network, (3, design.size, design.size)))
    counted = work(design, 7)
    assert counted.macs == exported.macs
    assert counted.parameters == sum(each.numel() for each in network.parameters())


def test_the_stages_of_squeezenet() -> None:
    counted = work(Design.of("squeezenet1_0", 227, stem="standard"), 1000)
    assert [(each.name, each.layers, each.channels, each.side) for each in counted.stages] == [
        ("conv1", 1, 96, 111),  # table 1
        ("fire2 … fire4", 3, 256, 55),
        ("fire5 … fire8", 4, 512, 27),
        ("fire9", 1, 512, 13),
        ("classifier", 1, 1000, 1),
    ]
    assert counted.layers == 8


def test_the_stages_of_efficientnet() -> None:
    counted = work(Design.of("efficientnet_b0", 224), 1000)
    assert [each.layers for each in counted.stages] == [1, 1, 2, 2, 3, 3, 4, 1, 1, 1]  # table 1
    assert counted.layers == 16
    assert [each.channels for each in counted.stages[:-1]] == [32, 16, 24, 40, 80, 112, 192, 320, 1280]


def test_what_grows_with_the_width_alone() -> None:
    # MobileNet: the first convolution, the depthwise ones, and the classifier. Twice as wide, everything else
    # has four times the work: exactly, since 2 · channels is rounded by nothing.
    narrow = work(Design.of("mobilenet_v1", 64), 10)
    wide = work(Design.of("mobilenet_v1", 64, width_mult=2.0), 10)
    assert wide.macs == 2 * narrow.linear + 4 * (narrow.macs - narrow.linear)


def test_pictures_too_small_are_told_in_one_line() -> None:
    with pytest.raises(UserError, match="pictures of 9 x 9 pixels are too small"):
        work(Design.of("squeezenet1_0", 9, stem="standard"), 10)
