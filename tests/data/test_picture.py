"""Decoding: every mode and format becomes upright RGB, and nothing harmful is decoded."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, features

from squeezekit.data import picture
from squeezekit.data.picture import PictureError, decode, open_picture

RAMP = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (48, 1))  # 64 × 48


def saved(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def rgb(data, **options):
    image = decode(data, "x", **options)
    assert image.mode == "RGB"
    return np.asarray(image)


COLOURS = Image.merge("RGB", [Image.fromarray(a) for a in (RAMP, 255 - RAMP, np.full_like(RAMP, 90))])

FORMATS = [
    "AVIF",
    "BMP",
    "DDS",
    "DIB",
    "GIF",
    "ICNS",
    "IM",
    "JPEG",
    "JPEG2000",
    "PCX",
    "PNG",
    "PPM",
    "QOI",
    "SGI",
    "TGA",
    "TIFF",
    "WEBP",
]


@pytest.mark.parametrize("kind", FORMATS)
def test_formats(kind):
    needed = {"AVIF": "avif", "JPEG2000": "jpg_2000", "WEBP": "webp"}.get(kind)
    if needed and not features.check(needed):
        pytest.skip(f"this Pillow was built without {kind}")
    image = COLOURS.resize((64, 64)) if kind == "ICNS" else COLOURS
    try:
        data = saved(image, kind)
    except (KeyError, OSError) as error:
        pytest.skip(f"this Pillow does not write {kind}: {error}")
    pixels = rgb(data).astype(int)
    assert pixels.shape[2] == 3
    if kind != "ICNS":
        assert np.abs(pixels - np.asarray(COLOURS)).mean() < (25 if kind == "GIF" else 3)


def test_grey_modes():
    expected = np.stack([RAMP] * 3, 2)
    grey = Image.fromarray(RAMP)
    for image in (grey, grey.convert("LA"), grey.convert("P"), grey.convert("RGB"), grey.convert("RGBA")):
        np.testing.assert_array_equal(rgb(saved(image)), expected)
    assert set(np.unique(rgb(saved(grey.convert("1"))))) == {0, 255}


def test_sixteen_bits():
    values = RAMP.astype(np.uint16) * 257
    for kind in ("PNG", "TIFF"):
        np.testing.assert_array_equal(rgb(saved(Image.fromarray(values), kind))[..., 0], RAMP)
    np.testing.assert_array_equal(rgb(saved(Image.fromarray(values.astype(np.int32)), "TIFF"))[..., 1], RAMP)
    big_endian = Image.frombytes("I;16B", (64, 48), values.astype(">u2").tobytes())
    np.testing.assert_array_equal(rgb(saved(big_endian, "TIFF"))[..., 1], RAMP)
    with pytest.raises(PictureError, match="32-bit values"):
        decode(saved(Image.fromarray(values.astype(np.int32) * 1000), "TIFF"), "x")


def test_floating_point():
    values = RAMP.astype(np.float32)
    np.testing.assert_array_equal(rgb(saved(Image.fromarray(values), "TIFF"))[..., 2], RAMP)
    np.testing.assert_array_equal(rgb(saved(Image.fromarray(values / 255), "TIFF"))[..., 2], RAMP)
    for bad in (np.float32(np.nan), np.float32(-1), np.float32(300)):
        with pytest.raises(PictureError, match="floating-point values"):
            decode(saved(Image.fromarray(np.where(values > 100, bad, values)), "TIFF"), "x")


def test_cmyk_ycbcr_and_lab():
    cmyk = rgb(saved(COLOURS.convert("CMYK"), "JPEG", quality=95)).astype(int)
    assert np.abs(cmyk - np.asarray(COLOURS)).mean() < 4
    lab = Image.merge("LAB", [Image.fromarray(RAMP), *(Image.new("L", (64, 48), 128) for _ in range(2))])
    grey = rgb(saved(lab, "TIFF")).astype(int)
    assert np.abs(grey - grey.mean(2, keepdims=True)).max() <= 3  # no colour
    assert np.all(np.diff(grey[0, :, 0]) >= 0)
    assert grey.min() < 5
    assert grey.max() > 240


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P"])
def test_what_is_transparent_is_white(mode):
    black = Image.new("RGBA", (8, 8), (0, 0, 0, 255))
    black.paste((0, 0, 0, 0), (0, 0, 4, 8))
    if mode == "P":
        image = Image.new("P", (8, 8), 1)
        image.putpalette([255, 0, 0, 0, 0, 0])
        image.paste(0, (0, 0, 4, 8))
        data = saved(image, transparency=0)
    else:
        data = saved(black.convert(mode), "TIFF" if mode == "PA" else "PNG") if mode != "PA" else saved(black)
    pixels = rgb(data)
    assert (pixels[:, :4] == 255).all()
    assert (pixels[:, 4:] == 0).all()


def test_a_transparent_colour_of_rgb_and_grey():
    assert (rgb(saved(Image.new("RGB", (4, 4), (9, 9, 9)), transparency=(9, 9, 9))) == 255).all()
    assert (rgb(saved(Image.new("L", (4, 4), 9), transparency=9)) == 255).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(kind, orientation):
    upright = np.zeros((32, 48, 3), np.uint8)
    upright[:16, :16] = 255  # white in the upper left
    turns = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }
    stored = Image.fromarray(np.ascontiguousarray(turns[orientation](upright)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = rgb(saved(stored, kind, exif=exif))
    assert pixels.shape == upright.shape
    assert np.abs(pixels.astype(int) - upright).mean() < 6


def test_damaged_exif_is_no_damaged_picture():
    data = saved(COLOURS, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff garbage")
    assert rgb(data).shape == (48, 64, 3)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_counts(kind):
    frames = [Image.new("RGB", (8, 8), c) for c in ("red", "blue")]
    pixels = rgb(saved(frames[0], kind, save_all=True, append_images=frames[1:]))
    assert pixels[0, 0, 0] > 200
    assert pixels[0, 0, 2] < 50


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(side):
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(99)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [14_000, 60_000, 2**31 - 1])
@pytest.mark.parametrize("limit", [Image.MAX_IMAGE_PIXELS, None])
def test_bombs_are_not_decoded(side, limit, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(PictureError, match="x: too large"):
            decode(bomb(side), "x")


def test_pillows_own_refusal_is_told_in_our_words(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(PictureError) as caught:
        decode(saved(COLOURS), "x")
    assert str(caught.value) == "x: too large (more than 178 million pixels)"


def test_what_has_no_end_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", "/dev/zero", tmp_path):
        with pytest.raises(PictureError, match=f"^{path}: not a file"):
            open_picture(path)
    with (tmp_path / "sparse.png").open("wb") as file:
        file.truncate(700 << 20)
    with pytest.raises(PictureError, match="larger than 256 MB"):
        open_picture(tmp_path / "sparse.png")
    with pytest.raises(PictureError, match=r"none\.png: cannot be read"):
        open_picture(tmp_path / "none.png")


def test_what_comes_otherwise_than_from_a_file_has_the_same_limit(monkeypatch):
    data = saved(COLOURS)
    assert open_picture(data)[1].size == open_picture(io.BytesIO(data))[1].size == (64, 48)
    monkeypatch.setattr(picture, "MAX_BYTES", len(data) - 1)
    for given_as in (data, io.BytesIO(data)):
        with pytest.raises(PictureError, match=r"^picture 1: larger than"):
            open_picture(given_as)


def test_large_pictures_below_the_limit_pass(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)  # Pillow would warn of these
    assert rgb(saved(COLOURS)).shape == (48, 64, 3)
    monkeypatch.setattr(picture, "MAX_PIXELS", 3000)
    with pytest.raises(PictureError, match="64 × 48 pixels"):
        decode(saved(COLOURS), "x")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
def test_what_is_cut_short_is_damaged(kind):
    data = saved(COLOURS.resize((200, 200)), kind)
    with pytest.raises(PictureError, match=r"^x: (damaged|not a picture)"):
        decode(data[: len(data) * 2 // 3], "x")


def test_what_is_no_picture():
    for data in (b"", b"hello", b"\xff\xd8\xff\xe0", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"):
        with pytest.raises(PictureError, match=r"^x: "):
            decode(data, "x")


@given(st.data())
def test_damage_never_ends_in_another_error(data):
    kind = data.draw(st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "ICO", "TGA", "PPM"]))
    raw = bytearray(saved(COLOURS, kind))
    for _ in range(data.draw(st.integers(1, 8))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        mode = decode(bytes(raw), "x").mode
    except PictureError:
        return
    assert mode == "RGB"


def test_drafts_are_large_enough_and_smaller():
    data = saved(COLOURS.resize((800, 600)), "JPEG")
    assert decode(data, "x", at_least=70).size == (100, 75)
    assert decode(data, "x", at_least=200).size == (400, 300)
    assert decode(data, "x", at_least=700).size == (800, 600)
    assert decode(data, "x").size == (800, 600)


def test_caffes_tench_is_read(shared: Path):
    file = shared / "data" / "imagenet-500" / "n01440764" / "n01440764_tench.jpg"
    assert decode(file.read_bytes(), "tench").mode == "RGB"
