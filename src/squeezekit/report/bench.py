"""How quickly a network answers, as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from squeezekit.report.style import percent, plain, shortened
from squeezekit.report.tables import _table, bar


def bench_table(found: Mapping[str, Any]) -> Table:
    """Tell how long an answer takes and what memory it needs.

    Parameters
    ----------
    found
        What ``squeezekit bench --json`` prints.
    """
    table = _table(title=Text(plain(found["file"]), style="bold"), show_header=False)
    table.add_column(style="dim")
    table.add_column(justify="right")
    table.add_column(style="dim")
    latency, memory, cold = found["latency"], found["memory"], found["cold_start"]
    threads = f"{found['threads']} thread" + ("s" if found["threads"] > 1 else "")
    runs = f"median of {latency['runs']:,} runs, {threads}, {found['isa']}"
    table.add_row("a picture", Text(f"{latency['median_ms']:.3f} ms", style="bold"), runs)
    table.add_row("", f"{latency['p95_ms']:.3f} ms", "in 95 % of the runs at most")
    table.add_row("", f"{latency['min_ms']:.3f} ms", "the quickest")
    rate = found["macs"] / (1e6 * latency["median_ms"])
    table.add_row("arithmetic", f"{rate:,.1f} GMAC/s", f"{found['macs']:,} multiplications")
    table.add_row("memory", f"{memory['model']:,} B", f"the open network, from a file of {memory['file']:,}")
    bound = f"between layers; at least {memory['bound']:,} whatever the plan"
    table.add_row("", f"{memory['activations']:,} B", bound)
    table.add_row("", f"{memory['scratch']:,} B", "within one layer")
    if cold is not None:
        table.add_row("cold start", f"{cold['process_ms']:.0f} ms", "start of Python to first answer")
        table.add_row("", f"{cold['open_ms']:.1f} ms", "of that from opening the file on")
    return table


def layers_table(found: Mapping[str, Any]) -> Table:
    """List the steps of a run with their times.

    Parameters
    ----------
    found
        What ``squeezekit bench --json`` prints.
    """
    peak = found["peak"]
    caption = None
    if peak is not None:
        caption = f"100 % of the peak: {peak['gmac_per_s']:,.1f} GMAC/s of {shortened(peak['layer'], 40)}"
    table = _table(title=Text("Layers, one thread", style="bold"), caption=caption and Text(caption))
    table.add_column("layer", overflow="fold")
    table.add_column("operator", style="dim")
    table.add_column("result", justify="right", style="dim")
    for heading in ("ms", "share", "", "GMAC/s", "of peak"):
        table.add_column(heading, justify="left" if not heading else "right")
    for row in found["layers"]:
        of_peak = row["share_of_peak"]
        table.add_row(
            Text(shortened(row["name"], 40)),
            row["operator"],
            " × ".join(map(str, row["shape"])),
            f"{row['ms']:.4f}",
            percent(row["share_of_time"]),
            bar(row["share_of_time"], 16),
            f"{row['gmac_per_s']:,.1f}" if row["macs"] else "",
            "" if of_peak is None else percent(of_peak, 0),
        )
    return table
