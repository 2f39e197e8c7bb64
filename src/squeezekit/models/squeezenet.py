"""SqueezeNet: "AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size".

Iandola et al., 2016, arXiv:1602.07360.

Three strategies (section 3.1): replace 3×3 filters by 1×1 ones; give the 3×3 filters fewer input channels, by
squeeze layers; and shrink the maps late, so that most layers see large ones.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from squeezekit.errors import UserError
from squeezekit.models.blocks import scaled_repeats
from squeezekit.models.checks import choice, flag, real, whole, wholes
from squeezekit.models.network import Network, named
from squeezekit.models.registry import register

__all__ = [
    "Fire",
    "squeezenet",
    "squeezenet1_0",
    "squeezenet1_0_complex_bypass",
    "squeezenet1_0_simple_bypass",
    "squeezenet1_1",
    "stretched",
]

_PAPER = "arXiv:1602.07360"


class Fire(nn.Module):
    """The Fire module (section 3.2, figure 1): squeeze to few channels, expand by 1×1 and 3×3 side by side.

    Parameters
    ----------
    in_channels
        Channels of the input.
    s1x1
        1×1 filters of the squeeze layer.
    e1x1, e3x3
        1×1 and 3×3 filters of the expand layer. The output has ``e1x1 + e3x3`` channels, the 1×1 ones first.
    norm
        Batch normalisation after each convolution, which then has no bias. Not in the paper.
    bypass
        What the module's output is added to is ``bypass(x)`` (section 6): ``nn.Identity()`` or a 1×1
        convolution. None adds nothing.

    Examples
    --------
    >>> fire2 = Fire(96, 16, 64, 64)  # table 1
    >>> fire2(torch.zeros(1, 96, 55, 55)).shape
    torch.Size([1, 128, 55, 55])
    """

    def __init__(
        self,
        in_channels: int,
        s1x1: int,
        e1x1: int,
        e3x3: int,
        *,
        norm: bool = False,
        bypass: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.squeeze1x1 = nn.Conv2d(in_channels, s1x1, 1, bias=not norm)
        self.expand1x1 = nn.Conv2d(s1x1, e1x1, 1, bias=not norm)
        self.expand3x3 = nn.Conv2d(s1x1, e3x3, 3, padding=1, bias=not norm)
        self.squeeze1x1_norm = _norm(s1x1, norm)
        self.expand1x1_norm = _norm(e1x1, norm)
        self.expand3x3_norm = _norm(e3x3, norm)
        self.relu = nn.ReLU(inplace=True)
        self.bypass = bypass

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, e1x1 + e3x3, H, W)."""
        squeezed = self.relu(self.squeeze1x1_norm(self.squeeze1x1(x)))
        # ReLU before the concatenation, not one after it: the same numbers, but the gradient that reaches
        # each batch normalisation is then contiguous. With norm, bfloat16 and channels-last a step takes
        # half the time.
        expanded = torch.cat(
            [
                self.relu(self.expand1x1_norm(self.expand1x1(squeezed))),
                self.relu(self.expand3x3_norm(self.expand3x3(squeezed))),
            ],
            dim=1,
        )
        return expanded if self.bypass is None else expanded + self.bypass(x)


def _norm(channels: int, norm: bool) -> nn.Module:
    return nn.BatchNorm2d(channels) if norm else nn.Identity()


@register(input_size=224, paper=_PAPER)
def squeezenet(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    base_e: int = 128,
    incr_e: int = 128,
    freq: int = 2,
    pct_3x3: float = 0.5,
    squeeze_ratio: float = 0.125,
    bypass: str = "none",
    fires: int = 8,
    pools: tuple[int, ...] = (1, 4, 8),
    conv1_channels: int = 96,
    conv1_kernel: int = 7,
    width_coefficient: float = 1.0,
    depth_coefficient: float = 1.0,
    stem: str = "standard",
    norm: bool = False,
    dropout: float = 0.5,
) -> Network:
    """SqueezeNet from the metaparameters of section 5.1; the defaults are SqueezeNet v1.0.

    Fire module i (from 0) expands to ``e_i = base_e + incr_e · floor(i / freq)`` filters, of which the share
    `pct_3x3` is 3×3, after a squeeze layer of ``squeeze_ratio · e_i`` filters.

    Parameters
    ----------
    num_classes, in_channels
        See :func:`squeezekit.models.create_model`.
    base_e
        Expand filters of the first Fire module.
    incr_e
        How many more there are after every `freq` modules.
    freq
        Modules between two increments.
    pct_3x3
        Share of 3×3 filters in the expand layer, between 0 and 1 (section 5.3; rounded, at least one of
        each).
    squeeze_ratio
        Squeeze filters over expand filters (SR, section 5.2; rounded, at least one).
    bypass
        ``"none"``; ``"simple"``: modules with as many channels in as out also add their input;
        ``"complex"``: the others add a 1×1 convolution of it (section 6, figure 2).
    fires
        Number of Fire modules.
    pools
        Layers after which a 3×3 max pool with stride 2 follows: 1 is conv1, 2 is fire2, and so on. Incomplete
        windows at the border count (Caffe's ``ceil``).
    conv1_channels, conv1_kernel
        Filters of conv1 and their side; its stride is 2.
    width_coefficient
        Multiplies the filters of conv1 and of the expand layers (EfficientNet's w, arXiv:1905.11946).
    depth_coefficient
        Multiplies the Fire modules between two pools (EfficientNet's d; to the nearest module in all). Those
        of a scaled network take the widths that lie at the same share of the way.
    stem
        ``"small"`` for pictures of 28 to 96 pixels: conv1 is 3×3 with stride 1 and keeps the size, so the
        features are 1/8 of the picture's side instead of 1/16 (strategy 3: shrink late). Made for 32
        pixels.
    norm
        Batch normalisation after every convolution but conv10, and no ReLU after conv10. Off in the paper;
        it is what makes training from scratch quick and safe.
    dropout
        Before conv10 (section 3.3).

    Returns
    -------
    Network
        With layers named as in the paper: ``features.fire2.squeeze1x1`` … ``classifier.conv10``.

    Notes
    -----
    Initialised as the authors' Caffe files: uniform within ± sqrt(3 / fan-in), conv10 normal
    with deviation 0.01, biases zero. With `norm`: He et al.'s normal initialisation, conv10 as before.

    Table 1 starts from 224 × 224 pictures; the 111 × 111 maps it draws after conv1 need 227, which is what
    the released Caffe networks crop.
    """
    whole("base_e", base_e, 2, 2**14)
    whole("incr_e", incr_e, 0, 2**14)
    whole("freq", freq, 1, 2**14)
    real("pct_3x3", pct_3x3, 0, 1, ends=False)
    real("squeeze_ratio", squeeze_ratio, 1e-4, 16)
    choice("bypass", bypass, ("none", "simple", "complex"))
    whole("fires", fires, 1, 256)
    pools = wholes("pools", pools, 1, fires + 1)
    if len(set(pools)) != len(pools):
        raise UserError(f"pools={list(pools)}: expected each layer once")
    whole("conv1_channels", conv1_channels, 1, 2**14)
    whole("conv1_kernel", conv1_kernel, 1, 31)
    width = real("width_coefficient", width_coefficient, 0.01, 64)
    real("depth_coefficient", depth_coefficient, 0.01, 64)
    small = choice("stem", stem, ("standard", "small")) == "small"
    flag("norm", norm)
    dropout = real("dropout", dropout, 0, 0.99)

    conv1_channels = max(1, round(width * conv1_channels))
    places, pools = stretched(fires, pools, depth_coefficient)
    features: dict[str, nn.Module] = {}

    def pool_after(layer: int) -> None:
        if layer in pools:
            features[f"pool{layer}"] = nn.MaxPool2d(3, 2, ceil_mode=True)

    if small:
        features["conv1"] = nn.Conv2d(in_channels, conv1_channels, 3, padding=1, bias=not norm)
    else:
        features["conv1"] = nn.Conv2d(in_channels, conv1_channels, conv1_kernel, stride=2, bias=not norm)
    if norm:
        features["norm1"] = nn.BatchNorm2d(conv1_channels)
    features["relu1"] = nn.ReLU(inplace=True)
    pool_after(1)

    channels = conv1_channels
    for layer, i in enumerate(places, start=2):
        expand = max(2, round(width * (base_e + incr_e * (i // freq))))
        e3x3 = min(max(round(pct_3x3 * expand), 1), expand - 1)
        s1x1 = max(round(squeeze_ratio * expand), 1)
        features[f"fire{layer}"] = Fire(
            channels,
            s1x1,
            expand - e3x3,
            e3x3,
            norm=norm,
            bypass=_bypass(bypass, channels, expand, norm),
        )
        pool_after(layer)
        channels = expand

    classifier: dict[str, nn.Module] = {
        "dropout": nn.Dropout(dropout),
        "conv10": nn.Conv2d(channels, num_classes, 1),
    }
    if not norm:
        classifier["relu10"] = nn.ReLU(inplace=True)
    classifier["pool10"] = nn.AdaptiveAvgPool2d(1)
    classifier["flatten"] = nn.Flatten()

    network = Network(named(features), named(classifier), input_size=32 if small else 224)
    _initialise(network, norm)
    return network


def stretched(fires: int, pools: tuple[int, ...], depth: float) -> tuple[list[int], tuple[int, ...]]:
    """Scale the number of Fire modules.

    Returns
    -------
    places : list of int
        For each Fire module, the one of the unscaled network whose place it takes, from 0.
    pools : tuple of int
        Layers of the scaled network after which a pool follows.
    """
    ends = sorted({layer - 1 for layer in pools} | {0, fires})  # of the modules between two pools
    counts = scaled_repeats([end - start for start, end in pairwise(ends)], depth)
    places: list[int] = []
    moved = {0: 0}
    for (start, end), count in zip(pairwise(ends), counts, strict=True):
        places += [start + (2 * i + 1) * (end - start) // (2 * count) for i in range(count)]
        moved[end] = len(places)
    return places, tuple(moved[layer - 1] + 1 for layer in pools)


def _bypass(kind: str, in_channels: int, out_channels: int, norm: bool) -> nn.Module | None:
    """Choose what goes around a Fire module (section 6)."""
    if kind == "none":
        return None
    if in_channels == out_channels:
        return nn.Identity()
    if kind == "simple":
        return None
    conv1x1 = nn.Conv2d(in_channels, out_channels, 1, bias=not norm)
    return named({"conv1x1": conv1x1, "norm": nn.BatchNorm2d(out_channels)}) if norm else conv1x1


def _initialise(network: Network, norm: bool) -> None:
    if next(network.parameters()).is_meta:
        return  # shapes only: nothing to draw, and drawing would load a compiler first
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            if name == "classifier.conv10":
                nn.init.normal_(module.weight, std=0.01)
            elif norm:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            else:
                bound = math.sqrt(3 / module.weight[0].numel())  # Caffe's "xavier" looks at the fan-in alone
                nn.init.uniform_(module.weight, -bound, bound)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


@register(input_size=224, paper=_PAPER)
def squeezenet1_0(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    width_coefficient: float = 1.0,
    depth_coefficient: float = 1.0,
    stem: str = "standard",
    norm: bool = False,
    dropout: float = 0.5,
) -> Network:
    """SqueezeNet v1.0, the paper's (table 1): 1,248,424 parameters.

    Parameters: see :func:`squeezenet`.
    """
    return squeezenet(
        num_classes,
        in_channels,
        width_coefficient=width_coefficient,
        depth_coefficient=depth_coefficient,
        stem=stem,
        norm=norm,
        dropout=dropout,
    )


@register(input_size=224, paper=_PAPER)
def squeezenet1_0_simple_bypass(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    width_coefficient: float = 1.0,
    depth_coefficient: float = 1.0,
    stem: str = "standard",
    norm: bool = False,
    dropout: float = 0.5,
) -> Network:
    """SqueezeNet v1.0 with bypasses around fire3, 5, 7 and 9 (figure 2 middle): 1,248,424 parameters.

    The best of table 3: 60.4 % top-1 against 57.5 % without, for no parameter more.

    Parameters: see :func:`squeezenet`.
    """
    return squeezenet(
        num_classes,
        in_channels,
        bypass="simple",
        width_coefficient=width_coefficient,
        depth_coefficient=depth_coefficient,
        stem=stem,
        norm=norm,
        dropout=dropout,
    )


@register(input_size=224, paper=_PAPER)
def squeezenet1_0_complex_bypass(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    width_coefficient: float = 1.0,
    depth_coefficient: float = 1.0,
    stem: str = "standard",
    norm: bool = False,
    dropout: float = 0.5,
) -> Network:
    """SqueezeNet v1.0 with 1×1 convolutions around fire2, 4, 6, 8 (figure 2 right): 1,589,672 parameters.

    Parameters: see :func:`squeezenet`.

    Notes
    -----
    How this relates to the 7.7 MB of table 3. The table counts MB of 2^20 bytes: v1.0's
    1,248,424 float32 parameters are 4.76 of them, printed as 4.8. The four 1×1 convolutions that section 6
    describes (one wherever the channels differ) add 339,968 weights and 1,280 biases, and make 6.06 MB, not
    7.7. What else was tried:

    ====================================================  ==========  =======
    1×1 convolutions (with bias) around                   parameters  2^20 B
    ====================================================  ==========  =======
    fire2, 4, 6, 8: the text and the figure               1,589,672   6.06
    the same without biases                               1,588,392   6.06
    all eight modules, the equal-width ones too           2,082,472   7.94
    all but fire9 (no bypass after the last pool)         1,819,816   6.94
    all but fire5                                         2,016,680   7.69
    fire5, 6, 7, 8, 9                                     2,020,520   7.71
    ====================================================  ==========  =======

    Only choices without a principle come to 7.7, and counting MB of 10^6 bytes brings no better one. The
    authors published no file of this network, so what the 7.7 MB hold stays open; this builder follows the
    text.
    """
    return squeezenet(
        num_classes,
        in_channels,
        bypass="complex",
        width_coefficient=width_coefficient,
        depth_coefficient=depth_coefficient,
        stem=stem,
        norm=norm,
        dropout=dropout,
    )


@register(input_size=224, paper="github.com/forresti/SqueezeNet, SqueezeNet_v1.1")
def squeezenet1_1(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    width_coefficient: float = 1.0,
    depth_coefficient: float = 1.0,
    stem: str = "standard",
    norm: bool = False,
    dropout: float = 0.5,
) -> Network:
    """SqueezeNet v1.1, the authors' later release: 1,235,496 parameters.

    v1.0's accuracy for 2.4 times less work:
    conv1 has 64 filters of 3×3 instead of 96 of 7×7, and the pools follow conv1, fire3 and fire5.

    Parameters: see :func:`squeezenet`.
    """
    return squeezenet(
        num_classes,
        in_channels,
        pools=(1, 3, 5),
        conv1_channels=64,
        conv1_kernel=3,
        width_coefficient=width_coefficient,
        depth_coefficient=depth_coefficient,
        stem=stem,
        norm=norm,
        dropout=dropout,
    )
