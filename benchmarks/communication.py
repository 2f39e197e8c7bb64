"""Bytes that each worker of a data-parallel training sends a step: SqueezeNet's case for being small.

Two processes on this machine train with PyTorch's DistributedDataParallel over gloo. What they send is read
from the counters of the loopback interface, step by step; half of it is one worker's. Beside it what the
arithmetic of ring all-reduce says: 2 (n - 1) / n times the gradient's bytes, with n = 2 workers just the
gradient's bytes.

    python benchmarks/communication.py [--networks alexnet squeezenet1_0 ...] [--json]

(arXiv:1602.07360, section 1: "communication overhead is directly proportional to the number of parameters
in the model".)
"""

from __future__ import annotations

import argparse
import json
import os
import socket
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
WARM_UP, STEPS = 12, 3  # PowerSGD starts after ten steps


def sent() -> int:
    """Bytes that went out on the loopback interface so far."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, counters = line.partition(":")
        if name.strip() == "lo":
            return int(counters.split()[8])
    raise RuntimeError("no loopback interface in /proc/net/dev (this benchmark needs Linux)")


def worker(rank: int, port: int, network: str, compression: str, answer: Any) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=2)
    torch.manual_seed(rank)
    model = DistributedDataParallel(create_model(network))
    hook = communication_hook(compression)
    if hook is not None:
        model.register_comm_hook(*hook)
    size = model_spec(network).input_size if network == "alexnet" else 64  # gradients do not depend on it
    picture, label = torch.randn(2, 3, size, size), torch.tensor([1, 2])
    before, started = 0, 0.0
    for step in range(WARM_UP + STEPS):
        if step == WARM_UP:
            dist.barrier()
            before, started = sent(), time.perf_counter()
        model.zero_grad()
        nn.functional.cross_entropy(model(picture), label).backward()
    dist.barrier()
    if rank == 0:
        answer.put(((sent() - before) / STEPS / 2, (time.perf_counter() - started) / STEPS))
    dist.destroy_process_group()


def measure(network: str, compression: str) -> dict[str, Any]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = mp.get_context("spawn")
    answer = context.SimpleQueue()
    mp.spawn(worker, (port, network, compression, answer), nprocs=2)
    measured, _ = answer.get()
    with torch.device("meta"):
        model = create_model(network)
    gradient = 4 * sum(p.numel() for p in model.parameters())
    return {
        "network": network,
        "compression": compression,
        "parameters": gradient // 4,
        "gradient_bytes": gradient,
        "bytes_sent_per_worker_per_step": round(measured),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--compressions", nargs="+", default=COMPRESSIONS)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = [
        measure(network, compression)
        for network in arguments.networks
        for compression in arguments.compressions
    ]
    if arguments.json:
        print(json.dumps(rows, indent=2))
    else:
        alexnet = next((r["bytes_sent_per_worker_per_step"] for r in rows if r["network"] == "alexnet"), None)
        print(f"{'network':18}{'compression':13}{'gradient MB':>12}{'sent MB':>10}{'AlexNet / this':>16}")
        for row in rows:
            bytes_sent = row["bytes_sent_per_worker_per_step"]
            ratio = f"{alexnet / bytes_sent:.1f} x" if alexnet else ""
            print(
                f"{row['network']:18}{row['compression']:13}{row['gradient_bytes'] / 1e6:12.2f}"
                f"{bytes_sent / 1e6:10.2f}{ratio:>16}"
            )
