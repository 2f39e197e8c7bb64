"""Squeeze-and-excitation (Hu et al., arXiv:1709.01507, section 3): weigh channels by a look at the whole."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["SqueezeExcitation"]


class SqueezeExcitation(nn.Module):
    """Scale the channels of ``x`` by ``sigmoid(expand(activation(reduce(mean of x over its area))))``.

    Parameters
    ----------
    channels
        Of the input and the output (N, channels, H, W).
    squeezed
        Channels between the two 1×1 convolutions: the paper's C/r.
    activation
        Between them. ReLU in the paper, SiLU in EfficientNet.

    Examples
    --------
    >>> SqueezeExcitation(96, 4)(torch.ones(2, 96, 14, 14)).shape
    torch.Size([2, 96, 14, 14])
    """

    def __init__(self, channels: int, squeezed: int, *, activation: type[nn.Module] = nn.SiLU) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.activation = activation()
        self.expand = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to the same shape."""
        scale = torch.sigmoid(self.expand(self.activation(self.reduce(self.pool(x)))))
        return x * scale
