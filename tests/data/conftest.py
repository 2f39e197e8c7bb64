"""Small image folders, made for each test."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PhotoFolder = Callable[..., Path]


def picture_bytes(seed: int = 0, size: tuple[int, int] = (12, 10), kind: str = "PNG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


@pytest.fixture(name="picture_bytes")
def _picture_bytes() -> Callable[..., bytes]:
    return picture_bytes


@pytest.fixture
def photos(tmp_path: Path) -> PhotoFolder:
    """Write pictures under the given paths (and empty files where a path is no picture)."""

    def make(*paths: str, root: str = "photos") -> Path:
        folder = tmp_path / root
        for seed, path in enumerate(paths):
            file = folder / path
            if path.endswith("/"):
                file.mkdir(parents=True, exist_ok=True)
                continue
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(picture_bytes(seed) if file.suffix.lower() in (".png", ".jpg") else b"")
        return folder

    return make
