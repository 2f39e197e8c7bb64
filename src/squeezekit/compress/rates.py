"""What whole-numbered weights will cost in the file, near enough to choose them by."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Rates", "classes"]

#: Largest magnitude.
LARGEST = 127
_CLASSES = 14


def classes(q: Tensor) -> Tensor:
    """Sort weights by how large their neighbours are, as the coder's contexts do.

    Parameters
    ----------
    q : Tensor, shape (O, n)
        Weights, or guesses of them.

    Returns
    -------
    Tensor of int64, shape (O, n)
        From the product of the mean magnitudes of the filter and of the input.
    """
    size = q.abs().double()
    rows, columns = size.mean(1, keepdim=True) + 1e-3, size.mean(0, keepdim=True) + 1e-3
    expected = rows * columns / (size.mean() + 1e-3)
    return (2 * torch.log2(expected / 0.02)).round().clamp(0, _CLASSES - 1).long()


class Rates:
    """Bits of each magnitude in each class, as an adaptive coder would come to charge them.

    Parameters
    ----------
    q : Tensor, shape (O, n)
        Weights like those to be coded.
    kinds : Tensor of int64, shape (O, n)
        Their :func:`classes`.
    """

    def __init__(self, q: Tensor, kinds: Tensor) -> None:
        size = q.abs().long().clamp(max=LARGEST)
        counts = torch.bincount((kinds * (LARGEST + 1) + size).flatten(), minlength=_CLASSES * (LARGEST + 1))
        prior = 0.7 ** torch.arange(LARGEST + 1, dtype=torch.float64) + 1e-4
        table = counts.reshape(_CLASSES, LARGEST + 1).double() + prior
        self.table = -torch.log2(table / table.sum(1, keepdim=True))
        self.table[:, 1:] += 1  # the sign

    def bits(self, q: Tensor, kinds: Tensor) -> Tensor:
        """Return the bits of each weight."""
        return self.table[kinds, q.abs().long().clamp(max=LARGEST)]
