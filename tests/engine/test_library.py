"""The C library as a C programmer meets it: one file, an example, other processors, and watchful tools."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from squeezekit.format import read
from squeezekit.graph.run import run

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = sorted((ROOT / "tests" / "engine" / "golden").glob("*.sqz"))
STRICT = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror", "-ffp-contract=off"]
ABSENT = 77  # golden.c: this processor does not have the instruction set


def tool(name: str, package: str) -> str:
    """Skip where a program is missing; in CI that is an error, since nothing would then be checked."""
    found = shutil.which(name)
    if found is None:
        assert not os.environ.get("CI"), f"{name} is missing: apt-get install {package}"
        pytest.skip(f"{name} is missing (apt-get install {package})")
    return found


def call(*command: str | Path, codes: tuple[int, ...] = (0,)) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode in codes, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library in one file."""
    folder = tmp_path_factory.mktemp("single")
    call(sys.executable, ROOT / "scripts" / "amalgamate.py", folder)
    return folder


def build(single: Path, compiler: str, program: Path, out: Path, *flags: str) -> Path:
    call(compiler, *STRICT, *flags, f"-I{single}", program, single / "sqz.c", "-o", out, "-lpthread")
    return out


def golden(program: Path, isa: str, threads: int, *before: str, models: list[Path] = GOLDEN) -> None:
    assert models
    for model in models:
        for picture in sorted(model.parent.glob(f"{model.stem}.input")):
            logits = picture.with_suffix(".logits")
            call(*before, program, model, picture, logits, isa, str(threads), codes=(0, ABSENT))


GOLDEN_C = ROOT / "engine" / "tests" / "golden.c"


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("level", ["-O0", "-O3"])
def test_all_builds_give_the_golden_bits(compiler: str, level: str, single: Path, tmp_path: Path) -> None:
    program = build(single, tool(compiler, compiler), GOLDEN_C, tmp_path / "golden", level, "-DSQZ_THREADS")
    for isa in ("scalar", "avx2", "avx512"):
        golden(program, isa, 1)
    golden(program, "best", 3)


def test_another_processor_gives_the_golden_bits(single: Path, tmp_path: Path) -> None:
    compiler = tool("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu")
    emulator = tool("qemu-aarch64", "qemu-user")
    program = build(single, compiler, GOLDEN_C, tmp_path / "golden", "-O2", "-static")
    golden(program, "best", 1, emulator)


@pytest.mark.parametrize("watch", ["address,undefined", "thread"])
def test_sanitizers_find_nothing(watch: str, single: Path, tmp_path: Path) -> None:
    flags = ["-O1", "-g", "-DSQZ_THREADS", f"-fsanitize={watch}", "-fno-sanitize-recover=all"]
    program = build(single, tool("clang", "clang"), GOLDEN_C, tmp_path / "golden", *flags)
    # ThreadSanitizer wants its memory where the kernel's address randomisation may not leave it.
    before = [tool("setarch", "util-linux"), "-R"] if watch == "thread" else []
    for isa in ("scalar", "avx2", "avx512"):
        golden(program, isa, 3, *before)


def test_valgrind_finds_nothing(single: Path, tmp_path: Path) -> None:
    valgrind = tool("valgrind", "valgrind")
    program = build(
        single, tool("gcc", "gcc"), GOLDEN_C, tmp_path / "golden", "-O1", "-g", "-DSQZ_ONLY_SCALAR"
    )
    golden(program, "scalar", 1, valgrind, "-q", "--error-exitcode=9", "--leak-check=full")


def test_the_decoder_and_the_scalar_kernels_fit_48_kilobytes(single: Path, tmp_path: Path) -> None:
    """What classify.c links of the library, at -Os, for this processor."""
    sections = ["-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections", "-DSQZ_ONLY_SCALAR", "-Os"]
    example = ROOT / "engine" / "examples" / "classify.c"
    program = build(single, tool("gcc", "gcc"), example, tmp_path / "classify", *sections)
    listed = call(tool("nm", "binutils"), "-S", "--defined-only", program).splitlines()
    rows = [line.split() for line in listed]
    size = sum(int(row[1], 16) for row in rows if len(row) == 4 and row[2] in "tTrR")
    assert size <= 48 * 1024, f"{size:,} bytes"


def test_the_example_names_the_class(single: Path, tmp_path: Path) -> None:
    program = build(
        single, tool("gcc", "gcc"), ROOT / "engine" / "examples" / "classify.c", tmp_path / "classify", "-O2"
    )
    path = next(path for path in GOLDEN if read(path).names)
    model = read(path)
    channels, height, width = model.graph.input.shape
    pixels = np.random.default_rng(3).integers(0, 256, (height, width, channels), np.uint8)
    ppm = tmp_path / "picture.ppm"
    kind = "P6" if channels == 3 else "P5"
    ppm.write_bytes(f"{kind}\n# by hand\n{width} {height}\n255\n".encode() + pixels.tobytes())
    logits = run(model.graph, pixels[None]).reshape(-1)
    first = call(program, path, ppm, "1").split(maxsplit=1)
    assert first[1].strip() == model.names[int(np.argmax(logits))]
    assert float(first[0]) == pytest.approx(float(logits.max()), abs=1e-3)
    ppm.write_bytes(b"P6 7 7 255 ")
    done = subprocess.run([program, path, ppm], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "not a P" in done.stderr
