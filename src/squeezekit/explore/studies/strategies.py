"""SqueezeNet, section 3.1: its design strategies, each taken away by itself, and what later papers change.

Every network here is SqueezeNet with one thing exchanged. What takes a strategy away is named after it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from squeezekit.explore.design import Design
from squeezekit.explore.studies.baseline import squeezenet_baseline
from squeezekit.explore.studies.study import Claim, Plan, Setting, Study, Variant
from squeezekit.models import Fire, Network
from squeezekit.models.blocks import ConvNorm
from squeezekit.models.network import named

__all__ = [
    "STRATEGIES",
    "Module",
    "depthwise_separable",
    "fully_connected",
    "spatially_separable",
    "without_strategy_1",
    "without_strategy_1_in_squeeze",
    "without_strategy_2",
]


class Module(nn.Module):
    """In a Fire module's place: layers that squeeze, then layers that expand side by side.

    Parameters
    ----------
    squeeze
        (N, in, H, W) to (N, s, H, W); the identity does not squeeze.
    *expand
        Each (N, s, H, W) to (N, e, H, W); their outputs are concatenated.
    """

    def __init__(self, squeeze: nn.Module, *expand: nn.Module) -> None:
        super().__init__()
        self.squeeze = squeeze
        self.expand = nn.ModuleList(expand)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in, H, W) to (N, sum of e, H, W)."""
        squeezed = self.squeeze(x)
        return torch.cat([layer(squeezed) for layer in self.expand], dim=1)


def without_strategy_1(fire: Fire) -> Module:
    """Make all expand filters 3×3: strategy 1 replaces half of them by 1×1."""
    width, squeezed, e1x1, e3x3 = _widths(fire)
    return Module(ConvNorm(width, squeezed), ConvNorm(squeezed, e1x1 + e3x3, 3))


def without_strategy_1_in_squeeze(fire: Fire) -> Module:
    """Make the squeeze filters 3×3: strategy 1 has 1×1 ones there."""
    width, squeezed, e1x1, e3x3 = _widths(fire)
    return Module(ConvNorm(width, squeezed, 3), ConvNorm(squeezed, e1x1), ConvNorm(squeezed, e3x3, 3))


def without_strategy_2(fire: Fire) -> Module:
    """Leave the squeeze layer out: strategy 2 gives the 3×3 filters few input channels by it."""
    width, _, e1x1, e3x3 = _widths(fire)
    return Module(nn.Identity(), ConvNorm(width, e1x1), ConvNorm(width, e3x3, 3))


def depthwise_separable(fire: Fire) -> Module:
    """Make the 3×3 layer a depthwise 3×3 and a pointwise one (MobileNet, arXiv:1704.04861, section 3.1)."""
    width, squeezed, e1x1, e3x3 = _widths(fire)
    depthwise = ConvNorm(squeezed, squeezed, 3, groups=squeezed)
    separable = named({"depthwise": depthwise, "pointwise": ConvNorm(squeezed, e3x3)})
    return Module(ConvNorm(width, squeezed), ConvNorm(squeezed, e1x1), separable)


def spatially_separable(fire: Fire) -> Module:
    """Make the 3×3 layer a 3×1 and a 1×3 one (Szegedy et al., arXiv:1512.00567, section 3.2).

    The 3×1 layer keeps the squeezed channels: ``3 s² + 3 s e`` weights in place of ``9 s e``.
    """
    width, squeezed, e1x1, e3x3 = _widths(fire)
    separable = named(
        {
            "conv3x1": nn.Conv2d(squeezed, squeezed, (3, 1), padding=(1, 0), bias=False),
            "norm3x1": nn.BatchNorm2d(squeezed),
            "relu3x1": nn.ReLU(inplace=True),
            "conv1x3": nn.Conv2d(squeezed, e3x3, (1, 3), padding=(0, 1), bias=False),
            "norm1x3": nn.BatchNorm2d(e3x3),
            "relu1x3": nn.ReLU(inplace=True),
        }
    )
    return Module(ConvNorm(width, squeezed), ConvNorm(squeezed, e1x1), separable)


def _widths(fire: Fire) -> tuple[int, int, int, int]:
    """Return the channels of a Fire module: in, s1x1, e1x1, e3x3."""
    squeeze = fire.squeeze1x1
    return (
        squeeze.in_channels,
        squeeze.out_channels,
        fire.expand1x1.out_channels,
        fire.expand3x3.out_channels,
    )


def _exchanged(design: Design, exchange: Callable[[Fire], nn.Module]) -> Callable[[int, int], Network]:
    """Return a builder of the design with every Fire module exchanged."""

    def build(classes: int, channels: int) -> Network:
        network = design.build(classes, channels)
        for name, module in list(network.features.named_children()):
            if isinstance(module, Fire):
                network.features.set_submodule(name, _initialised(exchange(module)))
        network.config = {}  # no longer the network that it names
        return network

    return build


def fully_connected(design: Design) -> Callable[[int, int], Network]:
    """Return a builder of the design with fully connected layers in place of global average pooling.

    As in AlexNet the last maps are flattened; a layer as wide as they are deep, ReLU and dropout of one half
    come before the logits. (Lin et al., arXiv:1312.4400, section 3.2, pool instead, against overfitting.)
    """

    def build(classes: int, channels: int) -> Network:
        network = design.build(classes, channels)
        with torch.no_grad():
            where = next(network.parameters()).device
            maps = network.eval().features(torch.zeros(1, channels, design.size, design.size, device=where))
        network.train()
        depth, height, width = maps.shape[1:]
        classifier = {
            "grid": nn.AdaptiveAvgPool2d((height, width)),  # smaller pictures of early epochs: the same grid
            "flatten": nn.Flatten(),
            "fc1": nn.Linear(depth * height * width, depth),
            "relu": nn.ReLU(inplace=True),
            "dropout": nn.Dropout(0.5),
            "fc2": nn.Linear(depth, classes),
        }
        network.classifier = _initialised(named(classifier))
        network.config = {}  # no longer the network that it names
        return network

    return build


def _initialised(module: nn.Module) -> nn.Module:
    """Initialise as SqueezeNet with batch normalisation is: He et al.'s normal one."""
    for part in module.modules():
        if isinstance(part, (nn.Conv2d, nn.Linear)) and not part.weight.is_meta:
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    return module


def _strategies(setting: Setting) -> Plan:
    base = squeezenet_baseline(setting)
    early = squeezenet_baseline(setting, pools=(1, 2, 3))
    exchanges = (
        ("all expand filters 3×3", without_strategy_1),
        ("squeeze filters 3×3", without_strategy_1_in_squeeze),
        ("no squeeze layers", without_strategy_2),
    )
    lighter = (
        ("depthwise separable", depthwise_separable),
        ("spatially separable", spatially_separable),
    )
    whole = "SqueezeNet"
    variants = (
        Variant.of(whole, base, paper="57.5 % top-1, 4.8 MB"),
        *(Variant(name, _exchanged(base, each), setting.size) for name, each in exchanges),
        Variant.of("early downsampling", early),
        Variant("fully connected", fully_connected(base), setting.size),
        *(Variant(name, _exchanged(base, each), setting.size) for name, each in lighter),
    )
    claims = (
        Claim(
            "strategy 1: 1×1 filters in place of 3×3 save parameters",
            *("all expand filters 3×3", whole, "more", "bytes"),
        ),
        Claim("… and half of them cost no accuracy", "all expand filters 3×3", whole, "same"),
        Claim("… nor do 1×1 squeeze filters", "squeeze filters 3×3", whole, "same"),
        Claim(
            "strategy 2: squeeze layers save parameters",
            *("no squeeze layers", whole, "more", "bytes"),
        ),
        Claim(
            "… at some cost in accuracy (section 5.2: a wider squeeze layer is better)",
            *("no squeeze layers", whole, "more"),
        ),
        Claim(
            "strategy 3: late downsampling buys accuracy at equal parameters",
            *("early downsampling", whole, "less"),
        ),
        Claim(
            "global average pooling overfits less than fully connected layers (Lin et al., section 3.2)",
            *("fully connected", whole, "more", "gap"),
        ),
        Claim(
            "depthwise separable convolution costs accuracy (MobileNet, table 4: 71.7 % falls to 70.6 %)",
            *("depthwise separable", whole, "less"),
        ),
        Claim(
            "3×1 and 1×3 filters in place of 3×3 cost nothing (Szegedy et al., section 3.2)",
            *("spatially separable", whole, "same"),
        ),
    )
    return Plan(variants, claims)


STRATEGIES = Study(
    name="strategies",
    title="The design strategies, one at a time",
    source="SqueezeNet (arXiv:1602.07360), section 3.1; Network in Network (arXiv:1312.4400), section 3.2; "
    "MobileNet (arXiv:1704.04861), table 4",
    found="1×1 filters and squeeze layers save parameters, late downsampling and average pooling buy "
    "accuracy with the parameters that are left. The paper argues this, and measures the first two only.",
    figure="names",
    plan=_strategies,
)
