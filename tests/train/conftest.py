"""Small sets of pictures that a network learns in seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def coloured(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes folders of noisy pictures, red, green or blue by class."""

    def make(
        count: int = 30, classes: tuple[str, ...] = ("blue", "green", "red"), side: int = 32, seed: int = 0
    ) -> Path:
        root = tmp_path_factory.mktemp("pictures")
        random = np.random.default_rng(seed)
        for channel, name in enumerate(classes):
            folder = root / name
            folder.mkdir()
            for i in range(count):
                pixels = random.integers(0, 160, (side, side, 3), dtype=np.uint8)
                pixels[..., 2 - channel] += 80
                Image.fromarray(pixels).save(folder / f"{i:03}.png")
        return root

    return make
