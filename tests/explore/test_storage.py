"""Storages that cannot be used: one line that says what to do."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from squeezekit.errors import UserError
from squeezekit.explore.storage import reachable


@pytest.mark.parametrize(
    ("address", "mend"),
    [
        (
            "postgresql+psycopg://me:secret@host/x",
            r"needs its driver, .*\(pip install \"squeezekit\[postgresql\]\"\)",
        ),
        (
            "mysql://me:secret@host/x",
            r"needs a driver of SQLAlchemy's for mysql, which is not installed \(take sqlite or postgresql\)",
        ),
    ],
)
def test_a_missing_driver_is_told_with_what_brings_it(address: str, mend: str) -> None:
    with (
        pytest.raises(UserError, match=rf"me:\*\*\*@host/x: {mend}"),
        reachable(address),
    ):
        raise ImportError("no driver")


OPENS = """
import sys, time
from pathlib import Path
from squeezekit.explore.storage import open_storage

print("ready", flush=True)
for folder in map(Path, sys.argv[1:]):
    while not (folder / "go").exists():
        time.sleep(0.001)
    open_storage(None, folder, 20)
    print("open", flush=True)
"""


def test_workers_that_start_at_once_make_one_storage(tmp_path: Path) -> None:
    folders = [tmp_path / str(i) for i in range(4)]
    command = [sys.executable, "-c", OPENS, *map(str, folders)]
    with ExitStack() as ended:
        workers = []
        for _ in range(4):
            each = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            workers.append(ended.enter_context(each))
            ended.callback(each.kill)
        assert [each.stdout.readline() for each in workers if each.stdout] == 4 * ["ready\n"]
        for folder in folders:
            folder.mkdir()
            (folder / "go").touch()
            assert [each.stdout.readline() for each in workers if each.stdout] == 4 * ["open\n"]
        assert [each.communicate()[1] for each in workers] == 4 * [""]
