"""The public blocks: MBConv, squeeze-and-excitation, stochastic depth; and the other families' structure."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from squeezekit.errors import UserError
from squeezekit.models import MBConv, SqueezeExcitation, StochasticDepth, compound_scaling, create_model
from squeezekit.models.blocks import round_channels


def test_stochastic_depth_keeps_the_mean_and_drops_whole_pictures() -> None:
    torch.manual_seed(0)
    y = StochasticDepth(0.3)(torch.ones(20_000, 2, 1, 1))
    assert torch.equal(y[:, 0], y[:, 1])
    assert y.mean().item() == pytest.approx(1.0, abs=0.02)
    assert (y == 0).float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert sorted(y.unique().tolist()) == pytest.approx([0, 1 / 0.7])


def test_stochastic_depth_rests_at_evaluation_and_checks_its_probability() -> None:
    x = torch.randn(3, 2, 4, 4)
    assert StochasticDepth(0.9).eval()(x) is x
    with pytest.raises(UserError, match=r"p=1\.0"):
        StochasticDepth(1.0)


def test_squeeze_excitation_scales_channels() -> None:
    block = SqueezeExcitation(6, 2)
    x = torch.randn(2, 6, 5, 5)
    scale = torch.sigmoid(block.expand(nn.functional.silu(block.reduce(x.mean((2, 3), keepdim=True)))))
    torch.testing.assert_close(block(x), x * scale)


@pytest.mark.parametrize(
    ("in_channels", "out_channels", "stride", "residual"),
    [(8, 8, 1, True), (8, 8, 2, False), (8, 12, 1, False)],
)
def test_mbconv_adds_its_input_where_shapes_agree(in_channels, out_channels, stride, residual) -> None:
    block = MBConv(in_channels, out_channels, kernel=5, stride=stride).eval()
    x = torch.randn(2, in_channels, 9, 9)
    y = block(x)
    assert y.shape == (2, out_channels, -(-9 // stride), -(-9 // stride))
    assert block.residual is residual
    nn.init.zeros_(block.project.norm.weight)
    torch.testing.assert_close(block(x), x if residual else torch.zeros_like(y))


def test_mbconv_without_expansion_or_excitation_has_none() -> None:
    block = MBConv(8, 8, expand_ratio=1, se_ratio=0.0)
    assert block.expand is None
    assert block.squeeze_excitation is None


@pytest.mark.parametrize(
    ("channels", "rounded"), [(32, 32), (35.2, 32), (17.6, 16), (18, 24), (1, 8), (20, 24)]
)
def test_widths_are_rounded_as_the_authors_do(channels: float, rounded: int) -> None:
    assert round_channels(channels) == rounded


def test_stages_of_efficientnet_b0_table_1() -> None:
    with torch.device("meta"):
        features = create_model("efficientnet_b0").features
        x, sizes = torch.empty(2, 3, 224, 224), []
        for stage in features:
            x = stage(x)
            sizes.append(tuple(x.shape[1:3]))
    # Table 1 names each stage by its input's resolution; these are the outputs'.
    assert sizes == [
        *((32, 112), (16, 112), (24, 56), (40, 28), (80, 14)),
        *((112, 14), (192, 7), (320, 7), (1280, 7)),
    ]


def test_stochastic_depth_grows_linearly() -> None:
    with torch.device("meta"):
        network = create_model("efficientnet_b0", stochastic_depth=0.32)
    p = [module.p for module in network.modules() if isinstance(module, StochasticDepth)]
    assert p == pytest.approx([0.02 * i for i in range(16)])


def test_compound_scaling_is_equation_3() -> None:
    assert compound_scaling(0) == (1.0, 1.0, 224)
    width, depth, resolution = compound_scaling(2)
    assert (width, depth, resolution) == (pytest.approx(1.21), pytest.approx(1.44), 296)
    with torch.device("meta"):
        by_phi = create_model("efficientnet", phi=2)
        by_hand = create_model(
            "efficientnet", width_coefficient=width, depth_coefficient=depth, resolution=resolution
        )
        small = create_model("efficientnet", phi=2, stem="small")
    assert {k: v.shape for k, v in by_phi.state_dict().items()} == {
        k: v.shape for k, v in by_hand.state_dict().items()
    }
    assert (by_phi.input_size, by_hand.input_size, small.input_size) == (296, 296, 42)


def test_phi_and_coefficients_exclude_each_other() -> None:
    with pytest.raises(UserError, match="either phi"):
        create_model("efficientnet", phi=1, resolution=300)


def test_fractional_and_negative_phi() -> None:
    with torch.device("meta"):
        sizes = [
            sum(p.numel() for p in create_model("efficientnet", phi=phi).parameters())
            for phi in (-3, 0, 0.5, 1)
        ]
    assert sizes == sorted(sizes)
    assert sizes[1] == 5_288_548


def test_alexnet_names_the_picture_it_wants() -> None:
    with torch.device("meta"), pytest.raises(UserError, match="227 x 227"):
        create_model("alexnet")(torch.empty(1, 3, 320, 320))


def test_alexnet_biases_are_the_papers() -> None:
    network = create_model("alexnet", 10, stem="small")
    ones = [n for n, m in network.named_modules() if getattr(m, "bias", None) is not None and m.bias.all()]
    assert [name.split(".")[1] for name in ones] == ["conv2", "conv4", "conv5", "fc6", "fc7"]


def test_response_normalisation_is_the_papers_formula() -> None:
    norm = create_model("alexnet", 10, stem="small").features.norm1
    x = torch.rand(1, 12, 2, 2) * 100
    expected = torch.empty_like(x)
    for i in range(12):
        window = x[:, max(0, i - 2) : i + 3]
        expected[:, i] = x[:, i] / (2 + 1e-4 * window.square().sum(1)) ** 0.75
    torch.testing.assert_close(norm(x), expected)
