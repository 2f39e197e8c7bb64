"""Compound scaling: where the work of a scaled network goes, and what a search of constants found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from squeezekit.report.plots import _figure
from squeezekit.report.style import LIGHT, Palette, duration, percent, plain
from squeezekit.report.tables import _table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["flops_text", "scaled_table", "search_plot", "search_table", "stages_table", "steps_table"]

Row = Mapping[str, Any]


def flops_text(count: float) -> str:
    """Write FLOPS for people: 385,814,752 -> ``386 M``."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}" if count < 999.5 * size else f"{count / size:,.0f} {unit}"
    return f"{count:.0f}"


def scaled_table(scaling: Row) -> Table:
    """Set a network and its scaled form side by side.

    Parameters
    ----------
    scaling
        What :meth:`squeezekit.explore.scaling.Compound.to_dict` gives.
    """
    old, new = scaling["baseline"], scaling["scaled"]
    table = _table(title=Text(f"{plain(old['model'])}, φ = {scaling['phi']:g}", style="bold"))
    table.add_column("")
    for heading in ("baseline", "scaled", "ratio"):
        table.add_column(heading, justify="right")
    rows = (
        ("pictures", f"{old['size']} px", f"{new['size']} px", new["size"] / old["size"]),
        ("parameters", f"{old['parameters']:,}", f"{new['parameters']:,}", _ratio(new, old, "parameters")),
        ("FLOPS", f"{old['flops']:,}", f"{new['flops']:,}", scaling["flops_ratio"]),
    )
    for name, before, after, ratio in rows:
        table.add_row(name, before, after, _times(ratio))
    for key in sorted({*old["metaparameters"], *new["metaparameters"]}):
        before, after = (str(each["metaparameters"].get(key, "–")) for each in (old, new))
        table.add_row(Text(key, "dim"), Text(before, "dim"), Text(after, "" if before != after else "dim"))
    return table


def _ratio(new: Row, old: Row, key: str) -> float:
    return float(new[key] / old[key])


def steps_table(scaling: Row) -> Table:
    """Show where the work departs from 2^φ: each direction by equation 3 and as counted."""
    table = _table(title=Text("Where the FLOPS go", style="bold"), show_footer=True)
    table.add_column("", "all three")
    table.add_column("equation 3", _times(scaling["target"], "target "), justify="right", no_wrap=True)
    table.add_column("counted", _times(scaling["flops_ratio"]), justify="right", no_wrap=True)
    table.add_column("departs", _signed(scaling["departure"]), justify="right", no_wrap=True)
    table.add_column("why")
    names = {"depth": "depth α^φ", "width": "width β^2φ", "resolution": "resolution γ^2φ"}
    wanted = 1.0
    for step in scaling["steps"]:
        wanted *= step["wanted"]
        departure = step["got"] / step["wanted"] - 1
        row = (names[step["name"]], _times(step["wanted"]), _times(step["got"]), _signed(departure))
        table.add_row(*row, step["why"])
    growth = scaling["alpha"] * scaling["beta"] ** 2 * scaling["gamma"] ** 2
    why = f"α · β² · γ² is {growth:.3f}, not 2"
    bases = wanted / scaling["target"] - 1
    if abs(bases) >= 0.0005:
        table.add_row("constants", _times(scaling["target"]), _times(wanted), _signed(bases), why)
    return table


def _times(factor: float, before: str = "") -> str:
    return f"{before}× {factor:.4g}"


def _signed(share: float) -> str:
    return f"{100 * share:+.1f} %"


def stages_table(scaling: Row) -> Table:
    """List the stages: layers, channels and maps before and after, and how each one's work grew."""
    table = _table(title=Text("Stage by stage", style="bold"))
    table.add_column("stage")
    for heading in ("layers", "channels", "maps", "FLOPS", "ratio", f"against × {scaling['target']:.3g}"):
        table.add_column(heading, justify="right", no_wrap=True)
    for stage in scaling["stages"]:
        departure = stage["ratio"] / scaling["target"] - 1
        off = abs(departure) > scaling["tolerance"]
        table.add_row(
            stage["name"],
            _rounded(*stage["layers"]),
            _rounded(*stage["channels"]),
            " → ".join(map(str, stage["side"])),
            " → ".join(map(flops_text, stage["flops"])),
            f"× {stage['ratio']:.3g}",
            Text(_signed(departure), "yellow" if off else ""),
        )
    return table


def _rounded(before: int, wanted: float, after: int) -> str:
    """``4 → 5 (4.80)``: what it was, is, and should be where that differs."""
    exact = "" if abs(wanted - after) < 0.005 else f" ({wanted:.4g})"
    return f"{before} → {after}{exact}" if before != after or exact else f"{after}"


def search_table(search: Row) -> Table:
    """List the candidates of a search, the best validation accuracy first, and the baseline.

    Parameters
    ----------
    search
        What :meth:`squeezekit.explore.scale_search.Search.to_dict` gives.
    """
    table = _table(
        title=Text(f"{plain(search['baseline']['model'])} on {plain(search['data'])}", style="bold"),
        caption="validation pictures choose, test pictures judge; ± is a standard error",
    )
    for heading in ("α", "β", "γ", "pictures", "FLOPS", "parameters", "validation", "±", "test", "time"):
        table.add_column(heading, justify="right", no_wrap=True)
    rows = sorted(search["candidates"], key=lambda row: -row["val_accuracy"])
    best = search["best"]
    for row in rows:
        table.add_row(*_result(row), style="bold" if best is not None and row == best else "")
    if search["reference"] is not None:
        table.add_section()
        table.add_row("baseline", "", "", *_result(search["reference"])[3:])
    return table


def _result(row: Row) -> list[str]:
    return [
        *(f"{row[name]:.3g}" for name in ("alpha", "beta", "gamma")),
        f"{row['design']['size']} px",
        f"{flops_text(row['flops'])} (× {row['flops_ratio']:.2f})",
        f"{row['parameters']:,}",
        percent(row["val_accuracy"], 2),
        percent(row["val_error"], 2),
        percent(row["test_accuracy"], 2),
        duration(row["seconds"]),
    ]


def search_plot(search: Row, palette: Palette = LIGHT) -> Figure:
    """Plot a search: the grid of constants by accuracy, and every candidate with its error.

    Parameters
    ----------
    search
        As for :func:`search_table`.
    palette
        Colours.
    """
    rows = sorted(search["candidates"], key=lambda row: row["val_accuracy"])
    with _figure(palette, 9.6, max(4.2, 1.6 + 0.24 * len(rows))) as figure:
        plane, bars = figure.subplots(1, 2, width_ratios=(1, 1.15))
        _plane(plane, rows, search["best"], palette)
        _bars(bars, rows, search, palette)
    return figure


def _plane(axes: Axes, rows: Sequence[Row], best: Row | None, palette: Palette) -> None:
    """Depth across, width up; colour is accuracy. On the line nothing is left for resolution."""
    from matplotlib.colors import LinearSegmentedColormap

    shades = LinearSegmentedColormap.from_list("accuracy", (palette.line, palette.validation))
    edge = [1 + i / 50 for i in range(51)]
    axes.plot(edge, [(2 / alpha) ** 0.5 for alpha in edge], "--", color=palette.muted, linewidth=1)
    axes.annotate("γ = 1", (1.55, (2 / 1.55) ** 0.5), (4, 4), textcoords="offset points", color=palette.muted)
    points = axes.scatter(
        [row["alpha"] for row in rows],
        [row["beta"] for row in rows],
        c=[100 * row["val_accuracy"] for row in rows],
        s=130,
        cmap=shades,
        edgecolors=palette.muted,
        zorder=3,
    )
    if best is not None:
        axes.scatter(
            best["alpha"], best["beta"], s=330, facecolors="none", edgecolors=palette.average, zorder=4
        )
    axes.figure.colorbar(points, ax=axes, label="validation accuracy, %")
    axes.set_xlabel("depth α")
    axes.set_ylabel("width β")
    axes.set_title("constants with α · β² · γ² = 2")


def _bars(axes: Axes, rows: Sequence[Row], search: Row, palette: Palette) -> None:
    names = ["  ".join(f"{row[name]:.2f}" for name in ("alpha", "beta", "gamma")) for row in rows]
    for place, row in enumerate(rows):
        chosen = row == search["best"]
        axes.errorbar(
            100 * row["val_accuracy"],
            place,
            xerr=100 * row["val_error"],
            fmt="o",
            color=palette.average if chosen else palette.validation,
        )
    if search["reference"] is not None:
        level = 100 * search["reference"]["val_accuracy"]
        axes.axvline(level, color=palette.muted, linewidth=1, linestyle="--", label="baseline")
        axes.legend(loc="lower right")
    axes.set_yticks(range(len(rows)), names)
    axes.grid(visible=True, axis="x")
    axes.set_xlabel("validation accuracy, %, and its standard error")
    axes.set_title("α  β  γ")
