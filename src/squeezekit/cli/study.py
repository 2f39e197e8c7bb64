"""``squeezekit study``: the papers' studies, on any pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from squeezekit.cli._output import goes_on, note, only_json, print_json, results

EXAMPLE = """\
squeezekit study squeeze-ratio photos/ --quick --out studies/squeeze-ratio
squeezekit study strategies photos/ --out studies/strategies --seeds 5
squeezekit study compression photos/ --model run/ --out studies/compression
"""


def study(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="squeeze-ratio, pct-3x3, bypass, strategies, scaling, multipliers or compression.",
        ),
    ],
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="Image folder, .zip or .tar of one, or 'digits'.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The study's folder; made here.")],
    quick: Annotated[
        bool, typer.Option("--quick", help="Small networks, 32 pixels, 3,000 pictures: minutes on two cores.")
    ] = False,
    seeds: Annotated[int, typer.Option(help="Trainings of each network, for error bars.")] = 3,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the pictures. Default: as train, or by --quick.")
    ] = None,
    pictures: Annotated[
        int | None, typer.Option(help="Train with so many, dealt fairly over the classes.")
    ] = None,
    size: Annotated[int | None, typer.Option(help="Side of the pictures in pixels.")] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="compression: a run folder or weight file, in place of training."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, bf16 or float32.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Repeat a study of the SqueezeNet, MobileNet or EfficientNet paper on your own pictures.

    Networks that differ in one thing are trained alike from several seeds, measured on pictures kept aside,
    and held against what the paper claims. Leaves table, figure and text in --out. A study that was stopped
    goes on when the same command is given again; more --seeds may be asked for later.
    """
    from squeezekit.explore.studies.run import StudyOptions, run_study

    options = StudyOptions(quick, seeds, epochs, pictures, size, model, device, precision)
    with only_json(as_json), goes_on(out / "study.json"):
        result = run_study(name, data, out, options)
    if as_json:
        print_json(result)
        return
    from squeezekit.report.studies import study_table, verdicts_text

    console = results()
    console.print(study_table(result))
    for line in verdicts_text(result):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    note(f"table, figure and text: {out / 'study.md'}")
