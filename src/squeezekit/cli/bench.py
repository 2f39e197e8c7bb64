"""``squeezekit bench``: how quickly does a .sqz answer, and where does the time go?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from squeezekit.cli._output import print_json, results

EXAMPLE = """\
squeezekit bench model.sqz
squeezekit bench model.sqz --threads 2 --json
SQUEEZEKIT_ISA=avx2 squeezekit bench model.sqz
"""


def bench(
    file: Annotated[Path, typer.Argument(metavar="MODEL", help="An int8 .sqz file.")],
    threads: Annotated[int, typer.Option(min=1, max=256, help="Threads that share a picture.")] = 1,
    seconds: Annotated[float, typer.Option(min=0.01, help="How long to measure, each time.")] = 2.0,
    cold: Annotated[bool, typer.Option(help="Start new processes to measure the first answer.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure how quickly a .sqz answers on this machine.

    Latency of one picture; time and GMAC/s of each layer on one thread; memory; and how long a new process
    takes to its first answer. The share of the peak compares each layer with the quickest one. The
    environment variable SQUEEZEKIT_ISA chooses the kernels: scalar, avx2 or avx512.
    """
    found = _measure(file, threads, seconds, cold)
    if as_json:
        print_json(found)
        return
    from squeezekit.report.bench import bench_table, layers_table

    console = results()
    console.print(bench_table(found))
    console.print(layers_table(found))


def _measure(file: Path, threads: int, seconds: float, cold: bool) -> dict[str, Any]:
    from squeezekit.engine import load
    from squeezekit.engine.bench import cold_start, latency, layers

    model = load(file, threads=threads)
    info = model.info
    rows = layers(model, seconds)
    quickest = max(rows, key=lambda row: row["gmac_per_s"], default=None)
    return {
        "file": str(file),
        "isa": info.isa,
        "threads": threads,
        "input": info.input,
        "outputs": info.outputs,
        "macs": info.macs,
        "latency": latency(model, seconds, threads),
        "layers": rows,
        "peak": None
        if quickest is None
        else {"gmac_per_s": quickest["gmac_per_s"], "layer": quickest["name"]},
        "memory": {of: getattr(info, of) for of in ("file", "model", "activations", "scratch", "bound")},
        "cold_start": cold_start(file, threads=threads) if cold else None,
    }
