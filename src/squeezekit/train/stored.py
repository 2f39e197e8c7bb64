"""A network from a file that holds a graph: ``.sqz`` or ``.onnx``."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from squeezekit.data.preparation import CAFFE, IMAGENET, Preparation
from squeezekit.engine import FloatFileError
from squeezekit.errors import UserError
from squeezekit.format import read
from squeezekit.graph.from_onnx import read_onnx
from squeezekit.graph.graph import Graph
from squeezekit.graph.to_torch import to_torch
from squeezekit.train.classes import Classes, read_classes, unnamed
from squeezekit.train.classifier import Classifier
from squeezekit.train.shipped import IntegerClassifier, load_shipped, read_training

__all__ = ["load_stored"]

#: torchvision's preparation for one channel: the mean and deviation of the three, averaged.
_GREY = replace(
    IMAGENET,
    mean=(sum(IMAGENET.mean) / 3,),
    scale=(3 / sum(1 / each for each in IMAGENET.scale),),
    channel_order="L",
)


#: Preparations that have a name.
_NAMED = {"imagenet": IMAGENET, "caffe": CAFFE}


def load_stored(
    path: Path, classes: str | Path | None = None, preparation: str | Path | None = None
) -> Classifier | IntegerClassifier:
    """Load a classifier from a file that holds a graph. The engine computes int8, PyTorch float32.

    Parameters
    ----------
    path
        A ``.sqz``, or an ``.onnx``.
    classes : path, optional
        A table of names, in place of those in the file.
    preparation : path or {"imagenet", "caffe"}, optional
        Of the pictures for an ``.onnx``: a JSON file with the fields of
        :class:`squeezekit.data.preparation.Preparation`; or torchvision's or Caffe's, at the size that the
        file asks for. By default what squeezekit wrote into the file, or else torchvision's, for one channel
        in grey.

    Raises
    ------
    UserError
        The file is missing or damaged, or the names or the preparation do not match.
    """
    if path.suffix.lower() != ".onnx":
        with contextlib.suppress(FloatFileError):
            return load_shipped(path, classes)
        return _float_sqz(path, classes)
    return _onnx(path, classes, preparation)


def _onnx(path: Path, classes: str | Path | None, preparation: str | Path | None) -> Classifier:
    named = _NAMED.get(str(preparation))
    given = None if named or preparation is None else _preparation_in(Path(preparation))
    graph, metadata = read_onnx(path, given.size if given else None, named.size if named else None)
    _check(graph, path)
    channels, size, _ = graph.input.shape
    if given is None and named is None and "preparation" in metadata:
        given = _preparation(_parsed(metadata["preparation"], path), path)
    chosen = given or (named or (IMAGENET if channels == 3 else _GREY)).at(size)
    if (chosen.channels, chosen.size) != (channels, size):
        raise UserError(
            f"{path}: takes {channels} x {size} x {size}, and pictures are prepared as "
            f"{chosen.channels} x {chosen.size} x {chosen.size} (--preparation)"
        )
    count = graph.tensors[graph.output].size
    if classes is not None:
        known = read_classes(classes, count)
    else:
        names, synsets = (_words(metadata.get(key), count, path) for key in ("names", "synsets"))
        known = Classes(names, synsets) if names else unnamed(count)
    training = read_training(path, metadata)
    return Classifier(metadata.get("network", path.stem), to_torch(graph), chosen, known, training)


def _preparation_in(path: Path) -> Preparation:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text in UTF-8"
        raise UserError(
            f"--preparation {path}: cannot be read ({reason}; imagenet, caffe, or a JSON file)"
        ) from None
    return _preparation(_parsed(text, path), path)


def _parsed(text: str, path: Path) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error})") from None


def _preparation(values: Any, path: Path) -> Preparation:
    try:
        return Preparation.from_dict(values)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _words(text: str | None, count: int, path: Path) -> tuple[str, ...] | None:
    """Read the names of classes in the metadata."""
    if text is None:
        return None
    found = _parsed(text, path)
    if not isinstance(found, list) or len(found) != count or not all(isinstance(n, str) for n in found):
        raise UserError(f"{path}: damaged metadata (no list of {count} class names)")
    return tuple(found)


def _float_sqz(path: Path, classes: str | Path | None) -> Classifier:
    model = read(path)
    graph = model.graph
    _check(graph, path)
    preparation = _preparation(model.preparation, path)
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
