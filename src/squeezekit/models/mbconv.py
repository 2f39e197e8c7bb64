"""MBConv, the mobile inverted bottleneck.

Of MobileNetV2 (arXiv:1801.04381, table 1 and figure 3b); with squeeze-and-excitation, of MnasNet and
EfficientNet (arXiv:1905.11946, section 4).
"""

from __future__ import annotations

from torch import Tensor, nn

from squeezekit.models.blocks import ConvNorm, Norm
from squeezekit.models.squeeze_excitation import SqueezeExcitation
from squeezekit.models.stochastic_depth import StochasticDepth

__all__ = ["MBConv"]


class MBConv(nn.Module):
    """Expand 1×1, filter depthwise, weigh the channels, project 1×1 without activation; add the input.

    The input is added where it has the output's shape: stride 1 and as many channels. An expansion by 1 has
    no expanding convolution.

    Parameters
    ----------
    in_channels, out_channels
        The narrow ends of the bottleneck.
    kernel
        Side of the depthwise convolution's window: 3 or 5.
    stride
        Of the depthwise convolution.
    expand_ratio
        Width of the middle over `in_channels`: the paper's t.
    se_ratio
        Squeezed channels of the squeeze-and-excitation over `in_channels` (not over the expanded width);
        0 leaves it out, which makes the block MobileNetV2's.
    drop
        Probability of stochastic depth.
    norm, activation
        Of the convolutions.

    Examples
    --------
    >>> MBConv(16, 24, kernel=3, stride=2, expand_ratio=6)(torch.ones(1, 16, 32, 32)).shape  # doctest: +SKIP
    torch.Size([1, 24, 16, 16])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        expand_ratio: int = 6,
        se_ratio: float = 0.25,
        drop: float = 0.0,
        norm: Norm = nn.BatchNorm2d,
        activation: type[nn.Module] = nn.SiLU,
    ) -> None:
        super().__init__()
        middle = in_channels * expand_ratio
        self.expand = (
            ConvNorm(in_channels, middle, norm=norm, activation=activation) if expand_ratio != 1 else None
        )
        self.depthwise = ConvNorm(
            middle, middle, kernel, stride=stride, groups=middle, norm=norm, activation=activation
        )
        self.squeeze_excitation = (
            SqueezeExcitation(middle, max(1, int(in_channels * se_ratio)), activation=activation)
            if se_ratio
            else None
        )
        self.project = ConvNorm(middle, out_channels, norm=norm, activation=None)
        self.residual = stride == 1 and in_channels == out_channels
        self.stochastic_depth = StochasticDepth(drop)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        y: Tensor = x if self.expand is None else self.expand(x)
        y = self.depthwise(y)
        if self.squeeze_excitation is not None:
            y = self.squeeze_excitation(y)
        y = self.project(y)
        return x + self.stochastic_depth(y) if self.residual else y
