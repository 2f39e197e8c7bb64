"""Whole training runs, small ones: what they leave behind, and that a killed one ends the same."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_type_hints

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from squeezekit.cli.train import train as train_command
from squeezekit.data.augment import POLICIES
from squeezekit.data.check import check_pictures
from squeezekit.data.source import open_pictures
from squeezekit.errors import UserError
from squeezekit.models import create_model, save_checkpoint
from squeezekit.train.classifier import load_classifier
from squeezekit.train.evaluate import evaluate
from squeezekit.train.fit import train
from squeezekit.train.plan import Options, make_plan
from squeezekit.train.progress import RunProgress
from squeezekit.train.recipes import RECIPES
from squeezekit.train.run_folder import KeepRun

TINY: dict[str, Any] = {
    "base_e": 8,
    "incr_e": 8,
    "fires": 2,
    "conv1_channels": 8,
    "squeeze_ratio": 0.5,
    "pools": (1,),
}
SETTINGS = [f"--set={name}={value}" for name, value in TINY.items()]


def command(data: Path, out: Path, *options: str) -> list[str]:
    words = ["train", str(data), "--out", str(out), "--workers", "0", *SETTINGS, *options]
    return [sys.executable, "-m", "squeezekit", *words]


def test_a_run_learns_and_leaves_what_it_promises(coloured: Callable[..., Path], tmp_path: Path) -> None:
    data = coloured(40)
    (data / "red" / "001.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    run = train(data, tmp_path / "run", metaparameters=TINY, epochs=6, lr=0.1, workers=0)
    assert run.evaluation is not None
    assert run.evaluation.split == "test"
    assert run.evaluation.top1 > 0.9  # red, green and blue
    assert run.plan.broken == ("red/001.png",)
    made = {path.name for path in (tmp_path / "run").iterdir()}
    assert made >= {
        "config.json",
        "model.safetensors",
        "last.ckpt",
        "metrics.csv",
        "metrics.json",
        "report.html",
        "learning_curves.png",
        "confusion_matrix.png",
        "predictions.png",
        "tensorboard",
    }
    assert any((tmp_path / "run" / "tensorboard").glob("events*"))
    with (tmp_path / "run" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["test"]["top1"] == run.evaluation.top1
    page = (tmp_path / "run" / "report.html").read_text()
    assert "red/001.png" in page
    # The run knows which pictures it held out, wherever they are asked for.
    again = evaluate(tmp_path / "run", data, workers=0)
    assert (again.split, again.images, again.top1) == ("test", run.evaluation.images, run.evaluation.top1)
    assert evaluate(tmp_path / "run", data, split="all", workers=0).images == 119


def test_a_run_is_not_overwritten(coloured: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="holds a run already"):
        train(coloured(), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="a file, not a folder"):
        train(coloured(), tmp_path / "file")


def test_resume_wants_a_run_and_its_own_pictures(coloured: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run to resume"):
        train(coloured(), tmp_path / "none", resume=True)
    train(coloured(), tmp_path / "run", metaparameters=TINY, epochs=1, workers=0)
    with pytest.raises(UserError, match="not the pictures"):
        train(coloured(count=20), tmp_path / "run", resume=True)
    with pytest.raises(UserError, match="started with epochs = 1, not 3"):
        train(coloured(), tmp_path / "run", resume=True, epochs=3)


@pytest.mark.parametrize(
    "asked",
    [
        ["--augmentation", "strong", "--set=dropout=0.3"],
        ["--augmentation", "light", "--recipe", "quick"],
    ],
    ids=["modern", "quick"],
)
def test_a_run_killed_at_any_moment_resumes_to_the_same_weights(
    coloured: Callable[..., Path], tmp_path: Path, asked: list[str]
) -> None:
    data = coloured(40)
    options = ["--epochs", "40", "--batch-size", "16", *asked]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    straight = tmp_path / "straight"
    subprocess.run(command(data, straight, *options), check=True, capture_output=True, env=environment)

    killed = tmp_path / "killed"
    kills = 0
    words = command(data, killed, *options)
    for delay in (
        0.0,
        0.15,
    ):  # after the first epoch that is seen to end, and later, in the middle of something
        process = subprocess.Popen(
            words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
        )
        before = _epochs(killed)
        while process.poll() is None and _epochs(killed) <= before:
            time.sleep(0.005)
        time.sleep(delay)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
        words = command(data, killed, *options, "--resume")
    assert kills == 2
    assert 1 <= _epochs(killed) < 40
    subprocess.run(words, check=True, capture_output=True, env=environment)

    for name in ("model.safetensors",):
        one, other = load_file(straight / name), load_file(killed / name)
        assert one.keys() == other.keys()
        for key, tensor in one.items():
            assert torch.equal(tensor, other[key]), key
    last = [torch.load(run / "last.ckpt", weights_only=True)["state_dict"] for run in (straight, killed)]
    assert all(torch.equal(tensor, last[1][key]) for key, tensor in last[0].items())
    assert (straight / "metrics.csv").read_text() == (killed / "metrics.csv").read_text()


def _weights_of_other_classes(data: Path, path: Path) -> Path:
    """Write weights for five classes, where `data` has three."""
    pictures = open_pictures(data)
    torch.manual_seed(1)
    old = create_model("squeezenet", 5, stem="small", **TINY)
    save_checkpoint(
        path,
        old,
        {
            "model": old.config,
            "preparation": make_plan(Options(), pictures, check_pictures(pictures)).preparation,
            "classes": [f"old{i}" for i in range(5)],
            "training": None,
        },
    )
    return path


@pytest.mark.parametrize("start", ["whitened", "inherited"])
def test_a_run_killed_in_its_first_epoch_begins_as_it_began(
    coloured: Callable[..., Path], tmp_path: Path, start: str
) -> None:
    data = coloured(20)
    options: dict[str, Any] = {"model": "vgg", "recipe": "quick", "metaparameters": {"widths": (8, 8)}}
    if start == "inherited":
        options = {"weights": str(_weights_of_other_classes(data, tmp_path / "old.safetensors"))}
    train(data, tmp_path / "straight", epochs=2, workers=0, **options)
    killed = tmp_path / "killed"
    killed.mkdir()
    shutil.copy(
        tmp_path / "straight" / "config.json", killed
    )  # all that there is before the first epoch ends
    train(data, killed, resume=True, workers=0)
    straight = tmp_path / "straight" / "model.safetensors"
    assert (killed / "model.safetensors").read_bytes() == straight.read_bytes()


def test_names_are_never_markup(coloured: Callable[..., Path], tmp_path: Path) -> None:
    """Neither a folder's in the first line, nor a broken picture's in those below."""
    data = (tmp_path / "[/bold] [a]").resolve()
    shutil.copytree(coloured(40), data)
    for i in range(6):
        (data / "red" / f"[red]{i}.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    said = io.StringIO()
    out = tmp_path / "run"
    train(data, out, metaparameters=TINY, epochs=1, workers=0, console=Console(file=said, width=80))
    lines = said.getvalue().splitlines()
    assert f"on {data}: 3 classes" in lines[0]
    assert lines[1] == "skipped 6 broken pictures:"
    for i, line in enumerate(lines[2:7]):
        assert line.startswith(f"  red/[red]{i}.png: not a picture")
    assert lines[7] == "  and 1 more"
    assert "red/[red]5.png: not a picture" in (out / "report.html").read_text()


def test_one_broken_picture_is_one(coloured: Callable[..., Path], tmp_path: Path) -> None:
    data = coloured(10)
    (data / "red" / "000.png").write_bytes(b"")
    said = io.StringIO()
    train(data, tmp_path / "run", metaparameters=TINY, epochs=1, workers=0, console=Console(file=said))
    assert "skipped 1 broken picture:\n  red/000.png: " in said.getvalue()
    assert "more" not in said.getvalue()


@pytest.mark.parametrize("before", [False, True])
def test_a_run_that_fails_in_its_first_epoch_leaves_nothing(
    coloured: Callable[..., Path], tmp_path: Path, before: bool
) -> None:
    out = tmp_path / "run"
    if before:
        (out / "tensorboard").mkdir(parents=True)
        (out / "notes.txt").write_text("mine")
        (out / "tensorboard" / "older").write_text("mine")
    there = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="diverged in epoch 1"):
        train(coloured(), out, metaparameters=TINY, epochs=2, lr=1e30, workers=0)
    assert sorted(tmp_path.rglob("*")) == there
    train(coloured(), out, metaparameters=TINY, epochs=1, workers=0)  # the retry that the error advises


def test_a_run_that_fails_later_keeps_its_state(
    coloured: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = KeepRun.on_train_epoch_end

    def keep_and_fail(*arguments: Any) -> None:
        keep(*arguments)
        raise OSError("no space left")

    monkeypatch.setattr(KeepRun, "on_train_epoch_end", keep_and_fail)
    with pytest.raises(OSError, match="no space"):
        train(coloured(), tmp_path / "run", metaparameters=TINY, epochs=2, workers=0)
    assert {"config.json", "last.ckpt", "model.safetensors"} <= {p.name for p in (tmp_path / "run").iterdir()}


def test_the_bar_tells_the_accuracy_of_the_first_epoch_too() -> None:
    bar = RunProgress(Console(file=io.StringIO(), force_terminal=True))
    trainer: Any = SimpleNamespace(
        is_global_zero=True,
        num_training_batches=4,
        max_epochs=1,
        global_step=1,
        world_size=1,
        current_epoch=0,
    )
    module: Any = SimpleNamespace(train_sums=torch.tensor([1.5, 3.0, 4.0]))
    bar.on_train_start(trainer, module)
    bar.on_train_epoch_start(trainer, module)
    bar.on_train_batch_end(trainer, module, {"loss": torch.tensor(0.5)}, {"labels": [0, 1, 2, 3]}, 0)
    assert bar._progress is not None
    assert bar._progress.tasks[0].fields["numbers"].startswith("loss 0.500  train 75.0%")
    bar._stop()


def test_help_and_documentation_name_every_recipe_and_policy() -> None:
    hints = get_type_hints(train_command, include_extras=True)
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    assert all(name in hints["recipe"].__metadata__[0].help for name in RECIPES)
    for name in POLICIES:
        assert name in hints["augmentation"].__metadata__[0].help
        assert f"\n| `{name}` |" in page


def test_the_time_of_earlier_sittings_counts(tmp_path: Path) -> None:
    state = KeepRun(tmp_path, {}).state_dict()
    assert 0 <= state["seconds"] < 60
    resumed = KeepRun(tmp_path, {})
    resumed.load_state_dict({**state, "seconds": 1000.0})
    assert 1000 <= resumed.seconds < 1060
    del state["seconds"]  # as earlier versions left it
    resumed.load_state_dict(state)
    assert resumed.seconds < 60


def _epochs(run: Path) -> int:
    try:
        return len((run / "metrics.csv").read_text().splitlines()) - 1
    except OSError:
        return 0


def test_ctrl_c_leaves_a_usable_run(coloured: Callable[..., Path], tmp_path: Path) -> None:
    data, out = coloured(40), tmp_path / "run"
    process = subprocess.Popen(
        command(data, out, "--epochs", "500"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and _epochs(out) < 1:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "--resume goes on" in said
    assert "Traceback" not in said
    assert load_classifier(out).classes.names == ("blue", "green", "red")
    assert (out / "report.html").is_file()


@pytest.mark.parametrize("compression", ["none", "fp16", "powersgd"])
def test_two_processes_train_together(
    compression: str, coloured: Callable[..., Path], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    words = command(
        coloured(40), out, "--epochs", "6", "--lr", "0.1", "--device", "cpu", "--devices", "2",
        "--gradient-compression", compression, "--json",
    )  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["test"]["top1"] > 0.8
    assert result["epochs"] == 6


def test_torchrun_trains_with_two_processes(coloured: Callable[..., Path], tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = command(coloured(40), out, "--epochs", "2", "--device", "cpu", "--json")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    done = subprocess.run(
        [*torchrun, *words[2:]], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["epochs"] == 2
