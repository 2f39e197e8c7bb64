"""SqueezeNet: the Fire module, the metaparameters of section 5, bypasses, norm, initialisation."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from squeezekit.errors import UserError
from squeezekit.models import Fire, create_model


def fires(network: nn.Module) -> list[Fire]:
    return [module for module in network.modules() if isinstance(module, Fire)]


def shape(fire: Fire) -> tuple[int, int, int]:
    return tuple(conv.out_channels for conv in (fire.squeeze1x1, fire.expand1x1, fire.expand3x3))


def test_fire_puts_1x1_before_3x3() -> None:
    fire = Fire(8, 2, 3, 5)
    x = torch.randn(2, 8, 6, 7)
    y = fire(x)
    squeezed = fire.squeeze1x1(x).relu()
    assert y.shape == (2, 8, 6, 7)
    torch.testing.assert_close(y[:, :3], fire.expand1x1(squeezed).relu())
    torch.testing.assert_close(y[:, 3:], fire.expand3x3(squeezed).relu())


def test_fire_modules_of_table_1() -> None:
    with torch.device("meta"):
        network = create_model("squeezenet1_0")
    assert [shape(fire) for fire in fires(network)] == [
        (16, 64, 64),
        (16, 64, 64),
        (32, 128, 128),
        (32, 128, 128),
        (48, 192, 192),
        (48, 192, 192),
        (64, 256, 256),
        (64, 256, 256),
    ]
    assert [name for name, _ in network.features.named_children()] == [
        *("conv1", "relu1", "pool1", "fire2", "fire3", "fire4", "pool4"),
        *("fire5", "fire6", "fire7", "fire8", "pool8", "fire9"),
    ]


def test_map_sizes_of_table_1_at_227_pixels() -> None:
    with torch.device("meta"):
        network = create_model("squeezenet1_0")
        sizes = {}
        x = torch.empty(1, 3, 227, 227)
        for name, layer in network.features.named_children():
            x = layer(x)
            sizes[name] = tuple(x.shape[1:])
    assert sizes["conv1"] == (96, 111, 111)
    assert sizes["pool1"] == (96, 55, 55)
    assert sizes["pool4"] == (256, 27, 27)
    assert sizes["pool8"] == sizes["fire9"] == (512, 13, 13)


def test_metaparameters_of_section_5() -> None:
    with torch.device("meta"):
        network = create_model(
            "squeezenet", base_e=64, incr_e=32, freq=3, pct_3x3=0.25, squeeze_ratio=0.5, fires=5, pools=[2, 6]
        )
    assert [shape(fire) for fire in fires(network)] == [(32, 48, 16)] * 3 + [(48, 72, 24)] * 2
    assert [name for name, _ in network.features.named_children()][2:] == [
        *("fire2", "pool2", "fire3", "fire4", "fire5", "fire6", "pool6")
    ]


def test_extreme_shares_keep_one_filter_of_each_kind() -> None:
    with torch.device("meta"):
        few, many = (create_model("squeezenet", base_e=8, incr_e=0, pct_3x3=p) for p in (0.01, 0.99))
    assert shape(fires(few)[0]) == (1, 7, 1)
    assert shape(fires(many)[0]) == (1, 1, 7)


@pytest.mark.parametrize(
    ("name", "identities", "convolutions"),
    [
        ("squeezenet1_0", [], []),
        ("squeezenet1_0_simple_bypass", [3, 5, 7, 9], []),
        ("squeezenet1_0_complex_bypass", [3, 5, 7, 9], [2, 4, 6, 8]),
    ],
)
def test_bypasses_of_figure_2(name: str, identities: list[int], convolutions: list[int]) -> None:
    with torch.device("meta"):
        bypasses = [fire.bypass for fire in fires(create_model(name))]
    assert [i for i, b in enumerate(bypasses, 2) if isinstance(b, nn.Identity)] == identities
    assert [i for i, b in enumerate(bypasses, 2) if isinstance(b, nn.Conv2d)] == convolutions


def test_bypass_adds_the_input() -> None:
    x = torch.randn(1, 8, 5, 5)
    plain, bypassed = Fire(8, 2, 4, 4), Fire(8, 2, 4, 4, bypass=nn.Identity())
    bypassed.load_state_dict(plain.state_dict())
    torch.testing.assert_close(bypassed(x), plain(x) + x)


def test_norm_replaces_biases_and_the_closing_relu() -> None:
    with torch.device("meta"):
        network = create_model("squeezenet1_0_complex_bypass", norm=True)
    convolutions = {name: m for name, m in network.named_modules() if isinstance(m, nn.Conv2d)}
    assert [name for name, m in convolutions.items() if m.bias is not None] == ["classifier.conv10"]
    assert sum(isinstance(m, nn.BatchNorm2d) for m in network.modules()) == len(convolutions) - 1
    assert "relu10" not in dict(network.classifier.named_children())


def test_logits_are_not_negative_as_published_but_free_with_norm() -> None:
    x = torch.randn(4, 3, 32, 32)
    assert create_model("squeezenet1_1", 50, stem="small").eval()(x).min() >= 0
    assert create_model("squeezenet1_1", 50, stem="small", norm=True).eval()(x).min() < 0


def test_initialisation_is_the_authors() -> None:
    network = create_model("squeezenet1_0")
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            weight = module.weight
            if name == "classifier.conv10":
                assert weight.std().item() == pytest.approx(0.01, rel=0.02)
            else:
                bound = (3 / weight[0].numel()) ** 0.5
                assert 0.95 * bound < weight.abs().max().item() <= bound
            assert not module.bias.any()


def test_channels_last_and_bfloat16_give_the_same_classes_shapes_and_layout() -> None:
    network = create_model("squeezenet1_1", 10, stem="small", norm=True).to(memory_format=torch.channels_last)
    x = torch.randn(4, 3, 32, 32).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        maps = network.features(x)
        assert maps.is_contiguous(memory_format=torch.channels_last)
        network(x).float().square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


@pytest.mark.parametrize(
    ("mistake", "told"),
    [
        ({"base_e": 0}, "base_e=0"),
        ({"base_e": 12.5}, "base_e=12.5"),
        ({"freq": True}, "freq=True"),
        ({"pct_3x3": 1.0}, "pct_3x3=1.0"),
        ({"squeeze_ratio": float("nan")}, "squeeze_ratio=nan"),
        ({"bypass": "simpel"}, "did you mean 'simple'"),
        ({"pools": (1, 10)}, "pools=10"),
        ({"pools": "1"}, "pools='1'"),
        ({"pools": (1, 1)}, r"pools=\[1, 1\]"),
        ({"fires": 10**9}, "fires=1000000000"),
        ({"stem": "tiny"}, "stem='tiny'"),
        ({"norm": "yes"}, "norm='yes'"),
        ({"dropout": 1.5}, "dropout=1.5"),
    ],
)
def test_wrong_metaparameters_are_told(mistake: dict[str, object], told: str) -> None:
    with pytest.raises(UserError, match=told) as caught:
        create_model("squeezenet", **mistake)
    assert str(caught.value).startswith("squeezenet: ")
    assert "\n" not in str(caught.value)
