"""What a search costs beside its trainings, and whether what it finds is better than the known networks.

    python benchmarks/explore.py check                  # the constraint check of a candidate, ms
    python benchmarks/explore.py overhead               # of the search, per trial, against training time
    python benchmarks/explore.py workers                # 1, 2 and 4 workers on one PostgreSQL study
    python benchmarks/explore.py bits RUN DATA [...]    # bits a weight that `compress` reaches without a size
    python benchmarks/explore.py cifar10 ../shared/data/cifar10.zip        # 60 minutes, and what follows

`check`: every family at 32 and 224 px, networks as large as their space has; the median of many, one thread.

`overhead`: a search as ``squeezekit explore`` runs it; all of the time between the first trial's beginning
and the last one's end that was not spent in training. SQLite on this disk.

`workers`: tiny trials, each a real training on digits, timed from the first one's beginning to the last one's
end; then the same with trials that only wait, which tells what the storage alone allows where there are fewer
cores than workers. Needs PostgreSQL's programs, starts a server of its own.

`cifar10`: searches for 60 minutes under 100 kB (or another --budget); then trains the design that won, and
SqueezeNet v1.1 and MobileNet v1 scaled to the same number of bytes, for the same number of epochs, over three
seeds; compresses each to at most 100,000 bytes; and prints test accuracies of both, with their mean and
deviation. Each step is kept in --out: the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from command import squeezekit

QUIET = Console(quiet=True)
LIMIT = 100_000


# --- the check of a candidate ------------------------------------------------------------------------------


def check() -> list[dict[str, Any]]:
    import numpy as np

    from squeezekit.errors import UserError
    from squeezekit.explore.counting import FAMILIES, count
    from squeezekit.explore.design import Design
    from squeezekit.explore.space import Space

    rows = []
    for size in (32, 224):
        for family in FAMILIES:
            space = Space("all", size)
            designs = [Design.of(family, size)]
            rng = np.random.default_rng(0)
            designs += [space.design(space.random(rng, {"family": family})) for _ in range(100)]
            times = []
            for design in designs:
                started = time.perf_counter()
                try:
                    count(design, map(str, range(10)), 3)
                except UserError:  # too small for its pools
                    continue
                times.append(1000 * (time.perf_counter() - started))
            rows.append(
                {"family": family, "px": size, "median_ms": statistics.median(times), "worst_ms": max(times)}
            )
    return rows


# --- the overhead of a search ------------------------------------------------------------------------------


def overhead(trials: int, pictures: int, data: str) -> dict[str, Any]:
    from squeezekit.explore import search as searching
    from squeezekit.explore.explore import explore

    began: list[float] = []
    ended: list[float] = []
    original = searching.Search.run

    def timed(self: searching.Search, *arguments: Any) -> None:
        began.append(time.perf_counter())
        original(self, *arguments)
        ended.append(time.perf_counter())

    searching.Search.run = timed  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        done = explore(
            data,
            Path(folder) / "study",
            budget="bytes<=100k",
            trials=trials,
            pictures=pictures,
            console=QUIET,
        )
    searching.Search.run = original  # type: ignore[method-assign]
    training = sum(row.seconds for row in done.results.rows)
    everything = ended[0] - began[0]
    return {
        "trials": len(done.results.rows),
        "training_s": training,
        "search_s": everything - training,
        "search_ms_a_trial": 1000 * (everything - training) / len(done.results.rows),
        "share": (everything - training) / training,
    }


# --- many workers ------------------------------------------------------------------------------------------


@contextmanager
def server() -> Any:
    """Start PostgreSQL in a folder of its own."""
    import pwd

    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    programs = found[-1].parent if found else Path(str(shutil.which("initdb"))).resolve().parent
    nobody = pwd.getpwnam("nobody")
    who: dict[str, Any] = {}
    home = Path(tempfile.mkdtemp(prefix="squeezekit-postgresql-"))
    if os.getuid() == 0:  # which the server refuses to be
        who = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        os.chown(home, nobody.pw_uid, nobody.pw_gid)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    quiet: dict[str, Any] = {
        "cwd": home,
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
        **who,
    }
    settings = ["-D", str(home / "data"), "-U", "squeezekit", "-A", "trust"]
    subprocess.run([programs / "initdb", *settings], check=True, **quiet)
    address = ["-p", port, "-k", str(home), "-h", "127.0.0.1"]
    process = subprocess.Popen([programs / "postgres", "-D", home / "data", *address], **quiet)
    try:
        ready = [programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", port]
        while subprocess.run(ready, check=False).returncode:
            time.sleep(0.1)
        yield f"postgresql://squeezekit@127.0.0.1:{port}/postgres"
    finally:
        process.send_signal(signal.SIGINT)  # without waiting for connections that are still open
        process.wait()
        shutil.rmtree(home)


def worker(storage: str, study: str, trials: int, wait: float, ready: Any, go: Any) -> None:
    """Be one worker: prepare, wait for the others, then search."""
    import torch

    from squeezekit.explore import search as searching
    from squeezekit.explore import short
    from squeezekit.explore.explore import explore

    torch.set_num_threads(1)
    original = searching.Search.run
    trained = short.ShortTraining.run

    def together(self: searching.Search, *arguments: Any) -> None:
        ready.release()
        go.wait()
        original(self, *arguments)

    def waits(*_: Any, **options: Any) -> short.Outcome:
        """Take as long as a training, and no processor."""
        time.sleep(wait)
        options["on_epoch"](1, 0.5)
        return short.Outcome(0.5, 0.5, (0.5,), wait, torch.nn.Identity(), False)

    searching.Search.run = together  # type: ignore[method-assign]
    short.ShortTraining.run = waits if wait else trained  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        explore(
            "digits",
            Path(folder),
            budget="macs<=2M",
            size=16,
            sampler="random",  # the same designs, however many workers there are
            trials=trials,
            pictures=1000,
            epochs=1 if wait else 4,
            storage=storage,
            study=study,
            halving=False,
            console=QUIET,
        )


def workers(trials: int, wait: float) -> list[dict[str, Any]]:
    import optuna

    from squeezekit.explore.storage import open_storage

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    spawn = multiprocessing.get_context("spawn")
    os.environ["OMP_NUM_THREADS"] = "1"
    rows = []
    with server() as storage:
        for seconds in (0.0, wait):
            for number in (1, 2, 4):
                ready, go = spawn.Semaphore(0), spawn.Event()
                study = f"{number} of {seconds}"
                arguments = (storage, study, trials, seconds, ready, go)
                processes = [spawn.Process(target=worker, args=arguments) for _ in range(number)]
                for process in processes:
                    process.start()
                for _ in processes:
                    ready.acquire()
                go.set()
                for process in processes:
                    process.join()
                done = optuna.load_study(study_name=study, storage=open_storage(storage, Path(), 20)).trials
                ends = [trial.datetime_complete for trial in done if trial.datetime_complete]
                starts = [trial.datetime_start for trial in done if trial.datetime_start]
                rate = len(ends) / (max(ends) - min(starts)).total_seconds()
                kind = f"waiting {seconds:g} s" if seconds else "training"
                rows.append({"trials": kind, "workers": number, "trials_a_minute": 60 * rate})
                before = next(r for r in rows if r["trials"] == kind)["trials_a_minute"]
                rows[-1]["times"] = 60 * rate / before
    return rows


# --- bits a weight -----------------------------------------------------------------------------------------


def bits(runs: list[str], data: str) -> list[dict[str, Any]]:
    from squeezekit.compress.compress import compress
    from squeezekit.format import sizes

    rows = []
    for run in runs:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.sqz"
            done = compress(run, file, data)
            weights = [t for t in sizes(file).tensors if t.role == "weight"]
            rows.append(
                {
                    "run": run,
                    "bytes": done.bytes,
                    "weights": sum(t.count for t in weights),
                    "bits_a_weight": sum(t.bits for t in weights) / sum(t.count for t in weights),
                    "top1": done.top1,
                    "original_top1": done.original_top1,
                }
            )
    return rows


# --- does it find something better? ------------------------------------------------------------------------


def command(words: list[str], result: Path) -> dict[str, Any]:
    """Run a command once, and keep what it printed."""
    if not result.is_file():
        sys.stderr.write(f"$ squeezekit {' '.join(words)}\n")
        result.write_text(json.dumps(squeezekit(*words)))
    answer: dict[str, Any] = json.loads(result.read_text())
    return answer


def scaled(make: Callable[[float], Any], limit: float, classes: list[str], weight_bits: float) -> Any:
    """Return the widest design whose bytes, as the search counts them, are at most `limit`."""
    from squeezekit.explore.counting import count

    low, high = 0.02, 2.0
    for _ in range(40):
        middle = (low + high) / 2
        if count(make(middle), classes, 3, weight_bits).bytes <= limit:
            low = middle
        else:
            high = middle
    return make(int(1000 * low) / 1000)


def cifar10(
    data: str,
    out: Path,
    minutes: float,
    epochs: int | None,
    effort: str,
    seeds: int,
    weight_bits: float,
    space: str,
    budget: str,
    at_once: int,
) -> list[dict[str, Any]]:
    from squeezekit.data.source import open_pictures
    from squeezekit.explore.counting import count
    from squeezekit.explore.design import Design

    out.mkdir(parents=True, exist_ok=True)
    words = ["explore", data, "--out", str(out / "study"), "--budget", budget, "--space", space]
    words += ["--minutes", str(minutes), "--bits", str(weight_bits)]
    if at_once > 1:  # each with a core of its own: faster than sharing them
        os.environ["OMP_NUM_THREADS"] = str(max(1, len(os.sched_getaffinity(0)) // at_once))
    with ThreadPoolExecutor(at_once) as pool:  # workers on one study
        answers = [out / f"study{'' if i == 0 else i}.json" for i in range(at_once)]
        found, *_ = pool.map(lambda answer: command(words, answer), answers)
    classes = list(open_pictures(data).classes)
    best = Design.from_dict(found["best"])
    side, equal = best.size, count(best, classes, 3, weight_bits).bytes
    v1_1 = {"pools": (1, 3, 5), "conv1_channels": 64, "conv1_kernel": 3}
    designs = {
        "found": best,
        "squeezenet1_1": scaled(
            lambda w: Design.of("squeezenet", side, width_coefficient=w, **v1_1), equal, classes, weight_bits
        ),
        "mobilenet_v1": scaled(
            lambda w: Design.of("mobilenet_v1", side, width_mult=w), equal, classes, weight_bits
        ),
    }
    runs = [(name, seed) for seed in range(seeds) for name in designs]
    with ThreadPoolExecutor(at_once) as pool:
        done = pool.map(lambda run: in_full(designs[run[0]], data, out, run, epochs, effort), runs)
        figures = dict(zip(runs, done, strict=True))
    rows = []
    for name, design in designs.items():
        trained, sizes, small = zip(*(figures[name, seed] for seed in range(seeds)), strict=True)
        rows.append(
            {
                "network": name,
                "design": design.to_dict(),
                **count(design, classes, 3, weight_bits).to_dict(),
                "top1": trained,
                "top1_mean": statistics.mean(trained),
                "top1_deviation": statistics.stdev(trained) if seeds > 1 else 0.0,
                "sqz_bytes": sizes,
                "sqz_top1": small,
                "sqz_top1_mean": statistics.mean(small),
                "sqz_top1_deviation": statistics.stdev(small) if seeds > 1 else 0.0,
            }
        )
    return rows


def in_full(
    design: Any, data: str, out: Path, of: tuple[str, int], epochs: int | None, effort: str
) -> tuple[float, int, float]:
    """Train a design in full and compress it: accuracy of the network, bytes and accuracy of the file."""
    name, seed = of
    run = out / f"{name}-{seed}"
    words = [*shlex.split(design.command(data, str(run)))[1:], "--seed", str(seed)]
    words += [] if epochs is None else ["--epochs", str(epochs)]
    words += ["--resume"] if (run / "config.json").is_file() else []
    trained = command(words, out / f"{name}-{seed}.json")["test"]["top1"]
    words = ["compress", str(run), "--data", data, "--out", f"{run}.sqz", "--max-bytes", str(LIMIT)]
    small = command([*words, "--effort", effort], out / f"{name}-{seed}-sqz.json")["bytes"]
    tested = command(["evaluate", f"{run}.sqz", data], out / f"{name}-{seed}-test.json")["top1"]
    return trained, small, tested


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    steps = parser.add_subparsers(dest="step", required=True)
    steps.add_parser("check")
    step = steps.add_parser("overhead")
    step.add_argument("--trials", type=int, default=30)
    step.add_argument("--pictures", type=int, default=10_000)
    step.add_argument("--data", default="digits")
    step = steps.add_parser("workers")
    step.add_argument("--trials", type=int, default=24)
    step.add_argument("--wait", type=float, default=1.0, help="seconds of a trial that only waits")
    step = steps.add_parser("bits")
    step.add_argument("runs", nargs="+")
    step.add_argument("data")
    step = steps.add_parser("cifar10")
    step.add_argument("data")
    step.add_argument("--out", type=Path, default=Path("build/explore"))
    step.add_argument("--minutes", type=float, default=60)
    step.add_argument("--epochs", type=int, help="of the full trainings; default: the recipe's")
    step.add_argument("--effort", default="default", help="of the compressions")
    step.add_argument("--seeds", type=int, default=3)
    step.add_argument("--bits", type=float, default=2.5)
    step.add_argument("--space", default="squeezenet")
    step.add_argument("--budget", default=f"bytes<={LIMIT}")
    step.add_argument("--at-once", type=int, default=1, help="workers of the search, and trainings at a time")
    given = parser.parse_args()
    answer: Any
    if given.step == "check":
        answer = check()
    elif given.step == "overhead":
        answer = overhead(given.trials, given.pictures, given.data)
    elif given.step == "workers":
        answer = workers(given.trials, given.wait)
    elif given.step == "bits":
        answer = bits(given.runs, given.data)
    else:
        answer = cifar10(
            given.data,
            given.out,
            given.minutes,
            given.epochs,
            given.effort,
            given.seeds,
            given.bits,
            given.space,
            given.budget,
            given.at_once,
        )
        (given.out / "result.json").write_text(json.dumps(answer, indent=2) + "\n")
    print(json.dumps(answer, indent=2))


if __name__ == "__main__":
    main()
