"""What a compression gave, as tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from squeezekit.report.style import duration, plain

__all__ = ["compression_table", "stages_table", "tried_table"]


def compression_table(name: str, row: Mapping[str, Any]) -> Table:
    """List what a compression gave; what was not measured is left out.

    Parameters
    ----------
    name
        Of the network.
    row
        ``"out"``, ``"bytes"``, ``"original_bytes"``, ``"bits_per_weight"``, ``"judged"`` (pictures),
        ``"seconds"``; shares or None ``"agreement"``, ``"top1"``, ``"original_top1"``, ``"top5"``,
        ``"original_top5"``.
    """
    title = Text(plain(f"{name} → {row['out']}"))
    table = Table(title=title, title_justify="left", show_header=False, box=None)
    smaller = row["original_bytes"] / row["bytes"]
    table.add_row("file", f"{row['bytes']:,} bytes (float32: {row['original_bytes']:,}, 1/{smaller:.1f})")
    table.add_row("a weight", f"{row['bits_per_weight']:.2f} bits")
    if row["agreement"] is not None:
        unseen = f"{row['judged']:,} pictures that neither calibrated nor chose the size"
        table.add_row("same answer", f"{row['agreement']:.1%} of {unseen}")
    for key, label in (("top1", "top-1"), ("top5", "top-5")):
        before = row[f"original_{key}"]
        if row[key] is not None and before is not None:
            table.add_row(label, f"{row[key]:.1%} (original {before:.1%})")
    table.add_row("time", duration(row["seconds"]))
    return table


def stages_table(stages: Mapping[str, int]) -> Table:
    """List the bytes of all parameters after each stage of Deep Compression, the original first."""
    table = Table("stage", "bytes", "of the original", title="parameters", title_justify="left", box=None)
    original = next(iter(stages.values()))
    for name, size in stages.items():
        table.add_row(name, f"{size:,}", f"{size / original:.1%}")
    return table


def tried_table(rows: Iterable[Mapping[str, Any]]) -> Table:
    """List the sizes that were tried: ``"bytes"``, and where measured ``"agreement"`` and ``"top1"``."""
    table = Table("bytes", "same answer", "top-1", title="tried", title_justify="left", box=None)
    for row in rows:
        shares = [row.get("agreement"), row.get("top1")]
        table.add_row(f"{row['bytes']:,}", *("" if share is None else f"{share:.1%}" for share in shares))
    return table
