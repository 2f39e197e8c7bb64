"""Rounding trades bits for errors as told, and makes good what it breaks."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from squeezekit.compress.rounding import LIMIT, Rounded, nearest_bits, round_weights


def problem(blocks: int = 1, filters: int = 24, n: int = 40, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Filters, covariances of correlated inputs of unequal size, and importances."""
    random = np.random.default_rng(seed)
    weight = random.laplace(0, 0.1, (blocks, filters, n)) * random.lognormal(0, 0.4, (blocks, filters, 1))
    mix = random.normal(size=(blocks, n, n // 2)) * random.lognormal(0, 0.5, (blocks, n, 1))
    moments = mix @ mix.transpose(0, 2, 1) / n + 0.1 * np.eye(n)
    importance = random.lognormal(0, 0.7, (blocks, filters))
    return tuple(torch.from_numpy(each) for each in (weight, moments, importance))  # type: ignore[return-value]


def damped(moments: Tensor) -> Tensor:
    typical = moments.diagonal(dim1=1, dim2=2).mean(1)
    return moments + 0.01 * typical.reshape(-1, 1, 1) * torch.eye(moments.shape[1])


def harm(weight: Tensor, rounded: Tensor, moments: Tensor, importance: Tensor) -> float:
    """½ Σ importance · eᵀ H e."""
    e = weight - rounded.reshape(weight.shape)
    return float((0.5 * importance * torch.einsum("boi,bij,boj->bo", e, moments, e)).sum())


def real(rounded: Rounded) -> Tensor:
    return rounded.q * rounded.step.unsqueeze(1)


@pytest.mark.parametrize("blocks", [1, 3])
def test_what_is_reported_is_true(blocks: int) -> None:
    weight, moments, importance = problem(blocks)
    for rate in (1e-6, 1e-3, 0.1):
        rounded = round_weights(weight, moments, importance, rate)
        assert rounded.q.shape == (blocks * 24, 40)
        assert rounded.q.dtype == torch.int64
        assert rounded.q.abs().max() <= LIMIT
        octaves = 4 * torch.log2(rounded.step)
        assert torch.allclose(octaves, octaves.round(), atol=1e-9)
        assert rounded.loss == pytest.approx(
            harm(weight, real(rounded), damped(moments), importance), rel=1e-4
        )


def test_a_bit_for_nothing() -> None:
    """At no price: the finest grid, and no worse than the nearest numbers of it."""
    weight, moments, importance = problem()
    rounded = round_weights(weight, moments, importance, 1e-15)
    largest = weight.abs().amax(2).flatten()
    assert (rounded.step <= 2**0.25 * largest / (LIMIT - 1)).all()
    assert rounded.q.abs().max() > LIMIT / 2
    assert rounded.bits > 5 * weight.numel()
    nearest = (weight / rounded.step.reshape(1, -1, 1)).round() * rounded.step.reshape(1, -1, 1)
    assert rounded.loss < harm(weight, nearest, damped(moments), importance)
    assert (real(rounded) - weight[0]).abs().max() < 20 * rounded.step.max()


def test_a_bit_for_everything() -> None:
    weight, moments, importance = problem()
    rounded = round_weights(weight, moments, importance, 1e6)
    assert not rounded.q.any()
    assert rounded.bits < 0.05 * weight.numel()
    assert rounded.loss == pytest.approx(harm(weight, 0 * weight, damped(moments), importance), rel=1e-4)


def test_the_price_rules() -> None:
    weight, moments, importance = problem()
    found = [round_weights(weight, moments, importance, 10.0**e) for e in np.arange(-7, -1, 0.5)]
    bits, loss = [each.bits for each in found], [each.loss for each in found]
    assert all(b < a for a, b in itertools.pairwise(bits))
    assert all(b > a for a, b in itertools.pairwise(loss))
    assert bits[0] > 20 * bits[-2]
    # Where the grid is fine, a bit a weight less is four times the error.
    finer, coarser = found[3], found[5]
    octaves = math.log2(coarser.loss / finer.loss) / 2
    assert (finer.bits - coarser.bits) / weight.numel() == pytest.approx(octaves, rel=0.15)


@pytest.mark.parametrize("rate", [1e-6, 1e-5, 1e-4])
def test_better_than_plain_rounding(rate: float) -> None:
    """At the same steps: error compensation is worth having, and so is weighing errors against bits."""
    weight, moments, importance = problem(filters=48, n=60)
    rounded = round_weights(weight, moments, importance, rate)
    step = rounded.step.reshape(1, -1, 1)
    nearest = (weight / step).round().clamp(-LIMIT, LIMIT)
    plain = harm(weight, nearest * step, damped(moments), importance)
    assert rounded.loss < 0.8 * plain
    plain_bits = nearest_bits(weight, moments.diagonal(dim1=1, dim2=2), importance, rate)
    assert rounded.loss + rate * rounded.bits < plain + rate * plain_bits
    without = round_weights(
        weight, torch.diag_embed(damped(moments).diagonal(dim1=1, dim2=2)), importance, rate
    )
    alone = harm(weight, real(without), damped(moments), importance) + rate * without.bits
    assert rounded.loss + rate * rounded.bits < alone


def test_what_matters_is_finer() -> None:
    weight, moments, _ = problem(filters=40)
    importance = torch.ones(1, 40, dtype=torch.float64)
    importance[:, 20:] = 100.0
    rounded = round_weights(weight, moments, importance, 1e-2)
    assert rounded.step[20:].log().mean() < rounded.step[:20].log().mean() - math.log(5)
    none = round_weights(weight, moments, 0 * importance, 1e-9)
    assert not none.q.any()


def test_blocks_do_not_mix() -> None:
    """A block is rounded as it would be alone, but for what the others teach about costs."""
    weight, moments, importance = problem(3)
    together = round_weights(weight, moments, importance, 1e-15)
    for block in range(3):
        part = slice(block, block + 1)
        alone = round_weights(weight[part], moments[part], importance[part], 1e-15)
        assert torch.equal(alone.q, together.q.reshape(3, 24, 40)[block])
        assert torch.allclose(alone.step, together.step.reshape(3, 24)[block], rtol=1e-12)


def test_filters_in_parts() -> None:
    """Parts of a filter have one step; each part makes its errors good by itself."""
    weight, moments, importance = problem(3)
    importance = importance[:1]
    rounded = round_weights(weight, moments, importance, 1e-5)
    assert rounded.q.shape == (24, 120)
    assert rounded.step.shape == (24,)
    parts = real(rounded).reshape(24, 3, 40).transpose(0, 1)
    assert rounded.loss == pytest.approx(
        harm(weight, parts, damped(moments), importance.expand(3, 24)), rel=1e-4
    )
    error = (parts - weight).square().mean().sqrt()
    assert error < 0.2 * weight.square().mean().sqrt()


def test_inputs_that_tell_nothing() -> None:
    """Constant inputs and inputs that follow from others: no division by nothing."""
    weight, moments, importance = problem(2, n=30)
    moments[0] = 0
    moments[1, :10], moments[1, :, :10] = 0, 0
    moments[1, 20:] = moments[1, 10:20]
    moments[1, :, 20:] = moments[1, :, 10:20]
    for rate in (1e-9, 1e-3):
        rounded = round_weights(weight, moments, importance, rate)
        assert math.isfinite(rounded.loss)
        assert math.isfinite(rounded.bits)
    assert not rounded.q.reshape(2, -1)[0].any()  # what is seen nowhere is not worth a bit


def test_filters_of_zeros() -> None:
    weight, moments, importance = problem()
    weight[:, 3] = 0
    rounded = round_weights(weight, moments, importance, 1e-6)
    assert not rounded.q[3].any()
    assert torch.isfinite(rounded.step).all()
    assert (rounded.step > 0).all()
    assert rounded.q[4].any()


def test_the_same_again() -> None:
    weight, moments, importance = problem()
    first, second = (round_weights(weight, moments, importance, 1e-3) for _ in range(2))
    assert torch.equal(first.q, second.q)
    assert torch.equal(first.step, second.step)
    assert (first.bits, first.loss) == (second.bits, second.loss)


def test_an_estimate_in_no_time() -> None:
    weight, moments, importance = problem(filters=48)
    for rate in (1e-6, 1e-5, 1e-4):
        estimate = nearest_bits(weight, moments.diagonal(dim1=1, dim2=2), importance, rate)
        assert round_weights(weight, moments, importance, rate).bits == pytest.approx(estimate, rel=0.25)
    found = [
        nearest_bits(weight, moments.diagonal(dim1=1, dim2=2), importance, 10.0**e) for e in range(-7, 3)
    ]
    assert all(b <= a for a, b in itertools.pairwise(found))
