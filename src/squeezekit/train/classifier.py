"""A trained network together with what it needs to be used: its preparation and the names of its classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from squeezekit.data.preparation import Preparation
from squeezekit.errors import UserError, suggest
from squeezekit.models import Network, create_model, list_models, load_checkpoint, load_weights
from squeezekit.models.checkpoint import is_checkpoint
from squeezekit.train.classes import Classes, read_classes, unnamed
from squeezekit.train.dealing import checked_dealing
from squeezekit.train.module import Normalise, channels_last
from squeezekit.train.origin import checkpoint_origin, origin, weights_file
from squeezekit.train.shipped import IntegerClassifier

__all__ = ["Classifier", "load_classifier"]


@dataclass
class Classifier:
    """A network, ready to answer.

    Attributes
    ----------
    name : str
        The architecture's name.
    network : nn.Module
        In evaluation mode, float32.
    preparation : Preparation
    classes : Classes
    training : dict or None
        What the checkpoint says of its training.
    """

    name: str
    network: nn.Module
    preparation: Preparation
    classes: Classes
    training: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        self.device = best_device()
        self.network = channels_last(self.network.eval().to(self.device))
        self._normalise = Normalise(self.preparation).to(self.device)

    @torch.inference_mode()
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
        x = (
            torch.from_numpy(np.require(pictures, requirements=["C", "W"]))
            .to(self.device)
            .permute(0, 3, 1, 2)
        )
        logits: NDArray[np.float32] = self.network(self._normalise(x)).flatten(1).float().cpu().numpy()
        return logits


def best_device() -> torch.device:
    """Return CUDA, Apple's MPS or the CPU: the first that is there."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def load_classifier(
    model: str | Path,
    *,
    classes: str | Path | None = None,
    weights: str | Path | None = None,
    preparation: str | Path | None = None,
) -> Classifier | IntegerClassifier:
    """Load what the command line calls MODEL.

    Parameters
    ----------
    model : str or Path
        A run folder, a checkpoint (``.safetensors``), a ``.sqz``, an ``.onnx``, the authors' Deep Compression
        file, a state dict of torchvision (``.pth``), or an architecture's name together with `weights`.
    classes : path, optional
        A table of names for a weight file that carries none (columns index, name, synset).
    weights : path or "imagenet", optional
        For an architecture's name.
    preparation : path or {"imagenet", "caffe"}, optional
        Of the pictures, for an ``.onnx`` (:func:`squeezekit.train.stored.load_stored`).

    Returns
    -------
    Classifier or IntegerClassifier
        The latter for an int8 ``.sqz``: the engine computes it, and there is no `network` in torch.

    Raises
    ------
    UserError
        Nothing of the kind is there, or the file is damaged.

    Examples
    --------
    >>> load_classifier("run/").classes.names  # doctest: +SKIP
    ('ants', 'bees')
    """
    name: str | None = None
    if not Path(model).exists():
        name = str(model)
        if name not in list_models():
            raise UserError(
                f"{model}: no such run folder, weight file or network{suggest(name, list_models())} "
                "(squeezekit models lists the networks)"
            )
        if weights is None:
            raise UserError(f"{model}: a network without weights (add --weights FILE, or name a run folder)")
    elif weights is not None:
        raise UserError(f"--weights: {model} carries its own (give the name of a network to use others)")
    source = weights if weights is not None else model
    if preparation is not None and Path(source).suffix.lower() != ".onnx":
        raise UserError(f"--preparation: {source} carries its own (it is for .onnx files)")
    if Path(source).suffix.lower() in (".sqz", ".onnx"):
        if name is not None:
            raise UserError(
                f"--weights {source}: holds a whole network, not weights for {name} "
                f"(give the file as the model: {source})"
            )
        from squeezekit.train.stored import load_stored

        return load_stored(Path(source), classes, preparation)
    if str(source) != "imagenet":
        source = weights_file(source)
        if source.suffix == ".safetensors" and is_checkpoint(source):
            return _from_checkpoint(source, name, classes)
    found = origin(source, name)
    network = create_model(found.name)
    if load_weights(network, source):
        raise UserError(
            f"{source}: made for another number of classes than {network.config['num_classes']}, which it "
            "does not name (train from it: squeezekit train DATA --weights FILE)"
        )
    return Classifier(found.name, network, found.preparation, _names(classes, network))


def _from_checkpoint(path: Path, name: str | None, classes: str | Path | None) -> Classifier:
    network, config = load_checkpoint(path)
    built = str(network.config["name"])
    if name is not None and name != built:
        raise UserError(f"--weights {path}: of a {built}, not of a {name}")
    known = config["classes"]
    count = network.config["num_classes"]
    if known is not None and (len(known) != count or not all(isinstance(c, str) for c in known)):
        raise UserError(f"{path}: damaged configuration ({count} outputs, but no such list of classes)")
    return Classifier(
        built,
        network,
        checkpoint_origin(config).preparation,
        Classes(tuple(known)) if known is not None and classes is None else _names(classes, network),
        checked_dealing(config["training"], str(path)),
    )


def _names(classes: str | Path | None, network: Network) -> Classes:
    count = network.config["num_classes"]
    return read_classes(classes, count) if classes is not None else unnamed(count)
