"""Runs over shards: the same as over a folder, and killed in the middle of an epoch they go on there."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import runpy
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from squeezekit.data.shard_write import write_shards
from squeezekit.data.source import open_pictures
from squeezekit.train.evaluate import evaluate
from squeezekit.train.fit import train

TINY = {"base_e": 8, "incr_e": 8, "fires": 2, "conv1_channels": 8, "squeeze_ratio": 0.5, "pools": (1,)}
# One process of a run, as torchrun would start it. It keeps a state after every step, or with two processes
# every other one, where a user's run does so every two minutes.
SCRIPT = """\
import multiprocessing, os
multiprocessing.set_start_method("fork", force=True)  # as ever, for the workers
os.setsid()  # with its workers, so that all can be killed together
os.environ |= environment
import squeezekit.train.place as place
from squeezekit.train.fit import train
place.SECONDS, place.LOOK = 0.0, 2
train(**asked)
"""
SAME: dict[str, Any] = {"epochs": 2, "batch_size": 8, "augmentation": "strong", "device": "cpu"}


@pytest.fixture
def shards(coloured: Callable[..., Path], tmp_path: Path) -> Path:
    write_shards(open_pictures(coloured(80)), tmp_path / "shards", size=100_000)
    return tmp_path / "shards"


@pytest.fixture(scope="session")
def context() -> Any:
    """Where processes come from: a server that has loaded torch once, and nothing else of the tests."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(["squeezekit.train.fit"])
    return made


def start(context: Any, script: Path, processes: int, **asked: Any) -> list[Any]:
    """Start the processes of a run."""
    script.write_text(SCRIPT)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    started = []
    for rank in map(str, range(processes)):
        several = {
            "RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "test",
            "WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
        }  # fmt: skip
        told = {"environment": several if processes > 1 else {}, "asked": {**SAME, **asked}}
        started.append(context.Process(target=runpy.run_path, args=(str(script), told)))
        started[-1].start()
    return started


def finish(started: list[Any]) -> None:
    for process in started:
        process.join()
        assert process.exitcode == 0


def kill_when(started: list[Any], out: Path, ready: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Kill a run and its workers once it has kept a certain state; return the one that it leaves."""
    while all(process.is_alive() for process in started):
        time.sleep(0.005)
        if (out / "last.ckpt").is_file() and ready(state(out)):
            break
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.join()
    return state(out)


def state(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(out / "last.ckpt", weights_only=True)
    return found


def same_end(one: Path, other: Path) -> None:
    first, second = state(one), state(other)
    assert all(torch.equal(tensor, second["state_dict"][key]) for key, tensor in first["state_dict"].items())
    assert first.get("place") == second.get("place")
    assert (one / "metrics.csv").read_text() == (other / "metrics.csv").read_text()


def test_a_run_over_shards_learns_and_is_judged_by_what_it_held_out(shards: Path, tmp_path: Path) -> None:
    run = train(shards, tmp_path / "run", metaparameters=TINY, epochs=5, lr=0.1, workers=0, batch_size=16)
    assert run.evaluation is not None
    assert run.evaluation.split == "test"
    assert run.evaluation.top1 > 0.9  # red, green and blue
    assert sum(run.plan.pictures.values()) == 240
    again = evaluate(tmp_path / "run", shards, workers=0)
    assert (again.split, again.images, again.top1) == ("test", run.evaluation.images, run.evaluation.top1)
    assert again.images == run.plan.pictures["test"]
    trained = evaluate(tmp_path / "run", shards, workers=0, split="train")
    assert not set(trained.index) & set(again.index)
    assert evaluate(tmp_path / "run", shards, workers=0, split="all").images == 240


@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_killed_within_an_epoch_goes_on_there(
    processes: int, context: Any, shards: Path, tmp_path: Path
) -> None:
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    asked: dict[str, Any] = {"data": shards, "metaparameters": {**TINY, "dropout": 0.3}, "workers": processes}
    finish(start(context, tmp_path / "run.py", processes, out=straight, **asked))
    running = start(context, tmp_path / "run.py", processes, out=killed, **asked)
    place = kill_when(running, killed, lambda s: s["place"]["epoch"] == 1 and s["place"]["batch"] > 3)[
        "place"
    ]
    assert place["epoch"] == 1
    assert 3 < place["batch"] < 20
    # The streams stay as many as they were, whatever reads them.
    asked["workers"] = 2
    finish(start(context, tmp_path / "run.py", processes, out=killed, resume=True, **asked))
    same_end(straight, killed)


def test_a_run_over_a_folder_goes_on_with_the_epoch_that_comes_next(
    context: Any, coloured: Callable[..., Path], tmp_path: Path
) -> None:
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    asked: dict[str, Any] = {"data": coloured(40), "metaparameters": TINY, "workers": 1, "epochs": 4}
    finish(start(context, tmp_path / "run.py", 1, out=straight, **asked))
    kill_when(start(context, tmp_path / "run.py", 1, out=killed, **asked), killed, lambda s: s["epoch"] >= 0)
    assert len((killed / "metrics.csv").read_text().splitlines()) < 5
    # Its worker begins to read before the first epoch begins: it must know which one that is.
    finish(start(context, tmp_path / "run.py", 1, out=killed, resume=True, **asked))
    same_end(straight, killed)
