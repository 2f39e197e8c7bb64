"""Bytes that each worker of a data-parallel training sends a step, and the step's time on 1 and 2 processes.

SqueezeNet's case for being small. Two processes on this machine train with PyTorch's DistributedDataParallel
over gloo. What they send is read from the counters of the loopback interface; half of it is one worker's.
Beside it what the arithmetic of ring all-reduce says: 2 (n - 1) / n times the gradient's bytes, with n = 2
workers just the gradient's bytes. A step is forward, loss and backward of each worker's own batch, without
the optimiser; the time on one process is that of the same step with nobody to talk to. Each has one thread.

    python benchmarks/communication.py [--networks alexnet squeezenet1_0 ...] [--batch 2] [--size 64] [--json]

(arXiv:1602.07360, section 1: "communication overhead is directly proportional to the number of parameters
in the model".)
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from squeezekit import create_model
from squeezekit.models.registry import model_spec
from squeezekit.train.distributed import COMPRESSIONS, communication_hook

NETWORKS = ("alexnet", "squeezenet1_0", "squeezenet1_1", "mobilenet_v1", "mobilenet_v2", "efficientnet_b0")
WARM_UP, STEPS = 12, 7  # PowerSGD starts after ten steps


def sent() -> int:
    """Bytes that went out on the loopback interface so far."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, counters = line.partition(":")
        if name.strip() == "lo":
            return int(counters.split()[8])
    raise RuntimeError("no loopback interface in /proc/net/dev (this benchmark needs Linux)")


def join(rank: int, port: int, processes: int) -> None:
    """Become one of several processes, with one thread."""
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=processes)
    torch.manual_seed(rank)


def worker(
    rank: int, port: int, processes: int, network: str, compression: str, batch: int, side: int, answer: Any
) -> None:
    join(rank, port, processes)
    model: nn.Module = create_model(network)
    if processes > 1:
        parallel = DistributedDataParallel(model)
        hook = communication_hook(compression)
        if hook is not None:
            parallel.register_comm_hook(*hook)
        model = parallel
    # Gradients do not depend on the side; AlexNet takes one only.
    side = model_spec(network).input_size if network == "alexnet" else side
    pictures, labels = torch.randn(batch, 3, side, side), torch.arange(batch)
    before, times = 0, []
    for step in range(WARM_UP + STEPS):
        if step == WARM_UP:
            dist.barrier()
            before = sent()
        started = time.perf_counter()
        model.zero_grad()
        nn.functional.cross_entropy(model(pictures), labels).backward()
        times.append(time.perf_counter() - started)
    dist.barrier()
    if rank == 0:
        answer.put(((sent() - before) / STEPS / 2, statistics.median(times[WARM_UP:])))
    dist.destroy_process_group()


def spawned(function: Any, processes: int, *arguments: Any) -> Any:
    """Run a function in several processes, and return what one of them puts into the queue."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    answer = mp.get_context("spawn").SimpleQueue()
    mp.spawn(function, (port, processes, *arguments, answer), nprocs=processes)
    return answer.get()


def measure(network: str, compression: str, batch: int = 2, side: int = 64) -> dict[str, Any]:
    _, alone = spawned(worker, 1, network, compression, batch, side)
    measured, together = spawned(worker, 2, network, compression, batch, side)
    with torch.device("meta"):
        model = create_model(network)
    gradient = 4 * sum(p.numel() for p in model.parameters())
    return {
        "network": network,
        "compression": compression,
        "parameters": gradient // 4,
        "gradient_bytes": gradient,
        "bytes_sent_per_worker_per_step": round(measured),
        "batch": batch,
        "seconds_per_step": {"1": alone, "2": together},
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--compressions", nargs="+", default=COMPRESSIONS)
    parser.add_argument("--batch", type=int, default=2, help="pictures of each process")
    parser.add_argument("--size", type=int, default=64, help="their side; AlexNet has its own")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = [
        measure(network, compression, arguments.batch, arguments.size)
        for network in arguments.networks
        for compression in arguments.compressions
    ]
    if arguments.json:
        print(json.dumps(rows, indent=2))
    else:
        alexnet = next((r["bytes_sent_per_worker_per_step"] for r in rows if r["network"] == "alexnet"), None)
        print(
            f"{'network':18}{'compression':13}{'gradient MB':>12}{'sent MB':>10}{'AlexNet / this':>16}"
            f"{'ms, 1 process':>15}{'2 processes':>13}"
        )
        for row in rows:
            bytes_sent = row["bytes_sent_per_worker_per_step"]
            ratio = f"{alexnet / bytes_sent:.1f} x" if alexnet else ""
            print(
                f"{row['network']:18}{row['compression']:13}{row['gradient_bytes'] / 1e6:12.2f}"
                f"{bytes_sent / 1e6:10.2f}{ratio:>16}"
                f"{1000 * row['seconds_per_step']['1']:15.1f}{1000 * row['seconds_per_step']['2']:13.1f}"
            )
