"""The plain network, and what makes it quick to train."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from squeezekit.errors import UserError
from squeezekit.models import create_model


def test_the_layers_follow_the_widths() -> None:
    network = create_model("vgg", 10, widths=(16, 32), stem="small")
    convs = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels) for c in convs] == [
        (3, 24),
        (24, 16),
        (16, 16),
        (16, 32),
        (32, 32),
    ]
    assert network.features(torch.zeros(1, 3, 32, 32)).shape == (1, 32, 7, 7)


def test_more_convolutions_are_bypassed_and_only_some_stages_halve() -> None:
    network = create_model("vgg", 10, widths=(4, 6, 8), convs=3, pools=(1, 6), stem="small")
    assert network.features.stage1(torch.zeros(1, 24, 31, 31)).shape == (1, 4, 15, 15)
    assert network.features.stage2(torch.zeros(1, 4, 15, 15)).shape == (1, 6, 7, 7)
    assert network.features(torch.zeros(1, 3, 32, 32)).shape == (1, 8, 7, 7)
    stage = network.features.stage3.eval()
    x = torch.rand(1, 6, 5, 5)
    first = stage.relu(stage.norm1(stage.conv1(x)))
    last = stage.norm3(stage.conv3(stage.relu(stage.norm2(stage.conv2(first)))))
    assert torch.allclose(stage(x), (first + last).relu())
    # 0 filters of conv3: what is left is the bypass.
    torch.nn.init.zeros_(stage.conv3.weight)
    assert torch.allclose(stage(x), (first + stage.norm3.bias.view(1, -1, 1, 1)).relu())


def test_filters_start_as_the_identity() -> None:
    """The first filters of each convolution pass their input on."""
    conv = create_model("vgg", 10, widths=(8, 40), stem="small").features.stage2.conv1
    x = torch.rand(2, 8, 9, 9)
    assert torch.allclose(conv(x)[:, :8], x)
    assert not torch.allclose(conv(x)[:, 8:16], x)


def test_what_is_not_trained() -> None:
    network = create_model("vgg", 10)
    fixed = {name for name, p in network.named_parameters() if not p.requires_grad}
    assert fixed == {"features.whiten.weight"} | {
        f"features.stage{i}.norm{j}.weight" for i in (1, 2, 3) for j in (1, 2)
    }
    assert all(
        (p == 1).all() for name, p in network.named_parameters() if "norm" in name and "weight" in name
    )


def test_logits_start_small() -> None:
    torch.manual_seed(0)
    network = create_model("vgg", 10, stem="small")
    assert network(torch.randn(64, 3, 32, 32)).std() < 0.5


def test_patches_of_the_standard_stem_lie_side_by_side() -> None:
    network = create_model("vgg", 10, in_channels=1)
    assert network.features.whiten.weight.shape == (32, 1, 4, 4)
    assert network.features.whiten(torch.zeros(1, 1, 224, 224)).shape[-1] == 56


def test_widths_that_are_none() -> None:
    with pytest.raises(UserError, match="widths"):
        create_model("vgg", 10, widths=())
    with pytest.raises(UserError, match="widths"):
        create_model("vgg", 10, widths=(0, 3))
    with pytest.raises(UserError, match="pools"):
        create_model("vgg", 10, pools=(7,))
    with pytest.raises(UserError, match="bypassed"):
        create_model("vgg", 10, convs=3, pools=(1, 5))
    with pytest.raises(UserError, match="convs"):
        create_model("vgg", 10, convs=0)
