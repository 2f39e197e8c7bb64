"""Gap coding: a sparse array as its non-zero entries, and how many zeros lie before each of them.

"Deep Compression" (Han, Mao and Dally, arXiv:1510.00149), section 2 and figure 2: a gap takes `bits` bits,
and one that is too long for them is bridged by entries that are themselves zero.

>>> coded = encode(np.array([0, 7, 0, 0, 0, 0, 0, 9, 0], np.uint8), bits=2)
>>> coded.entries.tolist(), coded.gaps.tolist()
([7, 0, 9], [1, 3, 1])
>>> decode(coded).tolist()
[0, 7, 0, 0, 0, 0, 0, 9, 0]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezekit.errors import UserError

__all__ = ["GapCoded", "count_entries", "decode", "encode", "pack", "unpack"]


@dataclass(frozen=True, eq=False)
class GapCoded:
    """A sparse array, gap-coded.

    Attributes
    ----------
    entries : ndarray, shape (n,)
        The non-zero values in order, with a zero for each bridge; of the array's own type.
    gaps : ndarray of uint8, shape (n,)
        Zeros skipped before each entry, less than ``2 ** bits``.
    size : int
        Of the array; the zeros after its last entry are not stored.
    bits : int
        That a gap takes, 1 to 8.
    """

    entries: NDArray[Any]
    gaps: NDArray[np.uint8]
    size: int
    bits: int

    @property
    def nbytes(self) -> int:
        """Bytes of the entries as they are and of the packed gaps."""
        return self.entries.nbytes + (self.bits * len(self.gaps) + 7) // 8


def _checked(bits: int) -> int:
    if not 1 <= bits <= 8:
        raise UserError(f"gap coding: {bits} bits a gap (1 to 8; the paper's are 4, 5 and 8)")
    return bits


def encode(array: NDArray[Any], bits: int) -> GapCoded:
    """Gap-code an array.

    Parameters
    ----------
    array : ndarray
        Any shape and numeric type; taken in C order. Negative zero counts as zero.
    bits : int
        A gap takes, 1 to 8.

    Returns
    -------
    GapCoded
    """
    span = 2 ** _checked(bits)
    flat = np.ravel(array)
    positions = np.flatnonzero(flat)
    zeros = np.diff(positions, prepend=-1) - 1
    # A bridge skips span - 1 zeros and is one itself.
    bridges = zeros // span
    ends = np.cumsum(bridges + 1) - 1
    entries = np.zeros(len(positions) + int(bridges.sum()), flat.dtype)
    entries[ends] = flat[positions]
    gaps = np.full(len(entries), span - 1, np.uint8)
    gaps[ends] = zeros % span
    return GapCoded(entries, gaps, flat.size, bits)


def decode(coded: GapCoded) -> NDArray[Any]:
    """Give the array back, flat: shape (size,), of the entries' type.

    Raises
    ------
    UserError
        The gaps lead beyond the end of the array, or do not match the entries.
    """
    if len(coded.gaps) != len(coded.entries):
        raise UserError(f"gap coding: {len(coded.entries):,} entries but {len(coded.gaps):,} gaps")
    flat = np.zeros(coded.size, coded.entries.dtype)
    positions = np.cumsum(coded.gaps.astype(np.int64) + 1) - 1
    if len(positions) and positions[-1] >= coded.size:
        raise UserError(f"gap coding: the gaps lead to entry {positions[-1]:,} of {coded.size:,}")
    flat[positions] = coded.entries
    return flat


def count_entries(array: NDArray[Any], bits: int) -> int:
    """Count the entries that :func:`encode` would store, bridges among them."""
    positions = np.flatnonzero(np.ravel(array))
    zeros = np.diff(positions, prepend=-1) - 1
    return len(positions) + int((zeros >> _checked(bits)).sum())


def pack(symbols: NDArray[np.uint8], bits: int) -> bytes:
    """Pack symbols of `bits` bits into bytes, lowest bit first: with 4 bits, the low half of a byte first.

    The last byte is filled with zeros. That is how the published SqueezeNet stores its gaps.
    """
    _checked(bits)
    columns = np.unpackbits(symbols.reshape(-1, 1), axis=1, count=bits, bitorder="little")
    return np.packbits(columns, axis=None, bitorder="little").tobytes()


def unpack(packed: bytes, bits: int, count: int) -> NDArray[np.uint8]:
    """Undo :func:`pack`.

    Raises
    ------
    UserError
        There are fewer than `count` symbols.
    """
    _checked(bits)
    if 8 * len(packed) < bits * count:
        raise UserError(f"gap coding: {len(packed):,} bytes cannot hold {count:,} symbols of {bits} bits")
    stream = np.unpackbits(np.frombuffer(packed, np.uint8), count=bits * count, bitorder="little")
    symbols: NDArray[np.uint8] = np.packbits(stream.reshape(count, bits), axis=1, bitorder="little")[:, 0]
    return symbols
