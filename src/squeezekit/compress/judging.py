"""How a candidate for the file does beside the original, on pictures that no method has seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezekit.engine import load
from squeezekit.format import Model, dumps
from squeezekit.graph.graph import Graph
from squeezekit.graph.to_torch import to_torch
from squeezekit.train.classifier import Classifier

__all__ = ["Judges", "drop"]

Pictures = NDArray[np.uint8]
Logits = NDArray[np.float32]

#: Pictures at a time.
BATCH = 16


@dataclass
class Judges:
    """Pictures on which candidates are compared with the original.

    Attributes
    ----------
    original : Classifier
    pictures : ndarray of uint8, shape (N, H, W, C)
    labels : ndarray of int64, shape (N,), or None
    """

    original: Classifier
    pictures: Pictures
    labels: NDArray[np.int64] | None
    _answers: Logits | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.pictures)

    def split(self) -> tuple[Judges, Judges]:
        """Part them: every third one, to choose a size by, and the others, which report on it."""
        third = np.arange(len(self)) % 3 == 0
        one, other = (
            Judges(self.original, self.pictures[part], None if self.labels is None else self.labels[part])
            for part in (third, ~third)
        )
        return one, other

    def figures(self, graph: Graph, advance: Callable[[int, int], None]) -> dict[str, Any]:
        """Measure a graph: agreement with the original; with labels top-1 and top-5 of both.

        Without pictures there are no figures.
        """
        if not len(self):
            return {}
        if self._answers is None:
            self._answers = self._answered(self.original.logits, lambda *_: None)
        ours = self._answered(_answering(graph, self.original), advance)
        found: dict[str, Any] = {"agreement": float((ours.argmax(1) == self._answers.argmax(1)).mean())}
        if self.labels is not None:
            for prefix, answers in (("", ours), ("original_", self._answers)):
                five = np.argsort(-answers, axis=1, kind="stable")[:, :5]
                found[f"{prefix}top1"] = float((five[:, 0] == self.labels).mean())
                found[f"{prefix}top5"] = float((five == self.labels[:, None]).any(1).mean())
        return found

    def _answered(self, logits: Callable[[Pictures], Logits], advance: Callable[[int, int], None]) -> Logits:
        found = []
        for start in range(0, len(self), BATCH):
            found.append(logits(self.pictures[start : start + BATCH]))
            advance(min(start + BATCH, len(self)), len(self))
        return np.concatenate(found)


def drop(figures: dict[str, Any]) -> float:
    """Return the percentage points of top-1 that are lost; of agreement where there are no labels."""
    if "top1" in figures:
        return 100.0 * float(figures["original_top1"] - figures["top1"])
    return 100.0 * (1.0 - float(figures["agreement"]))


def _answering(graph: Graph, original: Classifier) -> Callable[[Pictures], Logits]:
    if graph.is_int8:  # the engine gives the bits of squeezekit.graph.run, in a tenth of the time
        return load(dumps(Model(graph, original.preparation.to_dict()), "huffman")).run
    return replace(original, network=to_torch(graph)).logits
