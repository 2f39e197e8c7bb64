"""The command line's frame: finding commands, and one clear line for whatever goes wrong."""

from __future__ import annotations

import errno
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from squeezekit import __version__
from squeezekit.cli import _output
from squeezekit.cli import main as cli
from squeezekit.errors import UserError


@dataclass
class Outcome:
    code: int
    out: str
    err: str

    def assert_one_line(self, code: int) -> None:
        assert self.code == code, self
        assert self.out == ""
        assert self.err.count("\n") == 1, self.err
        assert "Traceback" not in self.err


@pytest.fixture
def squeezekit(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    monkeypatch.delenv("SQUEEZEKIT_DEBUG", raising=False)

    def call(*words: str) -> Outcome:
        code = cli.main(words)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., None]], None]:
    """Add a command ``try`` that does what the test wants."""

    def add(function: Callable[..., None]) -> None:
        module = ModuleType("tests_cli_try")
        module.__dict__.update({"try": function, "EXAMPLE": "squeezekit try [this]"})
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(cli.COMMANDS, "try", cli._Command(module.__name__, "Try something."))

    return add


@pytest.fixture
def failing(command: Callable[..., None]) -> Callable[[BaseException], None]:
    """Add a command ``try`` that raises."""

    def add(error: BaseException) -> None:
        def fail() -> None:
            """Fail."""
            raise error

        command(fail)

    return add


Call = Callable[..., Outcome]
Failing = Callable[[BaseException], None]


class TestHelp:
    def test_lists_every_command(self, squeezekit: Call) -> None:
        for words in (["--help"], ["-h"], []):
            shown = squeezekit(*words)
            assert shown.code == 0
            assert all(name in shown.out for name in cli.COMMANDS)
            assert "$ squeezekit train" in shown.out

    def test_version(self, squeezekit: Call) -> None:
        assert squeezekit("--version") == Outcome(0, f"squeezekit {__version__}\n", "")

    @pytest.mark.parametrize("name", cli.COMMANDS)
    def test_each_command_explains_itself_with_an_example(self, name: str, squeezekit: Call) -> None:
        module = import_module(cli.COMMANDS[name].module)
        assert module.EXAMPLE.startswith(f"squeezekit {name}")
        shown = squeezekit(name, "--help")
        assert shown.code == 0
        assert f"$ squeezekit {name}" in shown.out

    def test_a_help_text_flows(self, squeezekit: Call, command: Any) -> None:
        def fine() -> None:
            """Do nothing.

            Two lines [in brackets]
            become one.
            """

        command(fine)
        assert "Two lines [in brackets] become one." in squeezekit("try", "--help").out

    def test_brackets_in_an_example_are_no_markup(self, squeezekit: Call, command: Any) -> None:
        command(lambda: None)
        assert "$ squeezekit try [this]" in squeezekit("try", "--help").out

    def test_a_group_of_commands(self, squeezekit: Call, monkeypatch: pytest.MonkeyPatch) -> None:
        module = ModuleType("tests_cli_group", "``squeezekit group``: what the group is for.")
        module.__dict__.update(
            {
                "SUBCOMMANDS": ("say",),
                "EXAMPLE": "squeezekit group say this\nsqueezekit group hear",
                "say": lambda what: print(what),
            }
        )
        module.__dict__["say"].__annotations__ = {"what": str}
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(cli.COMMANDS, "group", cli._Command(module.__name__, "Two words."))
        assert squeezekit("group", "say", "this") == Outcome(0, "this\n", "")
        assert "what the group is for." in squeezekit("group", "--help").out
        shown = squeezekit("group", "say", "--help").out
        assert "$ squeezekit group say this" in shown
        assert "hear" not in shown
        for words in ([], ["sing"], ["say"]):
            squeezekit("group", *words).assert_one_line(2)

    def test_help_loads_no_command(self, squeezekit: Call, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(cli.COMMANDS, "try", cli._Command("no.such.module", "Try something."))
        assert "Try something." in squeezekit("--help").out


class TestErrors:
    def test_a_users_mistake(self, squeezekit: Call, failing: Failing) -> None:
        failing(UserError("photos/: no class folders found (expected photos/CLASS/image.jpg)"))
        outcome = squeezekit("try")
        outcome.assert_one_line(2)
        assert outcome.err == "error: photos/: no class folders found (expected photos/CLASS/image.jpg)\n"

    def test_several_lines_become_one(self, squeezekit: Call, failing: Failing) -> None:
        failing(UserError("a\n  b\n"))
        assert squeezekit("try").err == "error: a b\n"

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["tran"], "No such command 'tran'. Did you mean 'train'? (see squeezekit --help)"),
            (["--colour"], "No such option: --colour"),
            (
                ["try", "x", "y"],
                "squeezekit try: Got unexpected extra argument",
            ),
            (["try"], "squeezekit try: Missing argument 'where'"),
            (["try", "x", "--count", "many"], "squeezekit try: Invalid value for '--count'"),
        ],
    )
    def test_words_that_do_not_fit(
        self, words: list[str], said: str, squeezekit: Call, command: Callable[..., None]
    ) -> None:
        def fine(where: str, count: int = 1) -> None:
            """Do nothing."""

        command(fine)
        outcome = squeezekit(*words)
        outcome.assert_one_line(2)
        assert said in outcome.err

    def test_the_system_refuses(self, squeezekit: Call, failing: Failing, tmp_path: Path) -> None:
        failing(FileNotFoundError(errno.ENOENT, "No such file or directory", str(tmp_path / "cat.jpg")))
        outcome = squeezekit("try")
        outcome.assert_one_line(2)
        assert outcome.err == f"error: {tmp_path / 'cat.jpg'}: No such file or directory\n"
        failing(OSError(errno.ENOSPC, "No space left on device"))
        assert squeezekit("try").err == "error: No space left on device\n"

    def test_the_training_install_is_missing(self, squeezekit: Call, failing: Failing) -> None:
        failing(ModuleNotFoundError("No module named 'torch'", name="torch"))
        outcome = squeezekit("try")
        outcome.assert_one_line(2)
        assert 'pip install "squeezekit[train]"' in outcome.err

    def test_out_of_memory(self, squeezekit: Call, failing: Failing) -> None:
        failing(MemoryError())
        outcome = squeezekit("try")
        outcome.assert_one_line(1)
        assert "--batch-size" in outcome.err

    def test_a_fault_of_ours_keeps_its_details(
        self, squeezekit: Call, failing: Failing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        failing(ValueError("seven"))
        outcome = squeezekit("try")
        outcome.assert_one_line(1)
        (log,) = tmp_path.iterdir()
        assert str(log) in outcome.err
        assert "ValueError: seven" in log.read_text()

    def test_interrupted(self, squeezekit: Call, failing: Failing) -> None:
        failing(KeyboardInterrupt())
        outcome = squeezekit("try")
        outcome.assert_one_line(130)
        assert outcome.err == "interrupted\n"

    def test_a_command_may_choose_its_exit_code(self, squeezekit: Call, failing: Failing) -> None:
        import typer

        failing(typer.Exit(130))
        assert squeezekit("try") == Outcome(130, "", "")

    def test_debug_shows_the_traceback(
        self, squeezekit: Call, failing: Failing, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        failing(UserError("photos/: empty"))
        assert "Traceback" in squeezekit("--debug", "try").err
        monkeypatch.setenv("SQUEEZEKIT_DEBUG", "1")
        assert "Traceback" in squeezekit("try").err
        monkeypatch.setenv("SQUEEZEKIT_DEBUG", "0")
        assert "Traceback" not in squeezekit("try").err


class TestProcess:
    """The same through the real process: signals and pipes."""

    def test_a_closed_pipe_is_no_error(self) -> None:
        code = (
            "import sys, types\nfrom squeezekit.cli import main as cli\n"
            "module = types.ModuleType('much'); sys.modules['much'] = module\n"
            "module.much = lambda: print('line\\n' * 100000); module.EXAMPLE = 'squeezekit much'\n"
            "cli.COMMANDS['much'] = cli._Command('much', 'Print.')\n"
            "sys.argv[1:] = ['much']; cli.run()\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "line\n"
        process.stdout.close()
        assert process.stderr.read() == ""
        process.stderr.close()
        assert process.wait() == 1

    def test_ctrl_c(self) -> None:
        code = (
            "import signal, sys, time, types\nfrom squeezekit.cli import main as cli\n"
            # A shell that starts this in the background has told it to ignore Ctrl-C.
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "def wait():\n    print('ready', flush=True)\n    time.sleep(60)\n"
            "module = types.ModuleType('wait'); sys.modules['wait'] = module\n"
            "module.wait = wait; module.EXAMPLE = 'squeezekit wait'\n"
            "cli.COMMANDS['wait'] = cli._Command('wait', 'Wait.')\n"
            "sys.argv[1:] = ['wait']; cli.run()\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (130, "interrupted\n")

    def test_python_m(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "squeezekit", "--version"], capture_output=True, text=True
        )
        assert (done.returncode, done.stdout) == (0, f"squeezekit {__version__}\n")


JSONABLE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


class TestJson:
    @given(JSONABLE)
    def test_whatever_is_printed_is_strict_json(self, value: object) -> None:
        json.loads(json.dumps(_output.plain(value), allow_nan=False), parse_constant=pytest.fail)

    def test_what_results_are_made_of(self) -> None:
        @dataclass
        class Result:
            top1: float
            confusion: np.ndarray
            path: Path

        result = Result(np.float32(0.5), np.array([[1, 2]], np.int32), Path("run"))
        assert _output.plain(result) == {"top1": 0.5, "confusion": [[1, 2]], "path": "run"}
        assert _output.plain({1: math.nan, "b": (math.inf, None)}) == {"1": None, "b": [None, None]}
        with pytest.raises(TypeError, match="object has no place in JSON"):
            _output.plain(object())

    def test_a_narrow_encoding_still_gets_json(self) -> None:
        code = "from squeezekit.cli._output import print_json; print_json({'name': 'Käfer 🪲'})"
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
            check=True,
        )
        assert json.loads(done.stdout) == {"name": "Käfer 🪲"}

    def test_standard_output_is_for_json_alone(self, capsys: pytest.CaptureFixture[str]) -> None:
        with _output.only_json(True):
            print("a library talks")
        _output.print_json([1])
        captured = capsys.readouterr()
        assert json.loads(captured.out) == [1]
        assert captured.err == "a library talks\n"

    def test_without_json_nothing_is_moved(self, capsys: pytest.CaptureFixture[str]) -> None:
        with _output.only_json(False):
            print("a table")
        _output.warn("careful")
        assert capsys.readouterr() == ("a table\n", "warning: careful\n")


def test_help_takes_less_than_half_a_second() -> None:
    def seconds() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "squeezekit", "--help"], capture_output=True, check=True)
        return time.perf_counter() - start

    # The best of several, since the machine may be busy: what is promised is the work, not the weather.
    assert min(seconds() for _ in range(5)) < 0.5
