"""A study, as numbers and words for :mod:`squeezekit.report`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from squeezekit.explore.budget import METRICS, written
from squeezekit.explore.results import COSTS, Results, Row, commands
from squeezekit.files import write_atomically
from squeezekit.report import explore as report
from squeezekit.report.plots import png

if TYPE_CHECKING:
    from squeezekit.explore.search import Settings

__all__ = ["write_page"]

#: Designs in the table.
SHOWN = 10


def write_page(out: Path, results: Results, data: str, settings: Settings) -> None:
    """Write ``report.html``, its pictures and ``study.csv`` into the study folder."""
    results.write_csv(out / "study.csv")
    shown = list({row.number: row for row in (*results.ranked[:SHOWN], *results.front)}.values())
    ahead = {row.number for row in results.front}
    costs = [name for name in COSTS if name != "parameters" and any(name in r.costs for r in results.rows)]
    study = report.StudyReport(
        title=f"{settings.space} on {data}",
        lead=f"{settings.objective} under {results.budget}",
        points=[
            report.Point(
                number=row.number,
                model=row.design.model,
                accuracy=row.accuracy,
                costs={name: row.costs[name] for name in costs if name in row.costs},
                stopped=row.stopped or row.error is not None,
                ahead=row.number in ahead,
            )
            for row in results.rows
        ],
        costs={name: METRICS[name] for name in costs},
        bounds=dict(results.budget.asked.bounds),
        importance=results.importance(),
        slices=_slices(results),
        designs=[_design(row, data, out, settings, results) for row in shown],
        settings=asdict(settings),
        finished=datetime.now().strftime("%Y-%m-%d %H:%M"),
    )
    for name, figure in (
        ("pareto.png", report.pareto_plot(study)),
        ("importance.png", report.importance_plot(study)),
        ("slices.png", report.slices_plot(study)),
    ):
        if figure is not None:
            with write_atomically(out / name) as temporary:
                temporary.write_bytes(png(figure))
    with write_atomically(out / "report.html") as temporary:
        temporary.write_text(report.render_study(study), encoding="utf-8")


def _slices(results: Results) -> dict[str, list[tuple[Any, float]]]:
    """For each parameter, what it was and how accurate that design became."""
    found: dict[str, list[tuple[Any, float]]] = {}
    for row in results.whole:
        for name, value in row.parameters.items():
            found.setdefault(name, []).append((value, row.accuracy))
    return {name: points for name, points in found.items() if len({str(v) for v, _ in points}) > 1}


def _design(
    row: Row, data: str, out: Path, settings: Settings, results: Results
) -> Mapping[str, str | tuple[str, ...]]:
    meta = ", ".join(f"{key}={value}" for key, value in row.design.metaparameters)
    return {
        "trial": str(row.number),
        "design": f"{row.design.model} at {row.design.size} px",
        "metaparameters": meta,
        "val": f"{row.accuracy:.1%}",
        **{name: written(name, row.costs[name]) for name in COSTS if name in row.costs},
        "commands": commands(row, data, out, settings.seed, results.budget),
    }
