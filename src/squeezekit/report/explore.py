"""A study of designs on one page: the Pareto front, what mattered, slices, the best with their commands."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from squeezekit.report.html import _card, _flattened, _plot, _section, _text, page
from squeezekit.report.plots import _figure, _magnitudes
from squeezekit.report.style import DARK, LIGHT, Palette, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Point", "StudyReport", "importance_plot", "pareto_plot", "render_study", "slices_plot"]

_MARKERS = ("o", "s", "^", "D", "v", "P")
_MOST_SLICES = 12


@dataclass(frozen=True)
class Point:
    """A design that was trained.

    Attributes
    ----------
    number : int
        Of its trial.
    model : str
    accuracy : float
        0 to 1.
    costs : dict of str to float
    stopped : bool
        Before the end.
    ahead : bool
        On the Pareto front.
    """

    number: int
    model: str
    accuracy: float
    costs: Mapping[str, float]
    stopped: bool
    ahead: bool


@dataclass(frozen=True)
class StudyReport:
    """Everything the page shows.

    Attributes
    ----------
    title, lead : str
    points : sequence of Point
    costs : dict of str to str
        Names of the costs to draw, and what they are.
    bounds : dict of str to float
        Drawn as lines.
    importance : dict of str to float
        Share of each parameter, 0 to 1.
    slices : dict of str to list of (value, accuracy)
    designs : sequence of mapping
        Rows of the table, already written out; ``"commands"`` holds lines for a shell.
    settings : mapping
    finished : str
    """

    title: str
    lead: str
    points: Sequence[Point]
    costs: Mapping[str, str]
    bounds: Mapping[str, float]
    importance: Mapping[str, float]
    slices: Mapping[str, Sequence[tuple[Any, float]]]
    designs: Sequence[Mapping[str, Any]]
    settings: Mapping[str, Any] = field(default_factory=dict)
    finished: str = ""


def pareto_plot(study: StudyReport, palette: Palette = LIGHT) -> Figure | None:
    """Plot accuracy against each cost, with the front; None without a design."""
    if not study.points:
        return None
    colours = (palette.validation, palette.average, palette.right, palette.rate)
    models = sorted({point.model for point in study.points})
    names = list(study.costs)
    columns = min(2, len(names))
    height = -(-len(names) // columns)
    with _figure(palette, 5.2 * columns, 3.9 * height) as figure:
        for axes, name in zip(figure.subplots(height, columns, squeeze=False).flat, names, strict=False):
            for i, model in enumerate(models):
                own = [p for p in study.points if p.model == model]
                stopped, whole = [p for p in own if p.stopped], [p for p in own if not p.stopped]
                _scatter(axes, stopped, name, palette.train, _MARKERS[i % 6], "stopped early", hollow=True)
                _scatter(axes, whole, name, colours[i % 4], _MARKERS[i % 6], model)
            steps = _staircase([p for p in study.points if not p.stopped], name)
            axes.plot([x for x, _ in steps], [100 * y for _, y in steps], color=palette.text, linewidth=1.2)
            if name in study.bounds:
                axes.axvline(
                    study.bounds[name], color=palette.wrong, linewidth=1, linestyle="--", label="budget"
                )
            _ticks(axes)
            axes.set_xlabel(f"{name}: {study.costs[name]}{', seconds' if name == 'latency' else ''}")
            axes.set_ylabel("val accuracy, %")
        for axes in figure.axes[len(names) :]:
            axes.remove()
        handles = {
            label: handle
            for axes in figure.axes
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        # Below the plots: inside there is no place that is free in every study.
        figure.legend(
            list(handles.values()), list(handles), frameon=False, loc="outside lower center", ncols=4
        )
    return figure


def _ticks(axes: Axes) -> None:
    """Number a logarithmic axis: by 1, 2 and 5, or evenly where those leave fewer than two in its range."""
    from matplotlib.ticker import MaxNLocator

    _magnitudes(axes)
    low, high = axes.get_xlim()
    if sum(low <= tick <= high for tick in axes.get_xticks()) < 2:
        axes.xaxis.set_major_locator(MaxNLocator(4, min_n_ticks=2))


def _scatter(
    axes: Axes,
    points: Sequence[Point],
    name: str,
    colour: str,
    marker: str,
    label: str,
    hollow: bool = False,
) -> None:
    shown = [p for p in points if name in p.costs]
    if not shown:
        return
    axes.scatter(
        [p.costs[name] for p in shown],
        [100 * p.accuracy for p in shown],
        s=[46 if p.ahead else 20 for p in shown],
        facecolors="none" if hollow else colour,
        edgecolors=colour,
        marker=marker,
        label=label,
        linewidths=1 if hollow else 0,
    )


def _staircase(points: Sequence[Point], name: str) -> list[tuple[float, float]]:
    """Return the corners of the front against one cost."""
    corners: list[tuple[float, float]] = []
    best = -math.inf
    for point in sorted((p for p in points if name in p.costs), key=lambda p: (p.costs[name], -p.accuracy)):
        if point.accuracy > best:
            corners.append((point.costs[name], point.accuracy))
            best = point.accuracy
    return corners


def importance_plot(study: StudyReport, palette: Palette = LIGHT) -> Figure | None:
    """Plot what share of the accuracy's variation each parameter explains; None where it is not known."""
    if not study.importance:
        return None
    rows = sorted(study.importance.items(), key=lambda item: item[1])
    with _figure(palette, 6.4, 0.9 + 0.32 * len(rows)) as figure:
        axes = figure.subplots()
        axes.barh([name for name, _ in rows], [100 * share for _, share in rows], color=palette.validation)
        axes.set_xlabel("share of the variation of accuracy, %")
        axes.grid(visible=False, axis="y")
    return figure


def slices_plot(study: StudyReport, palette: Palette = LIGHT) -> Figure | None:
    """Plot accuracy against each parameter, the most important first; None where nothing varied."""
    share = study.importance
    names = sorted(study.slices, key=lambda n: -share.get(n.partition(".")[2], 0.0))[:_MOST_SLICES]
    if not names:
        return None
    columns = min(4, len(names))
    height = -(-len(names) // columns)
    with _figure(palette, 2.9 * columns, 2.5 * height) as figure:
        grid = figure.subplots(height, columns, squeeze=False, sharey=True)
        for axes, name in zip(grid.flat, names, strict=False):
            points = study.slices[name]
            if any(isinstance(value, (str, bool)) for value, _ in points):
                points = sorted((str(value), accuracy) for value, accuracy in points)
            xs, ys = [value for value, _ in points], [100 * accuracy for _, accuracy in points]
            axes.scatter(xs, ys, s=14, color=palette.validation, linewidths=0)
            axes.set_xlabel(name)
        for row in grid:
            row[0].set_ylabel("val accuracy, %")
        for axes in list(grid.flat)[len(names) :]:
            axes.remove()
    return figure


def render_study(study: StudyReport) -> str:
    """Give the page."""
    return page(
        study.title,
        "".join(
            [
                _headline(study),
                _picture(study, "front", "Pareto front", pareto_plot, _FRONT),
                _designs(study),
                _picture(study, "importance", "What mattered", importance_plot, _IMPORTANCE),
                _picture(
                    study, "slices", "Slices", slices_plot, "Each parameter alone, whatever the others."
                ),
                _settings(study),
            ]
        ),
        study.finished,
    )


_FRONT = (
    "A point is a design after a short training, on the pictures that choose; hollow ones were stopped "
    "early. The line joins those that nothing smaller beats, large points are on the front of all costs "
    "asked for, the dashed line is the budget."
)
_IMPORTANCE = "The share of the variation of accuracy that each parameter explains (fANOVA)."
#: Long lines for a shell would make the table wider than the page, and push its numbers out of sight.
_WRAPPED = "white-space:pre-wrap;overflow-wrap:anywhere"


def _headline(study: StudyReport) -> str:
    whole = [p for p in study.points if not p.stopped]
    best = max((p.accuracy for p in whole), default=None)
    cards = [
        _card("designs", f"{len(study.points):,}", f"{len(study.points) - len(whole):,} stopped early"),
        _card("best, val", percent(best), "after a short training"),
        _card("on the front", f"{sum(p.ahead for p in study.points):,}", ""),
    ]
    return f"""<header>
<p class="eyebrow">squeezekit explore</p>
<h1>{_text(study.title)}</h1>
<p class="lead">{_text(study.lead)}</p>
</header>
<section id="numbers" class="cards" aria-label="Headline numbers">{"".join(cards)}</section>
"""


def _picture(
    study: StudyReport,
    name: str,
    title: str,
    draw: Callable[[StudyReport, Palette], Figure | None],
    note: str,
) -> str:
    light, dark = draw(study, LIGHT), draw(study, DARK)
    if light is None or dark is None:
        return _section(name, title, '<p class="muted">Too few designs to tell.</p>')
    return _section(name, title, _plot(light, dark, title), note)


def _designs(study: StudyReport) -> str:
    if not study.designs:
        return _section("designs", "Best designs", '<p class="muted">None has been trained yet.</p>')
    names = [name for name in study.designs[0] if name not in ("design", "metaparameters", "commands")]
    head = "".join(f'<th class="number">{_text(name)}</th>' for name in names)
    body = []
    for row in study.designs:
        cells = "".join(f'<td class="number">{_text(row.get(name, ""))}</td>' for name in names)
        lines = "\n".join(_text(line) for line in row["commands"])
        meta = f'<span class="muted">{_text(row["metaparameters"])}</span>'
        body.append(
            f"<tr>{cells}<td>{_text(row['design'])}</td></tr>"
            f'<tr><td colspan="{len(names) + 1}">{meta}<pre style="{_WRAPPED}"><code>{lines}</code></pre>'
            "</td></tr>"
        )
    table = (
        '<div class="scroll" tabindex="0"><table>'
        f"<thead><tr>{head}<th>design</th></tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )
    note = (
        "The best first; then what else is on the front. Bytes are an estimate of the .sqz. Each with the "
        "commands that train it in full, on all pictures, and compress it."
    )
    return _section("designs", "Best designs", table, note)


def _settings(study: StudyReport) -> str:
    rows = "".join(
        f"<tr><th>{_text(key)}</th><td>{_text(value)}</td></tr>" for key, value in _flattened(study.settings)
    )
    body = f'<div class="scroll" tabindex="0"><table class="settings"><tbody>{rows}</tbody></table></div>'
    return _section("settings", "Settings", body)
