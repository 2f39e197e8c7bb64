"""``squeezekit export``: a network in the format of others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from squeezekit.cli._options import Classes, Weights
from squeezekit.cli._output import only_json, print_json, results
from squeezekit.errors import UserError, suggest

if TYPE_CHECKING:
    from squeezekit.format import Model

EXAMPLE = """\
squeezekit export model.sqz --to onnx --out model.onnx
squeezekit export run/ --to onnx --out network.onnx
squeezekit export squeezenet1_1 --weights imagenet --to onnx --out network.onnx
"""

FORMATS = ("onnx",)


def export(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A .sqz, run folder, weight file, .onnx, or network with --weights."
        ),
    ],
    to: Annotated[str, typer.Option("--to", metavar="FORMAT", help="onnx.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write.")],
    classes: Classes = None,
    weights: Weights = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write a network in the format of others.

    onnx: an int8 .sqz becomes a file with QuantizeLinear and DequantizeLinear around its operators, which
    ONNX Runtime and OpenVINO run in integers; its input is the picture's bytes, uint8 (N, C, H, W). A float
    network becomes a float32 file; its input is prepared pictures (N, C, H, W). Class names and the
    preparation are in the file's metadata.
    """
    if to not in FORMATS:
        raise UserError(f"--to {to}: unknown{suggest(to, FORMATS)} ({', '.join(FORMATS)})")
    if out.is_dir():
        raise UserError(f"{out}: is a folder (name the file to write)")
    if not out.absolute().parent.is_dir():
        raise UserError(f"{out}: its folder does not exist")
    with only_json(as_json):
        from squeezekit.export import export_onnx

        network = load(model, classes, weights)
        size = export_onnx(network, out)
    kind = "int8" if network.graph.is_int8 else "float32"
    if as_json:
        print_json({"model": model, "to": to, "out": str(out), "precision": kind, "bytes": size})
        return
    results().print(f"{out}: {kind}, {size:,} bytes", highlight=False)


def load(model: str, classes: Path | None, weights: str | None) -> Model:
    """Read what the command line calls MODEL, whatever it is, as what a .sqz would hold."""
    from squeezekit.format import read

    if Path(model).suffix.lower() == ".sqz" and Path(model).is_file():
        for option, value in (("--classes", classes), ("--weights", weights)):
            if value is not None:
                raise UserError(f"{option}: {model} carries its own")
        return read(model)
    from squeezekit.format import Model
    from squeezekit.graph.from_torch import from_torch
    from squeezekit.train.classifier import Classifier, load_classifier
    from squeezekit.train.shipped import training_metadata

    found = load_classifier(model, classes=classes, weights=weights)
    if not isinstance(found, Classifier):
        raise UserError(f"{model}: an int8 file whose name does not end in .sqz (rename it)")
    preparation = found.preparation
    graph = from_torch(found.network.cpu(), (preparation.channels, preparation.size, preparation.size))
    known = found.classes.known
    return Model(
        graph,
        preparation.to_dict(),
        known.names if known else (),
        known.synsets if known else None,
        {"network": found.name, **training_metadata(found.training)},
    )
