"""Huffman coding of a stream of bytes: the last stage of Deep Compression (arXiv:1510.00149, section 4).

The code is canonical: the lengths of its words say everything. A stream is

1. one byte `w`: the bits that a length takes, that of the longest word;
2. `w` bits for each symbol of the alphabet: the length of its word, 0 for a symbol that does not occur;
3. the words, highest bit first, filled with zeros to a whole byte.

With a single symbol there is nothing to tell apart: `w` is 0, and the symbol follows in one byte. A stream of
no symbols takes no bytes. How many symbols there are, and how large their alphabet is, the reader knows from
elsewhere.

>>> data = encode(np.frombuffer(b"abracadabra", np.uint8) - 97, alphabet=26)
>>> len(data), bytes(decode(data, 11, alphabet=26)[0] + 97)
(14, b'abracadabra')
"""

from __future__ import annotations

import heapq
from itertools import count

import numpy as np
from numpy.typing import NDArray

from squeezekit.errors import UserError

__all__ = ["code_lengths", "codewords", "decode", "encode"]

# A word of this length needs more than 10^11 symbols (Fibonacci's numbers as counts), and 64 bits from any
# byte on hold a whole one from any bit of it on.
_LONGEST = 56


def code_lengths(counts: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Find the lengths of an optimal prefix code (Huffman 1952).

    Parameters
    ----------
    counts : ndarray of int, shape (K,)
        How often each symbol occurs; at least 0.

    Returns
    -------
    ndarray of uint8, shape (K,)
        0 for symbols that do not occur, and for one that occurs alone. Otherwise Kraft's sum
        ``sum(2.0 ** -lengths)`` over the symbols that occur is 1. The same counts give the same lengths.
    """
    lengths = np.zeros(len(counts), np.uint8)
    # Merged nodes are numbered after all symbols, so that among equal counts the shallower tree is taken.
    numbers = count(len(counts))
    heap = [(int(counts[s]), int(s), [int(s)]) for s in np.flatnonzero(counts)]
    heapq.heapify(heap)
    while len(heap) > 1:
        first, _, left = heapq.heappop(heap)
        second, _, right = heapq.heappop(heap)
        merged = left + right
        lengths[merged] += 1
        heapq.heappush(heap, (first + second, next(numbers), merged))
    return lengths


def codewords(lengths: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Number the words of a canonical code: shorter ones first, equally long ones in the symbols' order.

    Parameters
    ----------
    lengths : ndarray of uint8, shape (K,)
        As :func:`code_lengths` gives them.

    Returns
    -------
    ndarray of uint64, shape (K,)
        The word of symbol k in its lowest ``lengths[k]`` bits.
    """
    words = np.zeros(len(lengths), np.uint64)
    word, before = 0, 0
    for symbol in _in_order(lengths).tolist():
        length = int(lengths[symbol])
        word <<= length - before
        words[symbol] = word
        word, before = word + 1, length
    return words


def _in_order(lengths: NDArray[np.uint8]) -> NDArray[np.intp]:
    order = np.argsort(lengths, kind="stable")
    return order[lengths[order] > 0]


def encode(symbols: NDArray[np.uint8], alphabet: int) -> bytes:
    """Encode symbols with the best code for them.

    Parameters
    ----------
    symbols : ndarray of uint8, shape (n,)
        Each less than `alphabet`.
    alphabet : int
        How many symbols there are, 1 to 256.

    Returns
    -------
    bytes
    """
    if not len(symbols):
        return b""
    if int(symbols.max()) >= alphabet:
        raise ValueError(f"symbol {symbols.max()} in an alphabet of {alphabet}")
    lengths = code_lengths(np.bincount(symbols, minlength=alphabet))
    width = int(lengths.max()).bit_length()
    if not width:
        return bytes([0, symbols[0]])
    table = np.unpackbits(lengths[:, None], axis=1)[:, 8 - width :].ravel()
    taken = lengths[symbols].astype(np.int64)
    starts = np.cumsum(taken) - taken
    # For every bit: which one it is of its word, counted from the word's lowest.
    place = (starts + taken - 1).repeat(taken) - np.arange(int(taken.sum()))
    stream = (codewords(lengths)[symbols].repeat(taken) >> place.astype(np.uint64)).astype(np.uint8) & 1
    return bytes([width]) + np.packbits(np.concatenate([table, stream])).tobytes()


def decode(data: bytes, count: int, alphabet: int) -> tuple[NDArray[np.uint8], int]:
    """Decode `count` symbols from the beginning of `data`.

    Returns
    -------
    symbols : ndarray of uint8, shape (count,)
    size : int
        Bytes that the stream takes.

    Raises
    ------
    UserError
        It ends too early, or its lengths make no code.
    """
    if not count:
        return np.zeros(0, np.uint8), 0
    if not data:
        raise UserError("huffman: ends before its first byte")
    width = data[0]
    if not width:
        if len(data) < 2 or data[1] >= alphabet:
            raise UserError(f"huffman: its one symbol is missing, or not one of {alphabet}")
        return np.full(count, data[1], np.uint8), 2
    bits = np.unpackbits(np.frombuffer(data, np.uint8, offset=1))
    if width > 6 or len(bits) < width * alphabet + count:
        raise UserError(f"huffman: {len(data):,} bytes are not a code and {count:,} words")
    table = bits[: width * alphabet].reshape(alphabet, width)
    lengths = np.packbits(np.pad(table, ((0, 0), (8 - width, 0))), axis=1)[:, 0]
    order = _in_order(lengths)
    if lengths.max() > _LONGEST or sum(1 << int(_LONGEST - n) for n in lengths[order]) != 1 << _LONGEST:
        raise UserError("huffman: the lengths make no prefix code")
    # Words aligned to the left rise with their rank, so a search in them reads a word from the stream.
    shift = (_LONGEST - lengths[order]).astype(np.uint64)
    limits = (codewords(lengths)[order] + np.uint64(1)) << shift
    window = _windows(data[1:], width * alphabet)
    ranks = np.searchsorted(limits, window, side="right")
    nexts = (np.arange(len(window)) + lengths[order][np.minimum(ranks, len(order) - 1)]).tolist()
    places: list[int] = []
    place = 0
    for _ in range(count):
        if place >= len(nexts):
            raise UserError(f"huffman: ends after {len(places):,} of {count:,} symbols")
        places.append(place)
        place = nexts[place]
    if place > len(nexts):
        raise UserError(f"huffman: ends within the last of {count:,} symbols")
    return order[ranks[places]].astype(np.uint8), 1 + (width * alphabet + place + 7) // 8


def _windows(data: bytes, first: int) -> NDArray[np.uint64]:
    """Return the 56 bits from each bit on, from bit `first` to the last; zeros follow the data."""
    padded = np.frombuffer(data + bytes(8), np.uint8)
    byte = np.zeros(len(data), np.uint64)
    for i in range(8):
        byte = (byte << np.uint64(8)) | padded[i : i + len(data)]
    windows = (byte[:, None] << np.arange(8, dtype=np.uint64)) >> np.uint64(64 - _LONGEST)
    return windows.ravel()[first:]
