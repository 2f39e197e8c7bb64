"""The preparation: how a picture becomes a network's input. It is part of the model, and travels with it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from squeezekit.errors import UserError, suggest

__all__ = ["CAFFE", "IMAGENET", "Preparation"]

Resize = Literal["short-side", "exact"]
Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
ChannelOrder = Literal["RGB", "BGR", "L"]


@dataclass(frozen=True)
class Preparation:
    """Size, crop, interpolation, mean, scale and channel order.

    Attributes
    ----------
    size : int
        Side of the square that the network sees, in pixels.
    resize : {"short-side", "exact"}
        Scale the shorter side to `resize_to` and keep the proportions; or squash the picture to a square of
        `resize_to`. Then the central square of `size` is cut out.
    resize_to : int
        Pixels, at least `size`.
    interpolation : {"bilinear", "bicubic", "nearest", "box", "hamming", "lanczos"}
        Pillow's filters, all of them antialiased but nearest.
    mean, scale : tuple of float
        ``x' = (x - mean) * scale`` a channel, for x in 0…255, in the order of `channel_order`.
    channel_order : {"RGB", "BGR", "L"}
        L is greyscale, one channel (ITU-R 601-2 luma).

    Raises
    ------
    UserError
        Values that make no sense.
    """

    size: int
    resize: Resize = "short-side"
    resize_to: int = 0
    interpolation: Interpolation = "bilinear"
    mean: tuple[float, ...] = (123.675, 116.28, 103.53)
    scale: tuple[float, ...] = (1 / 58.395, 1 / 57.12, 1 / 57.375)
    channel_order: ChannelOrder = "RGB"

    def __post_init__(self) -> None:
        object.__setattr__(self, "resize_to", self.resize_to or self.size)
        for name in ("size", "resize_to"):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= 4096:
                raise UserError(f"preparation: {name} is {value!r} (a whole number from 1 to 4096)")
        if self.resize_to < self.size:
            raise UserError(f"preparation: resize_to {self.resize_to} is less than size {self.size}")
        for name, choices in (
            ("resize", get_args(Resize)),
            ("interpolation", get_args(Interpolation)),
            ("channel_order", get_args(ChannelOrder)),
        ):
            value = getattr(self, name)
            if value not in choices:
                hint = suggest(str(value), choices)
                raise UserError(f"preparation: {name} is {value!r}{hint} (one of {', '.join(choices)})")
        for name in ("mean", "scale"):
            value = getattr(self, name)
            numbers = isinstance(value, (tuple, list)) and all(
                isinstance(x, (int, float)) and not isinstance(x, bool) and math.isfinite(x) for x in value
            )
            if not numbers or len(value) != self.channels:
                raise UserError(f"preparation: {name} is {value!r} ({self.channels} numbers, one a channel)")
            object.__setattr__(self, name, tuple(float(x) for x in value))

    @property
    def channels(self) -> int:
        """3, or 1 for greyscale."""
        return 1 if self.channel_order == "L" else 3

    def at(self, size: int) -> Preparation:
        """Return the same preparation for another input size, the crop in proportion (224 of 256 is 7/8)."""
        return replace(self, size=size, resize_to=max(size, round(size * self.resize_to / self.size)))

    def geometry(self, image: Image.Image) -> NDArray[np.uint8]:
        """Scale and crop.

        Parameters
        ----------
        image : PIL.Image.Image
            As :func:`squeezekit.data.picture.decode` returns it.

        Returns
        -------
        ndarray of uint8, shape (size, size, 3) or (size, size, 1)
            Red, green, blue whatever the channel order (:meth:`normalise` turns them), or grey.
        """
        picture = image.convert("L" if self.channel_order == "L" else "RGB")
        width, height = picture.size
        if self.resize == "exact":
            to = self.resize_to, self.resize_to
        elif width <= height:
            to = self.resize_to, int(self.resize_to * height / width)
        else:
            to = int(self.resize_to * width / height), self.resize_to
        if picture.size != to:
            picture = picture.resize(to, self.resample)
        # Half a pixel goes to the even side, as in torchvision: 256 - 227 leaves 14 before and 15 behind.
        left, top = round((to[0] - self.size) / 2), round((to[1] - self.size) / 2)
        if to != (self.size, self.size):
            picture = picture.crop((left, top, left + self.size, top + self.size))
        return np.asarray(picture, np.uint8).reshape(self.size, self.size, self.channels)

    @property
    def resample(self) -> Image.Resampling:
        """Pillow's name of the interpolation."""
        return Image.Resampling[self.interpolation.upper()]

    def normalise(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Subtract the mean and scale, with the channels in the network's order.

        Parameters
        ----------
        pixels : ndarray of uint8, shape (N, H, W, C) or (H, W, C)
            As :meth:`geometry` returns it.

        Returns
        -------
        ndarray of float32
            Of the same shape.
        """
        x = pixels[..., ::-1] if self.channel_order == "BGR" else pixels
        mean, scale = np.array(self.mean, np.float32), np.array(self.scale, np.float32)
        prepared: NDArray[np.float32] = (x.astype(np.float32) - mean) * scale
        return prepared

    def to_dict(self) -> dict[str, Any]:
        """Return what :meth:`from_dict` takes; can be written as JSON."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preparation:
        """Return the preparation that a configuration describes.

        Raises
        ------
        UserError
            A field is missing, unknown or makes no sense.
        """
        if not isinstance(values, Mapping):
            raise UserError(f"preparation: {values!r} is no table of settings")
        names = [f.name for f in fields(cls)]
        for key in values:
            if key not in names:
                raise UserError(f"preparation: unknown setting {key!r}{suggest(str(key), names)}")
        # All of them: a default that changed later must not change what a saved model means.
        for name in names:
            if name not in values:
                raise UserError(f"preparation: the setting {name!r} is missing")
        return cls(**values)


#: torchvision's for its published weights: short side 256, centre 224, mean and deviation of ImageNet.
IMAGENET = Preparation(size=224, resize_to=256)

#: Caffe's for the SqueezeNet authors' weights: squashed to 256 × 256, centre 227, BGR, the mean subtracted.
CAFFE = Preparation(
    size=227,
    resize="exact",
    resize_to=256,
    mean=(104.0, 117.0, 123.0),
    scale=(1.0, 1.0, 1.0),
    channel_order="BGR",
)
