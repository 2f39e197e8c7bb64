"""MobileNet: "Efficient Convolutional Neural Networks for Mobile Vision Applications".

Howard et al., 2017, arXiv:1704.04861.

A standard convolution is split in two: one depthwise, which filters each channel by itself, and one 1×1
(pointwise), which combines them (section 3.1): 8 to 9 times less work than a 3×3 convolution (equation 5).
"""

from __future__ import annotations

from torch import nn

from squeezekit.models.blocks import ConvNorm, init_fan_out, pool_and_classify, scaled_repeats
from squeezekit.models.checks import choice, real
from squeezekit.models.network import Network, named
from squeezekit.models.registry import register

__all__ = ["DepthwiseSeparable", "mobilenet_v1"]

# Table 1: output channels, repetitions and stride of the first of the depthwise separable convolutions. The
# table writes stride 2 at the last depthwise layer too, but its sizes (7×7 in and out) are those of stride 1.
BODY = ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 6, 2), (1024, 2, 2))


class DepthwiseSeparable(nn.Sequential):
    """Depthwise 3×3 and pointwise 1×1 convolution, batch normalisation and ReLU after each (figure 3, right).

    Parameters
    ----------
    in_channels, out_channels
        Of the pair; the depthwise one keeps `in_channels`.
    stride
        Of the depthwise convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = ConvNorm(in_channels, in_channels, 3, stride=stride, groups=in_channels)
        self.pointwise = ConvNorm(in_channels, out_channels)


@register(input_size=224, paper="arXiv:1704.04861")
def mobilenet_v1(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    width_mult: float = 1.0,
    depth_coefficient: float = 1.0,
    resolution_mult: float = 1.0,
    stem: str = "standard",
    dropout: float = 0.001,
) -> Network:
    """MobileNet (table 1): 4,231,976 parameters; 2,585,560, 1,331,592 and 470,072 at α = 0.75, 0.5 and 0.25.

    Parameters
    ----------
    num_classes, in_channels
        See :func:`squeezekit.models.create_model`.
    width_mult
        α of section 3.3: every layer gets ``int(α · channels)`` channels, at least 8. Parameters and work
        shrink with about α².
    depth_coefficient
        Multiplies the blocks of each width (EfficientNet's d, arXiv:1905.11946; to the nearest block in all).
        Not in the paper.
    resolution_mult
        ρ of section 3.4: the input gets ``round(224 · ρ)`` pixels (the paper's 192, 160 and 128 are ρ = 6/7,
        5/7 and 4/7). The weights stay the same; ``network.input_size`` tells.
    stem
        ``"small"`` for pictures of 28 to 96 pixels: the first convolution and the first stride-2 block keep
        stride 1, so the features are 1/8 of the picture's side instead of 1/32. Made for 32 · ρ pixels.
    dropout
        Before the classifier. The paper names none; 0.001 is the authors' code.

    Notes
    -----
    ReLU as in the paper, section 3.2 (the authors' later code uses ReLU6).
    """
    alpha = real("width_mult", width_mult, 0.01, 16)
    depth = real("depth_coefficient", depth_coefficient, 0.01, 64)
    rho = real("resolution_mult", resolution_mult, 0.05, 16)
    small = choice("stem", stem, ("standard", "small")) == "small"
    dropout = real("dropout", dropout, 0, 0.99)

    def width(channels: int) -> int:
        return max(8, int(channels * alpha))

    layers: dict[str, nn.Module] = {"conv1": ConvNorm(in_channels, width(32), 3, stride=1 if small else 2)}
    channels = width(32)
    repeats = scaled_repeats([repetitions for _, repetitions, _ in BODY], depth)
    for (out_channels, _, first_stride), repetitions in zip(BODY, repeats, strict=True):
        if small and out_channels == 128:  # the first block of stride 2
            first_stride = 1
        for repetition in range(repetitions):
            stride = first_stride if repetition == 0 else 1
            layers[f"block{len(layers) + 1}"] = DepthwiseSeparable(channels, width(out_channels), stride)
            channels = width(out_channels)
    network = Network(
        named(layers),
        pool_and_classify(channels, num_classes, dropout),
        input_size=max(1, round((32 if small else 224) * rho)),
    )
    init_fan_out(network)
    return network
