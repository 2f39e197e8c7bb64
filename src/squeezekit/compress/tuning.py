"""Let what is still free make good what rounding has changed: distillation from the network as it was.

The student's answers are drawn to the teacher's on calibration pictures, cut and mirrored at random; labels
are not needed (Hinton, Vinyals and Dean, arXiv:1503.02531). Its values are rounded to bytes on the way, with
the gradient passed straight through.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from squeezekit.compress.calibration import Progress, as_input
from squeezekit.graph.graph import Graph
from squeezekit.graph.to_torch import GraphModule

__all__ = ["tune"]


def tune(
    graph: Graph,
    student: GraphModule,
    teacher: GraphModule,
    pictures: NDArray[np.uint8],
    fixed: Collection[str],
    *,
    steps: int,
    rate: float,
    advance: Progress,
    batch_size: int = 16,
    seed: int = 0,
) -> None:
    """Train a module's layers further, in place.

    Parameters
    ----------
    graph
        Canonical.
    student, teacher
        Modules of it.
    pictures : ndarray of uint8, shape (N, H, W, C)
    fixed
        Layers whose weights stay; their biases learn.
    steps, batch_size, seed : int
    rate : float
        How far a step may move a weight, as a share of its layer's root mean square. Falls to zero.
    """
    if steps == 0:
        return
    groups: list[dict[str, Any]] = []
    for node in graph.nodes:
        if node.op not in ("conv", "linear"):
            continue
        part = student.part(node.name)
        weight, bias = part.get_parameter("weight"), part.get_parameter("bias")
        scale = float(weight.detach().square().mean().sqrt()) + 1e-12
        weight.requires_grad_(node.name not in fixed)
        if node.name not in fixed:
            groups.append({"params": [weight], "lr": rate * scale})
        level = float(bias.detach().abs().mean()) + 1e-12
        groups.append({"params": [bias.requires_grad_(True)], "lr": rate * level})
    optimiser = torch.optim.Adam(groups, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1.0, (step + 1) / 5) * 0.5 * (1 + math.cos(math.pi * step / steps))
    )
    random = np.random.default_rng(seed)
    for _ in range(steps):
        rows = random.integers(len(pictures), size=min(batch_size, len(pictures)))
        x = vary(as_input(pictures[rows]), random)
        with torch.no_grad():
            answers = teacher(x).flatten(1).log_softmax(1)
        ours = student(x).flatten(1).log_softmax(1)
        loss = F.kl_div(ours, answers, log_target=True, reduction="batchmean")
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        advance(len(x))
    student.requires_grad_(False)


def vary(x: Tensor, random: np.random.Generator) -> Tensor:
    """Cut a part of the pictures, the same for a batch, scale it to their size, mirror every other one."""
    height, width = x.shape[2:]
    share = math.sqrt(random.uniform(0.5, 1.0))
    h, w = max(1, round(height * share)), max(1, round(width * share))
    top, left = int(random.integers(height - h + 1)), int(random.integers(width - w + 1))
    part = x[:, :, top : top + h, left : left + w]
    if part.shape != x.shape:
        part = F.interpolate(part, (height, width), mode="bilinear", antialias=True, align_corners=False)
    mirror = torch.from_numpy(random.random(len(x)) < 0.5).view(-1, 1, 1, 1)
    return torch.where(mirror, part.flip(3), part)
