"""Choose whole numbers for a layer's weights: small errors where they matter, few bits where they do not.

Each weight takes the number that minimises ``distortion + λ · bits`` (rate–distortion optimisation), and the
error that this leaves is made good by the weights that are still free, through the inverse of the inputs'
second moments (Optimal Brain Surgeon; in the order of GPTQ, arXiv:2210.17323, section 3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from squeezekit.compress.rates import Rates, classes
from squeezekit.errors import UserError

__all__ = ["Rounded", "nearest_bits", "round_weights"]

#: Steps are powers of two to this fraction: finer ones gain less than they cost to store.
STEPS_PER_OCTAVE = 4
#: Largest magnitude.
LIMIT = 127
#: Width of a step, relative to the one that theory gives for fine grids.
WIDTH = 1.0
_DAMPING = 0.01
_PORTION = 32


@dataclass
class Rounded:
    """A layer's weights as whole numbers.

    Attributes
    ----------
    q : Tensor of int64, shape (O, n)
    step : Tensor of float64, shape (O,)
        The weights are ``q * step``.
    bits : float
        What they cost, by the estimate.
    loss : float
        What they change, by the estimate: nats a picture.
    value : Tensor of float64, shape (O, n), optional
        What was rounded, in steps: the weights, with the errors of others made good.
    cost : Tensor of float64, shape (O, n), optional
        What an error of one step costs, nats a picture.
    """

    q: Tensor
    step: Tensor
    bits: float
    loss: float
    value: Tensor | None = None
    cost: Tensor | None = None


def round_weights(
    weight: Tensor, moments: Tensor, importance: Tensor, rate: float, passes: int = 2
) -> Rounded:
    """Round a layer.

    Parameters
    ----------
    weight : Tensor of float64, shape (B, O, n)
        Filters in blocks: of B groups with O filters each, or of O filters cut into B parts when
        `importance` has the shape (1, O).
    moments : Tensor of float64, shape (B, n, n)
        Covariance of what the filters see.
    importance : Tensor of float64, shape (B, O) or (1, O)
        What a squared error of an output channel costs, nats.
    rate : float
        λ: nats that a bit must save.
    passes : int
        The first guesses what weights cost, the others know from the one before.

    Returns
    -------
    Rounded
        `q` of shape (B·O, n), or (O, B·n) for filters in parts.
    """
    blocks, filters, n = weight.shape
    parts = importance.shape[0] != blocks
    if not (torch.isfinite(moments).all() and torch.isfinite(weight).all()):
        raise UserError("values between the layers are too large to calibrate by: not finite once squared")
    moments = _damped(moments)
    diagonal = moments.diagonal(dim1=1, dim2=2)
    # Inputs of the greatest energy first: what they leave over, others can still take up.
    order = diagonal.argsort(1, descending=True)
    back = order.argsort(1)
    moments = moments.gather(1, order.unsqueeze(2).expand(-1, -1, n)).gather(
        2, order.unsqueeze(1).expand(-1, n, -1)
    )
    columns = order.unsqueeze(1).expand(-1, filters, -1)
    free = weight.gather(2, columns)
    upper = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(moments)), upper=True)
    pivots = upper.diagonal(dim1=1, dim2=2)
    curvature = pivots.pow(-2)  # of each weight once those after it have made good what they can

    importance = importance.expand(blocks, filters)
    step = _steps(free, importance, curvature, rate, parts)
    guess = torch.floor(free.abs() / step.unsqueeze(2) + 0.4).clamp(max=LIMIT)
    loss = 0.0
    for _ in range(passes):
        arranged = _arranged(guess.gather(2, back.unsqueeze(1).expand_as(guess)), parts)
        kinds = classes(arranged)
        table = Rates(arranged, kinds).table
        kinds = _blocked(kinds, blocks, parts).gather(2, columns)
        guess, value, loss = _pass(free, step, upper, curvature, importance, table, kinds, rate)
    cost = 0.5 * (importance * step.square()).unsqueeze(2) * curvature.unsqueeze(1)
    q, value, cost = (
        _arranged(each.gather(2, back.unsqueeze(1).expand_as(guess)), parts) for each in (guess, value, cost)
    )
    kinds = classes(q)
    return Rounded(
        q.long(),
        (step[0] if parts else step.flatten()).clone(),
        float(Rates(q, kinds).bits(q, kinds).sum()),
        loss,
        value,
        cost,
    )


def nearest_bits(weight: Tensor, variance: Tensor, importance: Tensor, rate: float) -> float:
    """Estimate what a layer costs, by rounding each weight by itself; as :func:`round_weights`.

    Of what the filters see it takes the variances alone, (B, n): the diagonal of the moments.

    Rather down than up, as a price would have it. Steps are as theory gives them: one that is larger than all
    weights leaves none, and nothing to pay.
    """
    parts = importance.shape[0] != len(weight)
    curvature = variance + _damping(variance)
    step = _theoretical(importance.expand(weight.shape[:2]), curvature, rate, parts)
    step = torch.maximum(step, _largest(weight, parts) / (LIMIT - 1))
    q = _arranged(torch.floor(weight.abs() / step.unsqueeze(2) + 0.35).clamp(max=LIMIT), parts)
    kinds = classes(q)
    return float(Rates(q, kinds).bits(q, kinds).sum())


def _damped(moments: Tensor) -> Tensor:
    moments = moments.clone()
    diagonal = moments.diagonal(dim1=1, dim2=2)
    diagonal += _damping(diagonal)
    return moments


def _damping(variance: Tensor) -> Tensor:
    typical = variance.mean(1, keepdim=True)
    return _DAMPING * typical + 1e-12 + 1e-6 * typical.mean()


def _steps(free: Tensor, importance: Tensor, curvature: Tensor, rate: float, parts: bool) -> Tensor:
    """Return the step of each filter, shape (B, O), within what its largest weight allows."""
    largest = _largest(free, parts)
    step = torch.minimum(_theoretical(importance, curvature, rate, parts), largest)
    step = torch.maximum(step, largest / (LIMIT - 1))
    return torch.exp2(torch.ceil(torch.log2(step) * STEPS_PER_OCTAVE) / STEPS_PER_OCTAVE)


def _theoretical(importance: Tensor, curvature: Tensor, rate: float, parts: bool) -> Tensor:
    """Return the best step of each filter, shape (B, O), if grids are fine.

    The error is then step² / 12 and halving it costs half a bit a weight; where distortion falls as fast as
    λ · bits rises, step² = 12 λ / (ln 2 · importance · curvature).
    """
    level = curvature.log().mean(1, keepdim=True)
    if parts:
        level = level.mean(0, keepdim=True).expand_as(level)
    return WIDTH * torch.sqrt(12 * rate / (math.log(2) * importance.clamp(min=1e-30) * level.exp()))


def _largest(weight: Tensor, parts: bool) -> Tensor:
    """Return the largest magnitude of each filter, shape (B, O)."""
    largest = weight.abs().amax(2)
    if parts:
        largest = largest.amax(0, keepdim=True).expand_as(largest)
    return largest.clamp(min=1e-12)


def _pass(
    free: Tensor,
    step: Tensor,
    upper: Tensor,
    curvature: Tensor,
    importance: Tensor,
    table: Tensor,
    kinds: Tensor,
    rate: float,
) -> tuple[Tensor, Tensor, float]:
    # Weight by weight: what one leaves over goes to the next ones of its portion at once, and to the rest in
    # one product when the portion is done. Inputs come first in memory: a weight of all filters is a row.
    free = free.transpose(1, 2).contiguous()
    kinds = kinds.transpose(1, 2).contiguous()
    q, rounded = torch.zeros_like(free), torch.zeros_like(free)
    n = free.shape[1]
    loss = 0.0
    cost = 0.5 * importance
    for start in range(0, n, _PORTION):
        end = min(start + _PORTION, n)
        errors = torch.zeros_like(free[:, start:end])
        for j in range(start, end):
            value = free[:, j]
            rounded[:, j] = value / step
            size = value.abs() / step
            floor = size.floor().clamp(max=LIMIT)
            weighed = cost * curvature[:, j : j + 1] * step.square()
            best = weighed * size.square() + rate * table[kinds[:, j], 0]
            chosen = torch.zeros_like(size)
            for candidate in (floor, (floor + 1).clamp(max=LIMIT)):
                bits = table[kinds[:, j], candidate.long()]
                total = weighed * (size - candidate).square() + rate * bits
                better = total < best
                best, chosen = torch.where(better, total, best), torch.where(better, candidate, chosen)
            q[:, j] = chosen * value.sign()
            error = (value - q[:, j] * step) / upper[:, j, j].unsqueeze(1)
            errors[:, j - start] = error
            loss += float((cost * error.square()).sum())
            if j + 1 < end:
                free[:, j + 1 : end] -= upper[:, j, j + 1 : end].unsqueeze(2) * error.unsqueeze(1)
        if end < n:
            free[:, end:] -= upper[:, start:end, end:].transpose(1, 2) @ errors
    return q.transpose(1, 2), rounded.transpose(1, 2), loss


def _arranged(q: Tensor, parts: bool) -> Tensor:
    """Blocks (B, O, n) as filters: (B·O, n), or (O, B·n) of filters in parts."""
    return q.transpose(0, 1).flatten(1) if parts else q.flatten(0, 1)


def _blocked(q: Tensor, blocks: int, parts: bool) -> Tensor:
    """Undo :func:`_arranged`."""
    if parts:
        return q.reshape(len(q), blocks, -1).transpose(0, 1)
    return q.reshape(blocks, -1, q.shape[1])
