"""How quickly a network answers: as a whole, layer by layer, and from a standing start."""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezekit.engine.library import library
from squeezekit.engine.model import Model
from squeezekit.errors import UserError
from squeezekit.library import check

__all__ = ["cold_start", "latency", "layers"]

_FEWEST = 5  # runs, however long they take

# What a program does that answers once. The first number is the time within the process, imports left out.
_PROGRAM = """
import sys, time
import squeezekit.engine, squeezekit.data.picture, squeezekit.data.preparation
start = time.perf_counter()
squeezekit.engine.load(sys.argv[1], threads=int(sys.argv[3])).predict(sys.argv[2], top=1)
sys.stdout.write(f"{1000 * (time.perf_counter() - start)}\\n")
sys.stdout.flush()
"""


def latency(model: Model, seconds: float = 2.0, threads: int = 1) -> dict[str, Any]:
    """Measure what one picture takes, from pixels to logits, as a caller in Python sees it.

    Parameters
    ----------
    model
    seconds : float
        For how long to run, after a tenth of that to warm up; at least five runs.
    threads : int
        That share a run.

    Returns
    -------
    dict
        ``runs``, and in milliseconds ``median_ms``, ``p95_ms``, ``min_ms``.
    """
    picture = _noise(model)
    _timed(lambda: model.run(picture, threads), seconds / 10)
    times = _timed(lambda: model.run(picture, threads), seconds)
    return {
        "runs": len(times),
        "median_ms": float(np.median(times)),
        "p95_ms": float(np.percentile(times, 95)),
        "min_ms": float(times.min()),
    }


def layers(model: Model, seconds: float = 2.0) -> list[dict[str, Any]]:
    """Measure each step of a run by itself, on one thread, in the order of a run.

    Parameters
    ----------
    model
    seconds : float
        For all steps together, each run as often as the others; at least five times.

    Returns
    -------
    list of dict
        ``name``, ``operator``, ``shape`` (height, width, channels of the result), ``macs``, ``ms`` (the
        median; what an empty call takes is left out), ``gmac_per_s``, ``share_of_time`` (of all steps), and
        ``share_of_peak``: of the quickest layer's GMAC/s, which stands for the machine's peak. The last is
        None where there are no multiplications.
    """
    picture, steps = _noise(model), model.steps()
    logits = np.empty(model.info.outputs, np.float32)
    run, room = library().sqz_run_part, model.room()
    given = (model.address, picture.ctypes.data, picture.strides[0], room.activations, room.scratch)
    last = len(steps)
    # The ranges of a pass: each step, and an empty one, which shows what a call from Python costs.
    ranges = [*((i, i + 1) for i in range(last)), (last, last)]

    def one_pass() -> list[int]:
        taken = []
        for first, behind in ranges:
            start = time.perf_counter_ns()
            code = run(*given, logits.ctypes.data, first, behind, None, 0, 1)
            taken.append(time.perf_counter_ns() - start)
            check(code, "a step")
        return taken

    one_pass()
    passes: list[list[int]] = []
    end = time.perf_counter() + seconds
    while len(passes) < _FEWEST or time.perf_counter() < end:
        passes.append(one_pass())
    *medians, empty = (float(of) / 1e6 for of in np.median(passes, axis=0))
    times = [max(0.0, median - empty) for median in medians]
    rates = [step.macs / (1e6 * ms) if ms else 0.0 for step, ms in zip(steps, times, strict=True)]
    peak, total = max(rates, default=0.0), sum(times)
    return [
        {
            "name": step.name,
            "operator": step.operator,
            "shape": list(step.shape),
            "macs": step.macs,
            "ms": ms,
            "gmac_per_s": rate,
            "share_of_time": ms / total if total else 0.0,
            "share_of_peak": rate / peak if step.macs and peak else None,
        }
        for step, ms, rate in zip(steps, times, rates, strict=True)
    ]


def cold_start(path: str | Path, runs: int = 5, threads: int = 1) -> dict[str, Any]:
    """Measure how long a program that has not run yet takes to say what is on a photograph of 500 × 375.

    Parameters
    ----------
    path
        A ``.sqz``.
    runs : int
        New processes, one after the other.
    threads : int
        That share a run.

    Returns
    -------
    dict
        ``runs``, and the medians in milliseconds: ``process_ms`` from the start of the process to its answer,
        ``open_ms`` of that from opening the file on, all imports done.

    Raises
    ------
    UserError
        The program failed.
    """
    whole, within = [], []
    with tempfile.TemporaryDirectory(prefix="squeezekit-") as folder:
        picture = Path(folder) / "picture.jpg"
        picture.write_bytes(_photograph())
        words = [sys.executable, "-c", _PROGRAM, str(path), str(picture), str(threads)]
        for _ in range(runs):
            start = time.perf_counter()
            with subprocess.Popen(
                words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            ) as process:
                assert process.stdout is not None
                line = process.stdout.readline()
                whole.append(1000 * (time.perf_counter() - start))
                _, said = process.communicate()
            if process.returncode != 0:
                raise UserError(f"{path}: no answer from a new process ({said.strip().splitlines()[-1:]})")
            within.append(float(line))
    return {"runs": runs, "process_ms": float(np.median(whole)), "open_ms": float(np.median(within))}


def _timed(call: Any, seconds: float) -> NDArray[np.float64]:
    """Call again and again; return what each call took, in milliseconds."""
    times: list[int] = []
    end = time.perf_counter() + seconds
    while len(times) < _FEWEST or time.perf_counter() < end:
        start = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - start)
    return np.array(times) / 1e6


def _noise(model: Model) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, model.info.input, np.uint8)


def _photograph() -> bytes:
    """Return a JPEG file with detail everywhere, as a photograph has."""
    from PIL import Image

    grains = np.random.default_rng(0).integers(0, 256, (125, 94, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(grains).resize((500, 375), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()
