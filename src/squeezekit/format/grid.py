"""The grid of multipliers that a file stores in a few bits each."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["bias_shift", "scale_grid"]

# 2 ** (j / 16) rounded to float32: the numbers of docs/format.md.
_SIXTEENTHS = np.array(
    [
        *(0x3F800000, 0x3F85AAC3, 0x3F8B95C2, 0x3F91C3D3, 0x3F9837F0, 0x3F9EF532, 0x3FA5FED7, 0x3FAD583F),
        *(0x3FB504F3, 0x3FBD08A4, 0x3FC5672A, 0x3FCE248C, 0x3FD744FD, 0x3FE0CCDF, 0x3FEAC0C7, 0x3FF5257D),
    ],
    np.uint32,
).view(np.float32)


def scale_grid(base: float, k: ArrayLike) -> NDArray[np.float32]:
    """Return the multipliers ``base * 2 ** (k / 16)``, exactly as a file and its decoder compute them.

    Multipliers of one node that all lie on one grid, whatever its base, cost a few bits each, others
    about 28. The coarser the steps of `k` (all multiples of 4, say), the fewer.

    Parameters
    ----------
    base
        Rounded to float32.
    k
        Whole numbers, of any shape.

    Returns
    -------
    ndarray of float32
        In the shape of `k`.
    """
    steps = np.asarray(k, np.int32)
    first: NDArray[np.float32] = np.float32(base) * _SIXTEENTHS[steps & 15]
    scaled: NDArray[np.float32] = np.ldexp(first, steps >> 4).astype(np.float32)
    return scaled


def bias_shift(multiplier: ArrayLike) -> NDArray[np.int32]:
    """Count the bits of each channel's bias that a file may leave out, from the channel's multiplier.

    Where every bias of a node is a multiple of ``2 ** bias_shift(its multiplier)``, that many bits of each
    are not stored. One such unit is an eighth to a quarter of a step of the result.

    Parameters
    ----------
    multiplier
        float32, of any shape.

    Returns
    -------
    ndarray of int32
        ``-3 - floor(log2(multiplier))``, from 0 to 30, in the shape of `multiplier`.
    """
    bits = np.asarray(multiplier, np.float32).view(np.uint32)
    exponent = (bits >> 23 & 255).astype(np.int32) - 127
    return np.clip(-3 - exponent, 0, 30).astype(np.int32)
