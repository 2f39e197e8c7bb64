"""The entry point: finds the command, runs it, and turns whatever goes wrong into one line and an exit code.

Adding a command is one line in :data:`COMMANDS`. Its module is loaded only when the command is called, so
``squeezekit --help`` never waits for torch. Exit codes: 0 done; 1 a fault of squeezekit's or of the machine;
2 something the user can mend; 130 interrupted.
"""

from __future__ import annotations

import inspect
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any, NamedTuple, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from squeezekit import __version__
from squeezekit.cli._output import note
from squeezekit.errors import UserError

__all__ = ["COMMANDS", "main", "run"]


class _Command(NamedTuple):
    module: str
    """Holds a function named like the command (its docstring is its help) and ``EXAMPLE``: calls of it."""
    help: str
    """One line for ``squeezekit --help``."""


COMMANDS = {
    "data": _Command("squeezekit.cli.data", "Put pictures into shards, to be streamed by many machines."),
    "train": _Command("squeezekit.cli.train", "Train a network on a folder of pictures."),
    "evaluate": _Command("squeezekit.cli.evaluate", "Measure a network on labelled pictures."),
    "predict": _Command("squeezekit.cli.predict", "Say what is on a picture."),
    "bench": _Command("squeezekit.cli.bench", "Measure how quickly a .sqz answers, layer by layer."),
    "info": _Command("squeezekit.cli.info", "Tell what a .sqz file holds and where its bytes are."),
    "compress": _Command("squeezekit.cli.compress", "Make one small file of a trained network."),
    "export": _Command("squeezekit.cli.export", "Write a network in the format of others: ONNX."),
    "models": _Command("squeezekit.cli.models", "List the networks, or describe one."),
    "explore": _Command("squeezekit.cli.explore", "Search for the network that suits pictures and a budget."),
    "scale": _Command("squeezekit.cli.scale", "Scale a network: depth, width and resolution together."),
    "cost": _Command("squeezekit.cli.cost", "Count what a network costs: parameters, MACs, memory."),
    "study": _Command("squeezekit.cli.study", "Repeat a study of the papers on your pictures."),
    "demo": _Command("squeezekit.cli.demo", "Do all of it on an embedded data set, in about a minute."),
}

# What only `pip install "squeezekit[train]"` brings. A missing one of these is the user's to mend.
_TRAIN_EXTRA = {
    "kornia",
    "lightning",
    "matplotlib",
    "onnx",
    "optuna",
    "pytorch_lightning",
    "safetensors",
    "sklearn",
    "sqlalchemy",
    "tensorboard",
    "torch",
    "torchmetrics",
}


class _Stopped(Exception):  # noqa: N818 (it is no error)
    """Carries an interruption past Typer, which would turn it into an exit code like any other."""


def _examples(lines: str) -> str:
    """Lay out example calls for the end of a help text; a bracket in them is no markup."""
    return "Example:\n" + "\n".join(f"$ {line}" for line in lines.strip().splitlines()).replace("[", r"\[")


def _help(docstring: str) -> str:
    """Let a help text flow to the terminal's width: Typer keeps the line breaks of later paragraphs."""
    paragraphs = inspect.cleandoc(docstring).split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs).replace("[", r"\[")


def _load(name: str) -> Any:
    """Build the real command `name` from its module.

    A module with ``SUBCOMMANDS``, names of its functions, makes a group of them: ``squeezekit scale search``.
    Its docstring is the group's help, and each shows those lines of ``EXAMPLE`` that call it.
    """
    module = import_module(COMMANDS[name].module)
    app = typer.Typer(add_completion=False, rich_markup_mode="rich")
    subcommands: Sequence[str] = getattr(module, "SUBCOMMANDS", ())
    if not subcommands:
        function = getattr(module, name)
        app.command(name, help=_help(function.__doc__ or ""), epilog=_examples(module.EXAMPLE))(function)
        return typer.main.get_command(app)
    about = _help(module.__doc__ or "").partition(": ")[2]
    app.callback(help=about, epilog=_examples(module.EXAMPLE))(_nothing)
    for each in subcommands:
        function = getattr(module, each)
        lines = (line for line in module.EXAMPLE.splitlines() if line.startswith(f"squeezekit {name} {each}"))
        app.command(each, help=_help(function.__doc__ or ""), epilog=_examples("\n".join(lines)))(function)
    return typer.main.get_command(app)


def _nothing() -> None:
    """What a group does before its subcommand."""


class _Commands(TyperGroup):
    """The commands as lines of a table, each replaced by the real one when it is called."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, command in COMMANDS.items():
            self.add_command(TyperCommand(name=name, help=command.help, short_help=command.help))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        return name, (command and _load(str(name))), rest

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, BrokenPipeError) as error:
            raise _Stopped from error


app = typer.Typer(
    cls=_Commands,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_examples("squeezekit train photos/ --out run/\nsqueezekit predict run/ cat.jpg"),
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"squeezekit {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _squeezekit(
    context: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    _debug: Annotated[
        bool, typer.Option("--debug", envvar="SQUEEZEKIT_DEBUG", help="Show the traceback of an error.")
    ] = False,
) -> None:
    """From a folder of labelled pictures to an image classifier of less than half a megabyte."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    args
        The words after ``squeezekit``; those of the process by default.

    Returns
    -------
    int
        The exit code.
    """
    words = list(sys.argv[1:] if args is None else args)
    try:
        code = typer.main.get_command(app).main(args=words, prog_name="squeezekit", standalone_mode=False)
        sys.stdout.flush()  # here, where a closed pipe can still be answered
        return code if isinstance(code, int) else 0
    except Exception as error:
        if _debugging(words):
            traceback.print_exc()
        return _explain(error)


def run() -> NoReturn:
    """Run the command line and leave the process: the entry point ``squeezekit``."""
    sys.exit(main())


def _debugging(words: Sequence[str]) -> bool:
    before_command = words[: next((i for i, word in enumerate(words) if not word.startswith("-")), None)]
    return "--debug" in before_command or os.environ.get("SQUEEZEKIT_DEBUG", "0") not in ("", "0")


def _explain(error: Exception) -> int:
    """Print the one line that an error deserves and return its exit code."""
    if isinstance(error, _Stopped):
        error = error.__cause__  # type: ignore[assignment]
    if isinstance(error, KeyboardInterrupt):
        return _say("interrupted", 130)
    if isinstance(error, BrokenPipeError):
        # Nobody reads on, as in `squeezekit models | head -1`: leave quietly, and let Python's own last flush
        # find an open file.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if isinstance(error, UserError):
        return _say(f"error: {error}", 2)
    if isinstance(error, typer.TyperException):  # a word of the command line that does not fit
        context = getattr(error, "ctx", None)
        where = context.command_path if context else "squeezekit"
        return _say(f"error: {where}: {error.format_message().rstrip('.')} (see {where} --help)", 2)
    if isinstance(error, typer.Abort):
        return _say("aborted", 1)
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in _TRAIN_EXTRA:
        missing = f"this needs {error.name}, which is not installed"
        return _say(f'error: {missing} (pip install "squeezekit[train]")', 2)
    if (
        isinstance(error, OSError) and error.errno is not None
    ):  # the system refused: no such file, disk full, ...
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, (str, bytes)) else ""
        return _say(f"error: {where}{error.strerror}", 2)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # the latter is torch's
        return _say("error: out of memory (a smaller --batch-size needs less)", 1)
    return _say(f"error: {type(error).__name__}: {error} (a fault of squeezekit's: {_record(error)})", 1)


def _say(line: str, code: int) -> int:
    note(" ".join(line.split()))
    return code


def _record(error: Exception) -> str:
    """Keep the traceback of an error nobody foresaw where it can be sent from, and say where."""
    try:
        with tempfile.NamedTemporaryFile("w", prefix="squeezekit-", suffix=".log", delete=False) as log:
            log.write(f"squeezekit {__version__}, Python {sys.version}\n{sys.argv}\n\n")
            traceback.print_exception(error, file=log)
    except OSError:
        return "SQUEEZEKIT_DEBUG=1 shows the details"
    return f"details in {log.name}"
