"""The new classifier of a run that starts from weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from squeezekit.data.check import check_pictures
from squeezekit.data.source import open_pictures
from squeezekit.models import create_model, save_checkpoint
from squeezekit.train.fit import _network
from squeezekit.train.inherit import inherit_classifier
from squeezekit.train.plan import Options, make_plan


def test_new_classes_start_as_the_mixture_of_old_ones_that_their_pictures_get(
    coloured: Callable[..., Path], tmp_path: Path
) -> None:
    """Five old classes: fewer than the last layer has inputs, so not every row is a mixture of theirs."""
    path = coloured(8)
    torch.manual_seed(0)
    meta = {"fires": 1, "pools": (1,), "base_e": 8, "conv1_channels": 8, "conv1_kernel": 3, "stem": "small"}
    old = create_model("squeezenet", 5, **meta)
    weights = tmp_path / "old.safetensors"
    pictures = open_pictures(path)
    before = make_plan(Options(size=32), pictures, check_pictures(pictures))
    save_checkpoint(
        weights,
        old,
        {
            "model": old.config,
            "preparation": before.preparation,
            "classes": [f"old{i}" for i in range(5)],
            "training": None,
        },
    )
    plan = make_plan(Options(weights=str(weights)), pictures, check_pictures(pictures))
    network = _network(plan)
    drawn = network.get_submodule("classifier.conv10").weight.clone()  # type: ignore[union-attr,operator]
    calls: list[tuple[int, int]] = []
    inherit_classifier(network, plan, pictures, weights, lambda done, of: calls.append((done, of)))
    new = network.get_submodule("classifier.conv10").weight.detach()  # type: ignore[union-attr]
    assert not torch.equal(new, drawn)  # type: ignore[arg-type]
    # Every new row lies among the old ones: a mixture with weights that add up to 1.
    rows = old.get_submodule("classifier.conv10").weight.detach().flatten(1).numpy()  # type: ignore[union-attr,operator]
    stacked = np.vstack([rows.T, np.ones(len(rows))])
    for row in new.flatten(1).numpy():  # type: ignore[operator]
        mixture, *_ = np.linalg.lstsq(stacked, np.append(row, 1.0), rcond=None)
        np.testing.assert_allclose(stacked @ mixture, np.append(row, 1.0), atol=1e-4)
        assert mixture.min() > -1e-3  # probabilities
    assert calls[-1] == (plan.pictures["train"], plan.pictures["train"])


def test_as_many_classes_as_before_keep_their_rows(coloured: Callable[..., Path], tmp_path: Path) -> None:
    path = coloured(6)
    pictures = open_pictures(path)
    meta = {"fires": 1, "pools": (1,), "base_e": 8, "conv1_channels": 8, "conv1_kernel": 3, "stem": "small"}
    old = create_model("squeezenet", len(pictures.classes), **meta)
    before = make_plan(Options(size=32), pictures, check_pictures(pictures))
    weights = tmp_path / "old.safetensors"
    save_checkpoint(
        weights,
        old,
        {
            "model": old.config,
            "preparation": before.preparation,
            "classes": list(pictures.classes),
            "training": None,
        },
    )
    plan = make_plan(Options(weights=str(weights)), pictures, check_pictures(pictures))
    network = _network(plan)
    inherit_classifier(network, plan, pictures, weights, lambda *_: None)
    for key, tensor in old.state_dict().items():
        torch.testing.assert_close(network.state_dict()[key], tensor)
