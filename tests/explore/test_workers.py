"""Several processes on one study in PostgreSQL, one of them killed: all is done, once."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from squeezekit.explore.storage import open_storage

TRIALS = 7
EPOCHS = 3
TINY = (
    "--budget=bytes<=20k,macs<=1M",
    f"--trials={TRIALS}",
    f"--epochs={EPOCHS}",
    "--pictures=100",
    "--size=16",
    "--heartbeat=2",
    "--device=cpu",
    "--no-halving",
    "--study=killed",
)


def worker(out: Path, storage: str) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "squeezekit", "explore", "digits", "--out", str(out), "--storage", storage]
    log = out.with_suffix(".log").open("wb")
    return subprocess.Popen([*words, *TINY], stdout=log, stderr=subprocess.STDOUT)


def trial_of(study: optuna.Study, pid: int) -> FrozenTrial | None:
    """Return the trial that a process is in the middle of."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        mine = str(trial.user_attrs.get("worker", "")).endswith(f":{pid}")
        if mine and trial.user_attrs.get("curve"):
            return trial
    return None


def kill_in_mid_trial(study: optuna.Study, process: subprocess.Popen[bytes]) -> FrozenTrial:
    while process.poll() is None:
        time.sleep(0.02)
        if trial_of(study, process.pid) is None:
            continue
        process.send_signal(signal.SIGSTOP)  # so that it cannot end between looking and killing
        trial = trial_of(study, process.pid)
        if trial is not None:
            process.kill()
            return trial
        process.send_signal(signal.SIGCONT)
    raise AssertionError("the worker was never seen in the middle of a trial")


@pytest.mark.filterwarnings("ignore")
def test_a_killed_worker_loses_only_its_trial_and_another_takes_it_up(
    postgresql: str, tmp_path: Path
) -> None:
    workers = [worker(tmp_path / str(i), postgresql) for i in range(3)]
    storage = open_storage(postgresql, tmp_path, heartbeat=2)
    while "killed" not in optuna.get_all_study_names(storage):
        assert workers[1].poll() is None, (tmp_path / "1.log").read_text()
        time.sleep(0.1)
    study = optuna.load_study(study_name="killed", storage=storage)
    lost = kill_in_mid_trial(study, workers[1])
    codes = [each.wait(300) for each in workers]
    logs = [(tmp_path / f"{i}.log").read_text() for i in range(3)]
    assert codes == [0, -signal.SIGKILL, 0], logs

    trials = study.get_trials()
    counted = [t for t in trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    assert len(counted) == TRIALS
    # Nothing twice: every design once, and every trial that counts was trained by one worker to its end.
    assert len({str(t.user_attrs["design"]) for t in counted}) == TRIALS
    assert all(len(t.user_attrs["curve"]) == EPOCHS for t in counted)
    # None lost: what was killed was taken up by another, with its design and its seed.
    assert trials[lost.number].state == TrialState.FAIL
    (again,) = [t for t in counted if lost.number in t.system_attrs.get("retry_history", ())]
    for key in ("design", "seed"):
        assert again.user_attrs[key] == lost.user_attrs[key]
    assert again.user_attrs["worker"] != lost.user_attrs["worker"]
    # Both that lived leave the same table.
    tables = [(tmp_path / str(i) / "study.csv").read_text() for i in (0, 2)]
    assert tables[0] == tables[1]
    assert len(tables[0].splitlines()) == TRIALS + 1
