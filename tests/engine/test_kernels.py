"""The kernels of all instruction sets that this processor has, against the scalar ones on random problems."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"


def _run(*command: str) -> str:
    """What a command says; where it fails, that is the test's message."""
    environment = {**os.environ, "PATH": PATH}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("compiler", "sanitize", "problems"),
    [("gcc", "OFF", 20000), ("clang", "ON", 3000)],
    ids=["gcc", "clang-sanitized"],
)
def test_kernels_equal_the_scalar_ones(compiler: str, sanitize: str, problems: int, tmp_path: Path) -> None:
    if shutil.which(compiler) is None:
        assert not os.environ.get("CI"), f"{compiler} is missing: apt-get install {compiler}"
        pytest.skip(f"{compiler} is missing (apt-get install {compiler})")
    options = [f"-DCMAKE_C_COMPILER={compiler}", f"-DSQZ_SANITIZE={sanitize}", "-DSQZ_TESTS=ON"]
    _run("cmake", "-S", str(ROOT / "engine"), "-B", str(tmp_path), "-G", "Ninja", *options)
    _run("cmake", "--build", str(tmp_path), "--target", "sqz_kernels_test")
    said = _run(str(tmp_path / "sqz_kernels_test"), "1", str(problems))
    assert f"{problems} problems, equal to scalar" in said
    if "no other kernels" in said:
        pytest.skip("this processor has neither AVX2 nor AVX-512: there is nothing to compare")
