"""A design is the same after any way it may travel: a key, JSON, a line for a shell."""

from __future__ import annotations

import json
import shlex

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from squeezekit.cli._options import metaparameters
from squeezekit.errors import UserError
from squeezekit.explore.design import Design

designs = st.builds(
    lambda size, **meta: Design.of("squeezenet", size, **meta),
    st.integers(16, 256),
    base_e=st.integers(2, 99),
    pct_3x3=st.floats(0.01, 0.99),
    bypass=st.sampled_from(["none", "simple", "complex"]),
    pools=st.lists(st.integers(1, 9), unique=True, max_size=3).map(tuple),
)


@given(designs)
def test_a_design_travels_through_json(design: Design) -> None:
    again = Design.from_dict(json.loads(json.dumps(design.to_dict())))
    assert again == design
    assert len({again, design}) == 1


@settings(max_examples=30)
@given(designs)
def test_the_command_says_the_design(design: Design) -> None:
    words = shlex.split(design.command("my photos/", "run/"))
    assert words[:5] == ["squeezekit", "train", "my photos/", "--out", "run/"]
    given_ = metaparameters(words[i + 1] for i, word in enumerate(words) if word == "--set")
    size = int(words[words.index("--size") + 1])
    assert Design.of(words[words.index("--model") + 1], size, **given_) == design


def test_what_is_not_given_is_what_train_would_choose() -> None:
    small, large = Design.of("squeezenet", 32), Design.of("squeezenet", 224)
    assert dict(small.metaparameters) == {"stem": "small", "norm": True, "dropout": 0.0}
    assert dict(large.metaparameters)["stem"] == "standard"
    assert dict(Design.of("squeezenet", 32, stem="standard").metaparameters)["stem"] == "standard"


def test_a_design_is_built_as_it_says() -> None:
    with torch.device("meta"):
        network = Design.of("squeezenet", 32, base_e=24, fires=2, pools=(1,)).build(7, 1)
    assert network.config["num_classes"] == 7
    assert network.config["in_channels"] == 1
    assert network.config["metaparameters"]["base_e"] == 24


def test_damaged_designs_and_unknown_networks_are_told() -> None:
    with pytest.raises(UserError, match="did you mean 'squeezenet'"):
        Design.of("sqeezenet", 32)
    with pytest.raises(UserError, match="a design: damaged"):
        Design.from_dict({"model": "squeezenet"})
