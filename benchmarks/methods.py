"""The methods of compression side by side, on the SqueezeNet that its authors published: bytes and answers.

    python benchmarks/methods.py [--steps 200] [--only svd pruning] [--shared ../shared] [--json]

The pictures of imagenet-500, sorted by the names of their files, are dealt out in turns: those with odd
numbers train, and what is reported was measured on the others. Training is distillation from the original
network on random crops, mirrored by chance; labels are used for nothing but to count right answers.

top-1 and top-5 are accuracies. "same" is the share of pictures whose first answer is the original's, and "in
five" of those whose five likeliest answers hold the original's first. Bytes are those of all parameters.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from squeezekit.compress.deep_compression import count_bytes, deep_compress
from squeezekit.compress.layers import dense_bytes
from squeezekit.compress.pruning import prune, prune_and_retrain, sparse_bytes, sparsity_of
from squeezekit.compress.retraining import Batches, retrain
from squeezekit.compress.svd import decompose, decompose_to_bytes
from squeezekit.data.picture import decode
from squeezekit.data.preparation import CAFFE, Preparation
from squeezekit.graph import Graph
from squeezekit.graph.from_torch import from_torch
from squeezekit.graph.to_torch import to_torch
from squeezekit.models import create_model
from squeezekit.report.progress import progress_bar

HERE = Path(__file__).resolve().parents[1]
MARGIN = 256 - CAFFE.size


@dataclass
class Row:
    """One way to make the network small, and what it costs."""

    method: str
    settings: str
    bytes: int
    top1: float = 0.0
    top5: float = 0.0
    same: float = 0.0
    in_five: float = 0.0
    seconds: float = 0.0


@dataclass
class Bench:
    """The network, the pictures to train on, and those to report on."""

    graph: Graph
    batches: Callable[[], Batches]
    pictures: np.ndarray
    labels: np.ndarray
    steps: int

    def __post_init__(self) -> None:
        self.original = self.answers(self.graph)

    @torch.inference_mode()
    def answers(self, graph: Graph) -> np.ndarray:
        module = to_torch(graph).eval()
        parts = [module(torch.from_numpy(x)).flatten(1) for x in np.array_split(self.pictures, 25)]
        return torch.cat(parts).numpy()

    def measure(self, row: Row, graph: Graph) -> Row:
        logits = self.answers(graph)
        five = np.argsort(-logits, axis=1, kind="stable")[:, :5]
        first = self.original.argmax(axis=1)
        row.top1 = float((five[:, 0] == self.labels).mean())
        row.top5 = float((five == self.labels[:, None]).any(axis=1).mean())
        row.same = float((five[:, 0] == first).mean())
        row.in_five = float((five == first[:, None]).any(axis=1).mean())
        return row

    def training(self, steps: int | None = None) -> dict[str, Any]:
        return {"steps": self.steps if steps is None else steps, "teacher": self.graph}


def open_half(shared: Path, half: int, preparation: Preparation) -> tuple[np.ndarray, np.ndarray]:
    """Every second picture by file name, from number `half` on: uint8 (N, H, W, 3), and labels."""
    with (shared / "data/imagenet-classes.csv").open(newline="") as file:
        index = {row["synset"]: int(row["index"]) for row in csv.DictReader(file)}
    paths = sorted((shared / "data/imagenet-500").glob("*/*"), key=lambda path: path.name)[half::2]
    pixels = [preparation.geometry(decode(path.read_bytes(), path.name)) for path in paths]
    return np.stack(pixels), np.array([index[path.parent.name] for path in paths])


def prepared(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(CAFFE.normalise(pixels).transpose(0, 3, 1, 2))


def crops(pixels: np.ndarray, batch_size: int, seed: int) -> Batches:
    """Random crops of 227 from 256 × 256, every other one mirrored; the same ones for the same seed."""
    random = np.random.default_rng(seed)

    def one_pass() -> Iterator[torch.Tensor]:
        order = random.permutation(len(pixels))
        for start in range(0, len(order), batch_size):
            batch = []
            for picture in pixels[order[start : start + batch_size]]:
                top, left = random.integers(0, MARGIN + 1, 2)
                cut = picture[top : top + CAFFE.size, left : left + CAFFE.size]
                batch.append(cut[:, ::-1] if random.random() < 0.5 else cut)
            yield torch.from_numpy(prepared(np.stack(batch)))

    return one_pass


# --- the methods: each yields rows, and the graphs to measure for them ---------------------------------


def original(bench: Bench) -> Iterator[tuple[Row, Graph]]:
    yield Row("original", "float32", dense_bytes(bench.graph)), bench.graph


def svd(bench: Bench) -> Iterator[tuple[Row, Graph]]:
    for energy in (0.95, 0.9):
        cut = decompose(bench.graph, energy)
        yield Row("SVD", f"energy {energy}", dense_bytes(cut)), cut
    half = decompose_to_bytes(bench.graph, dense_bytes(bench.graph) // 2)
    yield Row("SVD", "half the bytes", dense_bytes(half)), half
    if bench.steps:
        with progress_bar("SVD") as advance:
            trained = retrain(half, bench.batches(), advance=advance, **bench.training())
        yield Row("SVD", "half the bytes, retrained", dense_bytes(trained)), trained


def pruning(bench: Bench) -> Iterator[tuple[Row, Graph]]:
    as_is = f"as published, {1 - sparsity_of(bench.graph):.0%} kept"
    yield Row("pruning", as_is, sparse_bytes(bench.graph)), bench.graph
    cut = prune(bench.graph, 0.75)
    yield Row("pruning", "25% kept", sparse_bytes(cut)), cut
    if bench.steps:
        with progress_bar("pruning") as advance:
            cut = prune_and_retrain(bench.graph, 0.75, bench.batches(), advance=advance, **bench.training())
        yield Row("pruning", "25% kept, retrained", sparse_bytes(cut)), cut


def deep_compression(bench: Bench) -> Iterator[tuple[Row, Graph]]:
    packed = count_bytes(bench.graph, 4)
    yield (
        Row("Deep Compression", "as published, before Huffman", packed.stages["shared weights"]),
        packed.graph,
    )
    small = count_bytes(bench.graph)
    yield Row("Deep Compression", "as published, with Huffman", small.nbytes), small.graph
    for initialisation in ("linear", "density", "random"):
        small = deep_compress(bench.graph, bits=5, initialisation=initialisation)  # type: ignore[arg-type]
        yield Row("Deep Compression", f"5 bits, {initialisation}", small.nbytes), small.graph
    plans = ((6, None), (5, None), (4, None), (5, 0.75))
    for bits, sparsity in plans if bench.steps else ():
        with progress_bar("Deep Compression") as advance:
            small = deep_compress(
                bench.graph, sparsity, bench.batches(), bits=bits, advance=advance, **bench.training()
            )
        kept = "" if sparsity is None else f", {1 - sparsity:.0%} kept"
        yield Row("Deep Compression", f"{bits} bits{kept}, retrained", small.nbytes), small.graph
        if arguments.tables:
            print(f"\n{bits} bits{kept}\n{small}\n", file=sys.stderr)


METHODS = {"svd": svd, "pruning": pruning, "deep-compression": deep_compression}


def shown(row: Row) -> str:
    return (
        f"{row.method:<17} {row.settings:<29} {row.bytes:>9,}  {row.top1:6.1%} {row.top5:6.1%}  "
        f"{row.same:6.1%} {row.in_five:7.1%}  {row.seconds:5.0f} s"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=200, help="of training for each row; 0 for none")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--tables", action="store_true", help="also the paper's table, layer by layer")
    parser.add_argument("--shared", type=Path, default=HERE.parent / "shared")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    network = create_model("squeezenet1_0", weights=arguments.shared / "weights/compressed_SqueezeNet.net")
    to_train, _ = open_half(arguments.shared, 1, replace(CAFFE, size=256))
    to_report, labels = open_half(arguments.shared, 0, CAFFE)
    bench = Bench(
        from_torch(network.eval(), (3, CAFFE.size, CAFFE.size)),
        lambda: crops(to_train, arguments.batch, arguments.seed),
        prepared(to_report),
        labels,
        arguments.steps,
    )
    if not arguments.json:
        print(
            f"{platform.machine()}, {torch.get_num_threads()} thread, torch {torch.__version__}; "
            f"{len(to_train)} pictures to train on, {len(labels)} reported; "
            f"{arguments.steps} steps of {arguments.batch} pictures"
        )
        print(f"{'method':<17} {'settings':<29} {'bytes':>9}   top-1  top-5    same in five")
    rows = []
    for method in (original, *(METHODS[name] for name in arguments.only)):
        started = time.perf_counter()
        for row, graph in method(bench):
            row.seconds = time.perf_counter() - started
            rows.append(bench.measure(row, graph))
            if not arguments.json:
                print(shown(row), flush=True)
            started = time.perf_counter()
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
