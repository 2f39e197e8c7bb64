"""``squeezekit compress``: a trained network in, one small file out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from squeezekit.cli._output import only_json, print_json, results, warn
from squeezekit.errors import UserError

if TYPE_CHECKING:
    from squeezekit.compress.compress import Compression

EXAMPLE = """\
squeezekit compress run/ --data photos/ --out model.sqz --max-bytes 100k
squeezekit compress squeezenet.net --classes names.csv --data photos/ --out model.sqz
squeezekit compress network.onnx --data photos/ --out model.sqz --max-drop 0.5
squeezekit compress run/ --data photos/ --out model.sqz --method deep-compression
"""


def compress(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="Run folder, weight file, .onnx, or network with --weights."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The .sqz to write.")],
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DATA", help="Pictures of the kind: a folder, .zip or .tar. Labels are not needed."
        ),
    ] = None,
    method: Annotated[str, typer.Option(help="best, deep-compression, pruning or svd.")] = "best",
    max_bytes: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Size of the whole file: 400k, 0.5M, 96000.")
    ] = None,
    max_drop: Annotated[
        float | None, typer.Option(help="Points of top-1 accuracy that may be lost on DATA.")
    ] = None,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Try a row of sizes; a table, and a plot beside the file.")
    ] = False,
    effort: Annotated[str, typer.Option(help="low, default or high.")] = "default",
    classes: Annotated[
        Path | None, typer.Option(help="CSV (index, synset, name) for a weight file without class names.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Weights for a network's name: a file, or 'imagenet'.")
    ] = None,
    pictures: Annotated[int, typer.Option(min=1, help="To calibrate on, at most.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice of pictures and of the method.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make one small file of a trained network: int8 throughout, coded to a few bits a weight.

    Without --max-bytes and --max-drop the file is as small as it can be before answers change visibly. DATA
    calibrates, and pictures of it that do not are what the figures are measured on.
    """
    from squeezekit.compress.compress import compress as shrink

    limit = None if max_bytes is None else parse_bytes(max_bytes)
    with only_json(as_json):
        done = shrink(
            model,
            out,
            data,
            method=method,  # type: ignore[arg-type]
            max_bytes=limit,
            max_drop=max_drop,
            sweep=sweep,
            effort=effort,
            classes=classes,
            weights=weights,
            most_pictures=pictures,
            seed=seed,
            warn=warn,
        )
    plot = out.with_suffix(".sweep.png") if sweep else None
    if plot is not None:
        from squeezekit.files import write_atomically
        from squeezekit.report.rate_accuracy import rate_accuracy_plot

        figure = rate_accuracy_plot(model, {method: done.attempts})
        with write_atomically(plot) as temporary:
            figure.savefig(temporary, dpi=160)
    if as_json:
        print_json({"model": model, "data": data, **done.to_dict()})
        return
    _print(model, done)
    if plot is not None:
        results().print(f"the curve: {plot}")


def parse_bytes(text: str) -> int:
    """Read a size: 96000, 400k, 0.5MB."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([kKmM]?)[bB]?\s*", text)
    if not found:
        raise UserError(f"--max-bytes {text}: not a size (such as 96000, 400k or 0.5M)")
    return round(float(found[1]) * {"": 1, "k": 1000, "m": 1_000_000}[found[2].lower()])


def _print(model: str, done: Compression) -> None:
    from rich.table import Table

    console = results()
    table = Table(title=f"{model} → {done.out}", title_justify="left", show_header=False, box=None)
    table.add_row(
        "file",
        f"{done.bytes:,} bytes (float32: {done.original_bytes:,}, 1/{done.original_bytes / done.bytes:.1f})",
    )
    table.add_row("a weight", f"{done.bits_per_weight:.2f} bits")
    if done.agreement is not None:
        table.add_row(
            "same answer", f"{done.agreement:.1%} of {done.judged:,} pictures that were not calibrated on"
        )
    if done.top1 is not None and done.original_top1 is not None:
        table.add_row("top-1", f"{done.top1:.1%} (original {done.original_top1:.1%})")
    if done.top5 is not None and done.original_top5 is not None:
        table.add_row("top-5", f"{done.top5:.1%} (original {done.original_top5:.1%})")
    table.add_row("time", f"{done.seconds:.0f} s")
    console.print(table)
    if len(done.attempts) > 1:
        tried = Table("bytes", "same answer", "top-1", title="tried", title_justify="left", box=None)
        for row in done.attempts:
            shares = [row.get("agreement"), row.get("top1")]
            tried.add_row(f"{row['bytes']:,}", *("" if s is None else f"{s:.1%}" for s in shares))
        console.print(tried)
