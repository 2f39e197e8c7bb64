"""How long one picture takes: squeezekit and its peers on the same networks, interleaved in one run.

    python benchmarks/latency.py [--json]          in .venv-peers (make peers): measures
    python benchmarks/latency.py starts            in .venv-peers: cold starts and installed sizes
    python benchmarks/latency.py prepare           in .venv: writes the networks, once; the others call it

Weights are random, batch norm's statistics are those of random pictures: what an answer costs does not depend
on them. The int8 graphs are calibrated by least and largest values; the peers get the same integers as a QDQ
ONNX file. Mean and scale of the preparation are 127.5, which fold into the first layer without a border that
other engines would have to build (see squeezekit.export.onnx_qdq).

Every engine sits in a process of its own, open and waiting. In each turn each answers once or a few times
unmeasured, so that none pays for the caches that another left, and then once for the clock; the others wait
meanwhile, and before each there is a pause in which threads that spin for work fall asleep. The order changes
from turn to turn. Ratios are medians over turns of an engine's time to squeezekit's in the same turn. That
all compute the same network the correlation of their logits with those of its definition shows.

``squeezekit (AVX2)`` is squeezekit with AVX-512 switched off. ONNX Runtime cannot be limited so: it asks the
processor alone, so there is no row to compare with on a machine that has more.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from importlib import metadata, util
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from latency_engines import ENGINES

NETWORKS = ("squeezenet1_0", "squeezenet1_1", "mobilenet_v2", "efficientnet_b0")
SIZE = 224
HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


# --- the networks ------------------------------------------------------------------------------------------


def prepare(work: Path, names: list[str]) -> None:
    """Write each network's files where they are not there yet: delete the folder to have them anew."""
    for name in names:
        folder = work / name
        if (folder / "done").exists():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        print(f"preparing {name}", file=sys.stderr, flush=True)
        _prepare(name, folder)
        (folder / "done").touch()


def _prepare(name: str, folder: Path) -> None:
    import numpy as np
    import torch

    from squeezekit import create_model
    from squeezekit.compress.canonical import canonical
    from squeezekit.data.preparation import Preparation
    from squeezekit.export import export_onnx
    from squeezekit.format import Model, read, write
    from squeezekit.graph.from_torch import from_torch
    from squeezekit.graph.passes import prepare as put_before
    from squeezekit.graph.run import run

    rng = np.random.default_rng(0)
    pictures = blurred(rng, 4)
    preparation = Preparation(SIZE, mean=(127.5,) * 3, scale=(1 / 127.5,) * 3)
    prepared = preparation.normalise(pictures).transpose(0, 3, 1, 2)
    torch.manual_seed(0)
    network = with_statistics(create_model(name), torch.from_numpy(np.ascontiguousarray(prepared)))
    graph = from_torch(network, (3, SIZE, SIZE))
    export_onnx(graph, folder / "float32.onnx")
    small = canonical(put_before(graph, preparation.mean, preparation.scale))
    whole = nearest(small, pictures)
    write(folder / "int8.sqz", Model(whole, preparation.to_dict()), "huffman")
    whole = read(folder / "int8.sqz").graph
    export_onnx(whole, folder / "int8.onnx")
    np.save(folder / "picture.npy", pictures[:1])
    np.save(folder / "prepared.npy", np.ascontiguousarray(prepared[:1]))
    np.save(folder / "logits.npy", run(whole, pictures[:1]).reshape(1, -1))
    example = (torch.from_numpy(np.ascontiguousarray(prepared[:1])),)
    torch.export.save(torch.export.export(network, example), folder / "torch.pt2")


def blurred(rng: Any, count: int) -> Any:
    """Random pictures with the large and the small in them, as photographs have."""
    import numpy as np

    total = np.zeros((count, SIZE, SIZE, 3))
    for block in (1, 4, 16, 56):
        coarse = rng.normal(size=(count, SIZE // block, SIZE // block, 3))
        total += np.kron(coarse, np.ones((1, block, block, 1)))
    return np.clip(np.rint(127.5 + 30 * total), 0, 255).astype(np.uint8)


def with_statistics(network: Any, pictures: Any) -> Any:
    """Give weights such that values keep their size, and batch norm the statistics of these pictures."""
    import torch
    from torch import nn

    norms = [each for each in network.modules() if isinstance(each, nn.BatchNorm2d)]
    with torch.no_grad():
        for each in network.modules():
            if isinstance(each, (nn.Conv2d, nn.Linear)):
                each.weight.normal_(0, (2 / each.weight[0].numel()) ** 0.5)
        network.eval()
        for norm in norms:
            norm.train()
            norm.momentum = 1.0
        network(pictures)
    return network.eval()


def nearest(graph: Any, pictures: Any) -> Any:
    """Write a canonical graph in integers: least and largest values, weights rounded to the nearest."""
    import numpy as np
    import torch

    from squeezekit.compress.calibration import observe
    from squeezekit.compress.integers import int8_graph
    from squeezekit.compress.layers import layers
    from squeezekit.compress.ranges import quantizations
    from squeezekit.compress.rounding import LIMIT, STEPS_PER_OCTAVE, Rounded

    values = quantizations(graph, observe(graph, pictures, lambda _: None))
    rounded, biases = {}, {}
    for node in layers(graph):
        weight = torch.from_numpy(node.dense("weight").astype(np.float64)).reshape(
            len(node.dense("weight")), -1
        )
        largest = weight.abs().amax(dim=1).clamp_min(1e-12)
        octaves = torch.ceil(torch.log2(largest / LIMIT) * STEPS_PER_OCTAVE)
        step = torch.exp2(octaves / STEPS_PER_OCTAVE)
        q = torch.round(weight / step.unsqueeze(1)).to(torch.int64)
        rounded[node.name] = Rounded(q, step, 0.0, 0.0)
        biases[node.name] = torch.from_numpy(node.dense("bias").copy())
    return int8_graph(graph, values, rounded, biases)


def for_ncnn(folder: Path) -> str | None:
    """Convert the float32 network with ncnn's own converter; return why not, where it fails."""
    if (folder / "ncnn.param").exists():
        return None
    pnnx = Path(sys.executable).with_name("pnnx")
    if not pnnx.exists():
        return "ncnn's converter is not installed (pip install pnnx)"
    places = [
        f"{key}={folder}/{file}" for key, file in (("ncnnparam", "ncnn.param"), ("ncnnbin", "ncnn.bin"))
    ]
    places += [
        f"{key}={folder}/pnnx.{key}" for key in ("pnnxparam", "pnnxbin", "pnnxpy", "ncnnpy", "pnnxonnx")
    ]
    command = [str(pnnx), str(folder / "float32.onnx"), f"inputshape=[1,3,{SIZE},{SIZE}]", "fp16=0", *places]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not (folder / "ncnn.param").exists():
        return f"pnnx: {(done.stderr or done.stdout).strip().splitlines()[-1:]}"
    return None


# --- latency -----------------------------------------------------------------------------------------------


def call(function: str, engine: str, folder: Path, threads: int) -> list[str]:
    code = f"import sys; sys.path.insert(0, {str(HERE)!r}); import latency_engines as e; "
    return [sys.executable, "-c", f"{code}e.{function}({engine!r}, {str(folder)!r}, {threads})"]


def environment(threads: int) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": str(threads)}


class Engine:
    """A process that has a network open and answers when told to."""

    def __init__(self, name: str, folder: Path, threads: int) -> None:
        self.name = name
        self.process = subprocess.Popen(
            call("serve", name, folder, threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(threads),
        )
        self.times: list[float] = []
        self.correlation = 0.0

    def ready(self) -> str | None:
        """Wait; return the last line of what went wrong, if anything did."""
        assert self.process.stdout is not None
        for line in self.process.stdout:  # some engines greet
            if line.startswith("ready "):
                self.correlation = float(line.split()[1])
                return None
        assert self.process.stderr is not None
        return (self.process.stderr.read().strip().splitlines() or ["it ended"])[-1]

    def answer(self, unmeasured: int) -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{unmeasured}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline()) / 1e6

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def measure(
    folder: Path, threads: int, engines: list[str], arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    opened = []
    for name in engines:
        missing = for_ncnn(folder) if name == "ncnn" else None
        engine = None if missing else Engine(name, folder, threads)
        problem = missing or (engine and engine.ready())
        if engine and not problem:
            opened.append(engine)
        else:
            print(f"WITHOUT {name} on {folder.name}: {problem}", file=sys.stderr)
    try:
        for turn in range(arguments.turns + 1):
            for engine in opened[turn % len(opened) :] + opened[: turn % len(opened)]:
                time.sleep(arguments.pause if threads > 1 else 0.0)
                engine.times.append(engine.answer(arguments.unmeasured))
    finally:
        for engine in opened:
            engine.close()
    ours = next((engine.times[1:] for engine in opened if engine.name == "squeezekit"), None)
    return [row(folder.name, engine, threads, ours) for engine in opened]


def row(network: str, engine: Engine, threads: int, ours: list[float] | None) -> dict[str, Any]:
    times = engine.times[1:]  # the first turn warms up
    name, precision = ENGINES[engine.name][:2]
    found = {
        "network": network,
        "engine": name,
        "precision": precision,
        "threads": threads,
        "median_ms": statistics.median(times),
        "p95_ms": sorted(times)[int(0.95 * (len(times) - 1))],
        "min_ms": min(times),
        "correlation": engine.correlation,
    }
    if ours is not None:
        found["to_squeezekit"] = statistics.median(t / o for t, o in zip(times, ours, strict=True))
    return found


# --- starts and sizes --------------------------------------------------------------------------------------


def starts(folder: Path, engines: list[str], turns: int) -> list[dict[str, Any]]:
    """Cold starts, one thread: in a process after imports, and from the start of the process."""
    inside: dict[str, list[float]] = {name: [] for name in engines}
    whole: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(turns + 1):
        for name in list(inside):
            started = time.perf_counter_ns()
            done = subprocess.run(
                call("start", name, folder, 1),
                capture_output=True,
                text=True,
                env=environment(1),
                check=False,
            )
            seconds = time.perf_counter_ns() - started
            if done.returncode:
                del inside[name], whole[name]
                print(f"WITHOUT {name}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
                continue
            inside[name].append(int(done.stdout.split()[-1]) / 1e6)
            whole[name].append(seconds / 1e6)
    return [
        {
            "network": folder.name,
            "engine": ENGINES[name][0],
            "precision": ENGINES[name][1],
            "file_to_answer_ms": statistics.median(inside[name][1:]),
            "process_to_answer_ms": statistics.median(whole[name][1:]),
        }
        for name in inside
    ]


def installed(package: str) -> dict[str, int]:
    """Bytes of a package, and of what it needs beside NumPy and Pillow (with all that those need in turn)."""
    sizes: dict[str, int] = {}
    ahead = [package]
    while ahead:
        name = ahead.pop().lower().replace("_", "-")
        if name in sizes or name in ("numpy", "pillow"):
            continue
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # needed elsewhere than here
            continue
        sizes[name] = _bytes(found)
        elsewhere = ("extra ==", "python_version", "sys_platform")
        needs = [each for each in found.requires or () if not any(word in each for word in elsewhere)]
        ahead += map(_project, needs)
    return sizes


def _project(need: str) -> str:
    for mark in " ;<>=!~[(":
        need = need.split(mark)[0]
    return need


def _bytes(found: metadata.Distribution) -> int:
    paths = {Path(str(found.locate_file(file))).resolve() for file in found.files or ()}
    if found.metadata["Name"] == "squeezekit":  # installed to be edited: its files are in the checkout
        spec = util.find_spec("squeezekit")
        assert spec is not None
        assert spec.submodule_search_locations
        for place in spec.submodule_search_locations:
            paths |= set(Path(place).resolve().rglob("*"))
    return sum(path.stat().st_size for path in paths if path.is_file() and path.suffix != ".pyc")


# --- what is printed ---------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=("latency", "prepare", "starts"), default="latency")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "latency", help="folder of networks")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--engines", nargs="+", choices=list(ENGINES), default=list(ENGINES))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--turns", type=int, default=50)
    parser.add_argument("--unmeasured", type=int, default=2, help="answers before each that is measured")
    parser.add_argument("--pause", type=float, default=0.03, help="seconds before each, with several threads")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.what == "prepare":
        prepare(arguments.work, arguments.networks)
        return
    missing = [name for name in arguments.networks if not (arguments.work / name / "done").exists()]
    if missing:  # in .venv: squeezekit's training side does not load beside torchvision
        command = [ROOT / ".venv" / "bin" / "python", __file__, "prepare", "--work", arguments.work]
        if subprocess.run([*command, "--networks", *missing], check=False, stdout=sys.stderr).returncode:
            raise SystemExit(
                f"{arguments.work}: {', '.join(missing)} could not be prepared in .venv (make peers)"
            )
    if arguments.what == "starts":
        rows = [
            each
            for name in arguments.networks
            for each in starts(arguments.work / name, arguments.engines, min(arguments.turns, 20))
        ]
        sizes = {name: installed(name) for name in ("squeezekit", "onnxruntime", "openvino", "ncnn", "torch")}
        if arguments.json:
            print(json.dumps({"starts": rows, "installed_bytes": sizes}, indent=2))
            return
        for each in rows:
            print(
                f"{each['network']:16} {each['engine']:18} {each['precision']:8} "
                f"{each['file_to_answer_ms']:9.1f} ms {each['process_to_answer_ms']:9.1f} ms"
            )
        for name, parts in sizes.items():
            own = parts.get(name, 0)
            print(f"{name:16} {own / 1e6:8.1f} MB, with what it needs {sum(parts.values()) / 1e6:8.1f} MB")
        return
    rows = []
    for name in arguments.networks:
        for threads in arguments.threads:
            found = measure(arguments.work / name, threads, arguments.engines, arguments)
            rows += found
            if arguments.json:
                continue
            for each in found:
                ratio = f"{each['to_squeezekit']:6.2f} ×" if "to_squeezekit" in each else ""
                print(
                    f"{name:16} {each['threads']} {each['engine']:18} {each['precision']:8} "
                    f"{each['median_ms']:8.3f} {each['p95_ms']:8.3f} {each['min_ms']:8.3f} ms {ratio} "
                    f"{each['correlation']:.4f}",
                    flush=True,
                )
    if arguments.json:
        print(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
