"""Options that several commands share, so that a word means the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Classes", "Plot", "Weights"]

Classes = Annotated[
    Path | None, typer.Option(help="CSV (index, synset, name) for a weight file without class names.")
]
Weights = Annotated[str | None, typer.Option(help="Weights for a network's name: a file, or 'imagenet'.")]
Plot = Annotated[Path | None, typer.Option(metavar="PICTURE", help="Draw it: .png, .svg or .pdf.")]
