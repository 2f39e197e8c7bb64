"""A run, as numbers and pictures for :mod:`squeezekit.report`."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from squeezekit.data.picture import decode
from squeezekit.data.source import PictureSet
from squeezekit.files import write_atomically
from squeezekit.report import plots
from squeezekit.report.html import RunReport, write_report
from squeezekit.report.prediction import Prediction
from squeezekit.report.sheet import save_prediction_sheet

if TYPE_CHECKING:
    from squeezekit.train.evaluate import Evaluation
    from squeezekit.train.fit import Run

__all__ = ["predictions", "write_page"]

#: Pictures on the page, of the mistakes and of the samples.
SHOWN = 24


def write_page(run: Run, pictures: PictureSet) -> None:
    """Write ``report.html`` and its plots into the run folder; nothing where there is no evaluation."""
    evaluation, plan = run.evaluation, run.plan
    if evaluation is None:
        return
    wrong = np.flatnonzero(~evaluation.correct)
    surest = wrong[np.argsort(-evaluation.confidence[wrong])][:SHOWN]
    # Evenly over the pictures, which lie class by class.
    samples = np.unique(np.linspace(0, evaluation.images - 1, min(SHOWN, evaluation.images)).astype(int))
    shown = list(predictions(evaluation, pictures, samples))
    report = RunReport(
        name=plan.model,
        classes=evaluation.classes,
        confusion=evaluation.confusion,
        data=plan.data,
        split=evaluation.split,
        history=run.history,
        confidence=evaluation.confidence,
        correct=evaluation.correct,
        top1=evaluation.top1,
        top5=evaluation.top5,
        calibration_error=evaluation.ece,
        parameters=plan.parameters,
        pictures=plan.pictures,
        seconds=run.seconds,
        mistakes=list(predictions(evaluation, pictures, surest)),
        samples=shown,
        configuration={
            k: v for k, v in plan.to_dict().items() if k not in ("asked", "classes", "broken", "pictures")
        },
        broken=run.broken or plan.broken,
        commands=(
            f"squeezekit predict {shlex.quote(str(run.out))} photo.jpg",
            f"squeezekit evaluate {shlex.quote(str(run.out))} {shlex.quote(plan.data)}",
        ),
        finished=datetime.now().strftime("%Y-%m-%d %H:%M"),
    )
    write_report(run.out / "report.html", report)
    for name, figure in (
        ("learning_curves.png", plots.learning_curves(run.history)),
        ("confusion_matrix.png", plots.confusion_matrix(evaluation.confusion, evaluation.classes)),
    ):
        with write_atomically(run.out / name) as temporary:
            temporary.write_bytes(plots.png(figure))
    save_prediction_sheet(run.out / "predictions.png", shown)


def predictions(evaluation: Evaluation, pictures: PictureSet, which: Iterable[int]) -> Iterable[Prediction]:
    """Yield evaluated pictures with their answers, each decoded when it is asked for."""
    for i in which:
        number = int(evaluation.index[i])
        name = pictures.picture_name(number)
        yield Prediction(
            name=name,
            top=[
                (evaluation.classes[c], float(p))
                for c, p in zip(evaluation.top[i], evaluation.top_probability[i], strict=True)
            ],
            truth=evaluation.classes[evaluation.labels[i]],
            image=decode(pictures.read(number), name),
        )
