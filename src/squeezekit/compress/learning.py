"""Training in the integers that ship: what rounding to few bits has cost, the weights learn to win back.

Quantization-aware fine-tuning, with three choices:

- Every step rounds the weights as the file would have it: to whatever is cheapest in ``distortion + λ ·
  bits``, with the bits of the coder's own contexts. The gradient passes straight through (Bengio et al.,
  arXiv:1308.3432), so that a weight which is zero now can come back.
- λ follows the file, so that the bytes stay those that were asked for.
- The answers to learn are the original's (Hinton, Vinyals and Dean, arXiv:1503.02531): labels are not needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from squeezekit.compress.best import Calibrated, Quantized, changes
from squeezekit.compress.calibration import quantized_values
from squeezekit.compress.layers import layers
from squeezekit.compress.rates import Rates, classes
from squeezekit.compress.rounding import LIMIT, Rounded
from squeezekit.graph.graph import INPUT, Node
from squeezekit.graph.to_torch import GraphModule, to_torch
from squeezekit.train.module import channels_last

__all__ = ["Size", "learn"]

#: The largest share of its layer's root mean square that a step moves a weight.
RATE = 3e-3
#: Bytes fall with the price to the power of one over this.
ANSWER = 3.5
#: The highest size, in steps, that a weight may have and be zero.
HIGHEST = 1.45
#: The price, in nats a bit, beyond which no weight is left to round away.
DEAREST = 1e12
#: Steps between two looks at what bits cost now.
LOOK = 20
#: Share of the size that is aimed at: what is over in the end is rounded away, with nothing to make it good.
AIM = 0.998

Size = Callable[[Quantized], float]
"""Gives the bytes of the weights in the file over those that are asked for."""


def learn(
    calibrated: Calibrated,
    quantized: Quantized,
    price: float,
    pictures: Iterator[Tensor],
    steps: int,
    advance: Callable[[int, int], None],
    *,
    size: Size | None = None,
    bfloat16: bool = False,
) -> Quantized:
    """Train a quantized network further.

    Parameters
    ----------
    calibrated : Calibrated
        The original.
    quantized : Quantized
        Where to start: it gives the filters' steps.
    price : float
        λ: nats that a bit must save, at the start.
    pictures : iterator of Tensor, each (N, C, H, W)
        Batches of pictures, varied, 0 … 255; at least `steps` of them.
    steps : int
    advance : callable
        Called with (steps done, steps in all).
    size : callable, optional
        λ is chosen so that the file gets the size that this wants; without it, so that the weights cost what
        they do at the start, by the estimate.
    bfloat16 : bool
        Compute so, where that is fast.

    Returns
    -------
    Quantized
        The one given, if that fits and answers the calibration pictures more as the original does.
    """
    aim = size or (lambda made: made.bits / max(quantized.bits, 1.0))
    graph = calibrated.graph
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    teacher, student = (to_torch(graph).requires_grad_(False).to(device) for _ in range(2))
    channels_last(teacher)
    quantized_values(student, graph, calibrated.values)
    for module in (student, teacher):
        _keep_exact(module, graph.nodes)
    weights = [_Weights(node, quantized, price, device) for node in layers(graph)]
    optimiser = torch.optim.Adam([g for each in weights for g in each.groups()], betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1.0, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * step / steps))
    )
    wanted = price
    for step in range(steps):
        if step % LOOK == 0:
            if step and step % (2 * LOOK) == 0:
                wanted *= min(max(aim(_result(quantized, weights)) / AIM, 0.8), 1.25) ** ANSWER
            for each in weights:
                each.look(wanted)
        x = next(pictures).to(device).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            with torch.no_grad():
                answers = teacher(x).flatten(1).float().log_softmax(1)
            arrays = {
                f"{student.paths[each.name]}.{key}": array
                for each in weights
                for key, array in each.arrays().items()
            }
            ours = functional_call(student, arrays, (x,)).flatten(1).float().log_softmax(1)
        loss = F.kl_div(ours, answers, log_target=True, reduction="batchmean")
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        advance(step + 1, steps)
    learned = _fitted(quantized, weights, wanted, aim)
    if aim(quantized) > 1:
        return learned
    before, after = changes(calibrated, quantized, learned)
    return learned if after <= before else quantized  # learning may fail


def _fitted(before: Quantized, weights: list[_Weights], price: float, aim: Size) -> Quantized:
    """Round as it is, or if that is too large, at the lowest price at which it is not.

    What is too large at any price is returned so.
    """
    made = _result(before, weights)
    share = aim(made)
    low, high = 0.0, math.inf
    found = made if share <= 1 else None
    while found is None or (low and high > 1.003 * low):
        price = math.sqrt(low * high) if math.isfinite(high) else price * max(share**ANSWER, 1.01)
        if price > DEAREST:
            return made
        for each in weights:
            each.look(price, highest=math.inf)  # whatever the weights are, in the end nearly all are zero
        made = _result(before, weights)
        share = aim(made)
        if share <= 1:
            found, high = made, price
        else:
            low = price
    return found


class _Weights:
    """One layer's weights while they learn.

    Attributes
    ----------
    weight : Tensor of float32, (O, n)
        In steps: what is rounded.
    q : Tensor of float32, (O, n)
        What it was rounded to the last time.
    threshold, down : Tensor of float32, (O, n)
        The size, in steps, below which a weight is zero, and by how much less than the nearest it becomes
        above. With ``cost · error² + λ · bits`` for two neighbouring numbers they are half the difference of
        their bits times λ over the cost, from the middle on.
    """

    def __init__(self, node: Node, quantized: Quantized, price: float, device: torch.device) -> None:
        rounded = quantized.rounded[node.name]
        assert rounded.value is not None
        assert rounded.cost is not None
        self.name, self.node = node.name, node
        self.step = rounded.step.to(device, torch.float32).unsqueeze(1)
        self.weight = rounded.value.to(device, torch.float32).requires_grad_()
        self.bias = quantized.biases[node.name].clone().float().to(device).requires_grad_()
        self.cost = rounded.cost.to(device, torch.float32).clamp(min=1e-30)
        self.q = rounded.q.to(device, torch.float32)
        self._settle(price)

    def groups(self) -> list[dict[str, object]]:
        """What Adam shall train, each with its own rate."""
        size = float((self.weight.detach() * self.step).square().mean().sqrt()) + 1e-12
        # One rate a layer, for a typical filter: the steps of its filters are much alike.
        mean_step = float(self.step.log().mean().exp())
        level = float(self.bias.detach().abs().mean()) + 1e-12
        return [
            {"params": [self.weight], "lr": RATE * size / mean_step},
            {"params": [self.bias], "lr": RATE * level},
        ]

    @torch.no_grad()
    def _settle(self, price: float) -> None:
        """Move weights that would be rounded otherwise now to the near side of the border.

        Their errors are made good by others, which count on them.
        """
        before = self.q
        self.look(price)
        lowest = torch.maximum(before.abs() - 0.5 + self.down, self.threshold) + 0.01
        inside = torch.minimum(torch.maximum(self.weight.abs(), lowest), before.abs() + 0.49 + self.down)
        inside = torch.where(before == 0, self.weight.abs().clamp(max=0.99 * self.threshold), inside)
        sign = torch.where(before == 0, self.weight.sign(), before.sign())
        self.weight.copy_(torch.where(self.q == before, self.weight, inside * sign))
        self.round()

    @torch.no_grad()
    def look(self, price: float, highest: float = HIGHEST) -> None:
        """See what bits cost now, and where rounding has its borders then."""
        kinds = classes(self.q)
        table = Rates(self.q.cpu(), kinds.cpu()).table.to(self.q.device, torch.float32)
        pays = price / (2 * self.cost)
        first, more = table[:, 1] - table[:, 0], table[:, 2] - table[:, 1]
        # Beyond one and a half the next number but one would come after zero.
        self.threshold = (0.5 + pays * first[kinds]).clamp(max=highest)
        self.down = (pays * more[kinds]).clamp(0, 0.5)
        self.round()

    @torch.no_grad()
    def round(self) -> None:
        """Round: to zero below the threshold, else to the nearest but for what a bit costs."""
        size = self.weight.abs()
        q = torch.floor(size + 0.5 - self.down).clamp_(1, LIMIT) * self.weight.sign()
        self.q = torch.where(size < self.threshold, torch.zeros((), device=q.device), q)

    def arrays(self) -> dict[str, Tensor]:
        """Return what the network takes: the rounded weights, with the gradient to those that learn."""
        shape = self.node.weights["weight"].shape
        self.round()
        straight = self.weight + (self.q - self.weight).detach()
        weight = (straight * self.step).reshape(shape)
        if weight.ndim == 4:
            weight = weight.contiguous(memory_format=torch.channels_last)
        return {"weight": weight, "bias": self.bias}


def _result(before: Quantized, weights: list[_Weights]) -> Quantized:
    rounded: dict[str, Rounded] = {}
    biases: dict[str, Tensor] = {}
    for each in weights:
        q = each.q.cpu()
        kinds = classes(q)
        bits = float(Rates(q, kinds).bits(q, kinds).sum())
        rounded[each.name] = replace(before.rounded[each.name], q=q.long(), bits=bits, loss=math.nan)
        biases[each.name] = each.bias.detach().cpu()
    return Quantized(rounded, biases)


def _keep_exact(module: GraphModule, nodes: Sequence[Node]) -> None:
    """Let layers that see the picture itself compute in float32: bytes times weights mostly cancel out."""
    for node in nodes:
        if node.inputs == (INPUT,):
            part = module.part(node.name)
            part.forward = _exactly(part)


def _exactly(part: nn.Module) -> Callable[[Tensor], Tensor]:
    inner = part.forward

    def forward(x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            answer: Tensor = inner(x.float())
        return answer

    return forward
