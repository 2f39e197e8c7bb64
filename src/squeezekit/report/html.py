"""A run on one page: `report.html`, one file that needs no network, no script and no other file.

Plots are PNG and pictures JPEG or PNG, both inside the page as ``data:`` addresses; plots exist in a light
and a dark edition and the reader's browser takes the fitting one. Class and file names are untrusted: every
text goes through `_text`, and a content security policy forbids the page to run or load anything.
"""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from squeezekit.files import write_atomically
from squeezekit.report import plots
from squeezekit.report.numbers import (
    answered,
    checked_confusion,
    confused_pairs,
    per_class,
    reliability,
    wilson_interval,
)
from squeezekit.report.prediction import Picture, Prediction, as_image, thumbnail
from squeezekit.report.style import DARK, LIGHT, Palette, duration, percent, plain, shortened, size

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_PICTURES = 24  # in each gallery
MOST_PAIRS = 10
MOST_BROKEN = 200
_THUMBNAIL = 224  # pixels of the longer side; shown at half of it, sharp on dense screens


@dataclass(frozen=True)
class RunReport:
    """Everything a report shows. Only `name`, `classes` and `confusion` are needed; the rest may be left out.

    Attributes
    ----------
    name
        The network, e.g. ``squeezenet1_1``.
    classes
        K class names, in the order of the network's outputs.
    confusion
        Counts ``[truth, prediction]`` on the evaluated pictures, shape (K, K).
    data
        What it was trained on, e.g. the folder's name.
    split
        Which pictures were evaluated: ``val`` or ``test``.
    history
        One mapping an epoch; the keys are those of `plots.learning_curves`.
    confidence, correct
        Probability of the predicted class and whether it was right, for N evaluated pictures, shape (N,):
        for the calibration plot.
    top1, top5
        Shares from 0 to 1 on the evaluated pictures. `top1` None: taken from `confusion`.
    calibration_error
        From 0 to 1. None: computed from `confidence` and `correct`.
    parameters
        How many numbers the network has.
    size_bytes
        Size as float32. None: four bytes a parameter.
    pictures
        How many pictures each split has: ``{"train": 1650, "val": 206, "test": 206}``.
    seconds
        How long the training took.
    mistakes
        Wrong predictions with images, any order: shown with the most confident first, at most 24.
    samples
        Predictions with images, shown in this order, at most 24.
    configuration
        Settings of the run; mappings may nest.
    broken
        Pictures that could not be read, each ``name`` or ``name: reason``.
    broken_count
        How many there were when `broken` lists only the first. None: its length.
    commands
        What to do next, one command line each.
    finished
        When the run ended, as it shall be written.
    """

    name: str
    classes: Sequence[str]
    confusion: ArrayLike
    data: str = ""
    split: str = "val"
    history: plots.History = ()
    confidence: ArrayLike | None = None
    correct: ArrayLike | None = None
    top1: float | None = None
    top5: float | None = None
    calibration_error: float | None = None
    parameters: int | None = None
    size_bytes: int | None = None
    pictures: Mapping[str, int] = field(default_factory=dict)
    seconds: float | None = None
    mistakes: Sequence[Prediction] = ()
    samples: Sequence[Prediction] = ()
    configuration: Mapping[str, Any] = field(default_factory=dict)
    broken: Sequence[str] = ()
    broken_count: int | None = None
    commands: Sequence[str] = ("squeezekit predict run/ photo.jpg",)
    finished: str = ""


def write_report(path: str | Path, run: RunReport) -> None:
    """Write the page of `run` to `path`, atomically.

    Raises
    ------
    ValueError
        When the numbers do not fit each other, e.g. a confusion matrix of another size than the class names.
    OSError
        When `path` cannot be written.
    """
    page = render_report(run).encode("utf-8")
    with write_atomically(path) as unfinished:
        unfinished.write_bytes(page)


def render_report(run: RunReport) -> str:
    """Give the page itself."""
    sections = [
        _headline(run),
        _curves(run),
        _confusion(run),
        _calibration(run),
        _classes(run),
        _mistakes(run),
        _samples(run),
        _configuration(run),
        _broken(run),
        _next(run),
    ]
    return page(f"{run.name} on {run.data}" if run.data else run.name, "".join(sections), run.finished)


def page(title: str, body: str, finished: str = "") -> str:
    """Put sections into a page that needs, and may load, nothing else.

    Parameters
    ----------
    title
        As text.
    body
        As HTML: what comes of other people went through `_text`.
    finished
        When it was made, as it shall be written.
    """
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark">
<title>{_text(title)}</title>
<style>{_style()}</style>
</head>
<body>
<main>
{body}
<footer>Made by squeezekit{f", {_text(finished)}" if finished else ""}.</footer>
</main>
</body>
</html>
"""


# --- the sections, from top to bottom ----------------------------------------------------------------------


def _headline(run: RunReport) -> str:
    counts = checked_confusion(run.confusion, len(run.classes))
    total, right = int(counts.sum()), int(np.trace(counts))
    top1 = run.top1 if run.top1 is not None else (right / total if total else math.nan)
    low, high = wilson_interval(round(top1 * total) if total else 0, total)
    error = run.calibration_error
    if error is None and run.confidence is not None and run.correct is not None:
        error = reliability(run.confidence, run.correct).expected_calibration_error
    size_bytes = run.size_bytes
    if size_bytes is None and run.parameters is not None:
        size_bytes = 4 * run.parameters
    pictures = int(sum(run.pictures.values())) or total
    parts = ", ".join(f"{count:,} {name}" for name, count in run.pictures.items())

    cards = [
        _card("top-1", percent(top1), f"{100 * low:.1f} to {percent(high)} (95 % sure)" if total else "")
    ]
    if run.top5 is not None and len(run.classes) > 5:
        cards.append(_card("top-5", percent(run.top5), "truth among the best five"))
    if error is not None:
        cards.append(_card("calibration error", percent(error), "confidence against accuracy (ECE)"))
    if run.parameters is not None:
        cards.append(_card("parameters", f"{run.parameters:,}", ""))
    if size_bytes is not None:
        cards.append(_card("size, float32", size(size_bytes), "before compression"))
    cards.append(_card("pictures", f"{pictures:,}", parts))
    if run.seconds is not None:
        cards.append(_card("training", duration(run.seconds), _epochs(run.history)))
    where = f" on {_text(run.data)}" if run.data else ""
    return f"""<header>
<p class="eyebrow">squeezekit</p>
<h1>{_text(run.name)}{where}</h1>
<p class="lead">Right on <b>{right:,} of {total:,}</b> pictures of the {_text(run.split)} split,
{len(run.classes):,} classes.</p>
</header>
<section id="numbers" class="cards" aria-label="Headline numbers">{"".join(cards)}</section>
"""


def _epochs(history: plots.History) -> str:
    return "" if not history else f"{len(history)} epoch{'s' if len(history) != 1 else ''}"


def _card(label: str, value: str, note: str) -> str:
    return (
        f'<div class="card"><div class="label">{_text(label)}</div><div class="value">{_text(value)}</div>'
        f'<div class="note">{_text(note)}</div></div>'
    )


def _curves(run: RunReport) -> str:
    if not run.history:
        return _section("curves", "Learning curves", '<p class="muted">This run kept no history.</p>')
    light = plots.learning_curve_panels(run.history, LIGHT)
    dark = plots.learning_curve_panels(run.history, DARK)
    figures = "".join(_plot(light[panel], dark[panel], f"{panel} over the epochs") for panel in light)
    return _section("curves", "Learning curves", f'<div class="plots">{figures}</div>')


def _confusion(run: RunReport) -> str:
    light, dark = (plots.confusion_matrix(run.confusion, run.classes, palette) for palette in (LIGHT, DARK))
    wide = "" if len(run.classes) <= 12 else " wide"
    picture = f'<div class="matrix{wide}">{_plot(light, dark, "confusion matrix")}</div>'
    pairs = confused_pairs(run.confusion, MOST_PAIRS)
    most = max((count for _, _, count in pairs), default=1)
    rows = "".join(
        f"<tr><td>{_text(shortened(run.classes[truth], 40))}</td>"
        f"<td>{_text(shortened(run.classes[other], 40))}</td>"
        f'<td class="number">{count:,}</td><td class="meter">{_meter(count / most, "wrong")}</td></tr>'
        for truth, other, count in pairs
    )
    table = (
        "<h3>Most often confused</h3>"
        "<table><thead><tr><th>truth</th><th>taken for</th>"
        '<th class="number">times</th><th></th></tr></thead>'
        f"<tbody>{rows}</tbody></table>"
        if pairs
        else '<p class="muted">No picture was mistaken.</p>'
    )
    note = (
        "Rows are the truth, columns the prediction. Blue is right, vermilion mistaken; "
        "the deeper, the larger the share."
    )
    return _section(
        "confusion", "Confusion matrix", f'<div class="beside">{picture}<div>{table}</div></div>', note
    )


def _calibration(run: RunReport) -> str:
    if run.confidence is None or run.correct is None:
        return ""
    light, dark = (plots.reliability_diagram(run.confidence, run.correct, palette=p) for p in (LIGHT, DARK))
    note = "When the network says 80 %, is it right four times in five? Yes, where bars meet the dashed line."
    rows = "".join(
        f'<tr><td class="number">{percent(row.threshold, 0)}</td><td class="number">{percent(row.share)}</td>'
        f'<td class="number">{percent(row.accuracy)}</td>'
        f'<td class="meter">{_meter(row.accuracy, "accent")}</td></tr>'
        for row in answered(run.confidence, run.correct)
    )
    table = (
        "<h3>If it only answers when sure</h3><table><thead><tr>"
        '<th class="number">sure at least</th><th class="number">answered</th>'
        f'<th class="number">right</th><th></th></tr></thead><tbody>{rows}</tbody></table>'
    )
    plot = f'<div class="matrix">{_plot(light, dark, "reliability diagram")}</div>'
    body = f'<div class="beside">{plot}<div>{table}</div></div>'
    return _section("calibration", "Confidence", body, note)


def _classes(run: RunReport) -> str:
    figures = per_class(run.confusion)
    taken_for: dict[int, tuple[int, int]] = {}
    for truth, other, count in confused_pairs(run.confusion, len(run.classes) ** 2):
        taken_for.setdefault(truth, (other, count))
    rows = []
    for i in map(int, figures.worst_first()):
        mistake = taken_for.get(i)
        taken = f"{_text(shortened(run.classes[mistake[0]], 40))} ({mistake[1]:,})" if mistake else ""
        recall = float(figures.recall[i])
        meter = _meter(recall, "accent") if math.isfinite(recall) else ""
        rows.append(
            f'<tr><td>{_text(shortened(run.classes[i], 60))}</td><td class="number">{percent(recall)}</td>'
            f'<td class="meter">{meter}</td><td class="number">{percent(float(figures.precision[i]))}</td>'
            f'<td class="number">{percent(float(figures.f1[i]))}</td>'
            f'<td class="number">{figures.support[i]:,}</td><td class="muted">{taken}</td></tr>'
        )
    body = (
        '<div class="scroll" tabindex="0"><table><thead><tr>'
        '<th>class</th><th class="number">recall</th><th></th>'
        '<th class="number">precision</th><th class="number">F1</th><th class="number">pictures</th>'
        f"<th>most often taken for</th></tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )
    return _section("classes", "Classes", body, "The worst recall first.")


def _mistakes(run: RunReport) -> str:
    shown = sorted((m for m in run.mistakes if m.image is not None), key=lambda m: -m.confidence)[
        :MOST_PICTURES
    ]
    if not shown:
        return _section("mistakes", "Most confused pictures", '<p class="muted">No mistakes to show.</p>')
    cards = "".join(_tile(item, bars=0) for item in shown)
    note = (
        "The mistakes it was surest of, truth above, answer below: "
        "hard pictures, wrong labels, or a gap in the data."
    )
    return _section("mistakes", "Most confused pictures", f'<div class="gallery">{cards}</div>', note)


def _samples(run: RunReport) -> str:
    shown = [sample for sample in run.samples if sample.image is not None][:MOST_PICTURES]
    if not shown:
        return _section("samples", "Sample predictions", '<p class="muted">No samples to show.</p>')
    cards = "".join(_tile(item, bars=3) for item in shown)
    return _section("samples", "Sample predictions", f'<div class="gallery">{cards}</div>')


def _configuration(run: RunReport) -> str:
    rows = "".join(
        f"<tr><th>{_text(key)}</th><td>{_text(value)}</td></tr>"
        for key, value in _flattened(run.configuration)
    )
    body = f'<div class="scroll" tabindex="0"><table class="settings"><tbody>{rows}</tbody></table></div>'
    if not rows:
        body = '<p class="muted">No settings recorded.</p>'
    return _section("configuration", "Configuration", body)


def _broken(run: RunReport) -> str:
    count = run.broken_count if run.broken_count is not None else len(run.broken)
    if not count:
        return _section("broken", "Broken pictures", '<p class="muted">Every picture could be read.</p>')
    shown = list(run.broken[:MOST_BROKEN])
    lines = "".join(f"<li>{_text(shortened(name, 300))}</li>" for name in shown)
    more = f"<li>and {count - len(shown):,} more</li>" if count > len(shown) else ""
    note = f"{count:,} could not be read and {'was' if count == 1 else 'were'} left out."
    body = f'<div class="scroll" tabindex="0"><ul class="names">{lines}{more}</ul></div>'
    return _section("broken", "Broken pictures", body, note)


def _next(run: RunReport) -> str:
    lines = "\n".join(_text(command) for command in run.commands)
    return _section("next", "Go on", f'<pre tabindex="0"><code>{lines}</code></pre>')


# --- parts -------------------------------------------------------------------------------------------------


def _section(name: str, title: str, body: str, note: str = "") -> str:
    below = f'<p class="muted">{_text(note)}</p>' if note else ""
    return f'<section id="{name}">\n<h2>{_text(title)}</h2>{below}\n{body}\n</section>\n'


def _text(value: object) -> str:
    """Make any text safe between tags and in quoted attributes: escaped, no controls, valid UTF-8."""
    return html.escape(plain(str(value)), quote=True)


def _meter(share: float, kind: str) -> str:
    width = 100 * min(1.0, max(0.0, share)) if math.isfinite(share) else 0.0
    return f'<span class="track"><span class="{kind}" style="width:{width:.1f}%"></span></span>'


def _plot(light: Figure, dark: Figure, description: str) -> str:
    width, height = light.get_size_inches() * 100
    return (
        f'<picture class="plot" style="max-width:{width:.0f}px">'
        f'<source media="(prefers-color-scheme: dark)" srcset="{_data(plots.png(dark))}">'
        f'<img src="{_data(plots.png(light))}" width="{width:.0f}" height="{height:.0f}" '
        f'alt="{_text(description)}"></picture>'
    )


def _tile(item: Prediction, bars: int) -> str:
    """Show a picture and what was said about it: truth and prediction, or its best classes as bars."""
    assert item.image is not None
    mark = {None: "", True: '<span class="right">✓</span> ', False: '<span class="wrong">✗</span> '}[
        item.right
    ]
    name = _text(shortened(item.name, 80))
    if bars:
        lines = "".join(
            f'<div class="guess{" best" if rank == 0 else ""}">'
            f'<span class="class">{mark if rank == 0 else ""}{_text(shortened(class_name, 60))}</span>'
            f"<span>{percent(probability, 0)}</span>"
            f"{_meter(probability, _kind(item, class_name, rank))}</div>"
            for rank, (class_name, probability) in enumerate(item.top[:bars])
        )
        truth = (
            f'<div class="class">truth: <b class="right">{_text(shortened(item.truth or "", 60))}</b></div>'
            if item.right is False
            else ""
        )
        told = lines + truth
    else:
        told = (
            f'<div class="class"><b class="right">{_text(shortened(item.truth or "?", 60))}</b></div>'
            f'<div class="guess best"><span class="class"><span class="wrong">→ '
            f"{_text(shortened(item.best, 60))}</span></span><span>{percent(item.confidence, 0)}</span>"
            f"{_meter(item.confidence, 'wrong')}</div>"
        )
    return (
        f'<figure class="tile"><div class="photo">{_photo(item.image, item.name)}</div>'
        f'<figcaption>{told}<div class="file" title="{name}">{name}</div></figcaption></figure>'
    )


def _kind(item: Prediction, class_name: str, rank: int) -> str:
    if item.truth == class_name:
        return "right"
    if rank == 0:
        return "accent" if item.right is None else "wrong"
    return "other"


def _photo(picture: Picture, name: str) -> str:
    """Put the picture inside the page: small ones as they are, pixel by pixel; larger ones as JPEG."""
    image = as_image(picture)
    stream = io.BytesIO()
    if max(image.size) <= 64:
        image.save(stream, "PNG")
        kind, look = "png", ' class="pixels"'
    else:
        small = thumbnail(image, _THUMBNAIL) if max(image.size) > _THUMBNAIL else image
        small.save(stream, "JPEG", quality=85)
        kind, look = "jpeg", ""
    source = _data(stream.getvalue(), kind)
    return f'<img{look} loading="lazy" src="{source}" alt="{_text(shortened(name, 80))}">'


def _data(content: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _flattened(settings: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Write nested settings as ``outer.inner`` and a short value, in their order."""
    rows: list[tuple[str, str]] = []
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            rows += _flattened(value, f"{before}{key}.")
        else:
            rows.append((f"{before}{key}", shortened(_value(value), 400)))
    return rows


def _value(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value[:50])) + (", …" if len(value) > 50 else "")
    return str(value)


# --- the look ----------------------------------------------------------------------------------------------


def _variables(palette: Palette) -> str:
    return (
        f"--background:{palette.background};--surface:{palette.surface};--text:{palette.text};--muted:{palette.muted};"
        f"--line:{palette.line};--accent:{palette.validation};--other:{palette.train};--right:{palette.right};"
        f"--wrong:{palette.wrong}"
    )


def _style() -> str:
    css = resources.files("squeezekit.report").joinpath("page.css").read_text("utf-8")
    return (
        f":root{{{_variables(LIGHT)};color-scheme:light dark}}"
        f"@media (prefers-color-scheme:dark){{:root{{{_variables(DARK)}}}}}{css}"
    )
