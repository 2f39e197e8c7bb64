"""Tensors of every kind come back bit by bit, and the coder is as good as it should be."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from squeezekit.errors import UserError
from squeezekit.format.library import TensorHead
from squeezekit.format.pack import tensor_head
from squeezekit.format.weights import Decoder, Encoder, weight_bytes
from squeezekit.graph.graph import Codebook

CODINGS = ("range", "huffman")
shapes = arrays.array_shapes(min_dims=1, max_dims=4, max_side=9)
floats = st.floats(width=32, allow_nan=False, allow_infinity=False)


def coded(weights: list[Any], coding: str = "range") -> tuple[bytes, list[TensorHead]]:
    heads = [tensor_head("weight", weight) for weight in weights]
    encoder = Encoder(coding, heads)
    for head, weight in zip(heads, weights, strict=True):
        encoder.add(head, weight)
    return encoder.finish(), heads


def assert_comes_back(weights: list[Any], coding: str = "range") -> None:
    data, heads = coded(weights, coding)
    decoder = Decoder(data, heads)
    for head, weight in zip(heads, weights, strict=True):
        again = decoder.take(head)
        if isinstance(weight, Codebook):
            assert isinstance(again, Codebook)
            assert again.values.tobytes() == weight.values.tobytes()
            assert np.array_equal(again.indices, weight.indices)
        else:
            assert isinstance(again, np.ndarray)
            assert again.dtype == weight.dtype
            assert again.shape == weight.shape
            assert again.tobytes() == weight.tobytes()  # -0.0 is not 0.0
    least = 8 * len(data.rstrip(b"\0"))  # zeros at the end may be codes, or room that is not used
    assert least - 200 < sum(decoder.bits) < 8 * len(data) + 200


@st.composite
def tensors(draw: st.DrawFn) -> Any:
    shape = draw(shapes)
    dtype = draw(st.sampled_from([np.int8, np.uint8, np.int32, np.float32, Codebook]))
    if dtype is Codebook:
        values = draw(st.lists(floats, min_size=1, max_size=40, unique_by=lambda x: x + 0.0))
        rising = np.sort(np.array(values, np.float32))
        rising = rising[np.append(True, np.diff(rising) > 0)]
        return Codebook(
            rising, draw(arrays.arrays(np.uint8, shape, elements=st.integers(0, len(rising) - 1)))
        )
    return draw(arrays.arrays(dtype, shape, elements=floats if dtype is np.float32 else None))


@given(st.lists(tensors(), min_size=1, max_size=4), st.sampled_from(CODINGS))
@settings(max_examples=300)
def test_any_tensors_come_back(weights: list[Any], coding: str) -> None:
    assert_comes_back(weights, coding)


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("shape", [(64, 16, 3, 3), (40, 3, 7, 7), (32, 1, 5, 5), (50, 70), (1000,)])
@pytest.mark.parametrize("spread", [0, 0.4, 2, 60])
def test_tensors_like_those_of_networks(shape: tuple[int, ...], spread: float, coding: str) -> None:
    rng = np.random.default_rng(0)
    weight = np.clip(np.round(rng.laplace(size=shape) * spread), -128, 127).astype(np.int8)
    shared = Codebook(np.linspace(-1, 1, 255, dtype=np.float32), (weight // 2 + 127).astype(np.uint8))
    assert_comes_back([weight, shared, weight[:1]], coding)


def test_extremes() -> None:
    everything = np.arange(256, dtype=np.uint8)
    assert_comes_back([everything.view(np.int8).reshape(16, 16)])
    assert_comes_back([np.array([-(2**31), 2**31 - 1, 0, 1, -1], np.int32)])
    assert_comes_back([np.array([-(2**31)] * 3, np.int32), np.array([-(2**31), 0], np.int32)])
    smallest, largest = np.finfo(np.float32).smallest_subnormal, np.finfo(np.float32).max
    assert_comes_back([np.array([0.0, -0.0, smallest, -smallest, largest, -largest], np.float32)])
    for count in (1, 2, 255, 256):
        values = np.linspace(-3, 5, count, dtype=np.float32)
        for index in (0, count - 1):
            assert_comes_back([Codebook(values, np.full((3, 5), index, np.uint8))])
    assert_comes_back(
        [Codebook(np.array([-largest, -0.0, largest], np.float32), np.array([2, 0, 1], np.uint8))]
    )


def entropy(weight: np.ndarray[Any, Any]) -> float:
    """Bytes that the best code without contexts takes, its table not counted."""
    share = np.unique(weight, return_counts=True)[1] / weight.size
    return float(-(share * np.log2(share)).sum() * weight.size / 8)


def test_range_coding_comes_close_to_the_entropy_and_huffman_to_its_own() -> None:
    rng = np.random.default_rng(0)
    weight = np.round(rng.laplace(size=(128, 64, 3, 3)) * 0.7).astype(np.int8)
    assert weight_bytes(weight) < 1.005 * entropy(weight) + 100
    assert entropy(weight) < weight_bytes(weight, "huffman") < 1.1 * entropy(weight) + 200


def test_contexts_pay() -> None:
    rng = np.random.default_rng(0)
    by_filter, by_input = np.exp(rng.normal(size=(2, 64)))
    scale = by_filter[:, None, None, None] * by_input[None, :, None, None]
    uneven = np.clip(np.round(rng.laplace(size=(64, 64, 3, 3)) * scale * 0.6), -127, 127).astype(np.int8)
    assert weight_bytes(uneven) < 0.9 * entropy(uneven)
    smooth = rng.normal(size=(64, 64, 3, 3)) * 0.4 + rng.normal(size=(64, 64, 1, 1))
    alike = np.round(smooth).astype(np.int8)
    assert weight_bytes(alike) < 0.9 * entropy(alike)


def test_zeros_take_next_to_nothing() -> None:
    rng = np.random.default_rng(0)
    weight = np.round(rng.laplace(size=(256, 512)) * 0.7).astype(np.int8)
    with_dead = weight.copy()
    with_dead[::2] = 0
    assert weight_bytes(with_dead) < 0.51 * weight_bytes(weight) + 64
    assert weight_bytes(np.zeros((512, 512, 3, 3), np.int8)) < 200


def test_very_many_zeros_stay_within_what_a_reader_accepts() -> None:
    """However little they take, the section is long enough that its own limit allows them."""
    weight = np.zeros((8, 2**18), np.int8)
    assert_comes_back([weight, weight])
    weight[3, 5] = 1
    assert_comes_back([weight])
    shared = Codebook(np.array([-1, 0, 1], np.float32), np.ones((3, 2**19), np.uint8))
    assert_comes_back([shared])


def test_more_weights_than_a_section_can_hold_are_refused() -> None:
    data, heads = coded([np.zeros((4, 4), np.int8)])
    heads[0].shape[0] = 2**20
    with pytest.raises(UserError, match="asks for more than a file of its size can hold"):
        Decoder(data, heads)


@given(st.binary(max_size=300), st.lists(tensors(), min_size=1, max_size=3))
@settings(max_examples=150)
def test_any_bytes_end_in_an_error_or_in_tensors(data: bytes, weights: list[Any]) -> None:
    heads = [tensor_head("weight", weight) for weight in weights]
    with contextlib.suppress(UserError):
        decoder = Decoder(data, heads)
        for head, weight in zip(heads, weights, strict=True):
            assert decoder.take(head).shape == weight.shape


@pytest.mark.parametrize("coding", CODINGS)
def test_the_same_bytes_again_and_beside_another_thread(coding: str) -> None:
    """Nothing is remembered from one file to the next, and nothing is shared between two at once."""
    rng = np.random.default_rng(0)
    sizes = [(64, 64, 3, 3), (32, 64, 1, 1), (64, 1, 3, 3)]
    weights = [rng.laplace(0, 2, size).round().clip(-127, 127).astype(np.int8) for size in sizes]
    once = coded(weights, coding)[0]
    assert coded(weights, coding)[0] == once
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda given: coded(given, coding)[0], [weights, weights])) == [once, once]
