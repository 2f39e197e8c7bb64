"""The C library by itself: compiles without a warning, and withstands a short fuzzing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"


def clang() -> None:
    """Skip where there is no clang; in CI that is an error, since the fuzzing would never run."""
    if shutil.which("clang") is None:
        assert not os.environ.get("CI"), "clang is missing: apt-get install clang"
        pytest.skip("clang is missing (apt-get install clang)")


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_it_builds_alone_without_a_warning(compiler: str, tmp_path: Path) -> None:
    if compiler == "clang":
        clang()
    elif shutil.which("gcc") is None:
        pytest.skip("gcc is missing")
    configure = ["cmake", "-S", str(ROOT / "engine"), "-B", str(tmp_path), "-G", "Ninja"]
    for command in ([*configure, f"-DCMAKE_C_COMPILER={compiler}"], ["cmake", "--build", str(tmp_path)]):
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, "PATH": PATH}
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "warning" not in done.stdout + done.stderr


def test_it_needs_no_allocation_and_nothing_but_memory_functions(tmp_path: Path) -> None:
    """From outside it calls memcpy, memset and memcmp alone."""
    if shutil.which("gcc") is None or shutil.which("nm") is None:
        pytest.skip("gcc or nm is missing")
    sources = sorted(map(str, (ROOT / "engine" / "src").glob("*.c")))
    flags = [
        "-std=c11",
        "-O2",
        "-ffreestanding",
        "-fno-stack-protector",
        "-I",
        str(ROOT / "engine" / "include"),
    ]
    subprocess.run(["gcc", *flags, "-r", "-nostdlib", "-o", str(tmp_path / "all.o"), *sources], check=True)
    listed = subprocess.run(["nm", "-u", str(tmp_path / "all.o")], capture_output=True, text=True, check=True)
    wanted = {line.split()[-1] for line in listed.stdout.splitlines()}
    assert wanted - {"_GLOBAL_OFFSET_TABLE_"} <= {"memcpy", "memset", "memcmp", "memmove"}


def test_a_short_fuzzing_finds_nothing(tmp_path: Path) -> None:
    clang()
    command = [sys.executable, str(ROOT / "benchmarks" / "fuzz.py"), "--minutes", "0.2", "--json"]
    done = subprocess.run([*command, "--keep", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    results = {each["target"]: each for each in json.loads(done.stdout)}
    assert set(results) == {"file", "text", "graph", "weights", "run"}
    assert all(each["executions"] > 50 for each in results.values())
