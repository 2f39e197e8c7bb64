"""``squeezekit predict``: what is on these pictures?"""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from squeezekit.cli._options import Classes, Mirror, Preparation, Weights
from squeezekit.cli._output import note, only_json, print_json, progress, results, warn
from squeezekit.errors import UserError

EXAMPLE = """\
squeezekit predict model.sqz cat.jpg
squeezekit predict run/ holiday/ --top 3 --out sheet.png
curl -s https://example.org/cat.jpg | squeezekit predict run/ - --json
"""


def predict(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A .sqz, run folder, weight file, or name with --weights.")
    ],
    pictures: Annotated[
        list[str],
        typer.Argument(metavar="PICTURE...", help="Files, folders, patterns, or - for standard input."),
    ],
    top: Annotated[int, typer.Option(min=1, help="How many answers.")] = 5,
    mirror: Mirror = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Draw a sheet: png, jpg, webp or pdf.")
    ] = None,
    classes: Classes = None,
    weights: Weights = None,
    preparation: Preparation = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what is on pictures: the most probable classes with their probabilities.

    A picture that cannot be read is named and skipped; the exit code is then 2. An int8 .sqz needs no
    PyTorch.
    """
    from squeezekit.report.sheet import save_prediction_sheet, sheet_format

    if out is not None:
        sheet_format(out)  # a format that cannot be written is told before any work is done
        if not out.absolute().parent.is_dir():
            raise UserError(f"{out}: its folder does not exist")
    from squeezekit.train.predict import load
    from squeezekit.train.predict import predict as classify

    with only_json(as_json):
        classifier = load(model, classes=classes, weights=weights, preparation=preparation)
        names = list(find(pictures))
        broken: list[str] = []

        def skip(error: UserError) -> None:
            broken.append(str(error))
            warn(str(error))

        with progress("predicting") as advance:
            found = classify(
                classifier,
                names,
                top=top,
                mirror=mirror,
                on_error=skip,
                progress=advance,
                thumbnails=out is not None,
            )
    if not found:
        raise UserError(f"{' '.join(pictures)}: no picture could be read")
    if out is not None:
        save_prediction_sheet(out, found)
        note(f"sheet: {out}")
    if as_json:
        print_json(
            [{"picture": p.name, "top": [{"class": c, "probability": s} for c, s in p.top]} for p in found]
        )
    else:
        from squeezekit.report.tables import predictions_table

        results().print(predictions_table(found))
    if broken:
        raise typer.Exit(2)


def find(words: list[str]) -> Iterator[str | bytes]:
    """Yield the pictures that the words mean: files as they are, of folders and patterns what they hold."""
    from squeezekit.data.listing import is_hidden, is_picture_name

    for word in words:
        if word == "-":
            content = sys.stdin.buffer.read()
            if not content:
                raise UserError("-: nothing came on standard input")
            yield content
        elif os.path.isdir(word):
            inside = sorted(
                os.path.join(folder, name)
                for folder, _, names in os.walk(word)
                for name in names
                if is_picture_name(name) and not is_hidden(name)
            )
            if not inside:
                raise UserError(f"{word}: no pictures in this folder")
            yield from inside
        elif os.path.exists(word):
            yield word
        else:
            matches = sorted(glob.glob(word, recursive=True)) if glob.has_magic(word) else []
            files = [m for m in matches if os.path.isfile(m)]
            if not files:
                raise UserError(f"{word}: no such picture")
            yield from files
