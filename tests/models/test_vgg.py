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
