"""How good is a classifier? Accuracy, per class and as a whole, and how far to trust its probabilities."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from squeezekit.data.loader import make_loader
from squeezekit.data.shards import Rows
from squeezekit.data.source import PictureSet, open_pictures
from squeezekit.data.split import given_parts
from squeezekit.errors import UserError
from squeezekit.report.numbers import per_class, reliability
from squeezekit.train.classifier import Classifier, load_classifier
from squeezekit.train.dealing import dealing_of, dealt
from squeezekit.train.predict import probabilities
from squeezekit.train.run_folder import fingerprint
from squeezekit.train.shipped import IntegerClassifier

__all__ = ["Evaluation", "evaluate"]

Split = Literal["auto", "train", "val", "test", "all"]
Progress = Callable[[int, int], None]
Answering = Classifier | IntegerClassifier


@dataclass
class Evaluation:
    """What was measured.

    Attributes
    ----------
    images : int
        Pictures that were looked at.
    top1, top5 : float
        Shares from 0 to 1. With fewer than five classes top-5 is 1.
    ece : float
        Expected calibration error with 15 bins (Guo et al., arXiv:1706.04599, equation 3), 0 to 1.
    agreement : float or None
        Share of pictures on which a second model gives the same first answer.
    against_top1 : float or None
        The second model's accuracy.
    pictures_per_second : float
        Decoding and preparation included.
    split : str
        The part of the data that was used.
    broken : list of str
        Pictures that could not be read.
    classes : tuple of str
        The model's.
    labels, predictions : ndarray
        (images,) true classes, first answers.
    top, top_probability : ndarray
        (images, up to 5) first five answers and their probabilities.
    confidence : ndarray
        (images,) probability of the first answer.
    index : ndarray
        (images,) number of each picture in `pictures`.
    """

    images: int
    top1: float
    top5: float
    ece: float
    pictures_per_second: float
    split: str
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    predictions: NDArray[np.int64]
    top: NDArray[np.int64]
    top_probability: NDArray[np.float32]
    confidence: NDArray[np.float32]
    index: NDArray[np.int64]
    pictures: PictureSet
    broken: list[str] = field(default_factory=list)
    agreement: float | None = None
    against_top1: float | None = None

    @property
    def correct(self) -> NDArray[np.bool_]:
        """(images,) whether the first answer is right."""
        return np.equal(self.predictions, self.labels)

    @property
    def confusion(self) -> NDArray[np.int64]:
        """(classes, classes) counts, rows the truth, columns the first answer."""
        count = len(self.classes)
        return np.bincount(self.labels * count + self.predictions, minlength=count * count).reshape(
            count, count
        )

    @property
    def per_class(self) -> list[dict[str, Any]]:
        """Precision, recall, F1 and support of every class that has pictures."""
        figures = per_class(self.confusion)
        return [
            {
                "class": self.classes[c],
                "precision": float(figures.precision[c]),
                "recall": float(figures.recall[c]),
                "f1": float(figures.f1[c]),
                "support": int(figures.support[c]),
            }
            for c in np.flatnonzero(figures.support)
        ]

    def to_dict(self) -> dict[str, Any]:
        """The numbers, for ``--json``."""
        numbers: dict[str, Any] = {
            "images": self.images,
            "top1": self.top1,
            "top5": self.top5,
            "ece": self.ece,
            "pictures_per_second": self.pictures_per_second,
            "split": self.split,
            "broken": self.broken,
        }
        if self.agreement is not None:
            numbers |= {"agreement": self.agreement, "against_top1": self.against_top1}
        return numbers | {"per_class": self.per_class}


def choose_split(pictures: PictureSet, split: Split, training: dict[str, Any] | None) -> tuple[str, Rows]:
    """Return the pictures to judge by: none that are known to have trained or chosen the model.

    ``auto`` takes the test split of DATA, or its val split if that is all it has. A DATA without splits that
    the model was trained on is split as it was then. Any other DATA counts as a whole.
    """
    splits = given_parts(pictures)
    everything = splits.pop("all")
    dealing = dealing_of(training, fingerprint(pictures))
    if dealing:
        splits = dealt(pictures, dealing)
    if split == "all":
        return "all", everything
    if split != "auto":
        if split not in splits:
            raise UserError(
                f"--split {split}: {pictures.name} has no such split ({', '.join([*splits, 'all'])})"
            )
        return split, splits[split]
    for name in ("test", "val"):
        if name in splits:
            return name, splits[name]
    return "all", everything


def evaluate(
    model: str | Path | Answering,
    data: str | Path | PictureSet,
    *,
    classes: str | Path | None = None,
    against: str | Path | Answering | None = None,
    weights: str | Path | None = None,
    preparation: str | Path | None = None,
    split: Split = "auto",
    mirror: bool = False,
    batch_size: int = 32,
    workers: int | Literal["auto"] = "auto",
    progress: Progress | None = None,
) -> Evaluation:
    """Measure a classifier on labelled pictures: an int8 ``.sqz`` in its own integers, others in float32.

    Parameters
    ----------
    model : path, name or Classifier
        As :func:`load_classifier` takes it.
    data : path, name or PictureSet
        As :func:`squeezekit.data.source.open_pictures` takes it. Folders are called as the model's classes.
    classes : path, optional
        Names for a weight file that carries none.
    against : path, name or Classifier, optional
        A second model, on the same pictures, each with its own preparation.
    weights : path, optional
        For an architecture's name.
    preparation : path or name, optional
        For an ``.onnx``, as :func:`load_classifier` takes it.
    split : {"auto", "train", "val", "test", "all"}
    mirror : bool
        Average the answers to each picture and to its mirror image, of both models: twice the work.
    batch_size : int
    workers : int or "auto"
        Processes that read pictures.
    progress : callable, optional
        Called with (pictures done, pictures in all).

    Raises
    ------
    UserError
        A folder that the model does not know, no pictures, a damaged file.
    """
    classifier = (
        model
        if isinstance(model, Answering)
        else load_classifier(model, classes=classes, weights=weights, preparation=preparation)
    )
    other: Answering | None = None
    if against is not None:
        other = against if isinstance(against, Answering) else load_classifier(against, classes=classes)
    translate = _same_classes(classifier, other) if other else None
    pictures = data if isinstance(data, PictureSet) else open_pictures(data, min_classes=1)
    to_class = classifier.classes.match(pictures.classes, pictures.name)
    used, indices = choose_split(pictures, split, classifier.training)
    total = len(indices) * (2 if other else 1)

    def answers(one: Answering, done: int) -> _Answers:
        loader = make_loader(
            pictures, indices, one.preparation, train=False, batch_size=batch_size, workers=workers
        )
        found = _Answers(mirror)
        for batch in loader:
            found.add(one, batch)
            if progress:
                progress(done + found.seen, total)
        if not found.index:
            raise UserError(f"{pictures.name}: no picture could be read")
        return found

    started = time.perf_counter()
    found = answers(classifier, 0)
    seconds = time.perf_counter() - started
    top, probability = np.concatenate(found.top), np.concatenate(found.probability)
    index = np.concatenate(found.index)
    labels = to_class[np.concatenate(found.labels)]
    first, confidence = top[:, 0], probability[:, 0]
    result = Evaluation(
        images=len(index),
        top1=float((first == labels).mean()),
        top5=float((top == labels[:, None]).any(1).mean()),
        ece=reliability(confidence, first == labels).expected_calibration_error,
        pictures_per_second=len(index) / seconds,
        split=used,
        classes=classifier.classes.names,
        labels=labels,
        predictions=first,
        top=top,
        top_probability=probability,
        confidence=confidence,
        index=index,
        pictures=pictures,
        broken=found.broken,
    )
    if other is not None and translate is not None:
        second = translate[np.concatenate(answers(other, len(indices)).top)[:, 0]]
        result.agreement = float((second == first).mean())
        result.against_top1 = float((second == labels).mean())
    return result


@dataclass
class _Answers:
    """The first five answers to each picture. All logits would be 4 kB a picture with ImageNet's classes."""

    mirror: bool
    top: list[NDArray[np.int64]] = field(default_factory=list)
    probability: list[NDArray[np.float32]] = field(default_factory=list)
    index: list[NDArray[np.int64]] = field(default_factory=list)
    labels: list[NDArray[np.int64]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    seen: int = 0

    def add(self, classifier: Answering, batch: dict[str, Any]) -> None:
        self.broken += batch["broken"]
        self.seen += len(batch["broken"]) + len(batch["labels"])
        if not len(batch["labels"]):
            return
        found = probabilities(classifier, batch["pictures"].numpy(), self.mirror)
        top = np.argsort(-found, axis=1, kind="stable")[:, :5].astype(np.int64)
        self.top.append(top)
        self.probability.append(np.take_along_axis(found, top, axis=1))
        self.index.append(batch["index"].numpy())
        self.labels.append(batch["labels"].numpy())


def _same_classes(one: Answering, other: Answering) -> NDArray[np.int64]:
    """Return, for each class of the other model, the number that this one has for it."""
    names, others = one.classes.names, other.classes.names
    if len(names) != len(others):
        raise UserError(f"--against: that model has {len(others)} classes, this one {len(names)}")
    if names != others and set(names) == set(others) and len(set(names)) == len(names):
        number = {name: i for i, name in enumerate(names)}
        return np.array([number[name] for name in others], np.int64)
    return np.arange(len(names))
