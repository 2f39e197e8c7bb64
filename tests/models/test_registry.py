"""Networks by name, and again from their configuration."""

from __future__ import annotations

import json

import pytest
import torch

from squeezekit.errors import UserError
from squeezekit.models import (
    build,
    check_picture_size,
    create_model,
    list_models,
    model_spec,
    replace_classifier,
)


def test_specs_are_complete() -> None:
    for name in list_models():
        spec = model_spec(name)
        assert spec.name == name == spec.builder.__name__
        assert spec.paper
        assert spec.input_size >= 224
        assert {"stem", "dropout"} <= {*spec.metaparameters}
        assert spec.builder.__doc__


@pytest.mark.parametrize(
    ("name", "metaparameters"),
    [
        (
            "squeezenet",
            {"base_e": 32, "incr_e": 16, "fires": 4, "pools": (1, 3), "bypass": "complex", "norm": True},
        ),
        ("squeezenet1_1", {"stem": "small"}),
        ("mobilenet_v1", {"width_mult": 0.25, "resolution_mult": 0.5}),
        ("mobilenet_v2", {"width_mult": 0.35}),
        ("efficientnet", {"phi": -1.5, "stem": "small"}),
        ("efficientnet_b6", {"dropout": 0.1}),
        ("alexnet", {"stem": "small"}),
    ],
)
def test_a_network_is_built_again_from_its_configuration(
    name: str, metaparameters: dict[str, object]
) -> None:
    with torch.device("meta"):
        network = create_model(name, 6, 1, **metaparameters)
        again = build(json.loads(json.dumps(network.config)))
    assert again.config == network.config
    assert again.input_size == network.input_size
    assert str(again) == str(network)
    assert network.config["num_classes"] == 6
    assert network.config["in_channels"] == 1


def test_builders_carry_the_configuration_too() -> None:
    from squeezekit.models import squeezenet1_0

    with torch.device("meta"):
        assert squeezenet1_0(3).config == create_model("squeezenet1_0", 3).config


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (
            lambda: create_model("squeezenet1.1"),
            "squeezenet1.1: no such network; did you mean 'squeezenet1_1'",
        ),
        (lambda: create_model("squeezenet1_1", with_mult=2), "no metaparameter 'with_mult'"),
        (lambda: create_model("mobilenet_v2", with_mult=2), "did you mean 'width_mult'"),
        (
            lambda: create_model("mobilenet_v2", width_mult=-1),
            "mobilenet_v2: width_mult=-1: expected a number",
        ),
        (lambda: create_model("mobilenet_v2", 0), "num_classes=0"),
        (lambda: create_model("mobilenet_v2", 10, 0), "in_channels=0"),
        (lambda: create_model("efficientnet", phi=1e9), "phi=1000000000"),
        (lambda: create_model("efficientnet", stem="smal"), "did you mean 'small'"),
    ],
)
def test_mistakes_are_told(call, told: str) -> None:
    with pytest.raises(UserError) as caught:
        call()
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"name": "alexnet"},
        {"name": 3, "num_classes": 2, "in_channels": 3, "metaparameters": {}},
        {"name": "alexnet", "num_classes": "2", "in_channels": 3, "metaparameters": {}},
        {"name": "alexnet", "num_classes": 10**12, "in_channels": 3, "metaparameters": {}},
        {"name": "alexnet", "num_classes": 2, "in_channels": 3, "metaparameters": {"weights": "imagenet"}},
        {"name": "alexnet", "num_classes": 2, "in_channels": 3, "metaparameters": {"stem": ["small"]}},
        {"name": "squeezenet", "num_classes": 2, "in_channels": 3, "metaparameters": {"base_e": 10**9}},
    ],
)
def test_damaged_configurations_are_refused(config: dict[str, object]) -> None:
    with pytest.raises(UserError):
        build(config)


def test_picture_sizes_are_checked_without_computing() -> None:
    with torch.device("meta"):
        standard = create_model("squeezenet1_1", 10).config
        small = create_model("squeezenet1_1", 10, stem="small").config
    check_picture_size(standard, 224)
    check_picture_size(small, 8)
    with pytest.raises(UserError, match=r"too small for it.*stem=small"):
        check_picture_size(standard, 2)
    with pytest.raises(UserError, match="227"):
        check_picture_size({**standard, "name": "alexnet", "metaparameters": {}}, 224)


@pytest.mark.parametrize("name", ["squeezenet1_1", "alexnet", "mobilenet_v1", "efficientnet_b0"])
def test_the_head_is_replaced(name: str) -> None:
    network = create_model(name, 10, stem="small")
    before = {key: value.clone() for key, value in network.state_dict().items()}
    assert replace_classifier(network, 3) is network
    assert network.config["num_classes"] == 3
    assert network.eval()(torch.randn(1, 3, 32, 32)).shape == (1, 3)
    changed = [key for key, value in network.state_dict().items() if value.shape != before[key].shape]
    assert len(changed) == 2
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items() if k not in changed)
    with torch.device("meta"):
        assert {k: v.shape for k, v in build(network.config).state_dict().items()} == {
            k: v.shape for k, v in network.state_dict().items()
        }
