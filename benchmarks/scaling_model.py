"""How far does data-parallel training go? A model of a step on up to 256 workers, checked on two processes.

    python benchmarks/scaling_model.py --out build/scaling [--bandwidth 1.25e9] [--latency 25e-6]
        [--compute 2e12] [--batch 1024] [--quick] [--no-measure]

The model. A worker computes its share of the batch: forward, then backward, layer by layer from the last
one, each in proportion to its multiply-accumulates, backward twice as long as forward. Gradients leave in
buckets of 25 MB, as PyTorch's DistributedDataParallel sends them, one bucket after the other; on a machine
whose network works by itself, while backward goes on. Combining W bytes of p workers over links of bandwidth
B and latency L takes

- parameter server:  2 p (W / B + L), all workers through one link, there and back;
- reduction tree:    2 log2(p) (W / B + L), FireCaffe's argument (arXiv:1511.00175): p has become log p;
- ring all-reduce:   2 (p - 1) / p W / B + 2 (p - 1) L, in which bytes no longer grow with p.

All are proportional to W, the gradient: four bytes a parameter (arXiv:1602.07360, section 1).

The check. Bandwidth and latency are fitted to bare all-reduces of 0.25 to 64 MB between two processes on this
machine, with gloo over loopback; the time of a step on two processes is then predicted from the time on one,
and measured. Nothing is fitted to what is predicted. Here the processor does the network's work too, so
nothing overlaps.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.distributed as dist

from communication import join, spawned, worker
from squeezekit import create_model
from squeezekit.graph.cost import cost
from squeezekit.graph.from_torch import from_torch
from squeezekit.models.registry import model_spec

How = Literal["server", "tree", "ring"]
NAMES: dict[How, str] = {"server": "parameter server", "tree": "reduction tree", "ring": "ring all-reduce"}
NETWORKS = {"alexnet": "AlexNet", "squeezenet1_0": "SqueezeNet v1.0"}
WORKERS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
BUCKET = 25 << 20
FIRST_BUCKET = 1 << 20  # DistributedDataParallel's first one is smaller, to begin early
#: Networks and pictures a process, on which the model is checked.
CHECKS = (("squeezenet1_0", 4), ("squeezenet1_0", 16), ("squeezenet1_1", 16), ("alexnet", 4), ("alexnet", 16))


@dataclass(frozen=True)
class Machine:
    """Workers and the network between them.

    ``compute``: seconds a multiply-accumulate; ``bandwidth``: bytes a second of a link; ``latency``: seconds
    a message; ``overlap``: whether gradients travel while backward goes on.
    """

    compute: float
    bandwidth: float
    latency: float
    overlap: bool = True


def layers(network: str) -> list[tuple[int, int]]:
    """Gradient bytes and multiply-accumulates of a network's layers, first to last."""
    size = model_spec(network).input_size
    counted = cost(from_torch(create_model(network), (3, size, size)))
    return [(4 * layer.parameters, layer.macs) for layer in counted.layers if layer.parameters]


def all_reduce(count: float, workers: int, machine: Machine, how: How) -> float:
    """Seconds to combine `count` bytes of every worker."""
    if workers == 1:
        return 0.0
    message = count / machine.bandwidth + machine.latency
    if how == "server":
        return 2 * workers * message
    if how == "tree":
        return 2 * math.ceil(math.log2(workers)) * message
    return 2 * (workers - 1) * (count / workers / machine.bandwidth + machine.latency)


def step(network: list[tuple[int, int]], pictures: float, workers: int, machine: Machine, how: How) -> float:
    """Seconds of a step in which every worker has so many pictures."""
    now = sum(macs for _, macs in network) * pictures * machine.compute
    free, waiting, limit = 0.0, 0, FIRST_BUCKET
    for i, (count, macs) in enumerate(reversed(network)):
        now += 2 * macs * pictures * machine.compute
        waiting += count
        if waiting >= limit or i == len(network) - 1:
            free = max(now, free) + all_reduce(waiting, workers, machine, how)
            if not machine.overlap:
                now = free
            waiting, limit = 0, BUCKET
    return max(now, free)


# -- the check -------------------------------------------------------------------------------------------


def bare(rank: int, port: int, processes: int, sizes: list[int], answer: Any) -> None:
    """Time all-reduces alone."""
    join(rank, port, processes)
    found = []
    for size in sizes:
        tensor, times = torch.zeros(size // 4), []
        for _ in range(9):
            dist.barrier()
            started = time.perf_counter()
            dist.all_reduce(tensor)
            times.append(time.perf_counter() - started)
        found.append(statistics.median(times[2:]))
    if rank == 0:
        answer.put(found)
    dist.destroy_process_group()


def loopback() -> tuple[Machine, list[dict[str, float]]]:
    """Fit bandwidth and latency to bare all-reduces of two processes."""
    sizes = [1 << shift for shift in range(18, 27, 2)]
    times = spawned(bare, 2, sizes)
    # t = 2 L + W / B for two workers; relative errors count, so that small ones are not lost.
    columns = np.stack([np.full(len(sizes), 2.0), np.array(sizes)], axis=1) / np.array(times)[:, None]
    latency, slowness = np.linalg.lstsq(columns, np.ones(len(sizes)), rcond=None)[0]
    machine = Machine(0.0, 1 / slowness, max(0.0, latency), overlap=False)
    return machine, [{"bytes": s, "seconds": t} for s, t in zip(sizes, times, strict=True)]


def check(quick: bool) -> dict[str, Any]:
    machine, points = loopback()
    rows = []
    for network, batch in (CHECKS[0], CHECKS[3]) if quick else CHECKS:
        side = 64 if quick else model_spec(network).input_size
        _, alone = spawned(worker, 1, network, "none", batch, side)
        sent, together = spawned(worker, 2, network, "none", batch, side)
        # Computing takes what it takes on one process: the model adds what travels.
        predicted = alone + step([(count, 0) for count, _ in layers(network)], batch, 2, machine, "ring")
        rows.append(
            {
                "network": network,
                "batch": batch,
                "side": side,
                "bytes_sent_per_worker": round(sent),
                "one_process_seconds": alone,
                "two_processes_seconds": together,
                "predicted_seconds": predicted,
                "error": predicted / together - 1,
            }
        )
        print(f"{network}, {batch} pictures: {rows[-1]['error']:+.1%}", file=sys.stderr)
    return {
        "bandwidth": machine.bandwidth,
        "latency": machine.latency,
        "all_reduce": points,
        "steps": rows,
    }


# -- the figure ------------------------------------------------------------------------------------------


def draw(table: list[dict[str, Any]], checked: dict[str, Any] | None, machine: Machine, path: Path) -> None:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from squeezekit.report.style import LIGHT, matplotlib_settings

    colours = {"alexnet": LIGHT.average, "squeezenet1_0": LIGHT.validation}
    styles = {"server": ":", "tree": "--", "ring": "-"}
    with mpl.rc_context(matplotlib_settings(LIGHT)):
        figure = Figure(figsize=(10.5 if checked else 6.0, 4.6), layout="constrained")
        axes = figure.subplots(1, 2 if checked else 1, squeeze=False)[0]
        left = axes[0]
        left.plot(WORKERS, WORKERS, color=LIGHT.line, linewidth=1.2, label="linear")
        for network, name in NETWORKS.items():
            for how, style in styles.items():
                speed = [r["speedup"] for r in table if r["network"] == network and r["how"] == how]
                left.plot(WORKERS, speed, style, color=colours[network], label=f"{name}, {NAMES[how]}")
        left.set_xscale("log", base=2)
        left.set_yscale("log", base=2)
        left.set_xticks(WORKERS, [str(n) for n in WORKERS])
        ticks = [2.0**n for n in range(-4, 9, 2)]
        left.set_yticks(ticks, [f"{t:g}" for t in ticks])
        left.set_ylim(bottom=1 / 16)
        left.set_xlabel("workers")
        left.set_title(f"Speed-up, links of {8 * machine.bandwidth / 1e9:g} Gbit/s (model)")
        left.legend(fontsize=8)
        if checked:
            right, rows = axes[1], checked["steps"]
            for shift, key, colour, label in (
                (-0.27, "one_process_seconds", LIGHT.train, "one process, measured"),
                (0.0, "two_processes_seconds", LIGHT.validation, "two processes, measured"),
                (0.27, "predicted_seconds", LIGHT.average, "two processes, predicted"),
            ):
                heights = [1000 * row[key] for row in rows]
                right.bar(np.arange(len(rows)) + shift, heights, 0.26, color=colour, label=label)
            right.set_xticks(
                range(len(rows)),
                [f"{row['network']}\n{row['batch']} pictures" for row in rows],
                fontsize=7,
            )
            right.set_ylim(top=1.3 * max(1000 * row["two_processes_seconds"] for row in rows))
            right.set_ylabel("ms a step")
            right.set_title("The check, on this machine")
            right.legend(fontsize=8)
        figure.savefig(path)


def tables(table: list[dict[str, Any]], checked: dict[str, Any] | None) -> str:
    lines = ["| workers | " + " | ".join(f"{n}, {NAMES[h]}" for n in NETWORKS.values() for h in NAMES) + " |"]
    lines.append("| --- |" + " --- |" * (len(NETWORKS) * len(NAMES)))
    for workers in WORKERS:
        cells = [
            next(
                r["speedup"]
                for r in table
                if (r["network"], r["how"], r["workers"]) == (network, how, workers)
            )
            for network in NETWORKS
            for how in NAMES
        ]
        lines.append(f"| {workers} | " + " | ".join(f"{cell:.1f}" for cell in cells) + " |")
    if checked:
        lines += [
            "",
            f"Fitted to bare all-reduces: {checked['bandwidth'] / 1e9:.2f} GB/s, "
            f"{1e6 * checked['latency']:.0f} µs.",
            "",
            "| network | pictures a process | MB sent a worker | ms, 1 process | ms, 2 processes "
            "| predicted | error |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]
        lines += [
            f"| {r['network']}, {r['side']} px | {r['batch']} | {r['bytes_sent_per_worker'] / 1e6:.2f} "
            f"| {1000 * r['one_process_seconds']:.1f} | {1000 * r['two_processes_seconds']:.1f} "
            f"| {1000 * r['predicted_seconds']:.1f} | {r['error']:+.1%} |"
            for r in checked["steps"]
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="a folder for the figure and the numbers")
    parser.add_argument("--bandwidth", type=float, default=1.25e9, help="bytes a second (10 Gbit/s)")
    parser.add_argument("--latency", type=float, default=25e-6, help="seconds a message")
    parser.add_argument("--compute", type=float, default=2e12, help="multiply-accumulates a second")
    parser.add_argument("--batch", type=int, default=1024, help="pictures of all workers together")
    parser.add_argument("--quick", action="store_true", help="check on fewer and smaller steps")
    parser.add_argument("--no-measure", action="store_true", help="the model alone")
    options = parser.parse_args()
    machine = Machine(1 / options.compute, options.bandwidth, options.latency)
    table = []
    for network in NETWORKS:
        made = layers(network)
        for how in NAMES:
            alone = step(made, options.batch, 1, machine, how)
            for workers in WORKERS:
                seconds = step(made, options.batch / workers, workers, machine, how)
                table.append(
                    {
                        "network": network,
                        "how": how,
                        "workers": workers,
                        "seconds": seconds,
                        "speedup": alone / seconds,
                    }
                )
    checked = None if options.no_measure else check(options.quick)
    options.out.mkdir(parents=True, exist_ok=True)
    about = {
        "processor": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "torch": torch.__version__,
        "load_before": os.getloadavg()[0],
        "assumed": {k: getattr(options, k) for k in ("bandwidth", "latency", "compute", "batch")},
    }
    (options.out / "scaling.json").write_text(
        json.dumps({"machine": about, "model": table, "check": checked}, indent=1) + "\n"
    )
    draw(table, checked, machine, options.out / "scaling.svg")
    (options.out / "scaling.md").write_text(tables(table, checked))
    print(tables(table, checked))


if __name__ == "__main__":
    main()
