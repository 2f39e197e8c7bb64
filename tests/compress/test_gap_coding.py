"""Gaps: what the paper draws, what its authors published, and every array back as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from squeezekit.compress import gap_coding
from squeezekit.compress.gap_coding import GapCoded, count_entries, decode, encode, pack, unpack
from squeezekit.errors import UserError

sparse = arrays.arrays(
    np.uint8, st.integers(0, 2000), elements=st.integers(1, 255), fill=st.just(0), unique=False
)


def test_the_papers_figure() -> None:
    """Figure 2: entries at 1, 4 and 15 with 3 bits; the step of 11 is more than 8 and takes a filler."""
    array = np.zeros(16, np.float32)
    array[[1, 4, 15]] = 3.4, 0.9, 1.7
    coded = encode(array, 3)
    assert coded.entries.tolist() == pytest.approx([3.4, 0.9, 0, 1.7])
    assert coded.gaps.tolist() == [1, 2, 7, 2]
    assert coded.nbytes == 4 * 4 + 2


@given(sparse, st.integers(1, 8))
def test_every_array_comes_back(array: np.ndarray, bits: int) -> None:
    coded = encode(array, bits)
    assert np.array_equal(decode(coded), array)
    assert coded.gaps.max(initial=0) < 2**bits
    assert len(coded.entries) == len(coded.gaps) == count_entries(array, bits)
    assert not len(coded.entries) or coded.entries[-1] != 0  # nothing is stored after the last weight
    assert np.array_equal(unpack(pack(coded.gaps, bits), bits, len(coded.gaps)), coded.gaps)
    assert coded.nbytes == len(coded.entries) + len(pack(coded.gaps, bits))


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=20), st.integers(1, 8))
def test_long_gaps_are_bridged_by_as_few_entries_as_can_be(steps: list[int], bits: int) -> None:
    array = np.zeros(sum(steps), np.int8)
    array[np.cumsum(steps) - 1] = -1
    assert count_entries(array, bits) == sum(-(-step // 2**bits) for step in steps)
    assert np.array_equal(decode(encode(array, bits)), array)


def test_shapes_and_signed_zeros_do_not_matter() -> None:
    array = np.array([[[-0.0, 2.0], [0.0, -1.0]]], np.float32)
    assert encode(array, 4).entries.tolist() == [2.0, -1.0]
    assert encode(array, 4).gaps.tolist() == [1, 1]


def test_the_low_half_comes_first() -> None:
    assert pack(np.array([1, 2, 3], np.uint8), 4) == bytes([0x21, 0x03])


def test_what_is_wrong_is_told() -> None:
    for bits in (0, 9):
        with pytest.raises(UserError, match=f"{bits} bits a gap"):
            encode(np.ones(3), bits)
    with pytest.raises(UserError, match="cannot hold 3 symbols of 5 bits"):
        unpack(b"\0", 5, 3)
    with pytest.raises(UserError, match="lead to entry 4 of 4"):
        decode(GapCoded(np.ones(1), np.array([4], np.uint8), 4, 3))
    with pytest.raises(UserError, match="1 entries but 2 gaps"):
        decode(GapCoded(np.ones(1), np.zeros(2, np.uint8), 4, 3))


def test_the_published_gaps_byte_for_byte(shared: Path) -> None:
    """The file's own streams, taken apart by its layout, against ours made from the weights alone."""
    pytest.importorskip("torch")
    from squeezekit.models import read_deep_compression

    path = shared / "weights" / "compressed_SqueezeNet.net"
    content, state = path.read_bytes(), read_deep_compression(path)
    stored = np.frombuffer(content, "<u4", 26)
    place = 104
    for count, (name, weight) in zip(stored, [i for i in state.items() if "weight" in i[0]], strict=True):
        values = np.frombuffer(content, "<f4", 256, place)
        place += 1024 + 4 * len(weight)
        indices = content[place : place + count]
        packed = content[place + count : place + count + (count + 1) // 2]
        place += count + len(packed)
        coded = gap_coding.encode(weight.numpy(), 4)
        assert pack(coded.gaps, 4) == packed, name
        assert np.array_equal(coded.entries, values[list(indices)]), name
    assert place == len(content)
