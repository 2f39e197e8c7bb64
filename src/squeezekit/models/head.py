"""The last layer with weights: the one part of a network that knows the number of classes."""

from __future__ import annotations

from typing import Any

from torch import nn

from squeezekit.models.checks import whole
from squeezekit.models.network import Network

__all__ = ["head_name", "replace_classifier"]


def head_name(network: Network) -> str:
    """Name the layer that makes the logits: ``"classifier.conv10"``, ``"classifier.linear"``, ..."""
    names = [
        name
        for name, module in network.classifier.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    ]
    return f"classifier.{names[-1]}"


def replace_classifier(network: Network, num_classes: int) -> Network:
    """Give a network a fresh last layer for another number of classes; all else keeps its weights.

    Parameters
    ----------
    network
        Changed in place, its ``.config`` too.
    num_classes
        Width of the new logits.

    Returns
    -------
    Network
        `network` itself.

    Notes
    -----
    The new weights are normal with deviation 0.01 and the biases zero, so that all classes start about equal.

    Examples
    --------
    >>> from squeezekit.models import create_model
    >>> replace_classifier(create_model("squeezenet1_1"), 2).classifier.conv10.out_channels
    2
    """
    whole("num_classes", num_classes, 1, 10**6)
    name = head_name(network)
    old = network.get_submodule(name)
    where: dict[str, Any] = {"device": old.weight.device, "dtype": old.weight.dtype}
    new: nn.Conv2d | nn.Linear
    if isinstance(old, nn.Conv2d):
        new = nn.Conv2d(old.in_channels, num_classes, 1, **where)
    else:
        assert isinstance(old, nn.Linear)
        new = nn.Linear(old.in_features, num_classes, **where)
    nn.init.normal_(new.weight, std=0.01)
    if new.bias is not None:
        nn.init.zeros_(new.bias)
    network.set_submodule(name, new)
    network.config = {**network.config, "num_classes": num_classes}
    return network
