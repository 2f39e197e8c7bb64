"""Stochastic depth (Huang et al., arXiv:1603.09382, section 3): train a shorter network, use it whole."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from squeezekit.models.checks import real

__all__ = ["StochasticDepth"]


class StochasticDepth(nn.Module):
    """Drop a residual branch, for each picture of the batch by itself, with probability `p`.

    In training a surviving branch is multiplied by 1 / (1 - p), so that nothing needs to change at
    evaluation, where the branch passes as it is. (The paper scales at evaluation instead: its equation 5.)

    Parameters
    ----------
    p
        Probability that a branch is dropped: 1 minus the paper's survival probability. 0 ≤ p < 1.

    Examples
    --------
    >>> StochasticDepth(0.2).eval()(torch.ones(4, 8, 7, 7)).mean()
    tensor(1.)
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = real("p", p, 0.0, 0.99)

    def forward(self, branch: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape, with the dropped pictures' branches at zero."""
        if not self.training or self.p == 0.0:
            return branch
        survival = 1.0 - self.p
        survives = torch.empty(branch.shape[0], 1, 1, 1, dtype=branch.dtype, device=branch.device)
        return branch * survives.bernoulli_(survival).div_(survival)

    def extra_repr(self) -> str:
        """Show the probability in the network's print."""
        return f"p={self.p:g}"
