"""The curve of a network under compression: accuracy against bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from squeezekit.report.plots import _figure
from squeezekit.report.style import LIGHT, Palette, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["rate_accuracy_plot"]


def rate_accuracy_plot(
    name: str, curves: Mapping[str, Sequence[Mapping[str, Any]]], palette: Palette = LIGHT
) -> Figure:
    """Plot accuracy against the size of the file.

    Parameters
    ----------
    name
        Of the network.
    curves
        By method: rows with ``"bytes"`` and ``"top1"``, or else ``"agreement"``; ``"original_top1"`` is
        drawn as a line.
    palette
        Colours.
    """
    colours = (palette.validation, palette.average, palette.right, palette.muted)
    with _figure(palette, 7.0, 4.4) as figure:
        axes = figure.subplots()
        rows = [row for curve in curves.values() for row in curve]
        key = "top1" if all(row.get("top1") is not None for row in rows) else "agreement"
        for number, (label, curve) in enumerate(curves.items()):
            line = sorted((row["bytes"] / 1e3, row[key]) for row in curve if row.get(key) is not None)
            colour = colours[number % len(colours)]
            axes.plot(
                [x for x, _ in line],
                [100 * y for _, y in line],
                "o-",
                color=colour,
                label=label,
                markersize=4,
            )
        original = next((row["original_top1"] for row in rows if row.get("original_top1")), None)
        if key == "top1" and original is not None:
            axes.axhline(100 * original, color=palette.muted, linewidth=1, linestyle="--", label="float32")
        axes.set_xlabel("file, kB")
        axes.set_ylabel("top-1, %" if key == "top1" else "same answer as float32, %")
        axes.set_title(plain(name), parse_math=False)
        axes.legend(frameon=False)
    return figure
