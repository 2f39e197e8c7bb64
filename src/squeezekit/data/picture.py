"""From a file's bytes to an upright RGB picture, whatever Pillow's format and mode."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import warnings
from functools import cache
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from squeezekit.data.listing import NOT_DECODED
from squeezekit.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MAX_BYTES", "MAX_PIXELS", "Picture", "PictureError", "decode", "open_picture", "read_file"]

#: What stands for a picture: path, content, PIL image, uint8 array (H, W, 3), open binary file.
Picture: TypeAlias = "str | os.PathLike[str] | bytes | Image.Image | NDArray[np.uint8] | BinaryIO"

#: Larger files are not read: 256 MB.
MAX_BYTES = 1 << 28

#: Larger pictures are not decoded: 179 million pixels, where Pillow too speaks of a decompression bomb. A few
#: hundred bytes of PNG may claim any size, so this is checked in the header, before any pixel is decoded.
MAX_PIXELS = 2 * (1 << 30) // 12

# Between half of that and that, Pillow prints a warning; the check below is the one that counts. A filter
# once for the process, since warnings.catch_warnings is not safe with threads.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning, module=r"PIL\.Image")


_ORIENTATION = 0x0112  # EXIF's tag


# The kinds that nearly all pictures are, by their first bytes. They are opened without loading the many other
# decoders of Pillow, which takes longer than the decoding.
_FREQUENT = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG"}


class PictureError(UserError):
    """A file that is no picture, or a broken or oversized one."""


def open_picture(picture: Picture, number: int = 0) -> tuple[str, Image.Image]:
    """Open whatever stands for a picture.

    Parameters
    ----------
    picture : path, bytes, PIL image, uint8 array (H, W) or (H, W, 3), open binary file
    number : int
        Its place in a list: what has no name is called ``picture 1``, ``picture 2``, …

    Returns
    -------
    name : str
    image : PIL.Image.Image
        Mode RGB.

    Raises
    ------
    PictureError
        It cannot be read, or is none.
    """
    name = f"picture {number + 1}"
    if isinstance(picture, (str, os.PathLike)):
        name = os.fspath(picture)
        return name, decode(read_file(name, name), name)
    if isinstance(picture, bytes):
        return name, decode(_not_too_long(picture, name), name)
    if isinstance(picture, Image.Image):
        stream = io.BytesIO()  # one way in: modes and rotation are seen to in one place
        picture.save(stream, "PNG" if picture.mode != "CMYK" else "TIFF", exif=picture.getexif())
        return name, decode(stream.getvalue(), name)
    if isinstance(picture, np.ndarray):
        plausible = picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] in (1, 3, 4))
        if picture.dtype != np.uint8 or not plausible or picture.size == 0:
            raise PictureError(
                f"{name}: an array of {picture.dtype}, shape {picture.shape} (expected uint8, H x W x 3)"
            )
        pixels = picture[:, :, 0] if picture.shape[2:] == (1,) else picture
        return name, Image.fromarray(pixels).convert("RGB")
    if not hasattr(picture, "read"):
        raise PictureError(
            f"{name}: {type(picture).__name__} is no picture (path, bytes, PIL image, uint8 array, file)"
        )
    return str(getattr(picture, "name", name)), decode(_not_too_long(picture.read(), name), name)


def read_file(path: str, name: str) -> bytes:
    """Read a picture file.

    Parameters
    ----------
    path : str
    name : str
        What errors call it.

    Raises
    ------
    PictureError
        It cannot be read, is no regular file, or larger than :data:`MAX_BYTES`.
    """
    try:
        # A pipe or a device may never come to its end, or not even open.
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116
            raise PictureError(f"{name}: not a file (a folder, pipe or device)")
        with open(path, "rb") as file:  # noqa: PTH123 (as the user wrote it)
            return _not_too_long(file.read(MAX_BYTES + 1), name)
    except OSError as error:
        raise PictureError(f"{name}: cannot be read ({error.strerror})") from error


def _not_too_long(data: bytes, name: str) -> bytes:
    if len(data) > MAX_BYTES:
        raise PictureError(f"{name}: larger than {MAX_BYTES >> 20} MB (no picture file is)")
    return data


def decode(data: bytes, name: str, *, at_least: int | None = None) -> Image.Image:
    """Decode a picture file.

    The first frame of an animation counts. EXIF orientation is applied. What is transparent is laid on white.
    Greyscale, palette, CMYK, YCbCr and LAB pictures become RGB; 16-bit greyscale is divided by 257, so that
    white stays white; floating-point greyscale is taken to be 0…1, or 0…255 where a value is above 1.

    Parameters
    ----------
    data : bytes
        The file's content.
    name : str
        What errors call it.
    at_least : int, optional
        Allow a smaller picture, as long as no side that was at least this long gets shorter than it. JPEG
        then decodes up to eight times fewer pixels a side, and much faster, but not quite to the same values:
        for training, not for evaluation.

    Returns
    -------
    PIL.Image.Image
        Mode RGB.

    Raises
    ------
    PictureError
        Not a picture, damaged, cut short, or more than :data:`MAX_PIXELS` pixels.
    """
    try:
        with _identify(data) as file:
            width, height = file.size
            if width * height > MAX_PIXELS:
                raise PictureError(_too_large(name, width, height))
            if at_least is not None:
                file.draft(None, (at_least, at_least))
            file.load()
            if file.width * file.height > MAX_PIXELS:  # containers like ICO learn their size only now
                raise PictureError(_too_large(name, file.width, file.height))
            return _to_rgb(_upright(file), name)
    except PictureError:
        raise
    except UnidentifiedImageError as error:
        raise PictureError(f"{name}: not a picture that Pillow can read") from error
    except Image.DecompressionBombError as error:
        raise PictureError(f"{name}: too large (more than {MAX_PIXELS // 10**6} million pixels)") from error
    # Pillow's decoders meet damage with almost any exception: OSError, SyntaxError, struct.error, …
    except Exception as error:
        reason = str(error).strip() or type(error).__name__
        raise PictureError(f"{name}: damaged ({reason.splitlines()[0]})") from error


def _identify(data: bytes) -> Image.Image:
    for start, kind in _FREQUENT.items():
        if data.startswith(start):
            with contextlib.suppress(UnidentifiedImageError):
                return Image.open(io.BytesIO(data), formats=(kind,))
    return Image.open(io.BytesIO(data), formats=_formats())


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    kinds = sorted(kind for kind in Image.OPEN if kind not in NOT_DECODED)
    # Pillow tries them one after the other, so the frequent ones come first.
    return tuple(sorted(kinds, key=lambda kind: kind not in ("JPEG", "PNG", "WEBP")))


def _too_large(name: str, width: int, height: int) -> str:
    return f"{name}: too large ({width} × {height} pixels, at most {MAX_PIXELS // 10**6} million)"


def _upright(image: Image.Image) -> Image.Image:
    try:
        # Asked first, since exif_transpose copies the picture even where there is nothing to turn.
        return ImageOps.exif_transpose(image) if image.getexif().get(_ORIENTATION, 1) != 1 else image
    except Exception:  # damaged EXIF says nothing about the pixels
        return image


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    mode = image.mode
    if mode == "RGB" and not image.has_transparency_data:
        return image
    if mode.startswith("I"):  # I;16, I;16B, I
        return _from_integers(np.asarray(image, dtype=np.int64), name)
    if mode == "F":
        return _from_floats(np.asarray(image, dtype=np.float64), name)
    if mode == "LAB":
        return _from_lab(image)
    if image.has_transparency_data:
        picture = image.convert("RGBA")
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, picture).convert("RGB")
    return image.convert("RGB")


def _grey(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.rint(values).astype(np.uint8)).convert("RGB")


def _from_integers(values: np.ndarray, name: str) -> Image.Image:
    if values.size and (values.min() < 0 or values.max() > 65535):
        raise PictureError(f"{name}: 32-bit values outside 0…65535 (save it with 8 or 16 bits)")
    return _grey(values / 257)


def _from_floats(values: np.ndarray, name: str) -> Image.Image:
    # Not <=, so that NaN is refused too.
    if not (values.min() >= 0 and values.max() <= 255):
        raise PictureError(f"{name}: floating-point values outside 0…255 (save it with 8 or 16 bits)")
    return _grey(values * 255 if values.max() <= 1 else values)


def _from_lab(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    turn = ImageCms.buildTransform(
        ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB"
    )
    converted = ImageCms.applyTransform(image, turn)
    assert converted is not None  # None only when it works in place
    return converted
