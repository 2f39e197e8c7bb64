"""EfficientNet: "Rethinking Model Scaling for Convolutional Neural Networks".

Tan and Le, 2019, arXiv:1905.11946.

A network grows best in all three directions at once (equation 3): depth α^φ, width β^φ, resolution γ^φ,
with α · β² · γ² ≈ 2, so that φ + 1 costs twice the work. Section 4 finds α = 1.2, β = 1.1, γ = 1.15 for the
base B0.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from torch import nn

from squeezekit.errors import UserError
from squeezekit.models.blocks import (
    ConvNorm,
    init_fan_out,
    pool_and_classify,
    round_channels,
    scaled_repeats,
)
from squeezekit.models.checks import choice, real, whole
from squeezekit.models.mbconv import MBConv
from squeezekit.models.network import Network, named
from squeezekit.models.registry import register

__all__ = [
    "PUBLISHED",
    "compound_scaling",
    "efficientnet",
    "efficientnet_b0",
    "efficientnet_b1",
    "efficientnet_b2",
    "efficientnet_b3",
    "efficientnet_b4",
    "efficientnet_b5",
    "efficientnet_b6",
    "efficientnet_b7",
    "stage_layers",
]

_PAPER = "arXiv:1905.11946"

# Table 1, stages 2 to 8: expansion, kernel, stride of the first layer, channels, layers.
BODY = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)


def compound_scaling(
    phi: float, *, alpha: float = 1.2, beta: float = 1.1, gamma: float = 1.15
) -> tuple[float, float, int]:
    """Scale B0 by equation 3.

    Parameters
    ----------
    phi
        The compound coefficient φ: 0 is B0, each step more doubles the work. Fractions and negative ones
        are fine.
    alpha, beta, gamma
        Bases of depth, width and resolution (section 4, step 1).

    Returns
    -------
    width_coefficient : float
    depth_coefficient : float
    resolution : int
        In pixels.

    Examples
    --------
    >>> width, depth, resolution = compound_scaling(1)
    >>> round(width, 2), round(depth, 2), resolution
    (1.1, 1.2, 258)
    """
    real("phi", phi, -20, 20)
    for name, base in (("alpha", alpha), ("beta", beta), ("gamma", gamma)):
        real(name, base, 1, 4)
    return beta**phi, alpha**phi, max(1, round(224 * gamma**phi))


def stage_layers(depth_coefficient: float, depth_rounding: str = "up") -> list[int]:
    """Count the layers of stages 2 to 8; parameters as for :func:`efficientnet`.

    Examples
    --------
    >>> stage_layers(1.2), stage_layers(1.2, "nearest")
    ([2, 3, 3, 4, 4, 5, 2], [1, 3, 2, 4, 3, 5, 1])
    """
    layers = [each[-1] for each in BODY]
    if depth_rounding == "nearest":
        return scaled_repeats(layers, depth_coefficient)
    return [math.ceil(depth_coefficient * each) for each in layers]


@register(input_size=224, paper=_PAPER)
def efficientnet(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    width_coefficient: float = 1.0,
    depth_coefficient: float = 1.0,
    resolution: int = 224,
    phi: float | None = None,
    alpha: float = 1.2,
    beta: float = 1.1,
    gamma: float = 1.15,
    depth_rounding: str = "up",
    se_ratio: float = 0.25,
    stem: str = "standard",
    dropout: float = 0.2,
    stochastic_depth: float = 0.2,
    norm_eps: float = 1e-5,
    norm_momentum: float = 0.1,
) -> Network:
    """EfficientNet from its three coefficients, or from φ; the defaults are B0 (table 1).

    Parameters
    ----------
    num_classes, in_channels
        See :func:`squeezekit.models.create_model`.
    width_coefficient
        Multiplies all channels (rounded to multiples of 8).
    depth_coefficient
        Multiplies the layers of each stage (rounded as `depth_rounding` says).
    resolution
        Side of the input in pixels. No weight depends on it; ``network.input_size`` tells.
    phi
        Instead of the three: φ of :func:`compound_scaling`, with bases `alpha`, `beta` and `gamma`.
    depth_rounding
        ``"up"`` in each stage, as the authors; ``"nearest"`` in all of them together, which can also scale
        down.
    se_ratio
        Squeezed channels of the squeeze-and-excitation over a block's input channels; 0 leaves it out.
    stem
        ``"small"`` for pictures of 28 to 96 pixels: the first convolution and the first stride-2 block keep
        stride 1, so the features are 1/8 of the picture's side instead of 1/32. Made for 32/224 of
        `resolution`.
    dropout
        Before the classifier.
    stochastic_depth
        Drop probability behind the last block; it grows linearly from 0 at the first.
    norm_eps, norm_momentum
        Of the batch normalisations (momentum as torch counts it).

    Notes
    -----
    The published coefficients of B1 to B7 are rounded, and not powers of whole φ. Equation 3
    gives, where width and resolution are nearest:

    =====  =====================================  ======  =================================
    name   published width, depth, resolution     φ       equation 3
    =====  =====================================  ======  =================================
    B1     1.0, 1.1, 240                          0.5     1.05, 1.10, 240
    B2     1.1, 1.2, 260                          1       1.10, 1.20, 258
    B3     1.2, 1.4, 300                          2       1.21, 1.44, 296
    B4     1.4, 1.8, 380                          3.5     1.40, 1.89, 365
    B5     1.6, 2.2, 456                          5       1.61, 2.49, 451
    B6     1.8, 2.6, 528                          6       1.77, 2.99, 518
    B7     2.0, 3.1, 600                          7       1.95, 3.58, 596
    =====  =====================================  ======  =================================

    Convolutions are padded alike on both sides, as in PyTorch; TensorFlow's "same" pads more on the right.
    """
    if phi is not None:
        if (width_coefficient, depth_coefficient, resolution) != (1.0, 1.0, 224):
            raise UserError(
                f"phi={phi!r}: give either phi, or width_coefficient, depth_coefficient and resolution"
            )
        width_coefficient, depth_coefficient, resolution = compound_scaling(
            phi, alpha=alpha, beta=beta, gamma=gamma
        )
    real("width_coefficient", width_coefficient, 0.01, 64)
    real("depth_coefficient", depth_coefficient, 0.01, 64)
    whole("resolution", resolution, 1, 2**14)
    choice("depth_rounding", depth_rounding, ("up", "nearest"))
    real("se_ratio", se_ratio, 0, 1)
    small = choice("stem", stem, ("standard", "small")) == "small"
    dropout = real("dropout", dropout, 0, 0.99)
    real("stochastic_depth", stochastic_depth, 0, 0.99)
    norm = functools.partial(
        nn.BatchNorm2d,
        eps=real("norm_eps", norm_eps, 1e-12, 1),
        momentum=real("norm_momentum", norm_momentum, 0, 1),
    )

    channels = round_channels(32 * width_coefficient)
    features: dict[str, nn.Module] = {
        "stage1": ConvNorm(in_channels, channels, 3, stride=1 if small else 2, norm=norm, activation=nn.SiLU)
    }
    depths = stage_layers(depth_coefficient, depth_rounding)
    block = 0
    for stage, ((expand_ratio, kernel, stride, width, _), depth) in enumerate(
        zip(BODY, depths, strict=True), 2
    ):
        out_channels = round_channels(width * width_coefficient)
        first_stride = 1 if small and stage == 3 else stride
        blocks = []
        for layer in range(depth):
            blocks.append(
                MBConv(
                    channels,
                    out_channels,
                    kernel=kernel,
                    stride=first_stride if layer == 0 else 1,
                    expand_ratio=expand_ratio,
                    se_ratio=se_ratio,
                    drop=stochastic_depth * block / sum(depths),
                    norm=norm,
                )
            )
            channels = out_channels
            block += 1
        features[f"stage{stage}"] = nn.Sequential(*blocks)
    last = 4 * channels  # 1280 of B0's 320
    features["stage9"] = ConvNorm(channels, last, norm=norm, activation=nn.SiLU)

    network = Network(
        named(features),
        pool_and_classify(last, num_classes, dropout),
        input_size=max(1, round(resolution * 32 / 224)) if small else resolution,
    )
    init_fan_out(network)
    return network


PUBLISHED: dict[str, dict[str, Any]] = {}
"""The authors' networks, each as the metaparameters that make it of :func:`efficientnet`."""


def _published(
    name: str,
    width_coefficient: float,
    depth_coefficient: float,
    resolution: int,
    dropout: float,
    parameters: int,
    norm_eps: float = 1e-5,
    norm_momentum: float = 0.1,
) -> Callable[..., Network]:
    """Make the builder of one of the authors' networks, by the coefficients of their code."""
    rate = dropout
    PUBLISHED[name] = {
        "width_coefficient": width_coefficient,
        "depth_coefficient": depth_coefficient,
        "resolution": resolution,
        "dropout": dropout,
        "norm_eps": norm_eps,
        "norm_momentum": norm_momentum,
    }

    def builder(
        num_classes: int = 1000,
        in_channels: int = 3,
        *,
        stem: str = "standard",
        dropout: float = rate,
        stochastic_depth: float = 0.2,
    ) -> Network:
        return efficientnet(
            num_classes,
            in_channels,
            width_coefficient=width_coefficient,
            depth_coefficient=depth_coefficient,
            resolution=resolution,
            stem=stem,
            dropout=dropout,
            stochastic_depth=stochastic_depth,
            norm_eps=norm_eps,
            norm_momentum=norm_momentum,
        )

    builder.__name__ = builder.__qualname__ = name
    builder.__doc__ = (
        f"EfficientNet-{name[-2:].upper()} (width {width_coefficient}, depth {depth_coefficient}, "
        f"{resolution} pixels): {parameters:,} parameters.\n\nParameters: see :func:`efficientnet`."
    )
    return register(input_size=resolution, paper=_PAPER)(builder)


# The published weights of B5 to B7 need batch normalisation as in the authors' code: eps 1e-3, momentum 0.01.
# Columns: width, depth, pixels, dropout, parameters.
efficientnet_b0 = _published("efficientnet_b0", 1.0, 1.0, 224, 0.2, 5_288_548)
efficientnet_b1 = _published("efficientnet_b1", 1.0, 1.1, 240, 0.2, 7_794_184)
efficientnet_b2 = _published("efficientnet_b2", 1.1, 1.2, 260, 0.3, 9_109_994)
efficientnet_b3 = _published("efficientnet_b3", 1.2, 1.4, 300, 0.3, 12_233_232)
efficientnet_b4 = _published("efficientnet_b4", 1.4, 1.8, 380, 0.4, 19_341_616)
efficientnet_b5 = _published("efficientnet_b5", 1.6, 2.2, 456, 0.4, 30_389_784, 1e-3, 0.01)
efficientnet_b6 = _published("efficientnet_b6", 1.8, 2.6, 528, 0.5, 43_040_704, 1e-3, 0.01)
efficientnet_b7 = _published("efficientnet_b7", 2.0, 3.1, 600, 0.5, 66_347_960, 1e-3, 0.01)
