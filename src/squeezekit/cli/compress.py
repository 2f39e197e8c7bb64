"""``squeezekit compress``: a trained network in, one small file out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from squeezekit.cli._options import Classes, Preparation, Weights
from squeezekit.cli._output import only_json, print_json, results, save_figure, warn

EXAMPLE = """\
squeezekit compress run/ --data photos/ --out model.sqz --max-bytes 100k
squeezekit compress squeezenet.net --classes names.csv --data photos/ --out model.sqz
squeezekit compress network.onnx --data photos/ --out model.sqz --max-drop 0.5
squeezekit compress run/ --data photos/ --out sizes/ --sweep
squeezekit compress run/ --data photos/ --out model.sqz --method deep-compression --bits 5
"""


def compress(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="Run folder, weight file, .onnx, or network with --weights."),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The .sqz to write; with --sweep, a folder for all of them.")
    ],
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="Pictures of the kind: a folder, .zip or .tar, with class folders or without.",
        ),
    ] = None,
    method: Annotated[str, typer.Option(help="best, deep-compression, pruning or svd.")] = "best",
    max_bytes: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Size of the whole file: 400k, 0.5M, 96000.")
    ] = None,
    max_drop: Annotated[float | None, typer.Option(help="Points of top-1 accuracy that may be lost.")] = None,
    sweep: Annotated[
        bool,
        typer.Option(
            "--sweep", help="Try a row of sizes: a table, a plot, and every file if --out is a folder."
        ),
    ] = False,
    sparsity: Annotated[
        float | None, typer.Option(help="Share of weights to be zero (pruning, deep-compression).")
    ] = None,
    bits: Annotated[
        int | None, typer.Option(help="Of the shared values of a layer (deep-compression).")
    ] = None,
    initialisation: Annotated[
        str | None, typer.Option(help="Of k-means: linear, density or random (deep-compression).")
    ] = None,
    energy: Annotated[
        float | None, typer.Option(help="Share of a layer's sum of squares to keep (svd).")
    ] = None,
    effort: Annotated[str, typer.Option(help="low, default or high.")] = "default",
    coding: Annotated[
        str, typer.Option(help="range (smaller) or huffman (a few times quicker to open).")
    ] = "range",
    classes: Classes = None,
    weights: Weights = None,
    preparation: Preparation = None,
    pictures: Annotated[int, typer.Option(min=1, help="To calibrate on, at most.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice of pictures and of the method.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make one small file of a trained network: int8 throughout, coded to a few bits a weight.

    Without --max-bytes and --max-drop the file is as small as it can be before answers change visibly. DATA
    calibrates, and pictures of it that do not are what the figures are measured on. With --max-drop a third
    of these chooses the size, and the figures are of the others.
    """
    from squeezekit.compress.compress import compress as shrink
    from squeezekit.graph.cost import parse_size

    expected = "(expected a size such as 96000, 400k or 0.5MB)"
    limit = None if max_bytes is None else parse_size(max_bytes, f"--max-bytes {max_bytes}", expected)
    with only_json(as_json):
        done = shrink(
            model,
            out,
            data,
            method=method,  # type: ignore[arg-type]
            max_bytes=limit,
            max_drop=max_drop,
            sweep=sweep,
            sparsity=sparsity,
            bits=bits,
            initialisation=initialisation,  # type: ignore[arg-type]
            energy=energy,
            effort=effort,
            coding=coding,  # type: ignore[arg-type]
            classes=classes,
            weights=weights,
            preparation=preparation,
            most_pictures=pictures,
            seed=seed,
            warn=warn,
        )
    every = Path(done.out) != out  # the sweep's folder holds all files, and its curve
    plot = out / "sweep.png" if every else out.with_suffix(".sweep.png")
    if sweep:
        from squeezekit.report.rate_accuracy import rate_accuracy_plot

        save_figure(plot, rate_accuracy_plot(model, {method: done.attempts}))
    if as_json:
        print_json({"model": model, "data": data, **done.to_dict()})
        return
    from squeezekit.report.compression import compression_table, stages_table, tried_table

    console = results()
    console.print(compression_table(model, done.to_dict()))
    if done.stages is not None:
        console.print(stages_table(done.stages))
    if len(done.attempts) > 1:
        console.print(tried_table(done.attempts))
    if sweep:
        kept = f"all are in {out}" if every else f"{done.out} is one of them (--out FOLDER writes them all)"
        console.print(f"{kept}; the curve: {plot}", markup=False, highlight=False)
