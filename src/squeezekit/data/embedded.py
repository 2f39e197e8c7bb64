"""Data sets that come with the installed packages."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from squeezekit.data.listing import Listing, ListingBuilder
from squeezekit.errors import UserError

__all__ = ["EMBEDDED", "EmbeddedPlace"]

#: Name and description.
EMBEDDED = {"digits": "1797 handwritten digits, 8 × 8 greyscale (UCI, as scikit-learn ships them)"}


class EmbeddedPlace:
    """The handwritten digits, as PNG files that exist only while they are read."""

    may_be_wrapped = False

    def __init__(self, name: str) -> None:
        self.name = name
        try:
            from sklearn.datasets import load_digits
        except ImportError:
            raise UserError(f"{name}: needs scikit-learn (pip install 'squeezekit[train]')") from None
        digits: Any = load_digits()
        # Ink is 0…16 there; here it is 0…255.
        self._pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
        self._labels = digits.target.astype(np.int64)

    def find(self) -> Listing:
        """List the digits by class, numbered within each."""
        builder = ListingBuilder({"source": np.int64})
        for label in range(10):
            for number, source in enumerate(np.flatnonzero(self._labels == label).tolist()):
                builder.add(str(label), f"{number:04d}.png", source=source)
        return builder.build()

    def read(self, listing: Listing, row: int) -> bytes:
        """Return a digit as PNG."""
        file = io.BytesIO()
        Image.fromarray(self._pixels[int(listing.columns["source"][row])]).save(file, "PNG", compress_level=1)
        return file.getvalue()

    def size(self, listing: Listing, row: int) -> int:  # noqa: ARG002
        """Return about how long such a PNG is."""
        return 100
