"""What all networks of a study share: the pictures, and how long they train."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from rich.console import Console
from torch import nn

from squeezekit.explore.short import Outcome, ShortTraining
from squeezekit.explore.studies.rows import Row, StudyFolder
from squeezekit.explore.studies.study import Variant
from squeezekit.graph.cost import Cost, cost
from squeezekit.graph.from_torch import from_torch
from squeezekit.report.progress import progress_bar

__all__ = ["Ground", "train_and_measure"]

#: Pictures a step in the quick form: many steps in few epochs.
_QUICK_BATCH = 32


@dataclass
class Ground:
    """The ground on which variants compete.

    Attributes
    ----------
    training : ShortTraining
    epochs : int
        Of every network.
    quick : bool
    folder : StudyFolder
    console : Console
    data : str
        What `training` was opened from.
    model : str or None
        A network that was trained before, for the study that takes one.
    """

    training: ShortTraining
    epochs: int
    quick: bool
    folder: StudyFolder
    console: Console
    data: str
    model: str | None = None
    _costs: dict[str, Cost] = field(default_factory=dict, init=False, repr=False)

    def build(self, variant: Variant, seed: int) -> nn.Module:
        """Build a variant with initial weights from the seed."""
        torch.manual_seed(seed)
        return variant.build(len(self.training.classes), self.training.channels)

    def train(self, variant: Variant, seed: int) -> Outcome:
        """Train a variant from a seed."""
        network = self.build(variant, seed)
        self.training.load(variant.size)
        with progress_bar(f"training {variant.name}, seed {seed}", self.console) as advance:
            return self.training.run(
                network,
                size=variant.size,
                epochs=self.epochs,
                batch_size=_QUICK_BATCH if self.quick else None,
                seed=seed,
                progress=lambda share: advance(round(100 * share), 100),
            )

    def cost(self, variant: Variant) -> Cost:
        """Count a variant, once for all seeds; nothing is allocated for it."""
        if variant.name not in self._costs:
            channels = self.training.channels
            with torch.device("meta"):
                network = variant.build(len(self.training.classes), channels)
            graph = from_torch(network, (channels, variant.size, variant.size))
            self._costs[variant.name] = cost(graph)
        return self._costs[variant.name]


def train_and_measure(ground: Ground, variant: Variant, seed: int) -> Row:
    """Train a variant and measure it on pictures that it has not seen, and on those that it has."""
    counted = ground.cost(variant)
    outcome = ground.train(variant, seed)
    return Row(
        variant=variant.name,
        seed=seed,
        size=variant.size,
        parameters=counted.parameters,
        macs=counted.macs,
        bytes=4 * counted.parameters,
        test_accuracy=ground.training.accuracy(outcome.network, variant.size, "test"),
        train_accuracy=ground.training.accuracy(outcome.network, variant.size, "train"),
        seconds=outcome.seconds,
    )
