"""AlexNet, the network that SqueezeNet is measured against.

"ImageNet Classification with Deep Convolutional Neural Networks" (Krizhevsky, Sutskever, Hinton, NIPS 2012).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from squeezekit.errors import UserError
from squeezekit.models.checks import choice, real
from squeezekit.models.network import Network, named
from squeezekit.models.registry import register

__all__ = ["alexnet"]


def _response_norm() -> nn.LocalResponseNorm:
    """Make the normalisation of section 3.3: k = 2, n = 5, α = 1e-4, β = 0.75 (torch divides α by n)."""
    return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)


class _Flatten6x6(nn.Module):
    """Lay the 6×6 maps out for fc6; say clearly when a picture of another size gave others."""

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2:] != (6, 6):
            raise UserError("alexnet: takes pictures of 227 x 227 pixels (for 28 to 96 pixels: stem=small)")
        return torch.flatten(x, 1)


@register(input_size=227, paper="NIPS 2012")
def alexnet(
    num_classes: int = 1000, in_channels: int = 3, *, stem: str = "standard", dropout: float = 0.5
) -> Network:
    """AlexNet as published, in two groups (figure 2, section 3.5): 60,965,224 parameters.

    The two groups are the paper's two GPUs: conv2, conv4 and conv5 see only the maps of their own GPU.

    Parameters
    ----------
    num_classes, in_channels
        See :func:`squeezekit.models.create_model`.
    stem
        ``"small"`` for pictures of 28 to 96 pixels: conv1 is 5×5 with stride 1 instead of 11×11 with stride 4
        (features of 1/8 of the picture's side instead of 1/32), and fc6 sees the average over the last maps
        instead of 6×6 positions, so that every size fits: 24,237,416 parameters. Made for 32 pixels.
    dropout
        Before fc6 and fc7 (section 4.2).

    Notes
    -----
    The paper's text says 224 × 224; its first layer's 55 × 55 outputs need 227. Initialisation
    as in section 5: weights from a normal distribution of deviation 0.01, biases 1 in conv2, conv4, conv5
    and the hidden fully connected layers, 0 elsewhere.
    """
    small = choice("stem", stem, ("standard", "small")) == "small"
    dropout = real("dropout", dropout, 0, 0.99)
    conv1 = nn.Conv2d(in_channels, 96, 5, padding=2) if small else nn.Conv2d(in_channels, 96, 11, stride=4)
    features = named(
        {
            "conv1": conv1,
            "relu1": nn.ReLU(inplace=True),
            "norm1": _response_norm(),
            "pool1": nn.MaxPool2d(3, 2),
            "conv2": nn.Conv2d(96, 256, 5, padding=2, groups=2),
            "relu2": nn.ReLU(inplace=True),
            "norm2": _response_norm(),
            "pool2": nn.MaxPool2d(3, 2),
            "conv3": nn.Conv2d(256, 384, 3, padding=1),
            "relu3": nn.ReLU(inplace=True),
            "conv4": nn.Conv2d(384, 384, 3, padding=1, groups=2),
            "relu4": nn.ReLU(inplace=True),
            "conv5": nn.Conv2d(384, 256, 3, padding=1, groups=2),
            "relu5": nn.ReLU(inplace=True),
            "pool5": nn.MaxPool2d(3, 2),
        }
    )
    flatten = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()) if small else _Flatten6x6()
    classifier = named(
        {
            "flatten": flatten,
            "dropout6": nn.Dropout(dropout),
            "fc6": nn.Linear(256 if small else 256 * 6 * 6, 4096),
            "relu6": nn.ReLU(inplace=True),
            "dropout7": nn.Dropout(dropout),
            "fc7": nn.Linear(4096, 4096),
            "relu7": nn.ReLU(inplace=True),
            "fc8": nn.Linear(4096, num_classes),
        }
    )
    network = Network(features, classifier, input_size=32 if small else 227)
    _initialise(network)
    return network


def _initialise(network: Network) -> None:
    if next(network.parameters()).is_meta:
        return  # shapes only: nothing to draw, and drawing would load a compiler first
    for name, module in network.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.constant_(module.bias, float(name.endswith(("conv2", "conv4", "conv5", "fc6", "fc7"))))  # type: ignore[arg-type]
