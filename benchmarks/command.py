"""The commands that a user types, for scripts that measure what they give."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any


def squeezekit(*words: str) -> dict[str, Any]:
    """Run a command and return what it prints with ``--json``."""
    done = subprocess.run(
        [sys.executable, "-m", "squeezekit", *words, "--json"], stdout=subprocess.PIPE, text=True, check=True
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
