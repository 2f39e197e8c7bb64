"""A PostgreSQL server of the tests' own, and quick settings."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from squeezekit.explore.short import ShortTraining


def _programs() -> Path:
    """Debian keeps the server's programs off the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    if not found and on_path is None:
        reason = "PostgreSQL is missing (apt-get install postgresql)"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return found[-1].parent if found else Path(str(on_path)).resolve().parent


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """Start a server in a folder of its own, and give the address of its database."""
    if os.environ.get("CI") is None:
        pytest.importorskip("psycopg")
    programs = _programs()
    # The server refuses to run as root; then it runs as nobody, whose folder it must be.
    nobody = pwd.getpwnam("nobody")
    as_nobody: dict[str, Any] = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    who = as_nobody if os.getuid() == 0 else {}
    home = Path(tempfile.mkdtemp(prefix="squeezekit-postgresql-"))
    if who:
        os.chown(home, nobody.pw_uid, nobody.pw_gid)
    data, log = home / "data", home / "log"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    quiet: dict[str, Any] = {"cwd": home, "stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT, **who}
    settings = ["-D", str(data), "-U", "squeezekit", "-A", "trust", "--no-sync"]
    subprocess.run([programs / "initdb", *settings], check=True, **quiet)
    server = subprocess.Popen(
        [programs / "postgres", "-D", data, "-F", "-p", str(port), "-k", str(home), "-h", "127.0.0.1"],
        cwd=home,
        stdout=log.open("wb"),
        stderr=subprocess.STDOUT,
        **who,
    )
    try:
        ready = [programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
        for _ in range(300):
            if subprocess.run(ready, check=False).returncode == 0:
                break
            assert server.poll() is None, log.read_text()
            time.sleep(0.1)
        yield f"postgresql://squeezekit@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGINT)  # without waiting for those who are still connected
        server.wait(60)
        shutil.rmtree(home)


@pytest.fixture(scope="session")
def digits() -> ShortTraining:
    """Few pictures, decoded once for all tests."""
    return ShortTraining("digits", pictures=150, device="cpu", console=Console(quiet=True))
