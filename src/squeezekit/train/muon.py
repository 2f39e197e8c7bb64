"""Muon: stochastic gradient descent in which filters move by orthogonal matrices.

Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024, and the training of small
CNNs that it comes from (arXiv:2404.00498). A layer's gradient is dominated by few directions; of the filters
as a matrix, one filter a row, the nearest orthogonal matrix moves all directions alike, so that fewer steps
do. Filters behind which a normalisation follows have no scale of their own; theirs is held at one a filter,
and the rate alone decides how far a step turns them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD

__all__ = ["Muon", "orthogonal"]

#: Of the quintic polynomial whose iteration drives all singular values towards one (to between 0.7 and 1.2,
#: which does as well as exactly).
A, B, C = 3.4445, -4.7750, 2.0315
ITERATIONS = 5


def orthogonal(matrix: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return nearly the orthogonal matrix that is nearest to a matrix, by Newton and Schulz's iteration.

    Parameters
    ----------
    matrix : Tensor, (m, n)
    dtype : torch.dtype
        To compute in; bfloat16 does.

    Returns
    -------
    Tensor of `dtype`, (m, n)
        ``U Vᵀ`` of the singular value decomposition ``U S Vᵀ``, but for singular values of 0.7 to 1.2. Of a
        matrix of zeros, zeros.
    """
    wide = matrix.shape[0] <= matrix.shape[1]
    x = matrix.to(dtype) if wide else matrix.to(dtype).T
    x = x / (x.norm() + 1e-7)
    for _ in range(ITERATIONS):
        square = x @ x.T
        x = A * x + (B * square + C * square @ square) @ x
    result: Tensor = x if wide else x.T
    return result


class Muon(SGD):
    """SGD with Nesterov's momentum; in some groups by orthogonal matrices.

    Parameters
    ----------
    groups : list of dict
        As of :class:`torch.optim.SGD`. A group with ``"orthogonal": momentum`` holds filters, (out, in,
        height, width), that a normalisation follows; its learning rate is how far a step moves them relative
        to their size, and they are not decayed.
    dtype : torch.dtype
        In which matrices are made orthogonal.
    **options
        Of SGD, for the other groups.
    """

    def __init__(
        self, groups: list[dict[str, Any]], *, dtype: torch.dtype = torch.float32, **options: Any
    ) -> None:
        # SGD is left with the step alone in groups of ours.
        plain = {"momentum": 0.0, "weight_decay": 0.0, "nesterov": False}
        super().__init__([{**g, **plain} if "orthogonal" in g else g for g in groups], **options)
        self.dtype = dtype

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if "orthogonal" in group:
                for filters in group["params"]:
                    if filters.grad is not None:
                        self._turn(filters, group["orthogonal"])
        super().step()
        return loss

    @torch.no_grad()
    def _turn(self, filters: Tensor, momentum: float) -> None:
        """Bring filters to their size, and their gradient to what shall be stepped along."""
        gradient = filters.grad
        assert gradient is not None
        state = self.state[filters]
        if "average" not in state:
            state["average"] = torch.zeros_like(gradient)
        average = state["average"].mul_(momentum).add_(gradient)
        ahead = gradient.add(average, alpha=momentum).flatten(1)  # Nesterov's
        filters.mul_(len(filters) ** 0.5 / (filters.norm() + 1e-7))
        gradient.copy_(orthogonal(ahead, self.dtype).view_as(filters))
