"""A plain network of 3×3 convolutions, as VGG's, small and quick to train.

Simonyan & Zisserman, arXiv:1409.1556, section 2: stages of 3×3 convolutions, a 2×2 max pool between stages.
What makes it quick to train is Jordan's (arXiv:2404.00498, section 3): a first layer that whitens patches and
is not trained, filters that start as the identity, normalisations without a learned scale, and the largest
value of each map for the classifier. With more than two convolutions a stage, those after the first are
bypassed, as in that paper's larger networks (section 4) and in residual networks (arXiv:1512.03385).

It follows none of SqueezeNet's strategies, and so is what they are measured against.
"""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor, nn

from squeezekit.errors import UserError
from squeezekit.models.checks import choice, real, whole, wholes
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
    convs: int = 2,
    pools: tuple[int, ...] | None = None,
    stem: str = "standard",
    dropout: float = 0.0,
) -> Network:
    """Stages of 3×3 convolutions, from their widths.

    Parameters
    ----------
    num_classes, in_channels
        See :func:`squeezekit.models.create_model`.
    widths
        Filters of the convolutions of each stage.
    convs
        Convolutions of a stage. With three or more, what the first gives is added to what the last gives.
    pools
        Convolutions, counted from 1 through all stages, behind which the resolution is halved. None: the
        first of each stage.
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
    convs = whole("convs", convs, 1, 64)
    firsts = range(1, len(widths) * convs + 1, convs)
    pools = tuple(firsts) if pools is None else wholes("pools", pools, 1, len(widths) * convs)
    inside = [i for i in pools if convs > 2 and 1 < (i - 1) % convs + 1 < convs]
    if inside:
        raise UserError(f"pools={list(pools)}: convolution {inside[0]} is bypassed (a stage's first or last)")
    small = choice("stem", stem, ("standard", "small")) == "small"
    dropout = real("dropout", dropout, 0, 0.99)

    side, stride = (2, 1) if small else (4, 4)
    channels = 2 * in_channels * side**2  # each principal component of a patch, and its negative
    whiten = nn.Conv2d(in_channels, channels, side, stride, bias=False)
    whiten.weight.requires_grad_(False)
    features: dict[str, nn.Module] = {"whiten": whiten, "relu": nn.ReLU(inplace=True)}
    for i, width in enumerate(widths):
        within = {place - convs * i for place in pools}
        features[f"stage{i + 1}"] = Stage(channels, width, convs, within)
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


class Stage(nn.Module):
    """Convolutions of one width, each followed by a normalisation.

    Parameters
    ----------
    in_channels, width
        Channels that come in and go out.
    convs
        How many. Of three or more, those after the first are bypassed.
    pools
        Behind which of them, from 1, the resolution is halved; behind none that is bypassed but the last.
    """

    def __init__(self, in_channels: int, width: int, convs: int, pools: Collection[int]) -> None:
        super().__init__()
        self.convs, self.pools = convs, frozenset(pools)
        self.pool, self.relu = nn.MaxPool2d(2), nn.ReLU(inplace=True)
        for i in range(1, convs + 1):
            self.add_module(f"conv{i}", _conv3x3(in_channels if i == 1 else width, width))
            self.add_module(f"norm{i}", _norm(width))

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, width, H, W), halved as often as there are pools."""
        first = x
        for i in range(1, self.convs + 1):
            x = self.get_submodule(f"conv{i}")(x)
            bypassed = i == self.convs > 2
            # Before the normalisation there is less to do, and a scale of one makes no difference.
            if i in self.pools and not bypassed:
                x = self.pool(x)
            x = self.get_submodule(f"norm{i}")(x)
            x = self.relu(x + first if bypassed else x)
            if i in self.pools and bypassed:
                x = self.pool(x)
            first = x if i == 1 else first
        return x


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
