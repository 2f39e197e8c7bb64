"""The parameter counts of the papers, exactly, and the pictures they are for."""

from __future__ import annotations

import pytest
import torch

from squeezekit.models import create_model, list_models, model_spec

COUNTS = {
    "alexnet": 60_965_224,
    "efficientnet": 5_288_548,
    "efficientnet_b0": 5_288_548,
    "efficientnet_b1": 7_794_184,
    "efficientnet_b2": 9_109_994,
    "efficientnet_b3": 12_233_232,
    "efficientnet_b4": 19_341_616,
    "efficientnet_b5": 30_389_784,
    "efficientnet_b6": 43_040_704,
    "efficientnet_b7": 66_347_960,
    "mobilenet_v1": 4_231_976,
    "mobilenet_v2": 3_504_872,
    "squeezenet": 1_248_424,
    "squeezenet1_0": 1_248_424,
    "squeezenet1_0_complex_bypass": 1_589_672,
    "squeezenet1_0_simple_bypass": 1_248_424,
    "squeezenet1_1": 1_235_496,
    "vgg": 1_396_480,
}


def count(name: str, **metaparameters: object) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in create_model(name, **metaparameters).parameters())


def test_every_network_is_counted() -> None:
    assert list_models() == sorted(COUNTS)


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_at_1000_classes(name: str) -> None:
    assert count(name) == COUNTS[name]


@pytest.mark.parametrize(("width_mult", "parameters"), [(0.75, 2_585_560), (0.5, 1_331_592), (0.25, 470_072)])
def test_parameters_of_mobilenet_v1_by_width(width_mult: float, parameters: int) -> None:
    assert count("mobilenet_v1", width_mult=width_mult) == parameters


def test_small_stem_of_alexnet_has_the_documented_parameters() -> None:
    assert count("alexnet", stem="small") == 24_237_416


def test_input_sizes_of_the_papers() -> None:
    sizes = [model_spec(f"efficientnet_b{i}").input_size for i in range(8)]
    assert sizes == [224, 240, 260, 300, 380, 456, 528, 600]
    assert model_spec("alexnet").input_size == 227
    with torch.device("meta"):
        assert [create_model(f"efficientnet_b{i}").input_size for i in range(8)] == sizes


@pytest.mark.parametrize(("rho", "size"), [(1, 224), (6 / 7, 192), (5 / 7, 160), (4 / 7, 128)])
def test_resolution_multiplier_of_mobilenet_v1(rho: float, size: int) -> None:
    with torch.device("meta"):
        assert create_model("mobilenet_v1", resolution_mult=rho).input_size == size
