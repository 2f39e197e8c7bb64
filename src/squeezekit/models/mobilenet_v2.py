"""MobileNetV2: "Inverted Residuals and Linear Bottlenecks" (Sandler et al., 2018, arXiv:1801.04381).

Residuals connect the narrow ends of blocks that are wide in the middle, and the narrow ends are linear: a
ReLU there would throw away what few channels carry (section 3.2).
"""

from __future__ import annotations

from torch import nn

from squeezekit.models.blocks import (
    ConvNorm,
    init_fan_out,
    pool_and_classify,
    round_channels,
    scaled_repeats,
)
from squeezekit.models.checks import choice, real
from squeezekit.models.mbconv import MBConv
from squeezekit.models.network import Network, named
from squeezekit.models.registry import register

__all__ = ["mobilenet_v2"]

# Table 2: expansion t, output channels c, repetitions n, stride s of the first.
BODY = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


@register(input_size=224, paper="arXiv:1801.04381")
def mobilenet_v2(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    width_mult: float = 1.0,
    depth_coefficient: float = 1.0,
    stem: str = "standard",
    dropout: float = 0.2,
) -> Network:
    """MobileNetV2 (table 2): 3,504,872 parameters.

    Parameters
    ----------
    num_classes, in_channels
        See :func:`squeezekit.models.create_model`.
    width_mult
        Multiplier of all widths, rounded to multiples of 8. Below 1 the last convolution keeps its 1280
        channels (section 6.1).
    depth_coefficient
        Multiplies the bottlenecks of each line of table 2 (EfficientNet's d, arXiv:1905.11946; to the nearest
        bottleneck in all). Not in the paper.
    stem
        ``"small"`` for pictures of 28 to 96 pixels: the first convolution and the first stride-2 block keep
        stride 1, so the features are 1/8 of the picture's side instead of 1/32. Made for 32 pixels.
    dropout
        Before the classifier (the authors' code).
    """
    multiplier = real("width_mult", width_mult, 0.01, 16)
    depth = real("depth_coefficient", depth_coefficient, 0.01, 64)
    small = choice("stem", stem, ("standard", "small")) == "small"
    dropout = real("dropout", dropout, 0, 0.99)

    channels = round_channels(32 * multiplier)
    layers: dict[str, nn.Module] = {
        "conv1": ConvNorm(in_channels, channels, 3, stride=1 if small else 2, activation=nn.ReLU6)
    }
    repeats = scaled_repeats([repetitions for _, _, repetitions, _ in BODY], depth)
    for (expand_ratio, width, _, first_stride), repetitions in zip(BODY, repeats, strict=True):
        for repetition in range(repetitions):
            stride = first_stride if repetition == 0 else 1
            if small and width == 24:  # the first block of stride 2
                stride = 1
            out_channels = round_channels(width * multiplier)
            layers[f"bottleneck{len(layers)}"] = MBConv(
                channels,
                out_channels,
                stride=stride,
                expand_ratio=expand_ratio,
                se_ratio=0.0,
                activation=nn.ReLU6,
            )
            channels = out_channels
    last = round_channels(1280 * max(1.0, multiplier))
    layers["conv2"] = ConvNorm(channels, last, activation=nn.ReLU6)
    network = Network(
        named(layers), pool_and_classify(last, num_classes, dropout), input_size=32 if small else 224
    )
    init_fan_out(network)
    return network
