"""``squeezekit train``: from a folder of pictures to a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from squeezekit.cli._options import metaparameters
from squeezekit.cli._output import note, only_json, print_json, results

EXAMPLE = """\
squeezekit train photos/ --out run/
squeezekit train photos.zip --out run/ --model mobilenet_v2 --set width_mult=0.5 --epochs 30
squeezekit train ants-bees/ --out run/ --weights compressed_SqueezeNet.net
squeezekit train photos/ --out run/ --resume
"""


def train(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="Image folder, .zip or .tar of one, shards, or 'digits'.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The run folder; made here.")],
    model: Annotated[
        str | None, typer.Option(help="Network (squeezekit models). Default: a SqueezeNet.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A metaparameter of the network; repeatable."),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="modern (from scratch), quick (fewer epochs, for vgg), "
            "finetune (with weights) or squeezenet (the authors')."
        ),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Start from this file, or 'imagenet' (downloads).")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the pictures.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Pictures a step, of all processes together.")
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    seed: Annotated[int, typer.Option(help="Of split, initial weights, order and augmentation.")] = 0,
    size: Annotated[int | None, typer.Option(help="Side of the network's input in pixels.")] = None,
    augmentation: Annotated[
        str | None, typer.Option(help="none, shift, light, cutout, medium or strong.")
    ] = None,
    val_fraction: Annotated[
        float | None,
        typer.Option(help="Share that chooses the best epoch. Default: 0.1, at most 2,000 pictures."),
    ] = None,
    test_fraction: Annotated[
        float, typer.Option(help="Share for the final figures, if DATA has no such split.")
    ] = 0.2,
    class_weights: Annotated[str, typer.Option(help="auto, none or balanced.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, bf16 or float32.")] = "auto",
    devices: Annotated[int, typer.Option(help="Processes on each machine.")] = 1,
    nodes: Annotated[
        int, typer.Option(help="Machines; start the same command on each, or use torchrun.")
    ] = 1,
    gradient_compression: Annotated[
        str, typer.Option(help="Between processes: none, fp16 or powersgd.")
    ] = "none",
    workers: Annotated[
        int | None, typer.Option(help="Processes that read pictures. Default: by the machine.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train a network on a folder of labelled pictures.

    Leaves a run folder with the best weights, the curves and report.html. A run that was stopped goes on
    with --resume.
    """
    asked: dict[str, Any] = {
        "model": model,
        "metaparameters": metaparameters(set_),
        "recipe": recipe,
        "weights": weights,
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "seed": seed,
        "size": size,
        "augmentation": augmentation,
        "val_fraction": val_fraction,
        "test_fraction": test_fraction,
        "class_weights": class_weights,
        "device": device,
        "precision": precision,
        "devices": devices,
        "nodes": nodes,
        "gradient_compression": gradient_compression,
        "workers": workers,
    }
    from squeezekit.train.fit import train as fit

    with only_json(as_json):
        run = fit(data, out, resume=resume, **asked)
    if run.worker:  # one of several processes: the first one speaks for all
        return
    if as_json:
        print_json(run.to_dict())
    elif run.evaluation is not None:
        from squeezekit.cli.evaluate import table

        results().print(table(str(out), run.evaluation))
        note(f"report: {out / 'report.html'}")
    if run.interrupted:
        note(f"interrupted after {len(run.history)} of {run.plan.epochs} epochs (--resume goes on)")
        raise typer.Exit(130)
