"""A new classifier from the answers of the old one.

Weights that were trained for other classes know much about the new ones: an ImageNet network has no class
"bees", but it answers "bee", "fly" and "daisy" to pictures of them. So the new class starts as the mixture of
old classes that the old network gives its training pictures: their mean probabilities (what is called a soft
label in distillation, arXiv:1503.02531, section 2) weigh the rows of the old last layer. From a random start
the first epochs would have to find that again, from few pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from squeezekit.data.source import PictureSet
from squeezekit.models import Network, create_model, load_weights
from squeezekit.models.head import head_name
from squeezekit.models.weights import head_classes
from squeezekit.train.classes import unnamed
from squeezekit.train.classifier import Classifier
from squeezekit.train.plan import Plan
from squeezekit.train.predict import probabilities
from squeezekit.train.sample import sample

__all__ = ["inherit_classifier"]

#: As many pictures are shown to the old network, at most.
MOST = 2000


def inherit_classifier(
    network: Network,
    plan: Plan,
    pictures: PictureSet,
    weights: str | Path,
    progress: Callable[[int, int], None],
) -> None:
    """Start a network's last layer from the one in a file of weights, in place.

    Parameters
    ----------
    network : Network
        With the file's weights in all other layers.
    plan : Plan
    pictures : PictureSet
        Of which only those that train are looked at.
    weights : path or str
        The file, or "imagenet".
    progress : callable
        Called with (pictures seen, pictures in all).

    Raises
    ------
    UserError
        As :func:`squeezekit.models.load_weights`.
    """
    classes = head_classes(network, weights)
    if classes == len(plan.classes):
        return  # taken over as it is
    old = create_model(plan.model, classes, plan.prepared.channels, **plan.metaparameters)
    load_weights(old, weights)
    answers = _mean_answers(
        Classifier(plan.model, old, plan.prepared, unnamed(classes)), plan, pictures, progress
    )
    head = head_name(network)
    with torch.no_grad():
        for key in ("weight", "bias"):
            rows = getattr(old.get_submodule(head), key).cpu()
            getattr(network.get_submodule(head), key).copy_(torch.tensordot(answers, rows, dims=1))


def _mean_answers(
    classifier: Classifier, plan: Plan, pictures: PictureSet, progress: Callable[[int, int], None]
) -> Tensor:
    """The old network's mean probabilities for the training pictures of each new class: (new, old)."""
    sums = np.zeros((len(plan.classes), len(classifier.classes)))
    for shown, labels in sample(plan, pictures, MOST, progress):
        np.add.at(sums, labels.numpy(), probabilities(classifier, shown.numpy()))
    # A class of which no picture was shown starts as the mean of all.
    counts = sums.sum(axis=1, keepdims=True)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), sums.sum(axis=0) / max(counts.sum(), 1))
    return torch.from_numpy(means.astype(np.float32))
