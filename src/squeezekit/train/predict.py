"""What is on these pictures? The first answers of a classifier, with their probabilities.

Loads no PyTorch for an int8 ``.sqz``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from squeezekit.data.picture import Picture, PictureError, open_picture
from squeezekit.engine import FloatFileError
from squeezekit.report.prediction import Prediction
from squeezekit.train.shipped import IntegerClassifier, load_shipped

if TYPE_CHECKING:
    from squeezekit.train.classifier import Classifier

    Answering = Classifier | IntegerClassifier

__all__ = ["Picture", "load", "predict", "probabilities", "softmax"]


def predict(
    model: str | Path | Answering,
    pictures: Picture | Sequence[Picture],
    *,
    top: int = 5,
    mirror: bool = False,
    classes: str | Path | None = None,
    batch_size: int = 16,
    on_error: Callable[[PictureError], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
    thumbnails: bool = True,
) -> list[Prediction]:
    """Classify pictures.

    Parameters
    ----------
    model : path, name or Classifier
        As :func:`squeezekit.load_classifier` takes it.
    pictures : path, bytes, PIL image, uint8 array (H, W, 3), open binary file; or a list of these
    top : int
        How many answers, at most as many as there are classes.
    mirror : bool
        Average the answers to each picture and to its mirror image.
    classes : path, optional
        Names for a weight file that carries none.
    batch_size : int
        Pictures in memory at a time.
    on_error : callable, optional
        Called with the error of each picture that cannot be read, which is then left out; by default the
        first such error is raised.
    progress : callable, optional
        Called with (pictures done, pictures in all).
    thumbnails : bool
        Keep a small copy of each picture for a sheet; some hundred kilobytes each.

    Returns
    -------
    list of Prediction
        In the order given.

    Raises
    ------
    UserError
        The model or (without `on_error`) a picture cannot be read.
    """
    classifier = load(model, classes=classes) if isinstance(model, (str, Path)) else model
    several = isinstance(pictures, Sequence) and not isinstance(pictures, (str, bytes))
    items: Sequence[Picture] = pictures if several else [pictures]  # type: ignore[assignment,list-item]
    found: list[Prediction] = []
    for prediction in _predict(classifier, items, top, mirror, batch_size, on_error):
        found.append(prediction if thumbnails else replace(prediction, image=None))
        if progress:
            progress(len(found), len(items))
    return found


def _predict(
    classifier: Answering,
    pictures: Iterable[Picture],
    top: int,
    mirror: bool,
    batch_size: int,
    on_error: Callable[[PictureError], None] | None,
) -> Iterator[Prediction]:
    names: list[str] = []
    images: list[Image.Image] = []
    for number, picture in enumerate(pictures):
        try:
            name, image = open_picture(picture, number)
        except PictureError as error:
            if on_error is None:
                raise
            on_error(error)
            continue
        names.append(name)
        images.append(image)
        if len(images) == batch_size:
            yield from _answer(classifier, names, images, top, mirror)
            names, images = [], []
    if images:
        yield from _answer(classifier, names, images, top, mirror)


def load(
    model: str | Path,
    *,
    classes: str | Path | None = None,
    weights: str | Path | None = None,
    preparation: str | Path | None = None,
) -> Answering:
    """Load what the command line calls MODEL: without PyTorch where it is an int8 ``.sqz``.

    Parameters
    ----------
    model, classes, weights, preparation
        As for :func:`squeezekit.load_classifier`.

    Raises
    ------
    UserError
        Nothing of the kind is there, or the file is damaged.
    """
    if weights is None and preparation is None and Path(model).suffix.lower() == ".sqz":
        with contextlib.suppress(FloatFileError):
            return load_shipped(Path(model), classes)
    from squeezekit.train.classifier import load_classifier

    return load_classifier(model, classes=classes, weights=weights, preparation=preparation)


def _answer(
    classifier: Answering, names: list[str], images: list[Image.Image], top: int, mirror: bool
) -> Iterator[Prediction]:
    batch = np.stack([classifier.preparation.geometry(image) for image in images])
    for name, image, row in zip(names, images, probabilities(classifier, batch, mirror), strict=True):
        order = np.argsort(-row, kind="stable")[:top]
        image.thumbnail((448, 448))
        yield Prediction(name, [(classifier.classes.names[c], float(row[c])) for c in order], image=image)


def probabilities(
    classifier: Answering, pictures: NDArray[np.uint8], mirror: bool = False
) -> NDArray[np.float32]:
    """Return the probability of each class.

    Parameters
    ----------
    classifier : Classifier
    pictures : ndarray of uint8, shape (N, H, W, C)
    mirror : bool
        The mean of those of each picture and of its mirror image (Krizhevsky et al., 2012, section 4.1,
        average five parts of a picture and their mirror images): twice the work.

    Returns
    -------
    ndarray of float32, shape (N, classes)
    """
    found: NDArray[np.float32] = softmax(classifier.logits(pictures))
    if mirror:
        mirrored = softmax(classifier.logits(np.ascontiguousarray(pictures[:, :, ::-1])))
        found = (found + mirrored) * np.float32(0.5)
    return found


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return probabilities, row by row."""
    exponent = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: NDArray[np.float32] = exponent / exponent.sum(axis=1, keepdims=True)
    return shares
