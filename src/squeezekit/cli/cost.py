"""``squeezekit cost``: what a network costs, layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from squeezekit.cli._options import Plot
from squeezekit.cli._output import check_plot, only_json, print_json, results, save_figure
from squeezekit.errors import UserError

if TYPE_CHECKING:
    from squeezekit.graph.cost import Cost, Fit
    from squeezekit.graph.graph import Graph

EXAMPLE = """\
squeezekit cost squeezenet1_1
squeezekit cost efficientnet_b0 --input 240 --json
squeezekit cost run/ --fits flash=1MB,ram=512KB
"""


def cost(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Network's name, run folder, weight file, .onnx or .sqz.")
    ],
    input_size: Annotated[
        int | None, typer.Option("--input", min=1, max=16384, help="Side of the pictures in pixels.")
    ] = None,
    classes: Annotated[int, typer.Option(min=1, help="Classes, for a network's name.")] = 1000,
    fits: Annotated[
        str | None, typer.Option(metavar="MEMORY", help="10MB, or flash=1MB,ram=512KB: does it fit?")
    ] = None,
    plot: Plot = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Count parameters, multiplications, bytes and memory of a network, layer by layer.

    MACs are the multiply-accumulates of convolutions and linear layers for one picture. Memory is that of all
    values needed at once, each in its place in one buffer. A float network is counted as it would run, batch
    norm folded, in float32 and in int8.
    """
    from squeezekit.graph.cost import cost as count
    from squeezekit.graph.cost import fits as check
    from squeezekit.graph.cost import parse_memory

    memory = parse_memory(fits) if fits is not None else {}
    check_plot(plot)
    with only_json(as_json):
        graph = load_graph(model, input_size, classes)
    counted = [count(graph)] if graph.is_int8 else [count(graph, "float32"), count(graph, "int8")]
    answers: dict[str, list[Fit]] = {each.precision: check(each, memory) for each in counted}
    if plot is not None:
        from squeezekit.report.cost import cost_plot

        save_figure(plot, cost_plot(model, counted[0].to_dict()))
    if as_json:
        print_json(_plain(model, counted, answers))
    else:
        _print(model, counted, answers)


def load_graph(model: str, input_size: int | None, classes: int) -> Graph:
    """Read what the command line calls MODEL as a graph; of a network in torch the shapes alone."""
    path = Path(model)
    suffix = path.suffix.lower()
    if path.is_file() and suffix in (".onnx", ".sqz"):
        graph = _stored(path, suffix, input_size)
        if input_size is not None and graph.input.shape[1:] != (input_size, input_size):
            made_for = " × ".join(map(str, graph.input.shape[1:]))
            raise UserError(f"--input {input_size}: {path} is made for pictures of {made_for}")
        return graph
    import torch

    from squeezekit.graph.from_torch import from_torch
    from squeezekit.models import build, check_picture_size

    config, size = _configuration(model, classes)
    size = input_size or size
    check_picture_size(config, size)
    with torch.device("meta"):
        network = build(config)
    return from_torch(network, (config["in_channels"], size, size))


def _stored(path: Path, suffix: str, input_size: int | None) -> Graph:
    if suffix == ".onnx":
        from squeezekit.graph.from_onnx import from_onnx

        return from_onnx(path, input_size)
    from importlib import import_module

    graph: Graph = import_module("squeezekit.format").read(path).graph
    return graph


def _configuration(model: str, classes: int) -> tuple[dict[str, Any], int]:
    """Return a network's configuration and the size of its pictures, without its weights."""
    from squeezekit.errors import suggest
    from squeezekit.models import list_models, model_spec
    from squeezekit.models.checkpoint import is_checkpoint, read_checkpoint_config
    from squeezekit.train.origin import checkpoint_origin, origin, weights_file

    if not Path(model).exists():
        if model not in list_models():
            raise UserError(
                f"{model}: no such network, run folder or file{suggest(model, list_models())} "
                "(squeezekit models lists the networks)"
            )
        return _named(model, {}, classes), model_spec(model).input_size
    path = weights_file(model)
    if path.suffix == ".safetensors" and is_checkpoint(path):
        config = read_checkpoint_config(path)
        return config["model"], checkpoint_origin(config).preparation.size
    found = origin(path)
    return _named(found.name, found.metaparameters, classes), found.preparation.size


def _named(name: str, metaparameters: dict[str, Any], classes: int) -> dict[str, Any]:
    return {"name": name, "num_classes": classes, "in_channels": 3, "metaparameters": metaparameters}


def _plain(model: str, counted: list[Cost], answers: dict[str, list[Fit]]) -> dict[str, Any]:
    return {
        "model": model,
        "parameters": counted[0].parameters,
        "macs": counted[0].macs,
        "precisions": {each.precision: each.to_dict() for each in counted},
        "fits": [
            {
                "precision": precision,
                "what": fit.what,
                "memory": fit.memory,
                "needed": fit.needed,
                "available": fit.available,
                "fits": fit.holds,
            }
            for precision, fits in answers.items()
            for fit in fits
        ],
    }


def _print(model: str, counted: list[Cost], answers: dict[str, list[Fit]]) -> None:
    from squeezekit.report.cost import cost_table, totals_table
    from squeezekit.report.style import size

    console = results()
    console.print(cost_table(model, counted[0].to_dict()))
    console.print(totals_table([each.to_dict() for each in counted]))
    for precision, fits in answers.items():
        for fit in fits:
            verb = "fit" if fit.holds else "do not fit"
            line = f"{precision} {fit.what}, {size(fit.needed)}, {verb} {size(fit.available)} of {fit.memory}"
            console.print(line, style="green" if fit.holds else "red", highlight=False)
