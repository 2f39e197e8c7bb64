"""What a network costs, as a table like the SqueezeNet paper's Table 1, and as a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from squeezekit.report.plots import _figure
from squeezekit.report.style import LIGHT, Palette, plain, shortened, size
from squeezekit.report.tables import _table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NAMED_LAYERS = 70  # with more of them, the plot numbers the layers


def cost_table(name: str, cost: Mapping[str, Any]) -> Table:
    """List the layers of a network with what each costs, and the totals.

    Parameters
    ----------
    name
        Of the network.
    cost
        ``precision``, ``input`` (C, H, W), totals and ``layers``, as JSON holds them: each layer with
        ``name``, ``operation``, ``shape``, ``parameters``, ``macs``, ``weight_bytes``, ``output_bytes``,
        ``live_bytes`` and ``intensity`` (multiply-accumulates a byte).
    """
    table = _table(title=Text(f"{plain(name)} ({cost['precision']})", style="bold"), show_footer=True)
    table.add_column("layer", "total", overflow="fold")
    table.add_column("operation")
    columns = (
        ("output", ""),
        ("parameters", f"{cost['parameters']:,}"),
        ("MACs", f"{cost['macs']:,}"),
        ("weights", size(cost["weight_bytes"])),
        ("values", size(cost["activation_bytes"])),
        ("in memory", f"peak {size(cost['peak_bytes'])}"),
        ("MACs/byte", f"{cost['intensity']:.1f}"),
    )
    for heading, footer in columns:
        table.add_column(heading, footer, justify="right", no_wrap=True)
    table.add_row("input", "", _shape(cost["input"]), *[""] * 6)
    for layer in cost["layers"]:
        table.add_row(
            Text(shortened(layer["name"], 48)),
            layer["operation"],
            _shape(layer["shape"]),
            f"{layer['parameters']:,}" if layer["parameters"] else "",
            f"{layer['macs']:,}" if layer["macs"] else "",
            size(layer["weight_bytes"]) if layer["weight_bytes"] else "",
            size(layer["output_bytes"]) if layer["output_bytes"] else "",
            size(layer["live_bytes"]),
            f"{layer['intensity']:.1f}" if layer["macs"] else "",
        )
    return table


def totals_table(costs: Sequence[Mapping[str, Any]]) -> Table:
    """Compare the bytes of a network in several precisions.

    Parameters
    ----------
    costs
        As for :func:`cost_table`, one a precision.
    """
    table = _table(title=Text("Memory", style="bold"))
    table.add_column("numbers")
    for heading in ("weights", "all values", "peak", "weights + peak", "MACs/byte"):
        table.add_column(heading, justify="right")
    for cost in costs:
        table.add_row(
            cost["precision"],
            size(cost["weight_bytes"]),
            size(cost["activation_bytes"]),
            size(cost["peak_bytes"]),
            size(cost["weight_bytes"] + cost["peak_bytes"]),
            f"{cost['intensity']:.1f}",
        )
    return table


def _shape(shape: Sequence[int]) -> str:
    """Write height × width × channels, as Table 1 does."""
    return " × ".join(map(str, [*shape[1:], shape[0]]))


def cost_plot(name: str, cost: Mapping[str, Any], palette: Palette = LIGHT) -> Figure:
    """Plot multiplications, weights and memory over the layers of a network.

    Parameters
    ----------
    name, cost
        As for :func:`cost_table`.
    """
    layers = cost["layers"]
    panels = (
        ("million MACs", [layer["macs"] / 1e6 for layer in layers], palette.validation),
        ("weights, kB", [layer["weight_bytes"] / 1e3 for layer in layers], palette.average),
        ("values in memory, kB", [layer["live_bytes"] / 1e3 for layer in layers], palette.right),
    )
    with _figure(palette, min(16.0, 5.0 + 0.16 * len(layers)), 7.2) as figure:
        axes = figure.subplots(3, 1, sharex=True)
        for place, (label, values, colour) in zip(axes, panels, strict=True):
            place.bar(range(len(layers)), values, 0.8, color=colour)
            place.set_ylabel(label)
        peak = cost["peak_bytes"] / 1e3
        axes[2].axhline(peak, color=palette.muted, linewidth=1, linestyle="--")
        axes[2].annotate(
            f"peak {size(cost['peak_bytes'])}",
            (1, peak),
            xycoords=("axes fraction", "data"),
            xytext=(0, 2),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            color=palette.muted,
        )
        axes[2].set_ylim(0, 1.15 * max(peak, 1e-9))
        if len(layers) <= _NAMED_LAYERS:
            names = [shortened(layer["name"], 28) for layer in layers]
            axes[2].set_xticks(range(len(layers)), names, rotation=90, fontsize=7, parse_math=False)
        else:
            axes[2].set_xlabel("layer")
        axes[2].set_xlim(-0.7, len(layers) - 0.3)
        totals = f"{cost['parameters']:,} parameters, {cost['macs'] / 1e6:,.0f} million MACs"
        axes[0].set_title(f"{plain(name)}: {totals}, {cost['precision']}", parse_math=False)
        figure.align_ylabels()
    return figure
