"""Some of the pictures that train, as the network sees them in use: what it is set up by before it trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from torch import Tensor

from squeezekit.data.loader import make_loader
from squeezekit.data.source import PictureSet
from squeezekit.train.plan import Plan

__all__ = ["sample"]


def sample(
    plan: Plan, pictures: PictureSet, most: int, progress: Callable[[int, int], None]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of (pictures, labels): uint8 (N, H, W, C), and int64 (N,).

    Parameters
    ----------
    plan : Plan
    pictures : PictureSet
        Of which only those that train are looked at.
    most : int
        Pictures, at most; then drawn by the plan's seed.
    progress : callable
        Called with (pictures seen, pictures in all).
    """
    drawn = np.sort(np.random.default_rng(plan.seed).permutation(plan.splits(pictures)["train"])[:most])
    seen = 0
    for batch in make_loader(pictures, drawn, plan.prepared, train=False, batch_size=32, workers=0):
        if len(batch["labels"]):
            yield batch["pictures"], batch["labels"]
        seen += len(batch["labels"]) + len(batch["broken"])
        progress(seen, len(drawn))
