"""A study as a table, a figure in the paper's form, and a page of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from squeezekit.report.plots import _figure, _magnitudes
from squeezekit.report.scaling import flops_text
from squeezekit.report.style import LIGHT, Palette, duration, percent, plain, size

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["study_figure", "study_markdown", "study_table", "verdicts_text"]

Study = Mapping[str, Any]
"""What ``study.json`` holds."""

_MARKS = {"agrees": "✓", "disagrees": "✗", "open": "?"}


def _share(value: float | None, deviation: float | None) -> str:
    if value is None:
        return "–"
    return percent(value) if deviation is None else f"{100 * value:.1f} ± {100 * deviation:.1f}\u00a0%"


def _gap(row: Mapping[str, Any]) -> str:
    if row["train_accuracy"] is None:
        return "–"
    return f"{100 * (row['train_accuracy'] - row['test_accuracy']):+.1f}"


_COLUMNS = ("", "parameters", "MACs", "bytes", "test top-1", "train − test", "paper (ImageNet)")


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        row["variant"],
        f"{row['parameters']:,}",
        f"{row['macs']:,}",
        size(row["bytes"]),
        _share(row["test_accuracy"], row["test_deviation"]),
        _gap(row),
        row["paper"],
    )


def study_table(result: Study) -> Table:
    """List the variants of a study with their cost and accuracy, for a terminal."""
    table = Table(title=plain(result["study"]["title"]), title_justify="left", box=None, pad_edge=False)
    for number, heading in enumerate(_COLUMNS):
        table.add_column(heading, justify="left" if number in (0, len(_COLUMNS) - 1) else "right")
    for row in result["variants"]:
        table.add_row(*(Text(cell) for cell in _cells(row)))
    return table


def verdicts_text(result: Study) -> list[str]:
    """Say claim by claim whether the measurements agree, each with a mark in front."""
    return [f"{_MARKS[each['verdict']]} {each['sentence']}" for each in result["verdicts"]]


def study_markdown(result: Study) -> str:
    """Write a study as a page of Markdown: how it was made, table, figure, agreement."""
    study, settings = result["study"], result["settings"]
    seeds = max((row["seeds"] for row in result["variants"]), default=0)
    counts = {verdict: sum(v["verdict"] == verdict for v in result["verdicts"]) for verdict in _MARKS}
    lines = [
        f"# {study['title']}",
        "",
        f"{study['source']}. {study['found']}",
        "",
        f"    {result['command']}",
        "",
        f"{_made(settings, seeds)} {duration(result['seconds'])} of training on {result['threads']} "
        f"{'thread' if result['threads'] == 1 else 'threads'}. Mean ± deviation over the seeds.",
        "",
        "| " + " | ".join(_COLUMNS) + " |",
        "| --- |" + " ---: |" * (len(_COLUMNS) - 2) + " --- |",
        *(
            "| " + " | ".join(cell.replace("|", "\\|") for cell in _cells(row)) + " |"
            for row in result["variants"]
        ),
        "",
        f"![{study['title']}](study.svg)",
        "",
        f"Of {len(result['verdicts'])} claims of the paper {counts['agrees']} agree with these figures, "
        f"{counts['disagrees']} disagree, and {counts['open']} cannot be told from chance (differences with "
        "their 95 % intervals, from the deviation between seeds):",
        "",
        *(f"- {line}" for line in verdicts_text(result)),
    ]
    return "\n".join(lines) + "\n"


def _made(settings: Mapping[str, Any], seeds: int) -> str:
    """Say what the networks were trained and measured on."""
    if settings.get("model"):  # its own training dealt the pictures
        return (
            f"The network of {settings['model']}, on the pictures that `squeezekit evaluate` takes for it; "
            f"seeds of the methods: {seeds}."
        )
    return (
        f"{settings['train']:,} pictures train, {settings['val']:,} choose the epoch, {settings['test']:,} "
        f"test; {settings['size']} pixels, {settings['epochs']} epochs; seeds: {seeds}, on one split "
        f"(seed {settings['split_seed']})."
    )


# --- the figure --------------------------------------------------------------------------------------------


def study_figure(result: Study, palette: Palette = LIGHT) -> Figure:
    """Draw a study in its paper's form.

    ``"size"``: accuracy over bytes, every point labelled (SqueezeNet, figure 3). ``"work"``: accuracy over
    MACs, a line a direction (EfficientNet, figures 3 and 8). ``"names"``: a line for each variant. Bars are
    the deviation over the seeds.
    """
    study, rows = result["study"], result["variants"]
    with _figure(palette, 7.0, 4.4 if study["figure"] != "names" else 1.4 + 0.42 * len(rows)) as figure:
        axes = figure.subplots()
        if study["figure"] == "names":
            _by_name(axes, rows, palette)
        else:
            _over_cost(axes, rows, palette, *_AXES[study["figure"]])
        axes.set_title(plain(study["title"]), parse_math=False)
    return figure


#: What stands on the x axis: key, label.
_AXES = {"size": ("bytes", "model size, bytes"), "work": ("macs", "multiply-accumulates")}


def _over_cost(axes: Axes, rows: Sequence[Mapping[str, Any]], palette: Palette, key: str, label: str) -> None:
    colours = (palette.validation, palette.average, palette.right, palette.rate)
    series = list(dict.fromkeys(name for row in rows for name in row["series"]))
    for number, name in enumerate(series):
        own = sorted((row for row in rows if name in row["series"]), key=lambda row: row[key])
        axes.errorbar(
            [row[key] for row in own],
            [100 * row["test_accuracy"] for row in own],
            [100 * (row["test_deviation"] or 0) for row in own],
            fmt="o-" if name else "o",
            color=colours[number % len(colours)],
            label=f"{name}: " + ", ".join(row["variant"] for row in own),
            markersize=5,
            capsize=3,
            elinewidth=1,
        )
    costs = [row[key] for row in rows]
    _magnitudes(axes, logarithmic=bool(costs) and max(costs) > 6 * min(costs))
    if len(series) > 1:
        legend = axes.legend(loc="upper left", bbox_to_anchor=(0, -0.16))
        for text in legend.get_texts():
            text.set_parse_math(False)
    else:
        _label_points(axes, rows, palette, key)
    axes.margins(0.12, 0.2)
    axes.set_xlabel(label)
    axes.set_ylabel("top-1 on test pictures, %")


def _label_points(axes: Axes, rows: Sequence[Mapping[str, Any]], palette: Palette, key: str) -> None:
    """Write name and accuracy beyond the ends of the bars, alternately above and below."""
    # Of two of one size, as with a simple bypass, the better one first: it is labelled above.
    for place, row in enumerate(sorted(rows, key=lambda row: (row[key], -row["test_accuracy"]))):
        side = 1 if place % 2 == 0 else -1
        end = row["test_accuracy"] + side * (row["test_deviation"] or 0)
        axes.annotate(
            f"{plain(row['variant'])}\n{percent(row['test_accuracy'])}",
            (row[key], 100 * end),
            xytext=(-14 * side, 5 * side),  # off a line that rises
            textcoords="offset points",
            ha="center",
            va="bottom" if side > 0 else "top",
            fontsize=8,
            color=palette.text,
            parse_math=False,
        )


def _by_name(axes: Axes, rows: Sequence[Mapping[str, Any]], palette: Palette) -> None:
    places = list(range(len(rows)))
    accuracies = [100 * row["test_accuracy"] for row in rows]
    axes.errorbar(
        accuracies,
        places,
        xerr=[100 * (row["test_deviation"] or 0) for row in rows],
        fmt="o",
        color=palette.validation,
        capsize=3,
        elinewidth=1,
    )
    if rows:
        axes.axvline(accuracies[0], color=palette.muted, linewidth=1, linestyle="--", zorder=0)
    texts = [f"{plain(row['variant'])}\n{size(row['bytes'])}, {flops_text(row['macs'])} MACs" for row in rows]
    axes.set_yticks(places, texts, parse_math=False)
    axes.invert_yaxis()
    axes.margins(0.12, 0.08)
    axes.grid(axis="x")
    axes.set_xlabel("top-1 on test pictures, %")
