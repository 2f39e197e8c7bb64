"""SqueezeNet v1.0's published weights made small: squeezekit, whole int8 files, beside NNCodec's weights.

    python benchmarks/compression.py [--sizes 400000 345000] [--qp -36 -32] [--peers .venv-peers] [--json]

squeezekit's figures are of whole files (graph, names, synsets, preparation) that run in int8; NNCodec
(ISO/IEC 15938-17, `make peers` installs it) codes the weights alone, which then run in float32. Half of
imagenet-500 calibrates; both are measured on the other half, which neither has seen.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from command import squeezekit

HERE = Path(__file__).resolve().parents[1]

PEER = """
import sys, time, numpy, torch
declare = torch.library.Library("torchvision", "DEF")  # its own operators do not load with every torch
for name in ("nms", "qnms"):
    declare.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
from nncodec import nnc
weights = dict(numpy.load(sys.argv[1]))
coded = nnc.compress(weights, qp=int(sys.argv[2]), return_bitstream=True)  # a bytearray: bytes are a path
started = time.perf_counter()
decoded = nnc.decompress(coded)
seconds = time.perf_counter() - started
numpy.savez(sys.argv[3], **decoded)
print(len(coded), seconds)
"""


def ours(shared: Path, size: int, folder: Path, effort: str) -> dict[str, Any]:
    words = ["compress", str(shared / "weights/compressed_SqueezeNet.net")]
    words += ["--effort", effort]
    words += [
        "--classes",
        str(shared / "data/imagenet-classes.csv"),
        "--data",
        str(shared / "data/imagenet-500"),
    ]
    words += ["--out", str(folder / f"{size}.sqz"), "--max-bytes", str(size)]
    answer = squeezekit(*words)
    wanted = ("bytes", "agreement", "top1", "top5", "original_top1", "original_top5", "judged", "seconds")
    row = {"method": f"squeezekit best, at most {size:,}", **{key: answer[key] for key in wanted}}
    return row | {"decode_ms": decode_time(folder / f"{size}.sqz")}


def decode_time(path: Path) -> float:
    """Milliseconds to read a whole file into a graph, all weights decoded: one thread, the median of many."""
    from squeezekit.format import loads

    content = path.read_bytes()
    times = []
    for _ in range(40):
        started = time.process_time()
        loads(content)
        times.append(time.process_time() - started)
    return 1000 * float(np.median(times))


def peer(shared: Path, qp: int, folder: Path, python: Path) -> dict[str, Any]:
    import torch

    from squeezekit.compress.material import gather
    from squeezekit.data.source import open_pictures
    from squeezekit.train.classifier import load_classifier

    classifier = load_classifier(
        shared / "weights/compressed_SqueezeNet.net", classes=shared / "data/imagenet-classes.csv"
    )
    pictures = open_pictures(shared / "data/imagenet-500")
    material = gather(classifier, pictures, most=500, seed=0, advance=lambda *_: None)
    state = {name: value.numpy() for name, value in classifier.network.state_dict().items()}
    np.savez(folder / "weights.npz", **state)
    arguments = [str(folder / "weights.npz"), str(qp), str(folder / "decoded.npz")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(python.absolute()), "-c", PEER, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=environment,
        cwd=folder,
    )
    size, seconds = done.stdout.split()[-2:]

    def answers() -> np.ndarray[Any, Any]:
        judges = material.judges
        return np.concatenate([classifier.logits(judges[i : i + 16]) for i in range(0, len(judges), 16)])

    before = answers()
    decoded = np.load(folder / "decoded.npz")
    classifier.network.load_state_dict(
        {
            name: torch.from_numpy(np.asarray(decoded[name], np.float32).reshape(old.shape))
            for name, old in state.items()
        }
    )
    after, labels = answers(), material.labels
    assert labels is not None

    def five(logits: np.ndarray[Any, Any]) -> float:
        return float((np.argsort(-logits, axis=1, kind="stable")[:, :5] == labels[:, None]).any(1).mean())

    return {
        "method": f"NNCodec, qp {qp}, weights alone, float32",
        "bytes": int(size),
        "agreement": float((before.argmax(1) == after.argmax(1)).mean()),
        "top1": float((after.argmax(1) == labels).mean()),
        "top5": five(after),
        "original_top1": float((before.argmax(1) == labels).mean()),
        "original_top5": five(before),
        "judged": len(labels),
        "decode_ms": 1000 * float(seconds),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="*", default=[400_000, 345_000])
    parser.add_argument("--qp", type=int, nargs="*", default=[-36, -32])
    parser.add_argument("--effort", default="default")
    parser.add_argument("--data", type=Path, default=HERE.parent / "shared")
    parser.add_argument("--peers", type=Path, default=HERE / ".venv-peers", help="an environment")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder, python = Path(temporary), arguments.peers / "bin/python"
        rows = [peer(arguments.data, qp, folder, python) for qp in arguments.qp]
        rows += [ours(arguments.data, size, folder, arguments.effort) for size in arguments.sizes]
    if arguments.json:
        print(json.dumps(rows, indent=2))
    else:
        print(f"{'method':<44} {'bytes':>9}  same answer  top-1 (before)   top-5 (before)   decode")
        for row in rows:
            print(
                f"{row['method']:<44} {row['bytes']:>9,}  {row['agreement']:>10.1%}  {row['top1']:.1%} "
                f"({row['original_top1']:.1%})    {row['top5']:.1%} ({row['original_top5']:.1%})    "
                f"{row['decode_ms']:.1f} ms"
            )
