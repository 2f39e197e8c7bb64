"""Pictures that the commands are tried on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def tinted(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes folders of noisy pictures, red, green and blue: `count` of each, the stronger the `tint` the
    easier to tell.
    """

    def make(count: int, size: tuple[int, int] = (32, 32), tint: int = 40) -> Path:
        root = tmp_path_factory.mktemp("photos")
        random = np.random.default_rng(0)
        for channel, name in enumerate(("red", "green", "blue")):
            (root / name).mkdir()
            for i in range(count):
                pixels = random.integers(0, 240 - tint, (*size, 3), dtype=np.uint8)
                pixels[..., channel] += tint
                Image.fromarray(pixels).save(root / name / f"{i:03}.png")
        return root

    return make
