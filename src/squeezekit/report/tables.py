"""Tables for the terminal, with Rich. Each function returns something to `print` on a `rich.console.Console`.

Names come from anybody's folders: they are written as plain text, never as Rich markup, and without control
characters.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from numpy.typing import ArrayLike
from rich.table import Table
from rich.text import Text

from squeezekit.report.numbers import checked_confusion, confused_pairs, per_class, wilson_interval
from squeezekit.report.prediction import Prediction
from squeezekit.report.style import percent, plain, shortened

_EIGHTHS = " ▏▎▍▌▋▊▉"


def bar(share: float, width: int = 20, style: str = "cyan") -> Text:
    """Draw a share from 0 to 1 as a bar of block characters, always `width` wide."""
    eighths = round(8 * width * min(1.0, max(0.0, share))) if math.isfinite(share) else 0
    whole, rest = divmod(eighths, 8)
    return Text(("█" * whole + (_EIGHTHS[rest] if rest else "")).ljust(width), style=style)


def evaluation_table(
    *,
    name: str,
    pictures: int,
    top1: float,
    top5: float | None = None,
    calibration_error: float | None = None,
    pictures_per_second: float | None = None,
    agreement: float | None = None,
    against: str | None = None,
    broken: int = 0,
) -> Table:
    """Show the headline figures of an evaluation; what is None is left out.

    Parameters
    ----------
    name
        What was evaluated, the table's title.
    pictures
        How many pictures counted.
    top1, top5, calibration_error, agreement
        Shares from 0 to 1.
    against
        The model `agreement` compares with.
    broken
        Pictures that could not be read.
    """
    table = _table(title=Text(plain(name), style="bold"), show_header=False)
    table.add_column(style="dim")
    table.add_column(justify="right")
    table.add_column(style="dim")
    low, high = wilson_interval(round(top1 * pictures), pictures)
    table.add_row(
        "top-1",
        Text(percent(top1, 2), style="bold"),
        f"{100 * low:.1f} to {percent(high)} with 95 % certainty",
    )
    if top5 is not None:
        table.add_row("top-5", percent(top5, 2), "")
    if calibration_error is not None:
        table.add_row("calibration error", percent(calibration_error, 2), "confidence against accuracy (ECE)")
    if agreement is not None:
        other = Text("same answer as ").append(shortened(against or "the other model", 40))
        table.add_row("agreement", percent(agreement, 2), other)
    table.add_row(
        "pictures", f"{pictures:,}", Text(f"{broken:,} more could not be read", "red") if broken else ""
    )
    if pictures_per_second is not None:
        table.add_row("speed", f"{pictures_per_second:,.0f}/s", "pictures a second, reading included")
    return table


def class_table(classes: Sequence[str], confusion: ArrayLike, limit: int | None = 20) -> Table:
    """List recall, precision, F1 and support by class, worst recall first.

    Parameters
    ----------
    classes
        K names.
    confusion
        Counts ``[truth, prediction]``, shape (K, K).
    limit
        At most so many classes, the caption says how many more there are; None for all. Classes without
        pictures are left out.
    """
    counts = checked_confusion(confusion, len(classes))
    figures = per_class(counts)
    order = [int(i) for i in figures.worst_first() if figures.support[i]]
    shown = order[:limit]
    taken_for = {truth: (other, n) for truth, other, n in reversed(confused_pairs(counts, counts.size))}
    left_out = len(order) - len(shown)
    table = _table(
        title=Text("Worst classes" if left_out else "Classes", style="bold"),
        caption=f"{left_out:,} more classes are not listed" if left_out else None,
    )
    table.add_column("class", overflow="fold")
    table.add_column("recall", justify="right")
    table.add_column("")
    for heading in ("precision", "F1", "pictures"):
        table.add_column(heading, justify="right")
    table.add_column("most often taken for", style="dim")
    for i in shown:
        other = taken_for.get(i)
        table.add_row(
            Text(shortened(classes[i], 40)),
            percent(figures.recall[i]),
            bar(figures.recall[i], 12),
            percent(figures.precision[i]),
            percent(figures.f1[i]),
            f"{figures.support[i]:,}",
            Text(f"{shortened(classes[other[0]], 30)} ({other[1]:,})" if other else ""),
        )
    return table


def predictions_table(items: Iterable[Prediction]) -> Table:
    """List pictures with their best classes and bars; a tick or a cross where the truth is known."""
    table = _table()
    table.add_column("picture", style="dim", overflow="fold")
    table.add_column("class", overflow="fold")
    table.add_column("probability", justify="right")
    table.add_column("")
    for item in items:
        for rank, (class_name, probability) in enumerate(item.top):
            name = Text(shortened(class_name, 40), style="bold" if rank == 0 else "dim")
            if rank == 0 and item.right is not None:
                name.append(" ✓" if item.right else " ✗", style="green" if item.right else "red")
                if not item.right:
                    name.append(f"\ntruth: {shortened(item.truth or '', 40)}", style="green")
            table.add_row(
                Text(plain(item.name)) if rank == 0 else "",
                name,
                percent(probability),
                bar(probability, style="cyan" if rank == 0 else "bright_black"),
                end_section=rank == len(item.top) - 1,
            )
    return table


def _table(**options: object) -> Table:
    from rich import box

    return Table(box=box.SIMPLE_HEAD, title_justify="left", caption_justify="left", pad_edge=False, **options)  # type: ignore[arg-type]
