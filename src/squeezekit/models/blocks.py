"""What MobileNets and EfficientNets share: normalised convolutions, rounded widths, initialisation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import nn

from squeezekit.models.network import named

__all__ = ["ConvNorm", "Norm", "init_fan_out", "pool_and_classify", "round_channels", "scaled_repeats"]

Norm = Callable[[int], nn.Module]
"""Makes the normalisation of so many channels: ``nn.BatchNorm2d``, or a ``functools.partial`` of it."""


class ConvNorm(nn.Sequential):
    """Convolution without bias, batch normalisation, activation: padded so that stride 1 keeps the size.

    Parameters
    ----------
    in_channels, out_channels, kernel, stride, groups
        Of the convolution. ``groups=in_channels`` makes it depthwise.
    norm
        The normalisation.
    activation
        Class of the activation; None for a linear layer.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        norm: Norm = nn.BatchNorm2d,
        activation: type[nn.Module] | None = nn.ReLU,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride, padding=kernel // 2, groups=groups, bias=False
        )
        self.norm = norm(out_channels)
        if activation is not None:
            # SiLU's gradient needs its input, which in place would have to be copied first.
            self.activation = activation() if activation is nn.SiLU else activation(inplace=True)


def round_channels(channels: float, divisor: int = 8) -> int:
    """Round a scaled width to a multiple of `divisor`, but never down by more than a tenth.

    The rule of the authors' code for MobileNetV2 and EfficientNet; neither paper states it.

    Examples
    --------
    >>> round_channels(32 * 1.1), round_channels(18.0)
    (32, 24)
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * channels else rounded + divisor


def scaled_repeats(repeats: Sequence[int], depth_coefficient: float) -> list[int]:
    """Multiply the layers of each stage, so that their sum, too, is the multiple, to the nearest layer.

    Rounding each stage by itself errs the same way in all of them: EfficientNet rounds up, and at
    1.2 times the depth has 1.44 times the layers. Here it is the running sum that is rounded.

    Parameters
    ----------
    repeats
        Layers of each stage. A stage keeps at least one, if it has any.
    depth_coefficient
        The factor; 1 changes nothing.

    Examples
    --------
    >>> scaled_repeats([1, 2, 2, 3, 3, 4, 1], 1.2)  # 16 layers become 19
    [1, 3, 2, 4, 3, 5, 1]
    """
    scaled, before, done = [], 0, 0
    for count in repeats:
        before += count
        scaled.append(max(min(1, count), math.floor(before * depth_coefficient + 0.5) - done))
        done += scaled[-1]
    return scaled


def pool_and_classify(features: int, num_classes: int, dropout: float) -> nn.Sequential:
    """Make the closing layers: global average pooling, dropout, one fully connected layer."""
    return named(
        {
            "pool": nn.AdaptiveAvgPool2d(1),
            "flatten": nn.Flatten(),
            "dropout": nn.Dropout(dropout),
            "linear": nn.Linear(features, num_classes),
        }
    )


def init_fan_out(network: nn.Module) -> None:
    """Initialise the convolutions as the authors of MnasNet and EfficientNet do.

    Convolutions from a normal distribution of variance 2 / fan-out, where a depthwise convolution's fan-out
    is that of one channel; biases zero. The fully connected layer from one of deviation 0.01: the authors'
    uniform one within ± 1 / sqrt(classes) is meant for 1000 classes, and with few of them starts too sure.
    """
    if next(network.parameters()).is_meta:
        return  # shapes only: nothing to draw, and drawing would load a compiler first
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            height, width = module.kernel_size
            fan_out = height * width * module.out_channels // module.groups
            nn.init.normal_(module.weight, std=math.sqrt(2.0 / fan_out))
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
        if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
            nn.init.zeros_(module.bias)
