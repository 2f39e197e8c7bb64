"""``squeezekit scale``: compound scaling: more depth, width and resolution together, or less of all.

A step of φ doubles the work of a network: depth α^φ, width β^φ, resolution γ^φ with α · β² · γ² ≈ 2
(EfficientNet, arXiv:1905.11946). `search` finds α, β and γ on your pictures, `build` scales by them.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from squeezekit.cli._options import Plot, metaparameters
from squeezekit.cli._output import (
    check_plot,
    goes_on,
    note,
    only_json,
    print_json,
    progress,
    results,
    save_figure,
    warn,
)
from squeezekit.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from squeezekit.explore.scale_search import Search, Settings, Training
    from squeezekit.explore.scaling import Compound

SUBCOMMANDS = ("search", "build")

EXAMPLE = """\
squeezekit scale build --baseline efficientnet_b0 --phi 3
squeezekit scale build --baseline run/ --phi -2 --data photos/
squeezekit scale search --baseline squeezenet1_1 --data photos/ --out scaling/
squeezekit scale build --search scaling/ --phi 2 --data photos/
"""

BaselineOption = Annotated[
    str | None, typer.Option("--baseline", metavar="NAME|RUN", help="Network (squeezekit models), or a run.")
]
Size = Annotated[int | None, typer.Option(min=1, max=16384, help="Side of the baseline's pictures.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A metaparameter of the baseline; repeatable."),
]


def build(
    phi: Annotated[float, typer.Option(help="Each step doubles the work; negative ones halve it.")],
    baseline: BaselineOption = None,
    search: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Constants and baseline of `scale search`.")
    ] = None,
    alpha: Annotated[float | None, typer.Option(help="Base of depth. Default: 1.2.")] = None,
    beta: Annotated[float | None, typer.Option(help="Base of width. Default: 1.1.")] = None,
    gamma: Annotated[float | None, typer.Option(help="Base of resolution. Default: 1.15.")] = None,
    size: Size = None,
    set_: Set = None,
    classes: Annotated[int | None, typer.Option(min=1, help="Default: 1000, or the run's.")] = None,
    as_published: Annotated[
        bool, typer.Option("--as-published", help="Round as EfficientNet's authors did, and mend nothing.")
    ] = False,
    data: Annotated[str, typer.Option(metavar="DATA", help="For the command that trains it.")] = "DATA",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Scale a network by φ, count its FLOPS exactly, and print the command that trains it.

    The FLOPS are to be within 10 % of 2^φ times the baseline's. Where rounding layers and channels leads
    further away, it says where, and the pictures take the side that makes good for it.

    The constants are EfficientNet's own, those of a search, or those you give.
    """
    with only_json(as_json), progress("counting") as advance:
        from squeezekit.explore.baseline import Baseline, find_baseline
        from squeezekit.explore.scaling import Bases, compound

        bases = Bases()
        found: Baseline | None = None
        if search is not None:
            from squeezekit.explore.scale_search import read_bases

            bases, design, searched_classes = read_bases(search)
            found = Baseline(design, classes or searched_classes)
        if baseline is not None:
            found = find_baseline(baseline, metaparameters(set_), size=size, classes=classes)
        elif found is None:
            raise UserError("scale build: which network? (--baseline NAME|RUN, or --search FOLDER)")
        elif size is not None or set_:
            raise UserError("--size, --set: the network is the search's (name it by --baseline to change it)")
        given = {"alpha": alpha, "beta": beta, "gamma": gamma}
        bases = Bases(**{**vars(bases), **{key: value for key, value in given.items() if value is not None}})
        scaling = compound(
            found.design,
            phi,
            bases,
            classes=found.classes,
            channels=found.channels,
            as_published=as_published,
            progress=advance,
        )
    command = scaling.design.command(data, f"run-phi{phi:g}")
    if as_json:
        print_json({**scaling.to_dict(), "classes": found.classes, "command": command})
    else:
        _print_scaling(scaling, command)


def _print_scaling(scaling: Compound, command: str) -> None:
    from squeezekit.report.scaling import scaled_table, stages_table, steps_table

    values = scaling.to_dict()
    console = results()
    for table in (scaled_table, stages_table, steps_table):
        console.print(table(values))
    sentence = (
        f"FLOPS × {scaling.ratio:.4g}, {100 * scaling.departure:+.1f} % from 2^φ = {scaling.target:.3g}"
    )
    if scaling.mended:
        sentence += f" ({' and '.join(scaling.mended)} moved from equation 3 to meet it)"
    console.print(sentence, style="green" if scaling.holds else "red", highlight=False)
    console.print(command, highlight=False, soft_wrap=True, markup=False)
    if not scaling.holds:
        warn("the FLOPS are not within 10 % of 2^φ")


def search(
    baseline: BaselineOption,
    data: Annotated[str, typer.Option(metavar="DATA", help="Image folder, .zip or .tar, or 'digits'.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the search; goes on with one there.")],
    phi: Annotated[
        float, typer.Option(help="1 doubles the work; -1 halves it, for constants to shrink by.")
    ] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="A coarse grid, 3 epochs, 2,000 pictures.")] = False,
    alphas: Annotated[str | None, typer.Option(metavar="A,A,…", help="Depths to try.")] = None,
    betas: Annotated[str | None, typer.Option(metavar="B,B,…", help="Widths to try.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Of each training. Default: 8.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each candidate.")] = 1,
    pictures: Annotated[int | None, typer.Option(min=1, help="Train with so many only.")] = None,
    size: Size = None,
    set_: Set = None,
    recipe: Annotated[str, typer.Option(help="As for train.")] = "modern",
    batch_size: Annotated[int | None, typer.Option(min=1, help="Pictures a step.")] = None,
    seed: Annotated[int, typer.Option(help="Of the split, and of the first training.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, bf16 or float32.")] = "auto",
    plot: Plot = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find the constants α, β and γ that suit a network and your pictures, by short trainings on a grid.

    Every candidate has twice the baseline's FLOPS (at --phi 1), counted exactly, and the same training.
    Validation pictures choose, test pictures judge. Leaves search.json, search.csv and search.svg in --out;
    the same command goes on where it was stopped.
    """
    check_plot(plot)
    from squeezekit.explore.scale_search import ALPHAS, BETAS, SEARCH, Settings

    settings = Settings(
        phi=phi,
        alphas=_numbers("--alphas", alphas) or ((1.0, 1.2, 1.4, 2.0) if quick else ALPHAS),
        betas=_numbers("--betas", betas) or ((1.0, 1.1, 1.2, 1.4) if quick else BETAS),
        epochs=epochs if epochs is not None else 3.0 if quick else 8.0,
        seeds=seeds,
        seed=seed,
        pictures=pictures or (2000 if quick else None),
        recipe=recipe,
        batch_size=batch_size,
    )
    with only_json(as_json), goes_on(out / SEARCH):
        found = _search(str(baseline), data, out, settings, size, set_, device, precision)
    values = found.to_dict()
    _keep(values, out, plot)
    if as_json:
        print_json(values)
    else:
        _print_search(values, out)


def _search(
    baseline: str,
    data: str,
    out: Path,
    settings: Settings,
    size: int | None,
    set_: list[str] | None,
    device: str,
    precision: str,
) -> Search:
    from rich.console import Console

    from squeezekit.explore.baseline import find_baseline
    from squeezekit.explore.scale_search import Search
    from squeezekit.explore.short import ShortTraining
    from squeezekit.models import list_models
    from squeezekit.report.scaling import flops_text

    console = Console(stderr=True)
    meta = metaparameters(set_)
    if baseline not in list_models():
        find_baseline(baseline, meta, size=size)  # complains before the pictures are looked at
    short = ShortTraining(
        data, pictures=settings.pictures, seed=settings.seed, device=device, precision=precision
    )
    if size is None and baseline in list_models():
        size = short.size
    design = find_baseline(baseline, meta, size=size, classes=len(short.classes)).design
    with progress("counting") as advance:
        search = Search(out, short, design, settings, advance)
    counts = ", ".join(f"{count:,} {part}" for part, count in short.counts.items())
    flops = flops_text(search.scalings[0].before.macs)
    note(f"{design.model} at {design.size} px, {flops}FLOPS; {counts} pictures")
    done = f", {len(search.trainings)} of them done" if search.trainings else ""
    note(f"{len(search.to_train)} trainings of {settings.epochs:g} epochs{done}")
    with _Watch(console) as watch:
        search.run(watch.begin, watch.end)
    return search


class _Watch:
    """A bar for each training, and a line when it is done, with the time that is left."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = ExitStack()
        self._seconds = self._trainings = 0.0

    def __enter__(self) -> _Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def begin(self, number: int, total: int, scaling: Compound) -> Callable[[float], None]:
        from squeezekit.report.progress import progress_bar

        title = f"{number}/{total} {_constants(scaling)}, %"
        advance = self._bar.enter_context(progress_bar(title, self._console))
        return lambda share: advance(round(100 * share), 100)

    def end(self, number: int, total: int, scaling: Compound, training: Training) -> None:
        from squeezekit.report.style import duration, percent

        self._bar.close()
        self._seconds, self._trainings = self._seconds + training.seconds, self._trainings + 1
        left = self._seconds / self._trainings * (total - number)
        note(
            f"{number}/{total} {_constants(scaling)}: {percent(training.val_accuracy)} in "
            f"{duration(training.seconds)}" + (f", about {duration(left)} left" if left else "")
        )


def _constants(scaling: Compound) -> str:
    if scaling.phi == 0:
        return "baseline"
    return " ".join(f"{name} {value:.3g}" for name, value in vars(scaling.bases).items())


def _numbers(option: str, text: str | None) -> tuple[float, ...]:
    try:
        numbers = tuple(float(word) for word in text.split(",")) if text is not None else ()
    except ValueError:
        numbers = (0.0,)
    if not all(1 <= number <= 2 for number in numbers):
        raise UserError(f"{option} {text}: expected numbers from 1 to 2, such as 1.0,1.2,1.4")
    return numbers


def _keep(values: dict[str, Any], out: Path, plot: Path | None) -> None:
    """Write the table for other programs and the picture beside search.json."""
    import csv
    import io

    from squeezekit.files import write_bytes
    from squeezekit.report.scaling import search_plot

    text = io.StringIO()
    rows = [{**row, **row["design"], **_words(row["design"])} for row in values["candidates"]]
    columns = [name for name in rows[0] if name != "design"]
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(out / "search.csv", text.getvalue().encode())
    figure = search_plot(values)
    for path in (out / "search.svg", plot):
        if path is not None:
            save_figure(path, figure)


def _words(design: dict[str, Any]) -> dict[str, str]:
    """Write metaparameters as ``train --set`` takes them, in one cell."""
    return {"metaparameters": " ".join(f"{key}={value}" for key, value in design["metaparameters"].items())}


def _print_search(values: dict[str, Any], out: Path) -> None:
    from squeezekit.report.scaling import search_table

    console = results()
    console.print(search_table(values))
    best = values["best"]
    near = [
        row
        for row in values["candidates"]
        if row != best
        and best["val_accuracy"] - row["val_accuracy"]
        <= (best["val_error"] ** 2 + row["val_error"] ** 2) ** 0.5
    ]
    constants = ", ".join(f"{name} = {best[name]:g}" for name in ("alpha", "beta", "gamma"))
    phi = 2 * values["settings"]["phi"]
    console.print(f"best: {constants}", style="green", highlight=False)
    if near:
        note(f"{len(near)} others are as good within the error: more --seeds or --epochs tell them apart")
    console.print(
        f"squeezekit scale build --search {shlex.quote(str(out))} --phi {phi:g}",
        markup=False,
        highlight=False,
    )
