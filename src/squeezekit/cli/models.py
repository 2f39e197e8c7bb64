"""``squeezekit models``: which networks there are, how large they are and what they look at."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated, Any

import typer

from squeezekit.cli._output import print_json, results

if TYPE_CHECKING:
    from squeezekit.models.registry import ModelSpec

EXAMPLE = """\
squeezekit models
squeezekit models squeezenet1_1 --json
"""


def models(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A network to describe.")] = None,
    classes: Annotated[int, typer.Option(min=1, help="Count the parameters for this many classes.")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the networks with their parameters, size and input, or describe one of them.

    The size is that of the parameters as float32, before any compression.
    """
    from squeezekit.models.registry import list_models, model_spec

    if name is None:
        rows = [_row(model_spec(each), classes) for each in list_models()]
        print_json(rows) if as_json else _print_table(rows, classes)
    else:
        spec = model_spec(name)
        row = {**_row(spec, classes), "metaparameters": dict(spec.metaparameters), "text": _text(spec)}
        print_json(row) if as_json else _print_one(row, classes)


def _row(spec: ModelSpec, classes: int) -> dict[str, Any]:
    parameters = _count_parameters(spec.name, classes)
    return {
        "name": spec.name,
        "parameters": parameters,
        "megabytes": round(4 * parameters / 1e6, 3),
        "input": spec.input_size,
        "paper": spec.paper,
    }


def _count_parameters(name: str, classes: int) -> int:
    """Build the network from shapes alone, without memory or values, and count."""
    import torch

    from squeezekit.models import create_model

    with torch.device("meta"):
        network = create_model(name, num_classes=classes)
    return sum(parameter.numel() for parameter in network.parameters())


def _text(spec: ModelSpec) -> str:
    """Take the first paragraph of what the builder says of itself."""
    return " ".join((inspect.getdoc(spec.builder) or "").partition("\n\n")[0].split())


def _print_table(rows: list[dict[str, Any]], classes: int) -> None:
    from rich.table import Table

    table = Table(
        "network", caption=f"parameters for {classes} classes; MB as float32", caption_justify="left"
    )
    for heading in ("parameters", "MB", "input"):
        table.add_column(heading, justify="right")
    table.add_column("paper")
    for row in rows:
        table.add_row(
            row["name"],
            f"{row['parameters']:,}",
            f"{row['megabytes']:.2f}",
            f"{row['input']} × {row['input']}",
            row["paper"],
        )
    results().print(table)


def _print_one(row: dict[str, Any], classes: int) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_row("parameters", f"{row['parameters']:,} for {classes} classes")
    table.add_row("size", f"{row['megabytes']:.2f} MB as float32")
    table.add_row("input", f"{row['input']} × {row['input']}")
    table.add_row("paper", row["paper"])
    for label, (key, default) in zip(
        ["metaparameters"] + [""] * len(row["metaparameters"]), row["metaparameters"].items(), strict=False
    ):
        table.add_row(label, Text(f"{key} = {default!r}"))
    console = results()
    console.print(Text(row["name"], style="bold"))
    console.print(Text(row["text"]))
    console.print(table)
