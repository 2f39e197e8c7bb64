"""Augmentation: shapes, labels, what each operation does, and where its randomness comes from."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from squeezekit.data.augment import POLICIES, Augmentation, Policy, named_policy
from squeezekit.errors import UserError

STRONGEST = Policy(
    crop="shift", flip=0.5, color=0.3, hue=0.1, randaugment=2, erase=0.5, mixup=0.4, cutmix=1.0
)


def batch(n=12, side=32, channels=3):
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (n, side, side, channels), generator=generator, dtype=torch.uint8)
    return pictures.permute(0, 3, 1, 2), torch.arange(n) % 5


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("policy", [*POLICIES.values(), STRONGEST, replace(STRONGEST, crop="resized")])
def test_what_comes_out(policy, channels):
    torch.manual_seed(0)
    augment = Augmentation(policy, 32, 5, channels)
    pictures, labels = batch(side=policy.canvas(32), channels=channels)
    before = pictures.clone()
    for _ in range(8):
        out, targets = augment(pictures, labels)
        assert out.shape == (12, channels, 32, 32)
        assert out.dtype == torch.float32
        assert out.isfinite().all()
        assert out.min() >= -1e-3
        assert out.max() <= 255 + 1e-3
        assert out.max() > 100  # 0…255, not 0…1
        if targets.ndim == 2:
            torch.testing.assert_close(targets.sum(1), torch.ones(12))
            assert policy.mixes
        else:
            assert torch.equal(targets, labels)
    assert torch.equal(pictures, before)


def test_none_is_exact():
    pictures, labels = batch()
    out, targets = Augmentation("none", 32, 5)(pictures, labels)
    torch.testing.assert_close(out, pictures.float(), atol=1e-4, rtol=0)
    assert targets is labels
    smaller, _ = Augmentation("none", 16, 5)(pictures, labels)
    assert smaller.shape[-1] == 16


def test_a_smaller_size_varies_the_scale_of_what_shift_cuts():
    """A picture that is brighter to the right: how much of it is seen shows in how steep it becomes."""
    slope = torch.arange(32.0) * 4
    pictures = slope.expand(256, 3, 32, 32).to(torch.uint8)
    augment = Augmentation(Policy(crop="shift", padding="reflect"), 32, 5)
    steepness = set()
    for seed in range(6):
        torch.manual_seed(seed)
        out, _ = augment(pictures, torch.zeros(256, dtype=torch.long), 24)
        assert out.shape == (256, 3, 24, 24)
        middle = out[:, 0, 12, 8:16]
        steepness.add(round(float((middle[:, -1] - middle[:, 0]).median() / 7), 1))
    assert len(steepness) > 2  # 32 pixels made 24 would be 5.3 each time
    full, _ = augment(pictures, torch.zeros(256, dtype=torch.long))
    assert full.shape[-1] == 32


def test_randomness_is_torchs_alone():
    augment = Augmentation(STRONGEST, 32, 5)
    pictures, labels = batch()
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append([augment(pictures, labels) for _ in range(3)])
    for (a, s), (b, t) in zip(results[0], results[1], strict=True):
        assert torch.equal(a, b)
        assert torch.equal(s, t)
    assert not torch.equal(results[0][0][0], results[2][0][0])


def test_it_has_no_state():
    augment = Augmentation(STRONGEST, 32, 5)
    assert list(augment.parameters()) == []
    assert augment.state_dict() == {}


def test_a_picture_and_its_mirror_image_come_in_turns():
    pictures, labels = batch(40)
    augment = Augmentation(Policy(flip=0.5), 32, 5)
    start = torch.arange(40) % 2
    first, _ = augment(pictures, labels, turns=start)
    second, _ = augment(pictures, labels, turns=start + 1)
    torch.testing.assert_close(first.flip(3), second)
    torch.testing.assert_close(first[::2], pictures[::2].float(), atol=1e-3, rtol=0)
    # Another share than half is a matter of chance.
    always, _ = Augmentation(Policy(flip=1.0), 32, 5)(pictures, labels, turns=start)
    torch.testing.assert_close(always, pictures.float().flip(3), atol=1e-3, rtol=0)


def test_flips_are_flips_and_shifts_are_shifts():
    pictures, labels = batch(40)
    out, _ = Augmentation(Policy(flip=0.5), 32, 5)(pictures, labels)
    flipped = [not torch.allclose(o, p.float(), atol=1e-3) for o, p in zip(out, pictures, strict=True)]
    assert 5 < sum(flipped) < 35
    for o, p, f in zip(out, pictures, flipped, strict=True):
        torch.testing.assert_close(o, p.float().flip(2) if f else p.float(), atol=1e-3, rtol=0)
    for padding, mode in (("zeros", "constant"), ("reflect", "reflect")):
        out, _ = Augmentation(Policy(crop="shift", padding=padding), 32, 5)(pictures, labels)
        padded = torch.nn.functional.pad(pictures.float(), (4, 4, 4, 4), mode=mode)
        for o, p in zip(out, padded, strict=True):
            windows = p.unfold(1, 32, 1).unfold(2, 32, 1).flatten(1, 2)  # (3, 81, 32, 32)
            assert (windows - o[:, None]).abs().amax((0, 2, 3)).min() < 1e-3


def test_resized_crops_stay_within_the_picture():
    ramp = torch.arange(256.0).expand(8, 3, 256, 256)
    out, _ = Augmentation(Policy(crop="resized", scale=(0.3, 0.6)), 64, 5)(
        ramp, torch.zeros(8, dtype=torch.long)
    )
    assert (out.diff(dim=3) > 0).all()
    width = out[:, 0, 0, -1] - out[:, 0, 0, 0]
    assert (width > 100).all()
    assert width.unique().numel() > 1


def test_erasing_is_grey():
    white = torch.full((64, 3, 32, 32), 255, dtype=torch.uint8)
    out, _ = Augmentation(Policy(erase=1.0), 32, 5)(white, torch.zeros(64, dtype=torch.long))
    assert set(out.unique().round().tolist()) == {128.0, 255.0} or set(out.unique().tolist()) == {
        127.5,
        255.0,
    }


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_labels_follow_the_pixels(kind):
    torch.manual_seed(3)
    values = torch.tensor([0, 60, 120, 180, 240], dtype=torch.uint8)
    labels = torch.arange(200) % 5
    pictures = values[labels].view(-1, 1, 1, 1).expand(-1, 3, 32, 32)
    out, targets = Augmentation(Policy(**{kind: 1.0}), 32, 5)(pictures, labels)
    torch.testing.assert_close(out.mean((1, 2, 3)), targets @ values.float(), atol=0.05, rtol=0)
    assert ((targets > 0).sum(1) <= 2).all()
    mixed = (targets.max(1).values < 0.99).float().mean()
    assert 0.5 < mixed < 0.95
    if kind == "cutmix":  # a rectangle of one value in another
        assert all(p.unique().numel() <= 2 for p in out)


def test_a_batch_is_mixed_as_often_as_asked():
    torch.manual_seed(0)
    augment = Augmentation(Policy(mixup=1.0, mix=0.3), 32, 5)
    pictures, labels = batch()
    soft = sum(augment(pictures, labels)[1].ndim == 2 for _ in range(200))
    assert 35 < soft < 85
    one, targets = augment(pictures[:1], labels[:1])  # nothing to mix with
    assert targets.ndim == 1
    assert one.shape[0] == 1


def test_randaugment_differs_within_a_batch():
    torch.manual_seed(1)
    same = batch(1)[0].expand(16, -1, -1, -1)
    out, _ = Augmentation(Policy(randaugment=1, magnitude=15), 32, 5)(same, torch.zeros(16, dtype=torch.long))
    assert len({tuple(o.flatten()[:50].tolist()) for o in out}) >= 3


def test_portions_change_nothing_that_matters():
    pictures, labels = batch(40, side=256)
    out, _ = Augmentation(Policy(crop="resized"), 224, 5)(pictures, labels)
    assert out.shape == (40, 3, 224, 224)
    whole, _ = Augmentation(Policy(), 256, 5)(pictures, labels)
    torch.testing.assert_close(whole, pictures.float(), atol=1e-3, rtol=0)


def test_names():
    assert named_policy("light", 32).crop == "shift"
    assert named_policy("light", 224).crop == "resized"
    assert named_policy("light", 224).canvas(224) == 256
    assert named_policy("light", 32).canvas(32) == 32
    with pytest.raises(UserError, match="did you mean 'strong'"):
        named_policy("srong", 32)
