"""What the stages of a network cost, counted exactly on shapes alone: where scaling spends its work.

A stage is what sees maps of one size: the Fire modules between two pools, the blocks from one stride to the
next, one of EfficientNet's stages. The first convolution is a stage of its own, and so are a last one behind
the blocks and the classifier.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from squeezekit.explore.design import Design
from squeezekit.models import Network, check_picture_size
from squeezekit.models.blocks import ConvNorm
from squeezekit.models.head import head_name

__all__ = ["Stage", "Work", "work"]


@dataclass
class Stage:
    """Layers that follow each other at one resolution.

    Attributes
    ----------
    name : str
        Of its layers: ``"fire2 … fire3"``.
    layers : int
        Fire modules, blocks, or convolutions where these are all there is.
    channels : int
        Of its output.
    side : int
        Of its output's maps.
    macs : int
        Multiply-accumulates for one picture: the FLOPS of the papers.
    repeats : bool
        A depth coefficient multiplies its layers.
    """

    name: str
    layers: int = 0
    channels: int = 0
    side: int = 0
    macs: int = 0
    repeats: bool = False


@dataclass
class Work:
    """What a network costs for one picture.

    Attributes
    ----------
    stages : list of Stage
    parameters : int
        Numbers in all.
    linear : int
        Of :attr:`macs`, those that grow with the width and not its square: depthwise convolutions, and the
        first and the last layer, of which one side stays as it is.
    """

    stages: list[Stage]
    parameters: int
    linear: int = 0

    @property
    def macs(self) -> int:
        """Multiply-accumulates of convolutions and linear layers."""
        return sum(stage.macs for stage in self.stages)

    @property
    def layers(self) -> int:
        """Those that a depth coefficient multiplies."""
        return sum(stage.layers for stage in self.stages if stage.repeats)


def work(design: Design, classes: int, channels: int = 3) -> Work:
    """Count what a design costs, stage by stage. Nothing is allocated and nothing computed.

    Parameters
    ----------
    design
        Any of the networks of ``models``.
    classes
        Width of the logits.
    channels
        Of the pictures.

    Raises
    ------
    UserError
        The pictures are too small for the network, or a metaparameter is out of range.

    Examples
    --------
    >>> work(Design.of("squeezenet1_1", 224, stem="standard"), 1000).macs
    349151936
    """
    with torch.device("meta"):
        network = design.build(classes, channels).eval()
        try:
            return _count(network, torch.empty(1, channels, design.size, design.size))
        except RuntimeError:
            check_picture_size(network.config, design.size)  # says what is wrong
            raise


def _count(network: Network, pictures: Tensor) -> Work:
    counted = Work([], sum(p.numel() for p in network.parameters()))
    last = network.get_submodule(head_name(network))
    for name, module in list(network.named_modules()):
        if isinstance(
            module, (nn.BatchNorm2d, nn.SiLU, nn.ReLU, nn.ReLU6)
        ):  # they take time here, and count nothing
            network.set_submodule(name, nn.Identity())
    x, shrunk = pictures, False
    for name, child in network.features.named_children():
        with _layers(child) as layers:
            x = child(x)
        if not layers:
            shrunk = shrunk or isinstance(child, nn.MaxPool2d)
            continue
        strides = any(isinstance(each, nn.Conv2d) and each.stride != (1, 1) for each, _ in layers)
        alone = not counted.stages or isinstance(child, ConvNorm)
        if alone or len(counted.stages) == 1 or shrunk or strides or name.startswith("stage"):
            counted.stages.append(Stage(name, repeats=not alone))
        stage, shrunk = counted.stages[-1], False
        if stage.layers:
            stage.name = f"{stage.name.partition(' ')[0]} … {name}"
        stage.layers += _blocks(child) if name.startswith("stage") else 1
        stage.channels, stage.side = x.shape[1], x.shape[2]
        _add(counted, stage, layers, last)
    with _layers(network.classifier) as layers:
        x = network.classifier(x)
    classifier = Stage("classifier", len(layers), x.shape[1], 1)
    counted.stages.append(classifier)
    _add(counted, classifier, layers, last)
    return counted


def _add(counted: Work, stage: Stage, layers: list[tuple[Any, int]], last: nn.Module) -> None:
    for layer, macs in layers:
        first = counted.macs == 0
        depthwise = isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1
        if first or depthwise or layer is last:
            counted.linear += macs
        stage.macs += macs


def _blocks(stage: nn.Module) -> int:
    """How many layers or blocks a stage has: its children that multiply."""
    return sum(
        any(isinstance(each, (nn.Conv2d, nn.Linear)) for each in child.modules())
        for child in stage.children()
    )


@contextmanager
def _layers(module: nn.Module) -> Iterator[list[tuple[Any, int]]]:
    """Gather the convolutions and linear layers that run in the block, in order, with their MACs."""
    found: list[tuple[Any, int]] = []

    def note(layer: Any, _: Any, output: Tensor) -> None:
        # Each value of the output is a sum over one filter.
        found.append((layer, output.numel() * layer.weight[0].numel()))

    inside = [each for each in module.modules() if isinstance(each, (nn.Conv2d, nn.Linear))]
    handles = [each.register_forward_hook(note) for each in inside]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
