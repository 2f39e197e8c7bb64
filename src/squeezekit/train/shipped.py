"""A classifier from an int8 ``.sqz``: computed by the engine, without PyTorch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezekit.data.preparation import Preparation
from squeezekit.engine import Model
from squeezekit.engine import load as load_model
from squeezekit.errors import UserError
from squeezekit.train.classes import Classes, read_classes
from squeezekit.train.dealing import checked_dealing

__all__ = ["TRAINING", "IntegerClassifier", "load_shipped", "read_training", "training_metadata"]

#: The key of a .sqz's metadata under which it says what it was trained or calibrated on, as JSON.
TRAINING = "training"


@dataclass
class IntegerClassifier:
    """An int8 network, ready to answer: with exactly the integers that every other target computes.

    Attributes
    ----------
    name : str
        The architecture's, or the file's.
    model : Model
        That the engine runs.
    preparation : Preparation
    classes : Classes
    training : dict or None
        What the file says of the pictures that it was trained or calibrated on.
    """

    name: str
    model: Model
    preparation: Preparation
    classes: Classes
    training: dict[str, Any] | None = None

    def logits(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run a batch.

        Parameters
        ----------
        pictures : ndarray of uint8, shape (N, H, W, C)
            As :meth:`Preparation.geometry` returns them.

        Returns
        -------
        ndarray of float32, shape (N, classes)
        """
        return self.model.run(pictures)


def load_shipped(path: Path, classes: str | Path | None = None) -> IntegerClassifier:
    """Load a classifier from an int8 ``.sqz``.

    Parameters
    ----------
    path
    classes : path, optional
        A table of names, in place of those in the file.

    Raises
    ------
    FloatFileError
        It is a float32 file.
    UserError
        The file is missing or damaged, or the names do not match.
    """
    model = load_model(path)
    named = Classes(model.names, model.synsets or None)
    if classes is not None:
        named = read_classes(classes, model.info.outputs)
    training = read_training(path, model.metadata)
    return IntegerClassifier(
        model.metadata.get("network", path.stem), model, model.preparation, named, training
    )


def training_metadata(training: dict[str, Any] | None) -> dict[str, str]:
    """Return what a file says of the pictures that it was made with: what :func:`read_training` reads."""
    return {} if training is None else {TRAINING: json.dumps(training, separators=(",", ":"))}


def read_training(path: Path, metadata: dict[str, str]) -> dict[str, Any] | None:
    """Return what a file says of the pictures that it was made with.

    Raises
    ------
    UserError
        That is nonsense.
    """
    try:
        training: Any = json.loads(metadata.get(TRAINING, "null"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged metadata ({TRAINING}: {error})") from None
    return checked_dealing(training, str(path))
