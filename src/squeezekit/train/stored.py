"""A network from a file that holds a graph: ``.sqz`` or ``.onnx``."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

from squeezekit.data.preparation import IMAGENET, Preparation
from squeezekit.engine import FloatFileError
from squeezekit.errors import UserError
from squeezekit.format import read
from squeezekit.graph.from_onnx import from_onnx
from squeezekit.graph.graph import Graph
from squeezekit.graph.to_torch import to_torch
from squeezekit.train.classes import Classes, read_classes, unnamed
from squeezekit.train.classifier import Classifier
from squeezekit.train.shipped import TRAINING, IntegerClassifier, load_shipped, read_training

__all__ = ["TRAINING", "IntegerClassifier", "load_stored"]

#: torchvision's preparation for one channel: the mean and deviation of the three, averaged.
_GREY = replace(
    IMAGENET,
    mean=(sum(IMAGENET.mean) / 3,),
    scale=(3 / sum(1 / each for each in IMAGENET.scale),),
    channel_order="L",
)


def load_stored(path: Path, classes: str | Path | None = None) -> Classifier | IntegerClassifier:
    """Load a classifier from a file that holds a graph. The engine computes int8, PyTorch float32.

    Parameters
    ----------
    path
        A ``.sqz``, or an ``.onnx``; of the latter the pictures are prepared as torchvision prepares them for
        its published weights, at the size that the file asks for; for one channel in grey.
    classes : path, optional
        A table of names, in place of those in the file.

    Raises
    ------
    UserError
        The file is missing or damaged, or the names do not match.
    """
    if path.suffix.lower() != ".onnx":
        with contextlib.suppress(FloatFileError):
            return load_shipped(path, classes)
        return _float_sqz(path, classes)
    graph = from_onnx(path)
    _check(graph, path)
    preparation = (IMAGENET if graph.input.shape[0] == 3 else _GREY).at(graph.input.shape[1])
    count = graph.tensors[graph.output].size
    named = read_classes(classes, count) if classes is not None else unnamed(count)
    return Classifier(path.stem, to_torch(graph), preparation, named)


def _float_sqz(path: Path, classes: str | Path | None) -> Classifier:
    model = read(path)
    graph = model.graph
    _check(graph, path)
    try:
        preparation = Preparation.from_dict(model.preparation)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
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
    training = read_training(path, dict(model.metadata))
    return Classifier(model.metadata.get("network", path.stem), to_torch(graph), preparation, named, training)


def _check(graph: Graph, path: Path) -> None:
    shape = graph.input.shape
    if len(shape) != 3 or shape[0] not in (1, 3) or shape[1] != shape[2]:
        raise UserError(
            f"{path}: its input is {' × '.join(map(str, shape))} (a square picture of 3 channels, or 1)"
        )
    if graph.is_int8:
        raise UserError(f"{path}: an int8 network that the engine does not run")
