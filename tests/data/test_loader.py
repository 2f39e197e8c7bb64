"""The loader: exact in evaluation, and in training an order that only (seed, epoch) decide."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from squeezekit.data.loader import EpochOrder, choose_workers, make_loader
from squeezekit.data.picture import decode
from squeezekit.data.preparation import CAFFE, Preparation
from squeezekit.data.source import open_pictures
from squeezekit.errors import UserError


@pytest.fixture
def pictures(photos):
    return open_pictures(photos(*(f"{c}/{i:02d}.png" for c in "abc" for i in range(7))))


def epoch(loader, number=0):
    loader.sampler.set_epoch(number)
    return list(loader)


def same(one, two):
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        assert a["broken"] == b["broken"]
        for key in ("pictures", "labels", "index"):
            assert torch.equal(a[key], b[key])


def test_evaluation_is_the_preparation_bit_for_bit(pictures):
    indices = np.array([20, 3, 4, 11])
    batches = epoch(make_loader(pictures, indices, CAFFE, train=False, batch_size=3, workers=0))
    assert [len(b["labels"]) for b in batches] == [3, 1]
    assert torch.cat([b["index"] for b in batches]).tolist() == indices.tolist()
    assert torch.cat([b["labels"] for b in batches]).tolist() == [2, 0, 0, 1]
    assert batches[0]["pictures"].dtype == torch.uint8
    for i, pixels in zip(indices, torch.cat([b["pictures"] for b in batches]), strict=True):
        expected = CAFFE.geometry(decode(pictures.read(i), "x"))
        np.testing.assert_array_equal(pixels.numpy(), expected)


@pytest.mark.parametrize("train", [True, False])
def test_workers_change_nothing(pictures, train):
    def load(workers):
        loader = make_loader(
            pictures,
            np.arange(21),
            Preparation(8),
            train=train,
            batch_size=4,
            seed=5,
            workers=workers,
            canvas=10,
        )
        return [*epoch(loader, 0), *epoch(loader, 1)]

    alone = load(0)
    same(alone, load(1))
    same(alone, load(2))


def test_the_epoch_and_the_seed_decide_the_order(pictures):
    def order(seed, number):
        loader = make_loader(
            pictures, np.arange(21), Preparation(8), train=True, batch_size=4, seed=seed, workers=0
        )
        return torch.cat([b["index"] for b in epoch(loader, number)]).tolist()

    assert order(1, 0) == order(1, 0)
    assert sorted(order(1, 0)) == list(range(21))
    assert len({tuple(order(s, e)) for s in (1, 2) for e in (0, 1)}) == 4


def test_processes_share_an_epoch():
    for length in (10, 11, 12, 3):
        orders = [EpochOrder(length, shuffle=True, seed=1, rank=r, world_size=4) for r in range(4)]
        shares = [[p for _, p in order] for order in orders]
        assert {len(s) for s in shares} == {-(-length // 4)} == {len(o) for o in orders}
        assert {p for share in shares for p in share} == set(range(length))
        whole = [EpochOrder(length, shuffle=False, seed=1, rank=r, world_size=4) for r in range(4)]
        assert sorted(p for order in whole for _, p in order) == list(range(length))
        assert [len(o) for o in whole] == [len(list(o)) for o in whole]


@pytest.mark.parametrize("workers", [0, 1])
def test_broken_pictures_are_named_and_left_out(photos, workers):
    root = photos(*(f"{c}/{i}.png" for c in "ab" for i in range(4)))
    for i in range(4):
        (root / "a" / f"{i}.png").write_bytes(b"no picture")
    pictures = open_pictures(root)
    evaluation = make_loader(
        pictures, np.arange(8), Preparation(8), train=False, batch_size=2, workers=workers
    )
    batches = epoch(evaluation)
    assert [len(b["labels"]) for b in batches] == [0, 0, 2, 2]
    assert [len(b["broken"]) for b in batches] == [2, 2, 0, 0]
    assert batches[0]["pictures"].shape == (0, 8, 8, 3)
    training = make_loader(
        pictures, np.arange(8), Preparation(8), train=True, batch_size=1, seed=1, workers=workers
    )
    batches = epoch(training)
    assert [len(b["labels"]) for b in batches] == [1] * 4  # none is empty
    assert batches[0]["broken"] == [] or batches[0]["broken"][0].startswith("a/")


def test_the_canvas_keeps_proportions_and_sees_all_of_a_picture(photos):
    root = photos("a/1.png", "b/1.png")
    ramp = np.repeat(np.arange(0, 240, 2, dtype=np.uint8)[None, :, None], 40, 0).repeat(3, 2)  # 120 × 40
    Image.fromarray(ramp).save(root / "a" / "1.png")
    Image.fromarray(np.ascontiguousarray(ramp.transpose(1, 0, 2))).save(root / "b" / "1.png")
    pictures = open_pictures(root)
    loader = make_loader(
        pictures, np.arange(2), Preparation(16), train=True, batch_size=2, canvas=20, workers=0, seed=3
    )
    starts = []
    for number in range(40):
        (batch,) = epoch(loader, number)
        assert batch["pictures"].shape == (2, 20, 20, 3)
        for i, pixels in zip(batch["index"], batch["pictures"].float(), strict=True):
            row = pixels[10, :, 0] if i == 0 else pixels[:, 10, 0]
            assert abs((row[-1] - row[0]) - 4 * 19) <= 6  # 40 pixels became 20: the step doubled
            starts.append(float(row[0]))
    assert min(starts) < 30
    assert max(starts) > 130

    squashed = make_loader(
        pictures, np.arange(2), Preparation(16, "exact"), train=True, batch_size=2, canvas=20, workers=0
    )
    (batch,) = epoch(squashed)
    first = batch["pictures"][batch["index"].tolist().index(0)]
    assert first[10, 0, 0] < 10
    assert first[10, -1, 0] > 228


def test_grey(pictures):
    grey = Preparation(8, channel_order="L", mean=(0.0,), scale=(1.0,))
    for train in (True, False):
        loader = make_loader(pictures, np.arange(3), grey, train=train, batch_size=3, workers=0)
        assert next(iter(loader))["pictures"].shape == (3, 8, 8, 1)


def test_mistakes(pictures):
    for options, message in (
        ({"batch_size": 0}, "batch size 0"),
        ({"workers": -1}, "workers -1"),
    ):
        with pytest.raises(UserError, match=message):
            make_loader(
                pictures, np.arange(3), Preparation(8), **({"train": True, "batch_size": 4} | options)
            )
    with pytest.raises(UserError, match="no pictures to load"):
        make_loader(pictures, np.arange(0), Preparation(8), train=True, batch_size=4)


def test_the_number_of_workers():
    assert 1 <= choose_workers() <= 8
    assert choose_workers(1000) == 1
