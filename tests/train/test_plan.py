from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import numpy as np
import pytest

from squeezekit.data.check import check_pictures
from squeezekit.data.source import open_pictures
from squeezekit.errors import UserError
from squeezekit.train.fit import _module, _network
from squeezekit.train.plan import Options, Plan, make_plan


def plan_of(path: Path, **options: object) -> Plan:
    pictures = open_pictures(path)
    return make_plan(Options(**options), pictures, check_pictures(pictures))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("epochs", 0),
        ("batch_size", -1),
        ("lr", 0.0),
        ("lr", float("nan")),
        ("seed", -1),
        ("size", 0),
        ("val_fraction", 0.0),
        ("test_fraction", 1.0),
        ("class_weights", "sometimes"),
        ("device", "tpu"),
        ("precision", "int8"),
        ("gradient_compression", "zip"),
        ("workers", -2),
        ("devices", 0),
    ],
)
def test_bad_options_name_the_flag(option: str, value: object) -> None:
    with pytest.raises(UserError, match="--" + option.replace("_", "-")):
        Options(**{option: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(("device", "module"), [("cuda", "cuda"), ("mps", "backends.mps")])
def test_a_device_that_is_not_there_is_told(
    monkeypatch: pytest.MonkeyPatch, device: Literal["cuda", "mps"], module: str
) -> None:
    monkeypatch.setattr(f"torch.{module}.is_available", lambda: False)
    with pytest.raises(UserError, match=f"--device {device}: PyTorch finds none"):
        Options(device=device)
    monkeypatch.setattr(f"torch.{module}.is_available", lambda: True)
    assert Options(device=device).device == device


def test_plan_survives_its_file(coloured: Callable[..., Path]) -> None:
    plan = plan_of(coloured())
    again = Plan.from_dict(json.loads(json.dumps(plan.to_dict())), "config.json")
    assert again.to_dict() == json.loads(json.dumps(plan.to_dict())) or again == plan
    with pytest.raises(UserError, match=r"config.json: damaged"):
        Plan.from_dict({"model": "squeezenet"}, "config.json")


def test_small_pictures_get_the_small_stem_and_norm(coloured: Callable[..., Path]) -> None:
    plan = plan_of(coloured())
    assert plan.preparation["size"] == 32
    assert plan.metaparameters["stem"] == "small"
    assert plan.metaparameters["norm"] is True
    assert sum(plan.pictures.values()) == 90


def test_the_modern_recipe_begins_with_smaller_pictures(coloured: Callable[..., Path]) -> None:
    path = coloured(6)
    plan = plan_of(path, epochs=20)
    assert plan.early_size == 24
    assert plan_of(path, recipe="squeezenet").early_size is None
    # AlexNet's fully connected layers take one size only.
    assert plan_of(path, model="alexnet", size=227, metaparameters={"stem": "standard"}).early_size is None
    module = _module(plan, _network(plan))
    sizes = []
    for epoch in range(20):
        module.__dict__["_trainer"] = SimpleNamespace(current_epoch=epoch)  # where Lightning keeps it
        sizes.append(module.training_size)
    assert sizes == [24] * 13 + [None] * 7


def test_the_quick_recipe_ends_with_pictures_as_they_are(coloured: Callable[..., Path]) -> None:
    plan = plan_of(coloured(6), epochs=10, recipe="quick", augmentation="cutout")
    module = _module(plan, _network(plan))
    erased, flips = [], []
    for epoch in range(10):
        module.__dict__["_trainer"] = SimpleNamespace(current_epoch=epoch)
        erased.append(module.augmented.policy.erase)
        flips.append(module.augmented.policy.flip)
    assert erased == [1.0] * 8 + [0.0] * 2
    assert flips == [0.5] * 10


def test_splits_of_a_plan_are_disjoint_and_leave_broken_pictures_out(coloured: Callable[..., Path]) -> None:
    root = coloured(40)
    (root / "red" / "000.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    plan = plan_of(root)
    pictures = open_pictures(root)
    parts = plan.splits(pictures)
    every = np.concatenate(list(parts.values()))
    assert len(set(every.tolist())) == len(every) == 119
    assert plan.broken == ("red/000.png",)


def test_unbalanced_classes_are_weighed(coloured: Callable[..., Path]) -> None:
    root = coloured(40)
    for i in range(10, 40):
        (root / "red" / f"{i:03}.png").unlink()
    weights = plan_of(root).class_weights
    assert weights is not None
    assert weights[2] > 3 * weights[0]
    assert plan_of(root, class_weights="none").class_weights is None


def test_finetune_takes_network_and_preparation_from_the_weights(
    coloured: Callable[..., Path], shared: Path
) -> None:
    plan = plan_of(coloured(), weights=str(shared / "weights" / "compressed_SqueezeNet.net"))
    assert plan.model == "squeezenet1_0"
    assert plan.recipe["name"] == "finetune"
    assert plan.preparation["channel_order"] == "BGR"
    assert plan.preparation["size"] == 227


def test_missing_weights_and_too_small_pictures_are_clear(coloured: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match=r"none\.pth: no such file"):
        plan_of(coloured(), weights="none.pth")
    with pytest.raises(UserError, match="too small"):
        plan_of(coloured(), model="alexnet", metaparameters={"stem": "standard"}, size=16)
