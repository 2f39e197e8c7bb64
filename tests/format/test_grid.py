"""Multipliers on a grid, and the biases that go with them: the same numbers in C and Python, in few bytes."""

from __future__ import annotations

import ctypes

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from squeezekit.format import bias_shift, scale_grid
from squeezekit.format.library import library
from squeezekit.format.pack import tensor_head
from squeezekit.format.weights import Decoder, Encoder, weight_bytes


@given(st.floats(2**-20, 1.0, width=32), st.lists(st.integers(-300, 300), min_size=1, max_size=20))
def test_python_and_c_agree(base: float, k: list[int]) -> None:
    grid = scale_grid(base, k)
    assert grid.tolist() == [library().sqz_grid(ctypes.c_float(base), each) for each in k]
    assert np.allclose(grid, base * 2 ** (np.array(k) / 16), rtol=1e-6)
    assert bias_shift(grid).tolist() == [library().sqz_bias_shift(ctypes.c_float(each)) for each in grid]


@given(st.floats(2**-17, 1.0, width=32), st.integers(0, 2**32 - 1))
def test_a_grid_is_found_whatever_its_base(base: float, seed: int) -> None:
    k = np.random.default_rng(seed).integers(-12, 12, 200)
    for step, most in ((1, 6.5), (4, 6.5)):
        multiplier = scale_grid(base, step * k)
        assert weight_bytes(multiplier) * 8 < most * 200 + 200
        head = tensor_head("multiplier", multiplier)
        encoder = Encoder("range", [head])
        encoder.add(head, multiplier)
        assert np.array_equal(np.asarray(Decoder(encoder.finish(), [head]).take(head)), multiplier)


def test_biases_lose_the_bits_that_multipliers_make_needless() -> None:
    rng = np.random.default_rng(0)
    multiplier = scale_grid(0.0007, rng.integers(-20, 20, 500) * 4)
    shift = bias_shift(multiplier)
    assert (shift.min(), shift.max()) == (3, 13)
    steps = rng.integers(-100, 100, 500)
    bias = (steps << shift).astype(np.int32)
    heads = [tensor_head("multiplier", multiplier), tensor_head("bias", bias)]
    sizes = {}
    for with_multiplier in (True, False):
        encoder = Encoder("range", heads)
        encoder.add(heads[0], multiplier)
        encoder.add(heads[1], bias, multiplier if with_multiplier else None)
        sizes[with_multiplier] = len(encoder.finish())
    assert sizes[True] < sizes[False] - 100


def test_biases_come_back_beside_their_multipliers() -> None:
    rng = np.random.default_rng(0)
    for base, limit in ((1e-9, 3), (0.001, 2**20), (0.5, 2**31 - 1), (4.0, 9)):
        multiplier = scale_grid(base, rng.integers(-20, 20, 64))
        for bias in (
            rng.integers(-limit, limit, 64).astype(np.int32),
            np.zeros(64, np.int32),
            ((rng.integers(-3, 3, 64) << bias_shift(multiplier)) & -(2**30)).astype(np.int32),
        ):
            heads = [tensor_head("multiplier", multiplier), tensor_head("bias", bias)]
            encoder = Encoder("range", heads)
            encoder.add(heads[0], multiplier)
            encoder.add(heads[1], bias, multiplier)
            decoder = Decoder(encoder.finish(), heads)
            assert np.array_equal(np.asarray(decoder.take(heads[0])), multiplier)
            assert np.array_equal(np.asarray(decoder.take(heads[1])), bias)
