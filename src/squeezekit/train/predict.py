"""What is on these pictures? The first answers of a classifier, with their probabilities."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from squeezekit.data.picture import PictureError, decode
from squeezekit.report.prediction import Prediction
from squeezekit.train.classifier import Classifier, load_classifier

__all__ = ["Picture", "predict"]

Picture = str | Path | bytes | Image.Image | NDArray[np.uint8] | BinaryIO


def predict(
    model: str | Path | Classifier,
    pictures: Picture | Sequence[Picture],
    *,
    top: int = 5,
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
    classifier = model if isinstance(model, Classifier) else load_classifier(model, classes=classes)
    several = isinstance(pictures, Sequence) and not isinstance(pictures, (str, bytes))
    items: Sequence[Picture] = pictures if several else [pictures]  # type: ignore[assignment,list-item]
    found: list[Prediction] = []
    for prediction in _predict(classifier, items, top, batch_size, on_error):
        found.append(prediction if thumbnails else replace(prediction, image=None))
        if progress:
            progress(len(found), len(items))
    return found


def _predict(
    classifier: Classifier,
    pictures: Iterable[Picture],
    top: int,
    batch_size: int,
    on_error: Callable[[PictureError], None] | None,
) -> Iterator[Prediction]:
    names: list[str] = []
    images: list[Image.Image] = []
    for number, picture in enumerate(pictures):
        try:
            name, image = _open(picture, number)
        except PictureError as error:
            if on_error is None:
                raise
            on_error(error)
            continue
        names.append(name)
        images.append(image)
        if len(images) == batch_size:
            yield from _answer(classifier, names, images, top)
            names, images = [], []
    if images:
        yield from _answer(classifier, names, images, top)


def _open(picture: Picture, number: int) -> tuple[str, Image.Image]:
    name = f"picture {number + 1}"
    if isinstance(picture, (str, Path)):
        name = str(picture)
        try:
            content = Path(picture).read_bytes()
        except OSError as error:
            raise PictureError(f"{picture}: cannot be read: {error.strerror}") from error
        return name, decode(content, name)
    if isinstance(picture, bytes):
        return name, decode(picture, name)
    if isinstance(picture, Image.Image):
        stream = io.BytesIO()  # one way in: modes and rotation are seen to in one place
        picture.save(stream, "PNG" if picture.mode != "CMYK" else "TIFF", exif=picture.getexif())
        return name, decode(stream.getvalue(), name)
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim not in (2, 3):
            raise PictureError(
                f"{name}: an array of {picture.dtype}, shape {picture.shape} (expected uint8, H x W x 3)"
            )
        return name, Image.fromarray(picture).convert("RGB")
    return str(getattr(picture, "name", name)), decode(picture.read(), name)


def _answer(
    classifier: Classifier, names: list[str], images: list[Image.Image], top: int
) -> Iterator[Prediction]:
    batch = np.stack([classifier.preparation.geometry(image) for image in images])
    probabilities = softmax(classifier.logits(batch))
    for name, image, row in zip(names, images, probabilities, strict=True):
        order = np.argsort(-row, kind="stable")[:top]
        image.thumbnail((448, 448))
        yield Prediction(name, [(classifier.classes.names[c], float(row[c])) for c in order], image=image)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return probabilities, row by row."""
    exponent = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float32] = exponent / exponent.sum(axis=1, keepdims=True)
    return probabilities
