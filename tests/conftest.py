"""What every test may use: the shared data beside the checkout, and one thread a process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Tests run side by side (pytest-xdist), where torch's threads would only fight. Set before torch loads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No deadline: a busy CI machine would fail tests at random. Derandomised: the same examples on every machine.
settings.register_profile("squeezekit", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("squeezekit")

SHARED = Path(os.environ.get("SQUEEZEKIT_SHARED", Path(__file__).resolve().parents[1].parent / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of shared pictures and weights (``../shared``), or skip where a checkout has none."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is absent (shared pictures and weights; or set SQUEEZEKIT_SHARED)")
    return SHARED
