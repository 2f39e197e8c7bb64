"""How small does the authors' published SqueezeNet become without a weight changing, and how fast is it back?

    python benchmarks/lossless.py [--weights ../shared/weights/compressed_SqueezeNet.net]
                                  [--classes ../shared/data/imagenet-classes.csv] [--repeat 50] [--json]

The published file (Deep Compression, before its Huffman coding) is re-coded as .sqz with both codings; all
weights and biases are compared bit by bit. Beside it the general-purpose compressors, where installed, on the
same file; and the entropy of the weights' indices layer by layer, which no code without contexts can beat (it
counts neither the shared values nor the biases).

Then the time to decode all weights of the file on one thread, and of the same network rounded to about two
bits a weight (8-bit integers, a step of 0.42 mean magnitudes), in processor time: the median of many.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import lzma
import platform
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from squeezekit import format as sqz
from squeezekit.data.preparation import CAFFE
from squeezekit.format.pack import tensor_head
from squeezekit.format.weights import Decoder, Encoder
from squeezekit.graph.graph import Codebook, Graph, Node, Tensor, same
from squeezekit.models import read_deep_compression

SHARED = Path(__file__).resolve().parents[2] / "shared"
ONE = {"stride": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1), "groups": 1, "activation": "relu"}
POOL = {"kernel": (3, 3), "stride": (2, 2), "padding": (0, 0, 0, 0), "ceil_mode": 1}


def codebook(weight: np.ndarray[Any, Any]) -> Codebook:
    """Find the values that weights share."""
    values, indices = np.unique(weight, return_inverse=True)
    return Codebook(values, indices.reshape(weight.shape).astype(np.uint8))


def published(path: Path) -> Graph:
    """SqueezeNet v1.0 as it stands in the paper's table 1, with the published weights."""
    state = {name: tensor.numpy() for name, tensor in read_deep_compression(path).items()}
    nodes: list[Node] = []

    def conv(name: str, source: str, **attributes: Any) -> str:
        weight = codebook(state[f"{name}.weight"])
        weights = {"weight": weight, "bias": state[f"{name}.bias"]}
        nodes.append(
            Node(name, "conv", (source,), {**ONE, "kernel": weight.shape[2:], **attributes}, weights)
        )
        return name

    def pool(name: str, source: str) -> str:
        nodes.append(Node(name, "max_pool", (source,), POOL))
        return name

    here = pool("features.pool1", conv("features.conv1", "input", stride=(2, 2)))
    for i in range(2, 10):
        fire = f"features.fire{i}"
        squeeze = conv(f"{fire}.squeeze1x1", here)
        expand = conv(f"{fire}.expand1x1", squeeze), conv(f"{fire}.expand3x3", squeeze, padding=(1, 1, 1, 1))
        nodes.append(Node(fire, "concat", expand))
        here = pool(f"features.pool{i}", fire) if i in (4, 8) else fire
    nodes.append(Node("classifier.pool", "global_avg_pool", (conv("classifier.conv10", here),)))
    nodes.append(Node("classifier.flatten", "flatten", ("classifier.pool",)))
    return Graph(Tensor("input", (3, 227, 227)), tuple(nodes), "classifier.flatten")


def entropy(array: np.ndarray[Any, Any]) -> float:
    """Bytes that the best code without contexts takes."""
    share = np.unique(array, return_counts=True)[1] / array.size
    return float(-(share * np.log2(share)).sum() * array.size / 8)


def rounded(weight: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Round to 8-bit integers, each filter on a grid of its own, small values rather to zero."""

    def mean(x: np.ndarray[Any, Any]) -> float:
        return float(np.abs(x[x != 0]).mean()) if x.any() else 1.0

    whole = mean(weight)
    step = np.array([0.42 * whole * (mean(each) / whole) ** 0.5 for each in weight]).reshape(-1, 1, 1, 1)
    levels = np.sign(weight) * np.floor(np.abs(weight) / step + 0.5 - 0.12)
    integers: np.ndarray[Any, Any] = np.clip(levels, -127, 127).astype(np.int8)
    return integers


def encode(weights: list[Any], coding: str) -> bytes:
    """Code tensors alone, as one weights section."""
    heads = [tensor_head("weight", weight) for weight in weights]
    encoder = Encoder(coding, heads)
    for head, weight in zip(heads, weights, strict=True):
        encoder.add(head, weight)
    return encoder.finish()


def decode_ms(weights: list[Any], coding: str, repeat: int) -> dict[str, float]:
    """Time the decoding of all tensors, allocation and all."""
    heads, data = [tensor_head("weight", weight) for weight in weights], encode(weights, coding)
    times = []
    for _ in range(repeat):
        started = time.process_time()
        decoder = Decoder(data, heads)
        for head in heads:
            decoder.take(head)
        times.append(1000 * (time.process_time() - started))
    return {"median": round(statistics.median(times), 2), "best": round(min(times), 2)}


def others(path: Path) -> dict[str, int | None]:
    """Compress the published file with what there is."""
    data = path.read_bytes()
    sizes: dict[str, int | None] = {
        "gzip -9": len(gzip.compress(data, 9)),
        "xz -9e": len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)),
    }
    for name, command in (
        ("zstd --ultra -22", ["zstd", "--ultra", "-22", "-c", str(path)]),
        ("brotli -q 11 -w 24", ["brotli", "-q", "11", "-w", "24", "-c", str(path)]),
    ):
        found = shutil.which(command[0])
        done = subprocess.run(command, capture_output=True, check=False) if found else None
        sizes[name] = len(done.stdout) if done is not None and done.returncode == 0 else None
    return sizes


def main() -> int:
    """Measure, and tell."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path, default=SHARED / "weights" / "compressed_SqueezeNet.net")
    parser.add_argument("--classes", type=Path, default=SHARED / "data" / "imagenet-classes.csv")
    parser.add_argument("--repeat", type=int, default=50)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()

    graph = published(options.weights)
    with options.classes.open(newline="") as file:
        rows = list(csv.DictReader(file))
    names, synsets = tuple(row["name"] for row in rows), tuple(row["synset"] for row in rows)
    found: dict[str, Any] = {
        "machine": f"{platform.processor() or platform.machine()}, Python {platform.python_version()}",
        "published": options.weights.stat().st_size,
        "others": others(options.weights),
    }
    indices = [node.weights["weight"] for node in graph.nodes if "weight" in node.weights]
    found["entropy_of_indices"] = round(sum(entropy(each.indices) for each in indices))  # type: ignore[union-attr]
    for coding in ("range", "huffman"):
        data = sqz.dumps(sqz.Model(graph, CAFFE.to_dict()), coding)  # type: ignore[arg-type]
        labelled = sqz.dumps(sqz.Model(graph, CAFFE.to_dict(), names, synsets), coding)  # type: ignore[arg-type]
        found[coding] = {
            "bytes": len(data),
            "bytes_with_labels": len(labelled),
            "identical": same(sqz.loads(labelled).graph, graph),
            "decode_ms": decode_ms(indices, coding, options.repeat),
        }
    integers = [rounded(each.dense()) for each in indices]  # type: ignore[union-attr]
    found["rounded"] = {
        "entropy": round(sum(map(entropy, integers))),
        **{
            coding: {
                "bytes": len(encode(integers, coding)),
                "bits_per_weight": round(
                    8 * len(encode(integers, coding)) / sum(each.size for each in integers), 4
                ),
                "decode_ms": decode_ms(integers, coding, options.repeat),
            }
            for coding in ("range", "huffman")
        },
    }
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    print(f"published                    {found['published']:>9,} bytes")
    for name, size in found["others"].items():
        print(f"{name:<28} {size:>9,} bytes" if size else f"{name:<28} not installed")
    print(f"entropy of the indices alone {found['entropy_of_indices']:>9,} bytes")
    for coding in ("huffman", "range"):
        row = found[coding]
        print(
            f".sqz, {coding:<22} {row['bytes']:>9,} bytes, with labels {row['bytes_with_labels']:,}; "
            f"{'identical' if row['identical'] else 'DIFFERENT'}; "
            f"weights decoded in {row['decode_ms']['median']} ms"
        )
    print(f"rounded: entropy             {found['rounded']['entropy']:>9,} bytes")
    for coding in ("huffman", "range"):
        row = found["rounded"][coding]
        print(
            f"rounded, {coding:<19} {row['bytes']:>9,} bytes, {row['bits_per_weight']} bits a weight; "
            f"decoded in {row['decode_ms']['median']} ms"
        )
    return 0 if found["range"]["identical"] and found["huffman"]["identical"] else 1


if __name__ == "__main__":
    sys.exit(main())
