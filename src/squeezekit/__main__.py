"""``python -m squeezekit`` is the command line."""

from __future__ import annotations

from squeezekit.cli.main import run

run()
