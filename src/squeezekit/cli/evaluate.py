"""``squeezekit evaluate``: how good is a model on labelled pictures?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from squeezekit.cli._options import Classes, Mirror, Preparation, Weights
from squeezekit.cli._output import only_json, print_json, progress, results, warn

if TYPE_CHECKING:
    from rich.table import Table

    from squeezekit.train.evaluate import Evaluation

EXAMPLE = """\
squeezekit evaluate run/ photos/
squeezekit evaluate compressed_SqueezeNet.net imagenet-500/ --classes imagenet-classes.csv --json
"""


def evaluate(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A .sqz, run folder, weight file, or name with --weights.")
    ],
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="Image folder, .zip or .tar of one, shards, or 'digits'.")
    ],
    classes: Classes = None,
    against: Annotated[
        str | None, typer.Option(metavar="MODEL2", help="A second model, to compare answers.")
    ] = None,
    weights: Weights = None,
    preparation: Preparation = None,
    split: Annotated[str, typer.Option(help="auto, train, val, test or all.")] = "auto",
    mirror: Mirror = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures a step.")] = 32,
    workers: Annotated[int | None, typer.Option(min=0, help="Processes that read pictures.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON: images, top1, top5, agreement, …")
    ] = False,
) -> None:
    """Measure a model on labelled pictures: top-1, top-5, per class, calibration, speed.

    Folders are named as the model's classes; a part of the classes is enough. By default the pictures are
    the test split of DATA, or its val split, or all; if DATA is what the model was trained on, those that
    were held out. An int8 .sqz is computed in its own integers, by the engine.
    """
    from squeezekit.train.evaluate import evaluate as measure

    with only_json(as_json), progress("evaluating") as advance:
        result = measure(
            model,
            data,
            classes=classes,
            against=against,
            weights=weights,
            preparation=preparation,
            split=split,  # type: ignore[arg-type]
            mirror=mirror,
            batch_size=batch_size,
            workers="auto" if workers is None else workers,
            progress=advance,
        )
    if result.broken:
        warn(f"{len(result.broken)} pictures could not be read: {', '.join(result.broken[:5])}")
    if as_json:
        print_json({"model": model, "data": data, **result.to_dict()})
        return
    from squeezekit.report.tables import class_table

    console = results()
    console.print(table(model, result, against))
    console.print(class_table(result.classes, result.confusion))


def table(name: str, result: Evaluation, against: str | None = None) -> Table:
    """Return the headline figures as a table."""
    from squeezekit.report.tables import evaluation_table

    return evaluation_table(
        name=f"{name} on {result.pictures.name} ({result.split})",
        pictures=result.images,
        top1=result.top1,
        top5=result.top5 if len(result.classes) > 5 else None,
        calibration_error=result.ece,
        pictures_per_second=result.pictures_per_second,
        agreement=result.agreement,
        against=against,
        broken=len(result.broken),
    )
