"""The frame: what the package exports and does not load, its errors and files, the project's own pages."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import squeezekit
from squeezekit.errors import UserError, suggest
from squeezekit.files import write_atomically

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def loaded_by(statement: str) -> set[str]:
    """Return the top-level packages that a fresh interpreter holds after `statement`."""
    code = f"{statement}\nimport sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


class TestExports:
    @pytest.mark.parametrize("name", squeezekit.__all__)
    def test_each_name_is_there_and_stays_the_same(self, name: str) -> None:
        assert getattr(squeezekit, name) is getattr(squeezekit, name)
        assert name in dir(squeezekit)

    def test_unknown_name(self) -> None:
        with pytest.raises(AttributeError, match="no attribute 'compres'"):
            _ = squeezekit.compres  # type: ignore[attr-defined]

    def test_train_is_a_package_and_can_be_called(self, tmp_path: Path) -> None:
        import squeezekit.train.fit  # loading a module of it must not hide the function

        assert callable(squeezekit.train)
        with pytest.raises(UserError):
            squeezekit.train("no/such/folder", tmp_path / "run")

    @pytest.mark.parametrize(
        "module",
        [
            "squeezekit",
            "squeezekit.cli.main",
            "squeezekit.data.picture",
            "squeezekit.data.preparation",
            "squeezekit.data.source",
            "squeezekit.data.split",
        ],
    )
    def test_the_small_install_never_loads_torch(self, module: str) -> None:
        assert not loaded_by(f"import {module}") & {"torch", "lightning", "kornia", "matplotlib", "sklearn"}

    def test_the_command_line_starts_light(self) -> None:
        assert not loaded_by("import squeezekit.cli.main") & {"torch", "numpy", "PIL"}


class TestSuggest:
    def test_a_near_name(self) -> None:
        assert suggest("SqueezeNet1.1", ["squeezenet1_1", "alexnet"]) == "; did you mean 'squeezenet1_1'?"

    def test_nothing_near(self) -> None:
        assert suggest("resnet", ["b0"]) == suggest("x", []) == ""

    @given(st.text(max_size=20), st.lists(st.text(min_size=1, max_size=20)))
    def test_it_names_only_choices(self, name: str, choices: list[str]) -> None:
        tail = suggest(name, choices)
        assert tail == "" or tail in {f"; did you mean {choice!r}?" for choice in choices}


class TestWriteAtomically:
    def test_the_file_appears_whole(self, tmp_path: Path) -> None:
        final = tmp_path / "model.safetensors"
        with write_atomically(final) as temporary:
            assert temporary.parent == tmp_path
            assert temporary.suffix == ".safetensors"
            temporary.write_bytes(b"weights")
            assert not final.exists()
        assert final.read_bytes() == b"weights"
        assert list(tmp_path.iterdir()) == [final]

    def test_an_error_leaves_the_old_file(self, tmp_path: Path) -> None:
        final = tmp_path / "metrics.json"
        final.write_text("old")

        def fail_halfway() -> None:
            with write_atomically(final) as temporary:
                temporary.write_text("half")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail_halfway()
        assert final.read_text() == "old"
        assert list(tmp_path.iterdir()) == [final]

    def test_a_kill_leaves_the_old_file(self, tmp_path: Path) -> None:
        final = tmp_path / "last.ckpt"
        final.write_text("old")
        code = (
            "import os, signal, sys\nfrom squeezekit.files import write_atomically\n"
            "with write_atomically(sys.argv[1]) as temporary:\n"
            "    temporary.write_text('half')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        done = subprocess.run([sys.executable, "-c", code, str(final)], check=False)
        assert done.returncode == -signal.SIGKILL
        assert final.read_text() == "old"

    def test_permissions_are_those_of_an_ordinary_file(self, tmp_path: Path) -> None:
        before = os.umask(0o027)
        try:
            with write_atomically(tmp_path / "report.html") as temporary:
                temporary.write_text("")
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "report.html").stat().st_mode) == 0o640

    def test_a_link_is_followed(self, tmp_path: Path) -> None:
        (tmp_path / "far").mkdir()
        link = tmp_path / "near.txt"
        link.symlink_to(tmp_path / "far" / "real.txt")
        with write_atomically(link) as temporary:
            temporary.write_text("here")
        assert link.is_symlink()
        assert (tmp_path / "far" / "real.txt").read_text() == "here"

    def test_a_missing_folder_is_told_at_once(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError), write_atomically(tmp_path / "no" / "file"):
            pytest.fail("the block must not run")

    def test_long_names(self, tmp_path: Path) -> None:
        final = tmp_path / ("n" * 240 + ".txt")
        with write_atomically(final) as temporary:
            temporary.write_text("x")
        assert final.exists()


class TestProject:
    def test_everything_installed_is_pinned(self) -> None:
        pinned = dict(
            line.lower().replace("_", "-").split("==")
            for line in (ROOT / "constraints.txt").read_text().splitlines()
            if line and not line.startswith("#")
        )
        extras = PROJECT["project"]["optional-dependencies"]
        for requirement in [*PROJECT["project"]["dependencies"], *extras["train"], *extras["dev"]]:
            name = re.split(r"[<>=\[; ]", requirement)[0].lower().replace("_", "-")
            assert name in pinned, f"{name} is missing in constraints.txt (make constraints)"
        assert pinned["torch"] == "2.13.0"
        assert not any("+" in version or "@" in version for version in pinned.values())

    def test_the_small_install_does_not_ask_for_torch(self) -> None:
        assert not [
            each for each in PROJECT["project"]["dependencies"] if each.startswith(("torch", "lightning"))
        ]

    def test_the_changelog_knows_this_version(self) -> None:
        assert f"## {squeezekit.__version__}" in (ROOT / "CHANGELOG.md").read_text()

    def test_the_two_commands_are_where_a_newcomer_looks(self) -> None:
        for page in ("README.md", "CONTRIBUTING.md"):
            text = (ROOT / page).read_text()
            assert "make demo" in text, page
            assert "make test" in text, page
