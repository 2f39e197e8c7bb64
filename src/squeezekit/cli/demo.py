"""``squeezekit demo``: the whole journey on an embedded data set, in about a minute."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from squeezekit.cli._output import note, only_json, print_json, results
from squeezekit.errors import UserError

EXAMPLE = """\
squeezekit demo
squeezekit demo --out my-demo/
"""


def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Where the run goes; an earlier demo there is replaced.")
    ] = Path("demo"),
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the pictures.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train a small SqueezeNet on handwritten digits, evaluate it, predict a picture, leave a report.

    The pictures are scikit-learn's; nothing is downloaded.
    """
    from squeezekit.cli.evaluate import table
    from squeezekit.data.picture import decode
    from squeezekit.data.source import open_pictures
    from squeezekit.report.tables import class_table, predictions_table
    from squeezekit.train.fit import train
    from squeezekit.train.page import predictions

    run_folder = out / "run"
    if out.exists() and not (out / MARK).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: exists and is no earlier demo (name another --out)")
    if run_folder.exists():
        shutil.rmtree(run_folder)
    out.mkdir(parents=True, exist_ok=True)
    (out / MARK).write_text("made by squeezekit demo; its next run replaces what is here\n")

    with only_json(as_json):
        run = train(
            DATA, run_folder, metaparameters=NETWORK, augmentation="shift", epochs=epochs, batch_size=64
        )
        if run.evaluation is None or run.interrupted:
            raise KeyboardInterrupt
        pictures = open_pictures(DATA)
        number = int(run.evaluation.index[0])
        picture = out / "digit.png"
        decode(pictures.read(number), "digit").save(picture)
        (one,) = predictions(run.evaluation, pictures, [0])
    if as_json:
        print_json(run.to_dict())
        return
    console = results()
    console.print(table(str(run_folder), run.evaluation))
    console.print(class_table(run.evaluation.classes, run.evaluation.confusion))
    console.print(predictions_table([one]))
    note(f"report: {run_folder / 'report.html'} (open it in a browser)")
    note(f"next: squeezekit predict {run_folder} {picture}")


DATA = "digits"
MARK = ".squeezekit-demo"
#: The default network at a third of its width. Digits are not mirrored, so they are only shifted.
NETWORK = {"base_e": 32, "incr_e": 16, "conv1_channels": 32}
