"""A network from a file that holds a graph: ``.sqz``, computed in its own integers, or ``.onnx``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezekit.data.preparation import IMAGENET, Preparation
from squeezekit.errors import UserError
from squeezekit.format import read
from squeezekit.graph.from_onnx import from_onnx
from squeezekit.graph.graph import Graph
from squeezekit.graph.run import run
from squeezekit.graph.to_torch import to_torch
from squeezekit.train.classes import Classes, read_classes, unnamed
from squeezekit.train.classifier import Classifier

__all__ = ["TRAINING", "IntegerClassifier", "load_stored"]

#: The key of a .sqz's metadata under which it says what it was trained or calibrated on, as JSON.
TRAINING = "training"


@dataclass
class IntegerClassifier(Classifier):
    """An int8 graph, ready to answer: with exactly the integers that every other target computes."""

    graph: Graph | None = None

    def __post_init__(self) -> None:
        """Nothing to move to a device."""

    def logits(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run a batch, as :meth:`Classifier.logits`."""
        assert self.graph is not None
        return run(self.graph, np.ascontiguousarray(pictures)).reshape(len(pictures), -1)


def load_stored(path: Path, classes: str | Path | None = None) -> Classifier:
    """Load a classifier from a file that holds a graph.

    Parameters
    ----------
    path
        A ``.sqz``, or an ``.onnx``; of the latter the pictures are prepared as torchvision prepares them for
        its published weights, at the size that the file asks for.
    classes : path, optional
        A table of names, in place of those in the file.

    Raises
    ------
    UserError
        The file is missing or damaged, or the names do not match.
    """
    if path.suffix.lower() == ".onnx":
        graph = from_onnx(path)
        _check(graph, path)
        preparation = IMAGENET.at(graph.input.shape[1])
        count = graph.tensors[graph.output].size
        named = read_classes(classes, count) if classes is not None else unnamed(count)
        return Classifier(path.stem, to_torch(graph), preparation, named)
    model = read(path)
    graph = model.graph
    _check(graph, path)
    try:
        preparation = Preparation.from_dict(model.preparation)
        training: Any = json.loads(model.metadata.get(TRAINING, "null"))
    except (UserError, ValueError) as error:
        raise UserError(f"{path}: {error}") from None
    if training is not None and not (isinstance(training, dict) and "fingerprint" in training):
        raise UserError(f"{path}: damaged metadata ({TRAINING})")
    count = graph.tensors[graph.output].size
    if (preparation.channels, preparation.size, preparation.size) != graph.input.shape:
        raise UserError(f"{path}: pictures are prepared for another network than the one in the file")
    if classes is not None:
        named = read_classes(classes, count)
    elif model.names:
        if len(model.names) != count:
            raise UserError(f"{path}: {len(model.names)} class names for {count} outputs")
        named = Classes(model.names, model.synsets)
    else:
        named = unnamed(count)
    name = model.metadata.get("network", path.stem)
    if graph.is_int8:
        return IntegerClassifier(name, _none(), preparation, named, training, graph=graph)
    return Classifier(name, to_torch(graph), preparation, named, training)


def _none() -> Any:
    from torch import nn

    return nn.Identity()


def _check(graph: Graph, path: Path) -> None:
    shape = graph.input.shape
    if len(shape) != 3 or shape[0] not in (1, 3) or shape[1] != shape[2]:
        raise UserError(
            f"{path}: its input is {' × '.join(map(str, shape))} (a square picture of 3 channels, or 1)"
        )
