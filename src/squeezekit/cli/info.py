"""``squeezekit info``: what a .sqz file holds, and where its bytes are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from squeezekit.cli._options import Plot
from squeezekit.cli._output import check_plot, print_json, results, save_figure

if TYPE_CHECKING:
    from squeezekit.format import Sizes

EXAMPLE = """\
squeezekit info model.sqz
squeezekit info model.sqz --json
squeezekit info model.sqz --plot weights.png
"""


def info(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .sqz file.")],
    plot: Plot = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell what a .sqz file holds and where its bytes are.

    Bytes by section and by layer, bits a weight, how many weights are zero, the classes and the preparation
    of pictures. The plot shows the bytes of each layer and how its weights are distributed.
    """
    from squeezekit.format import sizes

    check_plot(plot)
    found = sizes(file)
    described = _describe(file, found)
    if plot is not None:
        _draw(plot, file, found, described)
    print_json(described) if as_json else _print(described)


def _describe(file: Path, found: Sizes) -> dict[str, Any]:
    import numpy as np

    graph = found.model.graph
    layers: dict[str, dict[str, Any]] = {}
    for tensor in found.tensors:
        node = graph.node(tensor.node)
        layer = layers.setdefault(
            tensor.node,
            {"name": node.name, "operation": node.op, "shape": [], "weights": 0, "zeros": 0, "bits": 0}
            | {"weight_bits": 0, "values": 0},
        )
        layer["bits"] += tensor.bits
        if tensor.role == "weight":
            weight = node.dense("weight")
            layer["shape"] = list(weight.shape)
            layer["weights"], layer["zeros"] = weight.size, int(np.count_nonzero(weight == 0))
            layer["weight_bits"] = tensor.bits
            layer["values"] = int(np.unique(weight).size)
    rows = [_layer(layer) for layer in layers.values()]
    weights, zeros = (sum(row[key] for row in rows) for key in ("weights", "zeros"))
    bits = sum(layer["weight_bits"] for layer in layers.values())
    model = found.model
    return {
        "file": str(file),
        "bytes": found.total,
        "version": ".".join(map(str, found.version)),
        "numbers": "int8" if graph.is_int8 else "float32",
        "coding": found.coding,
        "sections": found.sections,
        "input": list(graph.input.shape),
        "output": list(graph.tensors[graph.output].shape),
        "nodes": len(graph.nodes),
        "parameters": graph.parameters,
        "weights": weights,
        "sparsity": zeros / weights if weights else None,
        "bits_per_weight": bits / weights if weights else None,
        "layers": rows,
        "preparation": model.preparation,
        "names": model.names,
        "synsets": model.synsets,
        "metadata": model.metadata,
    }


def _layer(layer: dict[str, Any]) -> dict[str, Any]:
    weights = layer["weights"]
    return {
        "name": layer["name"],
        "operation": layer["operation"],
        "shape": layer["shape"],
        "bytes": round(layer["bits"] / 8),
        "weights": weights,
        "zeros": layer["zeros"],
        "sparsity": layer["zeros"] / weights if weights else None,
        "bits_per_weight": layer["weight_bits"] / weights if weights else None,
        "values": layer["values"],
    }


def _print(described: dict[str, Any]) -> None:
    from squeezekit.report.info import file_table, info_table

    console = results()
    console.print(file_table(described))
    console.print(info_table(described))


def _draw(path: Path, file: Path, found: Sizes, described: dict[str, Any]) -> None:
    from squeezekit.report.info import weights_plot

    graph = found.model.graph
    weights = {
        layer["name"]: graph.node(layer["name"]).dense("weight")
        for layer in described["layers"]
        if layer["weights"]
    }
    save_figure(path, weights_plot(str(file), described, weights))
