"""Huffman's code: as short as can be, and every stream back as it was."""

from __future__ import annotations

import itertools
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from squeezekit.compress.huffman_bytes import code_lengths, codewords, decode, encode
from squeezekit.errors import UserError

counts = st.lists(st.integers(0, 10**6) | st.integers(0, 3), min_size=1, max_size=256)
few = st.sampled_from([0, 0, 0, 0, 1, 1, 2, 255])
streams = st.binary(max_size=600) | st.lists(few, max_size=600).map(bytes)


@given(counts)
def test_within_one_bit_of_the_entropy_and_kraft_is_met(counted: list[int]) -> None:
    occurs = np.array(counted)
    lengths = code_lengths(occurs)
    used = occurs > 0
    assert not lengths[~used].any()
    if used.sum() < 2:
        assert not lengths.any()
        return
    assert sum(2.0 ** -lengths[used].astype(float)) == 1
    share = occurs[used] / occurs.sum()
    entropy, mean = -(share * np.log2(share)).sum(), (share * lengths[used]).sum()
    assert entropy - 1e-9 <= mean < entropy + 1


@given(st.lists(st.integers(1, 20), min_size=2, max_size=5))
def test_no_prefix_code_is_shorter(counted: list[int]) -> None:
    """Against all lengths that meet Kraft's inequality, tried one by one."""
    best = min(
        sum(n * length for n, length in zip(counted, lengths, strict=True))
        for lengths in itertools.product(range(1, 5), repeat=len(counted))
        if sum(2.0**-length for length in lengths) <= 1
    )
    assert int((code_lengths(np.array(counted)) * np.array(counted)).sum()) == best


def test_words_are_canonical_and_none_begins_another() -> None:
    """RFC 1951, 3.2.2 gives these lengths and words as its example."""
    lengths = np.array([3, 3, 3, 3, 3, 2, 4, 4], np.uint8)
    assert codewords(lengths).tolist() == [0b010, 0b011, 0b100, 0b101, 0b110, 0b00, 0b1110, 0b1111]


@given(streams)
def test_every_stream_comes_back(stream: bytes) -> None:
    symbols = np.frombuffer(stream, np.uint8)
    data = encode(symbols, 256)
    back, size = decode(data + b"more", len(symbols), 256)
    assert back.tobytes() == stream
    assert size == len(data)


@given(st.lists(st.integers(0, 15), max_size=300))
def test_the_size_is_what_the_lengths_say(listed: list[int]) -> None:
    symbols = np.array(listed, np.uint8)
    occurs = np.bincount(symbols, minlength=16)
    lengths = code_lengths(occurs)
    width = int(lengths.max()).bit_length()
    words = 1 + (16 * width + int((occurs * lengths).sum()) + 7) // 8
    assert len(encode(symbols, 16)) == (words if width else min(2, 2 * len(listed)))


def test_very_unequal_counts_make_long_words_that_are_read_back() -> None:
    fibonacci = [1, 1]
    while len(fibonacci) < 22:
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    symbols = np.repeat(np.arange(22, dtype=np.uint8), fibonacci)
    assert code_lengths(np.bincount(symbols)).max() == 21
    data = encode(symbols, 22)
    assert np.array_equal(decode(data, len(symbols), 22)[0], symbols)
    assert len(data) < len(zlib.compress(np.random.default_rng(0).permutation(symbols).tobytes(), 9))


def test_nothing_and_one_symbol() -> None:
    assert encode(np.zeros(0, np.uint8), 16) == b""
    assert encode(np.full(1000, 7, np.uint8), 16) == b"\0\7"
    assert decode(b"\0\7", 1000, 16)[0].tolist() == [7] * 1000


def test_what_is_wrong_is_told() -> None:
    symbols = np.arange(200, dtype=np.uint8) % 7
    data = encode(symbols, 7)
    for short in range(len(data)):
        with pytest.raises(UserError, match="huffman"):
            decode(data[:short], 200, 7)
    with pytest.raises(UserError, match="no prefix code"):
        decode(bytes([3]) + bytes(100), 200, 7)
    with pytest.raises(UserError, match="not one of 7"):
        decode(b"\0\7", 3, 7)
    with pytest.raises(ValueError, match="symbol 6 in an alphabet of 6"):
        encode(symbols, 6)


@given(st.binary(min_size=1, max_size=60), st.integers(1, 100), st.integers(1, 256))
def test_any_bytes_end_in_symbols_or_one_error(data: bytes, count: int, alphabet: int) -> None:
    try:
        symbols, size = decode(data, count, alphabet)
    except UserError:
        return
    assert len(symbols) == count
    assert symbols.max() < alphabet
    assert size <= len(data)
