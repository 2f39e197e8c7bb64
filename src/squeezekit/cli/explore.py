"""``squeezekit explore``: which network is best for these pictures and this budget?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from squeezekit.cli._output import note, only_json, print_json, results
from squeezekit.errors import UserError

if TYPE_CHECKING:
    from squeezekit.explore.explore import Exploration

EXAMPLE = """\
squeezekit explore photos/ --out study/ --budget "bytes<=250k,macs<=50M,ram<=256k" --minutes 60
squeezekit explore photos/ --out study/ --space all --objective accuracy,bytes --trials 100
squeezekit explore photos/ --out study/ --quick --retrain best
squeezekit explore photos/ --out study/ --trials 500 --storage postgresql://me@host/studies
"""


def explore(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="Image folder, .zip or .tar of one, or 'digits'.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The study folder; one that is there goes on.")],
    space: Annotated[str, typer.Option(help="squeezenet, mobilenet, efficientnet or all.")] = "squeezenet",
    budget: Annotated[
        str,
        typer.Option(help="Bounds on bytes, parameters, macs, ram, latency: 'bytes<=250k,macs<=50M'."),
    ] = "",
    objective: Annotated[
        str,
        typer.Option(
            help="accuracy; accuracy with costs, as accuracy,bytes; or mnasnet: ACC·(MACs/T)^-0.07."
        ),
    ] = "accuracy",
    target_macs: Annotated[
        str | None, typer.Option(metavar="T", help="T of mnasnet, as 50M. Default: the bound on macs.")
    ] = None,
    trials: Annotated[
        int | None, typer.Option(help="Designs of the whole study. Default: 60, unless --minutes is given.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Time of this process.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="12 trials of 3 epochs with 2,000 pictures: minutes.")
    ] = False,
    pictures: Annotated[int | None, typer.Option(help="That train a trial. Default: 10,000.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Of a trial. Default: 8.")] = None,
    size: Annotated[int | None, typer.Option(help="Side of the pictures in pixels.")] = None,
    bits: Annotated[
        float, typer.Option(help="A weight's in the file, to estimate bytes. Fewer allow larger networks.")
    ] = 2.5,
    seed: Annotated[int, typer.Option(help="Of split, proposals and trainings.")] = 0,
    sampler: Annotated[str, typer.Option(help="tpe, nsgaii or random.")] = "tpe",
    halving: Annotated[
        bool, typer.Option("--halving/--no-halving", help="Stop designs that fall behind early.")
    ] = True,
    storage: Annotated[
        str | None,
        typer.Option(metavar="URL", help="A database for many machines. Default: study.db in the folder."),
    ] = None,
    study: Annotated[str, typer.Option(help="Name of the study in its storage.")] = "explore",
    heartbeat: Annotated[
        int, typer.Option(help="Seconds between a worker's signs of life; after three others take over.")
    ] = 20,
    retrain: Annotated[
        str | None,
        typer.Option(metavar="WHICH", help="Then train this design in full: best, or a trial's number."),
    ] = None,
    retrain_epochs: Annotated[int | None, typer.Option(help="Of that. Default: the recipe's.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, bf16 or float32.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Search for the network that suits these pictures and this budget.

    Designs that break the budget are never trained. Leaves report.html with the Pareto front and the command
    for each of the best designs, and study.csv. Stopped at any moment, the same command goes on; started on
    many machines with one --storage, they share the work.
    """
    from squeezekit.explore.explore import explore as search
    from squeezekit.explore.explore import retrain as train_in_full
    from squeezekit.graph.cost import parse_size

    if retrain is not None and retrain != "best" and not retrain.isdecimal():  # told before the search
        raise UserError(f"--retrain {retrain}: expected best, or a trial's number")
    expected = "(expected a number such as 50M)"
    target = (
        None if target_macs is None else parse_size(target_macs, f"--target-macs {target_macs}", expected)
    )
    told: dict[str, Any]
    with only_json(as_json):
        done = search(
            data,
            out,
            space=space,
            budget=budget,
            objective=objective,
            target_macs=target,
            trials=trials,
            minutes=minutes,
            quick=quick,
            pictures=pictures,
            epochs=epochs,
            size=size,
            bits=bits,
            seed=seed,
            sampler=sampler,
            halving=halving,
            storage=storage,
            study=study,
            heartbeat=heartbeat,
            device=device,
            precision=precision,
        )
        told = done.to_dict()
        if not as_json:
            _print(done)
        if retrain is not None and not done.interrupted:
            run = train_in_full(done, retrain, epochs=retrain_epochs, device=device, precision=precision)
            told["retrained"] = run.to_dict()
            note(f"trained: {run.out} (report: {run.out / 'report.html'})")
    if as_json:
        print_json(told)
    if done.interrupted:
        note("interrupted; the same command goes on")
        raise typer.Exit(130)


def _print(done: Exploration) -> None:
    from rich.table import Table

    from squeezekit.explore.budget import written
    from squeezekit.explore.results import COSTS, commands

    ranked = done.results.ranked[:5]
    if not ranked:
        note("no design has been trained to the end yet")
        return
    costs = [name for name in COSTS if name in ranked[0].costs]
    table = Table(title=f"best designs under {done.results.budget}")
    for name in ("trial", "network", "px", "val", *costs):
        table.add_column(name, justify="left" if name == "network" else "right")
    for row in ranked:
        numbers = (written(name, row.costs[name]) for name in costs)
        design = row.design
        table.add_row(str(row.number), design.model, str(design.size), f"{row.accuracy:.1%}", *numbers)
    console = results()
    console.print(table)
    console.print(
        "val is after a short training, on pictures that choose. The best in full:", highlight=False
    )
    for line in commands(ranked[0], done.data, done.out, done.settings.seed, done.results.budget):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    note(f"report: {done.out / 'report.html'}")
