"""AlexNet, the network that SqueezeNet is measured against.

"ImageNet Classification with Deep Convolutional Neural Networks" (Krizhevsky, Sutskever, Hinton, NIPS 2012).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from squeezekit.errors import UserError
from squeezekit.models.blocks import round_channels, scaled_repeats
from squeezekit.models.checks import choice, real, whole
from squeezekit.models.network import Network, named
from squeezekit.models.registry import register

__all__ = ["alexnet"]


def _response_norm() -> nn.LocalResponseNorm:
    """Make the normalisation of section 3.3: k = 2, n = 5, α = 1e-4, β = 0.75 (torch divides α by n)."""
    return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)


class _Flatten(nn.Module):
    """Lay the last maps out for fc6; say clearly when a picture of another size gave others."""

    def __init__(self, side: int, resolution: int) -> None:
        super().__init__()
        self.side, self.resolution = side, resolution

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2:] != (self.side, self.side):
            made_for = f"{self.resolution} x {self.resolution}"
            raise UserError(f"alexnet: takes pictures of {made_for} pixels (for 28 to 96 pixels: stem=small)")
        return torch.flatten(x, 1)


@register(input_size=227, paper="NIPS 2012")
def alexnet(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    width_coefficient: float = 1.0,
    depth_coefficient: float = 1.0,
    resolution: int = 227,
    stem: str = "standard",
    dropout: float = 0.5,
) -> Network:
    """AlexNet as published, in two groups (figure 2, section 3.5): 60,965,224 parameters.

    The two groups are the paper's two GPUs: conv2, conv4 and conv5 see only the maps of their own GPU.

    Parameters
    ----------
    num_classes, in_channels
        See :func:`squeezekit.models.create_model`.
    width_coefficient
        Multiplies all filters and the width of fc6 and fc7 (EfficientNet's w, arXiv:1905.11946; rounded to
        multiples of 8).
    depth_coefficient
        Multiplies conv2 to conv5 (EfficientNet's d; to the nearest layer in all): conv4_2 repeats conv4.
    resolution
        Side of the pictures in pixels, at least 67: fc6 sees every position of the last maps.
    stem
        ``"small"`` for pictures of 28 to 96 pixels: conv1 is 5×5 with stride 1 instead of 11×11 with stride 4
        (features of 1/8 of the picture's side instead of 1/32), and fc6 sees the average over the last maps
        instead of 6×6 positions, so that every size fits: 24,237,416 parameters. Made for
        32/227 of `resolution`.
    dropout
        Before fc6 and fc7 (section 4.2).

    Notes
    -----
    The paper's text says 224 × 224; its first layer's 55 × 55 outputs need 227. Initialisation
    as in section 5: weights from a normal distribution of deviation 0.01, biases 1 in conv2, conv4, conv5
    and the hidden fully connected layers, 0 elsewhere.
    """
    width = real("width_coefficient", width_coefficient, 0.01, 64)
    depth = real("depth_coefficient", depth_coefficient, 0.01, 64)
    whole("resolution", resolution, 67, 2**14)
    small = choice("stem", stem, ("standard", "small")) == "small"
    dropout = real("dropout", dropout, 0, 0.99)

    conv1, conv2, conv3, conv4, conv5 = (round_channels(width * each) for each in (96, 256, 384, 384, 256))
    features: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(in_channels, conv1, 5, padding=2)
        if small
        else nn.Conv2d(in_channels, conv1, 11, stride=4),
        "relu1": nn.ReLU(inplace=True),
        "norm1": _response_norm(),
        "pool1": nn.MaxPool2d(3, 2),
    }
    channels = conv1

    def convolve(name: str, filters: int, kernel: int, groups: int) -> None:
        """Append a layer under its name, or, if it repeats one, that name with its number."""
        nonlocal channels
        times = 1 + sum(each.partition("_")[0] == f"conv{name}" for each in features)
        name = name if times == 1 else f"{name}_{times}"
        features[f"conv{name}"] = nn.Conv2d(channels, filters, kernel, padding=kernel // 2, groups=groups)
        features[f"relu{name}"] = nn.ReLU(inplace=True)
        channels = filters

    second, last = scaled_repeats([1, 3], depth)
    for _ in range(second):
        convolve("2", conv2, 5, 2)
    features["norm2"] = _response_norm()
    features["pool2"] = nn.MaxPool2d(3, 2)
    body = (("3", conv3, 1), ("4", conv4, 2), ("5", conv5, 2))
    for i in range(last):
        name, filters, groups = body[(2 * i + 1) * 3 // (2 * last)] if last > 1 else body[2]
        convolve(name, filters, 3, groups)
    features["pool5"] = nn.MaxPool2d(3, 2)

    side = 1 if small else _last_side(resolution)
    fc = round_channels(width * 4096)
    classifier = named(
        {
            "flatten": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
            if small
            else _Flatten(side, resolution),
            "dropout6": nn.Dropout(dropout),
            "fc6": nn.Linear(channels * side**2, fc),
            "relu6": nn.ReLU(inplace=True),
            "dropout7": nn.Dropout(dropout),
            "fc7": nn.Linear(fc, fc),
            "relu7": nn.ReLU(inplace=True),
            "fc8": nn.Linear(fc, num_classes),
        }
    )
    input_size = round(resolution * 32 / 227) if small else resolution
    network = Network(named(features), classifier, input_size=input_size)
    _initialise(network)
    return network


def _last_side(resolution: int) -> int:
    """Side of the maps that fc6 sees: 6 at 227 pixels."""
    side = (resolution - 11) // 4 + 1
    for _ in range(3):
        side = (side - 3) // 2 + 1
    return side


def _initialise(network: Network) -> None:
    if next(network.parameters()).is_meta:
        return  # shapes only: nothing to draw, and drawing would load a compiler first
    for name, module in network.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.normal_(module.weight, std=0.01)
            ones = ("conv2", "conv4", "conv5", "fc6", "fc7")
            nn.init.constant_(module.bias, float(name.partition("_")[0].endswith(ones)))  # type: ignore[arg-type]
