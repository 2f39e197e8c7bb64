"""Short trainings: they repeat, stop when told, and judge by pictures that they have not seen."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from squeezekit.errors import UserError
from squeezekit.explore import short as module
from squeezekit.explore.design import Design
from squeezekit.explore.short import ShortTraining

TINY = Design.of("squeezenet", 16, base_e=24, fires=2, pools=(1,), conv1_channels=16, squeeze_ratio=0.5)


def test_a_training_repeats_itself_and_keeps_its_best_weights(digits: ShortTraining) -> None:
    first = digits.run(TINY, epochs=5, seed=1)
    again = digits.run(TINY, epochs=5, seed=1)
    other = digits.run(TINY, epochs=1, seed=2)
    assert first.curve == again.curve
    assert all(
        torch.equal(a, b)
        for a, b in zip(first.network.state_dict().values(), again.network.state_dict().values(), strict=True)
    )
    assert not torch.equal(*(next(o.network.parameters()) for o in (first, other)))
    assert len(first.curve) == 5
    assert not first.network.training
    # The weights are those of the best epoch, whichever it was.
    assert digits.accuracy(first.network, 16, "val") == first.val_accuracy == max(first.curve)


def test_it_stops_when_told_and_keeps_the_best_so_far(digits: ShortTraining) -> None:
    shares: list[float] = []
    outcome = digits.run(TINY, epochs=9, on_epoch=lambda epoch, _: epoch < 2, progress=shares.append)
    assert outcome.stopped
    assert len(outcome.curve) == 2
    assert shares == sorted(shares)
    assert 0.2 < shares[-1] < 0.3  # two of nine


def test_parts_of_epochs_are_shared_out(digits: ShortTraining) -> None:
    assert len(digits.run(TINY, epochs=1.5).curve) == 2
    with pytest.raises(UserError, match="0 epochs"):
        digits.run(TINY, epochs=0)


def test_pictures_are_a_stratified_part_and_the_rest_stays_out(digits: ShortTraining) -> None:
    everything = ShortTraining("digits", device="cpu")
    assert digits.counts["train"] == 150
    assert {part: everything.counts[part] for part in ("val", "test")} == {
        part: digits.counts[part] for part in ("val", "test")
    }
    assert set(digits._splits["train"]) < set(everything._splits["train"])
    labels = digits._pictures.labels[digits._splits["train"]]
    assert all(13 <= (labels == label).sum() <= 17 for label in range(10))


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"device": "gpu"}, "--device gpu: unknown"),
        ({"precision": "fp8"}, "--precision fp8: unknown"),
        ({"seed": -1}, "--seed -1: must be from 0"),
    ],
)
def test_what_train_would_not_take_is_told_at_once(asked: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        ShortTraining("digits", **asked)


def test_pictures_that_do_not_fit_in_memory_are_told(
    digits: ShortTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_memory", lambda: 200_000)
    with pytest.raises(UserError, match=r"150 pictures of 48 px need 0\.0 GB in memory.*--pictures 14"):
        digits.run(Design.of("squeezenet", 48, base_e=8, fires=2, pools=(1,)), epochs=1)
