"""A plain network of 3×3 convolutions, as VGG's, small and quick to train.

Simonyan & Zisserman, arXiv:1409.1556, section 2: stages of 3×3 convolutions, a 2×2 max pool between stages.
What makes it quick to train is Jordan's (arXiv:2404.00498, section 3): a first layer that whitens patches and
is not trained, filters that start as the identity, normalisations without a learned scale, and the largest
value of each map for the classifier.

It follows none of SqueezeNet's strategies, and so is what they are measured against.
"""

from __future__ import annotations

from torch import nn

from squeezekit.errors import UserError
from squeezekit.models.checks import choice, real, wholes
from squeezekit.models.network import Network, named
from squeezekit.models.registry import register

__all__ = ["vgg"]

#: Statistics follow the last few batches: the weights move fast.
MOMENTUM = 0.4


@register(input_size=224, paper="arXiv:1409.1556, arXiv:2404.00498")
def vgg(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    widths: tuple[int, ...] = (64, 192, 192),
    stem: str = "standard",
    dropout: float = 0.0,
) -> Network:
    """Stages of two 3×3 convolutions, from their widths.

    Parameters
    ----------
    num_classes, in_channels
        See :func:`squeezekit.models.create_model`.
    widths
        Filters of the convolutions of each stage. A stage halves the resolution after its first one.
    stem
        ``"small"`` for pictures of 28 to 96 pixels: the first layer looks at patches of 2 × 2 with stride 1.
        ``"standard"``: patches of 4 × 4, side by side.
    dropout
        Before the classifier.

    Returns
    -------
    Network
        ``features.whiten``, ``features.stage1.conv1`` … ``classifier.linear``. The filters of ``whiten`` and
        the scales of the normalisations are not trained; :func:`squeezekit.train.fit.train` sets the former
        from the pictures.
    """
    widths = wholes("widths", widths, 1, 2**14)
    if not widths:
        raise UserError("widths=[]: expected the filters of at least one stage")
    small = choice("stem", stem, ("standard", "small")) == "small"
    dropout = real("dropout", dropout, 0, 0.99)

    side, stride = (2, 1) if small else (4, 4)
    channels = 2 * in_channels * side**2  # each principal component of a patch, and its negative
    whiten = nn.Conv2d(in_channels, channels, side, stride, bias=False)
    whiten.weight.requires_grad_(False)
    features: dict[str, nn.Module] = {"whiten": whiten, "relu": nn.ReLU(inplace=True)}
    for i, width in enumerate(widths):
        features[f"stage{i + 1}"] = named(
            {
                "conv1": _conv3x3(channels, width),
                "pool": nn.MaxPool2d(2),
                "norm1": _norm(width),
                "relu1": nn.ReLU(inplace=True),
                "conv2": _conv3x3(width, width),
                "norm2": _norm(width),
                "relu2": nn.ReLU(inplace=True),
            }
        )
        channels = width
    linear = nn.Linear(channels, num_classes, bias=False)
    if not linear.weight.is_meta:
        # Small logits at first: the paper divides them by nine (section 3.1).
        nn.init.uniform_(linear.weight, -1 / 9 * channels**-0.5, 1 / 9 * channels**-0.5)
    classifier: dict[str, nn.Module] = {
        "pool": nn.AdaptiveMaxPool2d(1),
        "flatten": nn.Flatten(),
        "dropout": nn.Dropout(dropout),
        "linear": linear,
    }
    return Network(named(features), named(classifier), input_size=32 if small else 224)


def _conv3x3(in_channels: int, out_channels: int) -> nn.Conv2d:
    """Filters of which the first pass their input on (section 3.3 of the paper: dirac initialisation)."""
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    if not conv.weight.is_meta:
        nn.init.dirac_(conv.weight.data[:in_channels])
    return conv


def _norm(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels, momentum=MOMENTUM)
    norm.weight.requires_grad_(False)
    return norm
