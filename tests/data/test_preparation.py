"""The preparation: the same pixels and numbers wherever a model goes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from squeezekit.data.preparation import CAFFE, IMAGENET, Preparation
from squeezekit.errors import UserError


def photo(width, height):
    pixels = np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def test_caffe():
    image = photo(300, 200)
    squashed = np.asarray(image.resize((256, 256), Image.Resampling.BILINEAR))
    pixels = CAFFE.geometry(image)
    np.testing.assert_array_equal(pixels, squashed[14:241, 14:241])
    expected = squashed[14:241, 14:241, ::-1].astype(np.float32) - np.float32([104, 117, 123])
    np.testing.assert_array_equal(CAFFE.normalise(pixels), expected)
    assert CAFFE.normalise(pixels[None]).shape == (1, 227, 227, 3)


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (400, 400), (257, 900), (100, 90)])
def test_imagenet_is_torchvisions(size):
    image = photo(*size)
    width, height = image.size
    short = min(width, height)
    resized = image.resize(tuple(int(256 * s / short) for s in (width, height)), Image.Resampling.BILINEAR)
    left, top = (round((s - 224) / 2) for s in resized.size)
    pixels = IMAGENET.geometry(image)
    np.testing.assert_array_equal(pixels, np.asarray(resized.crop((left, top, left + 224, top + 224))))
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(IMAGENET.normalise(pixels), (pixels / 255 - mean) / deviation, atol=2e-6)
    assert IMAGENET.normalise(pixels).dtype == np.float32


def test_nothing_happens_to_a_picture_that_fits():
    image = photo(32, 32)
    np.testing.assert_array_equal(Preparation(32).geometry(image), np.asarray(image))


def test_grey():
    grey = Preparation(20, channel_order="L", mean=(128.0,), scale=(1 / 64,))
    pixels = grey.geometry(photo(40, 30))
    assert pixels.shape == (20, 20, 1)
    assert grey.normalise(pixels).shape == (20, 20, 1)
    assert grey.channels == 1


def test_another_size():
    assert (IMAGENET.at(32).size, IMAGENET.at(32).resize_to) == (32, 37)
    assert IMAGENET.at(224) == IMAGENET
    assert Preparation(64).at(96).resize_to == 96


@given(
    st.integers(1, 300),
    st.integers(0, 100),
    st.sampled_from(["short-side", "exact"]),
    st.integers(1, 300),
    st.integers(1, 300),
)
def test_the_size_is_always_right_and_the_dict_is_whole(size, margin, resize, width, height):
    preparation = Preparation(size, resize, size + margin)
    assert preparation.geometry(photo(width, height)).shape == (size, size, 3)
    assert Preparation.from_dict(json.loads(json.dumps(preparation.to_dict()))) == preparation


@pytest.mark.parametrize("preparation", [CAFFE, IMAGENET])
def test_constants_survive_json_to_the_bit(preparation):
    assert Preparation.from_dict(json.loads(json.dumps(preparation.to_dict()))) == preparation


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 0}, "size is 0"),
        ({"size": True}, "size is True"),
        ({"size": 10**9, "resize_to": 10**9}, "size is 1000000000"),
        ({"resize_to": 100}, "resize_to 100 is less than size 224"),
        ({"interpolation": "bilinar"}, "did you mean 'bilinear'"),
        ({"resize": "long-side"}, "one of short-side, exact"),
        ({"channel_order": ["RGB"]}, "channel_order is"),
        ({"mean": [1, 2]}, r"mean is \[1, 2\] \(3 numbers, one a channel"),
        ({"mean": 3}, "mean is 3"),
        ({"scale": [1, 2, float("nan")]}, "scale is"),
        ({"scale": ["1", "2", "3"]}, "scale is"),
        ({"sise": 3}, "unknown setting 'sise'; did you mean 'size'"),
    ],
)
def test_nonsense_is_refused(change, message):
    with pytest.raises(UserError, match=message):
        Preparation.from_dict(IMAGENET.to_dict() | change)


def test_every_setting_must_be_there():
    for key in IMAGENET.to_dict():
        values = IMAGENET.to_dict()
        del values[key]
        with pytest.raises(UserError, match=f"'{key}' is missing"):
            Preparation.from_dict(values)
    with pytest.raises(UserError, match="no table"):
        Preparation.from_dict([1])
