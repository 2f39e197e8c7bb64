"""The one shape all networks share: features, then a classifier.

A builder function lists the layers of its paper's figure or table and hands them over in two parts, so that
fine-tuning can freeze the first and exchange the second.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

__all__ = ["Network", "named"]


class Network(nn.Module):
    """A classifier of pictures: ``classifier(features(pictures))``.

    Parameters
    ----------
    features
        Pictures (N, C, H, W) to feature maps (N, F, h, w).
    classifier
        Feature maps to logits (N, num_classes): everything from the last dropout on, pooling included.

    Attributes
    ----------
    config : dict
        ``{"name", "num_classes", "in_channels", "metaparameters"}``, JSON-able: what
        :func:`squeezekit.models.build` needs to build the same network again.
    input_size : int
        Side in pixels of the square pictures the network is meant for.
    """

    config: dict[str, Any]
    input_size: int

    def __init__(self, features: nn.Module, classifier: nn.Module, *, input_size: int = 0) -> None:
        super().__init__()
        self.features = features
        self.classifier = classifier
        self.config = {}
        self.input_size = input_size  # 0: the registry fills in the paper's

    def forward(self, pictures: Tensor) -> Tensor:
        """Give the logits (N, num_classes) of pictures (N, in_channels, H, W)."""
        logits: Tensor = self.classifier(self.features(pictures))
        return logits


def named(layers: Mapping[str, nn.Module]) -> nn.Sequential:
    """Chain layers under their names: ``named({"conv1": ..., "relu1": ...})``."""
    return nn.Sequential(OrderedDict(layers))
