"""Does the decoder withstand any bytes? libFuzzer with address and undefined-behaviour sanitizers.

    python benchmarks/fuzz.py [--minutes 10] [--jobs 2] [--keep FOLDER] [--json]

Builds the targets of ``engine/fuzz`` with clang, makes a small corpus of real files and sections, and gives
each target its share of the time. Anything the sanitizers find, a crash, a hang, or more than 1 GB of memory
is shown, the input that caused it is kept, and the exit code is 1. ``--keep`` keeps build and corpus, so that
the next run goes on from what this one learnt.

Needs clang with libFuzzer (Debian: ``apt-get install clang``).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from squeezekit import format as sqz
from squeezekit.format.library import text_encode
from squeezekit.format.pack import pack, tensor_head
from squeezekit.format.weights import Encoder, encode_weights
from squeezekit.graph.graph import Codebook, Graph, Node, Quantization, Tensor

ROOT = Path(__file__).resolve().parents[1]
TARGETS = ("file", "text", "graph", "weights", "run")
WINDOW = {"padding": (0, 0, 0, 0), "dilation": (1, 1), "groups": 1}


def tool(name: str) -> str:
    """Find a program, in this environment first."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        raise SystemExit(f"{name} is missing (Debian: apt-get install clang; the others come with [dev])")
    return found


def build(folder: Path) -> None:
    """Compile the targets."""
    flags = ["-DSQZ_FUZZ=ON", f"-DCMAKE_C_COMPILER={tool('clang')}", f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}"]
    for command in (
        [tool("cmake"), "-S", str(ROOT / "engine"), "-B", str(folder), "-G", "Ninja", *flags],
        [tool("cmake"), "--build", str(folder)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


def float_graph(rng: np.random.Generator) -> Graph:
    """A network with shared weights, a branch, and most float operators."""
    values = np.sort(rng.normal(size=15).astype(np.float32))
    values = np.unique(np.append(values, np.float32(0)))
    shared = Codebook(values, rng.integers(0, values.size, (6, 3, 3, 3)).astype(np.uint8))
    plain = rng.normal(size=(4, 6, 1, 1)).astype(np.float32)
    channels = rng.random((4, 10)).astype(np.float32) + 0.5
    one = {**WINDOW, "kernel": (1, 1), "stride": (1, 1)}
    bias = rng.normal(size=6).astype(np.float32)
    nodes = (
        Node("affine", "affine", ("input",), {}, {"scale": channels[0, :3], "shift": channels[1, :3]}),
        Node(
            "conv",
            "conv",
            ("affine",),
            {**WINDOW, "kernel": (3, 3), "stride": (2, 2)},
            {"weight": shared, "bias": bias},
        ),
        Node("squeeze", "conv", ("conv",), {**one, "activation": "relu"}, {"weight": plain}),
        Node("fire", "concat", ("conv", "squeeze")),
        Node(
            "norm",
            "batch_norm",
            ("fire",),
            {"eps": 1e-5},
            dict(zip(("gamma", "beta", "mean", "var"), channels, strict=True)),
        ),
        Node(
            "pool",
            "max_pool",
            ("norm",),
            {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1, 1, 1), "ceil_mode": 1},
        ),
        Node("mean", "global_avg_pool", ("pool",)),
        Node("flat", "flatten", ("mean",)),
    )
    return Graph(Tensor("input", (3, 13, 11)), nodes, "flat")


def int8_graph(rng: np.random.Generator) -> Graph:
    """A network of bytes."""
    byte = Quantization(1.0, 0)
    half = Quantization(0.5, 3)

    def matrix(name: str, source: str, shape: tuple[int, ...], **attributes: Any) -> Node:
        multiplier = sqz.scale_grid(0.0031, rng.integers(-8, 8, shape[0]) * 4)
        bias = rng.integers(-90, 90, shape[0]).astype(np.int32) << sqz.bias_shift(multiplier)
        weight = np.round(rng.normal(size=shape)).astype(np.int8)
        weights = {"weight": weight, "bias": bias, "multiplier": multiplier}
        last = attributes.get("logits")
        return Node(name, "conv", (source,), {**WINDOW, **attributes}, weights, None if last else half)

    nodes = (
        matrix("conv", "input", (8, 3, 3, 3), kernel=(3, 3), stride=(2, 2)),
        Node(
            "table",
            "table",
            ("conv",),
            {},
            {"table": np.arange(256, dtype=np.uint8)[::-1].copy()},
            half,
        ),
        Node("add", "add", ("conv", "table"), {}, {"multiplier": np.ones(2, np.float32)}, half),
        matrix("head", "add", (5, 8, 1, 1), kernel=(1, 1), stride=(1, 1), logits=1),
        Node("flat", "flatten", ("head",)),
    )
    return Graph(Tensor("input", (3, 3, 3), byte), nodes, "flat")


def corpus(folder: Path) -> None:
    """Write small real inputs for each target; the same ones every time."""
    rng = np.random.default_rng(0)
    graphs = {"float": float_graph(rng), "int8": int8_graph(rng)}
    names = ("cat", "dog", "wombat", "tench", "goldfish")
    for target in TARGETS:
        (folder / target).mkdir(parents=True, exist_ok=True)
    for name, graph in graphs.items():
        model = sqz.Model(graph, {"size": 13}, names, None, {"made": "for fuzzing"})
        for coding in ("range", "huffman"):
            (folder / "file" / f"{name}-{coding}.sqz").write_bytes(sqz.dumps(model, coding))  # type: ignore[arg-type]
        (folder / "graph" / name).write_bytes(pack(graph))
        (folder / "text" / name).write_bytes(text_encode(pack(graph)))
        for coding in ("range", "huffman"):
            packed, weights = pack(graph), encode_weights(graph, coding)  # type: ignore[arg-type]
            told = len(packed).to_bytes(2, "little")  # as fuzz_run.c reads it
            (folder / "run" / f"{name}-{coding}").write_bytes(told + packed + weights)
    (folder / "text" / "names").write_bytes(text_encode("\n".join(names).encode()))
    for kind, dimensions in ((0, 1), (1, 4), (2, 1), (3, 1), (4, 4), (1, 2)):
        for coding in ("range", "huffman"):
            told = bytes([kind + 5 * (dimensions - 1), 7, 9, 10])  # as fuzz_weights.c reads it
            shape = (8, 10, 3, 3)[:dimensions]
            numbers = np.round(rng.normal(size=shape) * 3)
            dtype = (np.float32, np.int8, np.uint8, np.int32, np.uint8)[kind]
            array: Any = np.abs(numbers).astype(dtype) if kind in (2, 4) else numbers.astype(dtype)
            if kind == 4:
                array = Codebook(np.linspace(-1, 1, 31, dtype=np.float32), array)
            heads = [tensor_head("weight", array)] * 3
            encoder = Encoder(coding, heads)
            for head in heads:
                encoder.add(head, array)
            (folder / "weights" / f"{kind}-{dimensions}-{coding}").write_bytes(told * 3 + encoder.finish())


def fuzz(target: str, binary: Path, inputs: Path, seconds: float, found: Path) -> dict[str, Any]:
    """Run one target; return what libFuzzer says of it."""
    started = time.monotonic()
    done = subprocess.run(
        [
            str(binary),
            str(inputs),
            f"-max_total_time={max(1, round(seconds))}",
            "-timeout=20",
            "-rss_limit_mb=1024",
            "-max_len=4096",
            "-print_final_stats=1",
            f"-artifact_prefix={found}/",
        ],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    executions = re.search(r"stat::number_of_executed_units:\s+(\d+)", done.stderr)
    covered = re.findall(r"cov: (\d+)", done.stderr)
    return {
        "target": target,
        "seconds": round(time.monotonic() - started, 1),
        "executions": int(executions[1]) if executions else 0,
        "branches": int(covered[-1]) if covered else 0,
        "clean": done.returncode == 0,
        "report": "" if done.returncode == 0 else done.stderr[-6000:],
    }


def main() -> int:
    """Fuzz, and tell."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--jobs", type=int, default=2, help="targets at a time")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        found = folder / "found"
        found.mkdir(parents=True, exist_ok=True)
        build(folder / "build")
        corpus(folder / "corpus")
        seconds = 60 * options.minutes * options.jobs / len(TARGETS)
        with ThreadPoolExecutor(options.jobs) as pool:
            results = list(
                pool.map(
                    lambda target: fuzz(
                        target,
                        folder / "build" / f"fuzz_{target}",
                        folder / "corpus" / target,
                        seconds,
                        found,
                    ),
                    TARGETS,
                )
            )
        if any(not each["clean"] for each in results) and options.keep is None:
            kept = Path(tempfile.mkdtemp(prefix="squeezekit-fuzz-"))
            shutil.copytree(found, kept, dirs_exist_ok=True)
            print(f"what failed lies in {kept}", file=sys.stderr)
    if options.json:
        print(json.dumps(results, indent=2))
    else:
        for each in results:
            verdict = "clean" if each["clean"] else "FAILED"
            print(
                f"fuzz_{each['target']:<8} {each['executions']:>10,} inputs in {each['seconds']:>6.1f} s, "
                f"{each['branches']:>5,} places reached: {verdict}\n{each['report']}".rstrip()
            )
    return 0 if all(each["clean"] for each in results) else 1


if __name__ == "__main__":
    sys.exit(main())
