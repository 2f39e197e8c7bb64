"""One picture and what a classifier said about it: what sheets, pages and tables show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture = Image.Image | NDArray[np.uint8]


@dataclass(frozen=True)
class Prediction:
    """A picture's name, its best classes, and the truth where it is known.

    Attributes
    ----------
    name
        What the picture is called, usually its file name. Shown shortened, never trusted.
    top
        ``(class name, probability)``, most probable first, probabilities from 0 to 1. At least one.
    truth
        The true class's name, or None when nobody knows.
    image
        A PIL image, or uint8 of shape (H, W), (H, W, 1) or (H, W, 3). None where only text is shown.
    """

    name: str
    top: Sequence[tuple[str, float]]
    truth: str | None = None
    image: Picture | None = None

    def __post_init__(self) -> None:
        if not self.top:
            raise ValueError(f"{self.name!r}: a prediction needs at least one class in `top`")

    @property
    def best(self) -> str:
        """The predicted class."""
        return self.top[0][0]

    @property
    def confidence(self) -> float:
        """The predicted class's probability."""
        return self.top[0][1]

    @property
    def right(self) -> bool | None:
        """Whether the predicted class is the true one; None when the truth is unknown."""
        return None if self.truth is None else self.truth == self.best


def as_image(picture: Picture) -> Image.Image:
    """Give the picture as PIL RGB, transparency laid on white.

    Raises
    ------
    ValueError
        When an array is not uint8 of shape (H, W), (H, W, 1) or (H, W, 3), or has no pixels.
    """
    if isinstance(picture, Image.Image):
        if "A" in picture.getbands() or "transparency" in picture.info:
            coloured = picture.convert("RGBA")
            white = Image.new("RGBA", picture.size, "white")
            return Image.alpha_composite(white, coloured).convert("RGB")
        return picture.convert("RGB")
    pixels = np.asarray(picture)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or pixels.shape[2:] == (3,)) or pixels.size == 0:
        raise ValueError(f"expected uint8 (H, W), (H, W, 1) or (H, W, 3), got {pixels.dtype} {pixels.shape}")
    return Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")


def thumbnail(picture: Picture, side: int) -> Image.Image:
    """Scale the picture, aspect kept, so that its longer side is `side` pixels.

    Tiny pictures (up to 64 pixels) are enlarged pixel by pixel, so that one sees what the network saw.
    """
    image = as_image(picture)
    width, height = image.size
    longer = max(width, height)
    size = (max(1, round(width * side / longer)), max(1, round(height * side / longer)))
    return image.resize(size, Image.Resampling.NEAREST if longer <= 64 else Image.Resampling.LANCZOS)
