"""Options that several commands share, so that a word means the same everywhere."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from squeezekit.errors import UserError

__all__ = ["Classes", "Mirror", "Plot", "Preparation", "Weights", "metaparameters"]

Classes = Annotated[
    Path | None, typer.Option(help="CSV (index, synset, name) for a weight file without class names.")
]
Weights = Annotated[str | None, typer.Option(help="Weights for a network's name: a file, or 'imagenet'.")]
Preparation = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        help="Of the pictures for an .onnx: imagenet, caffe, or a JSON file of its fields.",
    ),
]
Mirror = Annotated[
    bool, typer.Option("--mirror", help="Average with the mirror image's answers: twice the work.")
]
Plot = Annotated[Path | None, typer.Option(metavar="PICTURE", help="Draw it: .png, .svg or .pdf.")]


def metaparameters(words: Iterable[str] | None) -> dict[str, Any]:
    """Read what ``--set`` was given: ``NAME=VALUE`` with a number, a boolean, a tuple, or else a word.

    Raises
    ------
    UserError
        A word is nothing of the kind.
    """
    return dict(_metaparameter(word) for word in words or ())


def _metaparameter(word: str) -> tuple[str, Any]:
    name, equals, value = word.partition("=")
    if not equals or not name.isidentifier():
        raise UserError(f"--set {word}: expected NAME=VALUE, such as --set squeeze_ratio=0.25")
    try:
        # Not none: that is a word, of bypass.
        return name, ast.literal_eval({"true": "True", "false": "False"}.get(value.lower(), value))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return name, value
