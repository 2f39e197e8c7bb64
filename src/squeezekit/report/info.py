"""What a file holds, as tables, and how its weights are distributed, as a plot."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from squeezekit.report.plots import _figure
from squeezekit.report.style import LIGHT, Palette, percent, plain, shortened, size
from squeezekit.report.tables import _table, bar

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_LAYERS = 48  # more small plots than these are too small to read: the largest layers are shown


def file_table(info: Mapping[str, Any]) -> Table:
    """Tell what a file is and where its bytes are.

    Parameters
    ----------
    info
        What ``squeezekit info --json`` prints.
    """
    table = _table(title=Text(plain(info["file"]), style="bold"), show_header=False)
    table.add_column(style="dim")
    table.add_column(justify="right")
    table.add_column()
    total = info["bytes"]
    table.add_row("file", f"{total:,} bytes", f".sqz {info['version']}, {info['coding']} coded")
    for name, count in info["sections"].items():
        table.add_row(name, f"{count:,}", bar(count / total, 24))
    network = f"{' × '.join(map(str, info['input']))} to {' × '.join(map(str, info['output']))}"
    table.add_row("network", info["numbers"], f"{network}, {info['nodes']} nodes")
    if info["weights"]:
        table.add_row("weights", f"{info['weights']:,}", f"{percent(info['sparsity'])} of them zero")
        table.add_row("bits a weight", f"{info['bits_per_weight']:.3f}", "convolutions and linear layers")
    table.add_row("classes", f"{len(info['names']):,}", Text(_some(info["names"])))
    table.add_row("pictures", "", Text(_preparation(info["preparation"])))
    for key, value in info["metadata"].items():
        table.add_row(Text(shortened(key, 30)), "", Text(shortened(value, 80)))
    return table


def _some(names: Any) -> str:
    shown = ", ".join(shortened(name, 24) for name in names[:4])
    return shown + (", …" if len(names) > 4 else "")


def _preparation(preparation: Mapping[str, Any]) -> str:
    return plain(", ".join(f"{key} {_value(value)}" for key, value in preparation.items()))


def _value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "(" + ", ".join(map(_value, value)) + ")"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def info_table(info: Mapping[str, Any]) -> Table:
    """List the layers with their bytes, bits a weight and sparsity.

    Parameters
    ----------
    info
        What ``squeezekit info --json`` prints.
    """
    table = _table(title=Text("Layers", style="bold"))
    table.add_column("layer", overflow="fold")
    table.add_column("operation")
    for heading in ("weights", "bytes", "", "bits a weight", "zero", "values"):
        table.add_column(heading, justify="left" if heading == "" else "right", no_wrap=True)
    most = max((layer["bytes"] for layer in info["layers"]), default=0)
    for layer in info["layers"]:
        has = layer["weights"] > 0
        table.add_row(
            Text(shortened(layer["name"], 48)),
            layer["operation"],
            " × ".join(map(str, layer["shape"])),
            f"{layer['bytes']:,}",
            bar(layer["bytes"] / most if most else 0, 16),
            f"{layer['bits_per_weight']:.2f}" if has else "",
            percent(layer["sparsity"]) if has else "",
            f"{layer['values']:,}" if has else "",
        )
    return table


def weights_plot(
    name: str,
    info: Mapping[str, Any],
    weights: Mapping[str, NDArray[Any]],
    palette: Palette = LIGHT,
) -> Figure:
    """Draw the bytes of each layer, and beside it how the layers' weights are distributed.

    Parameters
    ----------
    name
        Of the file.
    info
        What ``squeezekit info --json`` prints.
    weights
        By layer's name: as they are stored, int8 or float32.
    """
    layers = [layer for layer in info["layers"] if layer["name"] in weights]
    shown = sorted(layers, key=lambda layer: -layer["bytes"])[:_MOST_LAYERS]
    shown = [layer for layer in layers if layer in shown]
    columns = 4
    rows = max(1, math.ceil(len(shown) / columns))
    with _figure(palette, 13.0, max(4.2, 1.0 + 0.24 * len(shown), 1.55 * rows + 0.6)) as figure:
        left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(1.0, 1.6))[0]
        _bytes(left.subplots(), shown, palette)
        panels = right.subplots(rows, columns, squeeze=False).ravel()
        for axes, layer in zip(panels, shown, strict=False):
            _histogram(axes, layer, weights[layer["name"]], palette)
        for axes in panels[len(shown) :]:
            axes.set_axis_off()
        title = f"{shortened(name, 60)}: {size(info['bytes'])}"
        if len(shown) < len(layers):
            title += f", the {len(shown)} largest of {len(layers)} layers"
        figure.suptitle(title, fontweight="bold", parse_math=False)
    return figure


def _bytes(axes: Axes, layers: list[Mapping[str, Any]], palette: Palette) -> None:
    places = range(len(layers))
    axes.grid(visible=False)
    axes.grid(visible=True, axis="x")
    axes.barh(places, [layer["bytes"] / 1000 for layer in layers], 0.66, color=palette.validation)
    for place, layer in zip(places, layers, strict=True):
        axes.text(
            layer["bytes"] / 1000,
            place,
            f" {layer['bits_per_weight']:.2f}",
            va="center",
            fontsize=7.5,
            color=palette.muted,
        )
    axes.set_yticks(list(places), [shortened(layer["name"], 30) for layer in layers], parse_math=False)
    axes.tick_params(axis="y", length=0, labelsize=7.5)
    axes.set_ylim(len(layers) - 0.4, -0.6)
    axes.margins(x=0.12)
    axes.set_xlabel("kB, and bits a weight")
    axes.set_title("Bytes by layer")


def _histogram(axes: Axes, layer: Mapping[str, Any], weight: NDArray[Any], palette: Palette) -> None:
    """Draw whole numbers one bar each, others in 41 bins; not the zeros, whose bar would hide the rest."""
    values = np.asarray(weight).ravel()
    others = values[values != 0]
    reach = float(np.abs(others).max()) if others.size else 1.0
    whole = np.issubdtype(values.dtype, np.integer)
    edges = np.arange(-reach - 0.5, reach + 1) if whole and reach <= 40 else np.linspace(-reach, reach, 42)
    counts, _ = np.histogram(others, edges)
    axes.bar(
        (edges[:-1] + edges[1:]) / 2, counts, np.diff(edges) * 0.92, color=palette.validation, linewidth=0
    )
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    axes.set_yticks([])
    axes.set_xticks([-reach, 0, reach], [_short(-reach), "0", _short(reach)])
    axes.tick_params(labelsize=7, length=2)
    axes.set_title(
        f"{shortened('.'.join(layer['name'].split('.')[-2:]), 26)}\n{percent(layer['sparsity'], 0)} zero",
        fontsize=7.5,
        fontweight="normal",
        pad=3,
        parse_math=False,
    )


def _short(x: float) -> str:
    return f"{x:.2g}"
