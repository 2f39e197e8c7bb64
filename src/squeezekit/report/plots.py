"""Plots of a run, as matplotlib figures.

Every function returns a `matplotlib.figure.Figure` that belongs to the caller: no pyplot, no global state,
nothing to close. matplotlib is imported when a plot is asked for. `png` turns a figure into bytes.

>>> figure = learning_curves(history)
>>> Path("curves.png").write_bytes(png(figure))
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from squeezekit.report.numbers import checked_confusion, reliability
from squeezekit.report.style import LIGHT, Palette, matplotlib_settings, percent, plain, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

History = Sequence[Mapping[str, float | None]]

MOST_NAMED_CLASSES = 60  # a confusion matrix with more classes shows their numbers, not their names
MOST_COUNTED_CLASSES = 20  # with more classes the cells are too small for a count
_FEW = 10  # bins of a reliability diagram with fewer pictures are pale: their accuracy is mostly chance
_DOTS_FROM = 150  # with more classes a cell is thinner than a pixel: mistakes are drawn as dots


def png(figure: Figure, dpi: int = 160) -> bytes:
    """Give the figure as PNG bytes, the same for the same figure."""
    stream = io.BytesIO()
    with warnings.catch_warnings():  # a class name in a script no installed font has: boxes, but a plot
        warnings.filterwarnings(
            "ignore", message=r"Glyph .* missing from (current )?font", category=UserWarning
        )
        figure.savefig(stream, format="png", dpi=dpi, metadata={"Software": None})
    return stream.getvalue()


@contextmanager
def _figure(palette: Palette, width: float, height: float) -> Iterator[Figure]:
    """Make an empty figure of so many inches; the palette's settings hold while it is filled."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    settings: Any = matplotlib_settings(palette)  # matplotlib types the keys of rc_context one by one
    with matplotlib.rc_context(settings):
        padding = ConstrainedLayoutEngine(w_pad=0.09, h_pad=0.09)  # inches: room around titles
        yield Figure(figsize=(width, height), layout=padding)


def _magnitudes(axes: Axes, logarithmic: bool = True) -> None:
    """Give the x axis numbers that people write: 200, 1k, 5M."""
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    if logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


# --- learning curves ---------------------------------------------------------------------------------------


def learning_curves(history: History, palette: Palette = LIGHT) -> Figure:
    """Plot loss, accuracy and learning rate over the epochs, side by side.

    Parameters
    ----------
    history
        One mapping an epoch. Known keys, all optional: ``epoch`` (from 1), ``train_loss``, ``val_loss``,
        ``train_accuracy``, ``val_accuracy``, ``ema_accuracy`` (the averaged weights on the
        validation pictures), ``learning_rate``. Accuracies from 0 to 1. A value that is missing, None
        or NaN is left out.
    palette
        `style.LIGHT` or `style.DARK`.
    """
    panels = [panel for panel in _PANELS if panel != "learning rate" or _has(history, "learning_rate")]
    with _figure(palette, 4.1 * len(panels), 3.3) as figure:
        for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            _PANELS[panel](axes, history, palette)
    return figure


def learning_curve_panels(history: History, palette: Palette = LIGHT) -> dict[str, Figure]:
    """Plot the same three as figures of their own, for a page that places them itself."""
    figures = {}
    for panel, draw in _PANELS.items():
        if panel == "learning rate" and not _has(history, "learning_rate"):
            continue
        with _figure(palette, 4.3, 3.2) as figure:
            draw(figure.subplots(), history, palette)
        figures[panel] = figure
    return figures


def _has(history: History, key: str) -> bool:
    return bool(np.isfinite(_series(history, key)[1]).any())


def _series(history: History, key: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Epochs and values of one key, NaN where there is no finite number."""
    epochs, values = [], []
    for position, row in enumerate(history, start=1):
        epoch, value = row.get("epoch"), row.get(key)
        epochs.append(float(position if epoch is None else epoch))
        values.append(float(value) if value is not None and math.isfinite(value) else math.nan)
    return np.array(epochs), np.array(values)


def _line(axes: Axes, history: History, key: str, label: str, colour: str) -> bool:
    """Draw one key if it has any value; epochs without one are bridged: not each need be validated."""
    epochs, values = _series(history, key)
    known = np.isfinite(values)
    if not known.any():
        return False
    few = known.sum() <= 12
    axes.plot(
        epochs[known],
        values[known],
        color=colour,
        label=label,
        marker="o" if few else "",
        markersize=4,
    )
    return True


def _epoch_axis(axes: Axes, palette: Palette, drawn: bool) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7, min_n_ticks=1))
    if not drawn:
        axes.text(
            0.5, 0.5, "no values", transform=axes.transAxes, ha="center", va="center", color=palette.muted
        )
        axes.set_xticks([])
        axes.set_yticks([])


def _loss(axes: Axes, history: History, palette: Palette) -> None:
    lines = [
        _line(axes, history, "train_loss", "training", palette.train),
        _line(axes, history, "val_loss", "validation", palette.validation),
    ]
    axes.set_title("Loss")
    if any(lines):
        low, high = axes.dataLim.intervaly
        axes.set_ylim(min(0.0, low), max(1.06 * high, 1e-9))
        axes.legend(loc="best")
    _epoch_axis(axes, palette, any(lines))


def _accuracy(axes: Axes, history: History, palette: Palette) -> None:
    from matplotlib.ticker import PercentFormatter

    lines = [
        _line(axes, history, "train_accuracy", "training", palette.train),
        _line(axes, history, "val_accuracy", "validation", palette.validation),
        _line(axes, history, "ema_accuracy", "validation, averaged weights", palette.average),
    ]
    axes.set_title("Accuracy")
    if any(lines):
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        worst = max(0.0, float(axes.dataLim.intervaly[0]))
        bottom = max(0.0, worst - 0.1 * max(1 - worst, 0.05))
        axes.set_ylim(bottom, 1 + 0.05 * (1 - bottom))
        _mark_best(axes, history, palette)
        axes.legend(loc="best")
    _epoch_axis(axes, palette, any(lines))


def _mark_best(axes: Axes, history: History, palette: Palette) -> None:
    """Ring the best epoch and write its accuracy into the title line."""
    best: tuple[float, float, str] | None = None
    for key, colour in (("val_accuracy", palette.validation), ("ema_accuracy", palette.average)):
        epochs, values = _series(history, key)
        if np.isfinite(values).any():
            place = int(np.nanargmax(values))
            if best is None or values[place] > best[1]:
                best = (float(epochs[place]), float(values[place]), colour)
    if best is not None:
        epoch, value, colour = best
        axes.plot(
            [epoch],
            [value],
            "o",
            markersize=9,
            markerfacecolor="none",
            markeredgecolor=colour,
            markeredgewidth=2,
        )
        axes.set_title(
            f"best {percent(value)}, epoch {epoch:.0f}",
            loc="right",
            fontsize=9,
            fontweight="normal",
            color=colour,
        )


def _rate(axes: Axes, history: History, palette: Palette) -> None:
    drawn = _line(axes, history, "learning_rate", "learning rate", palette.rate)
    axes.set_title("Learning rate")
    if drawn:
        axes.set_ylim(0, max(1.06 * float(axes.dataLim.intervaly[1]), 1e-12))
        axes.yaxis.set_major_formatter(lambda rate, _: f"{rate:g}")
    _epoch_axis(axes, palette, drawn)


_PANELS = {"loss": _loss, "accuracy": _accuracy, "learning rate": _rate}


# --- confusion matrix --------------------------------------------------------------------------------------


def confusion_matrix(matrix: ArrayLike, classes: Sequence[str], palette: Palette = LIGHT) -> Figure:
    """Show which class is taken for which: rows are the truth, columns the prediction.

    Right predictions are blue, mistakes vermilion; the shade grows with the square root of the row's share,
    so that one mistake among hundreds is still seen. Up to 20 classes each cell carries its count, up to 60
    the axes carry names; very many classes become dots.

    Parameters
    ----------
    matrix
        Counts ``[truth, prediction]``, shape (K, K).
    classes
        K names.
    """
    counts = checked_confusion(matrix, len(classes))
    number = len(classes)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [shortened(name, 22 if number <= 25 else 16) for name in classes]
    side = min(9.0, max(3.2, 2.0 + 0.42 * number))
    with _figure(palette, side + 0.4, side) as figure:
        axes = figure.subplots()
        axes.grid(visible=False)
        axes.set_facecolor(palette.surface)
        axes.spines[:].set_visible(True)
        cells = _shade(shares, palette)
        if number >= _DOTS_FROM:
            _dots(axes, shares, palette)
        else:
            axes.imshow(cells, interpolation="nearest", aspect="equal")
        if number <= 30:  # hairlines between cells
            for place in np.arange(0.5, number - 1):
                axes.axhline(place, color=palette.line, linewidth=0.6)
                axes.axvline(place, color=palette.line, linewidth=0.6)
        if number <= MOST_COUNTED_CLASSES:
            _write_counts(axes, counts, shares, cells)
        _name_axes(axes, names)
        right = int(np.trace(counts))
        axes.set_title(f"{right:,} of {int(counts.sum()):,} right")
    return figure


def _shade(shares: NDArray[np.float64], palette: Palette) -> NDArray[np.float64]:
    """Colour the cells, shape (K, K, 3): towards blue on the diagonal, towards vermilion off it."""
    from matplotlib.colors import to_rgb

    surface, right, wrong = (
        np.array(to_rgb(c)) for c in (palette.surface, palette.validation, palette.wrong)
    )
    diagonal = np.eye(len(shares), dtype=bool)[:, :, None]
    depth = np.sqrt(shares)[:, :, None]
    colours: NDArray[np.float64] = surface + depth * (np.where(diagonal, right, wrong) - surface)
    return colours


def _write_counts(
    axes: Axes,
    counts: NDArray[np.int64],
    shares: NDArray[np.float64],
    cells: NDArray[np.float64],
) -> None:
    number = len(counts)
    widest = max(len(f"{counts.max():,}"), 2)
    font_size = min(11.0, 30.0 / widest, 140 / number)
    for row, column in zip(*np.nonzero(counts), strict=True):
        text = f"{counts[row, column]:,}"
        if number <= 4:
            text += f"\n{percent(shares[row, column])}"
        luminance = float(cells[row, column] @ (0.299, 0.587, 0.114))
        colour = "#14181f" if luminance > 0.5 else "#ffffff"
        axes.text(column, row, text, ha="center", va="center", fontsize=font_size, color=colour)


def _dots(axes: Axes, shares: NDArray[np.float64], palette: Palette) -> None:
    """Very many classes: every used cell as a dot no smaller than a person can see."""
    number = len(shares)
    truth, prediction = np.nonzero(shares)
    value = np.sqrt(shares[truth, prediction])
    on = truth == prediction
    for where, colour in ((~on, palette.wrong), (on, palette.validation)):
        axes.scatter(
            prediction[where],
            truth[where],
            s=3 + 7 * value[where],
            alpha=0.4 + 0.6 * value[where],
            color=colour,
            linewidths=0,
        )
    axes.set_xlim(-0.5, number - 0.5)
    axes.set_ylim(number - 0.5, -0.5)
    axes.set_aspect("equal")


def _name_axes(axes: Axes, names: Sequence[str]) -> None:
    from matplotlib.ticker import MaxNLocator

    number = len(names)
    axes.tick_params(length=0)
    if number <= MOST_NAMED_CLASSES:
        font_size = min(9.5, 260 / number)
        short = max(map(len, names)) * number <= 45
        axes.set_xticks(range(number), names, fontsize=font_size, parse_math=False)
        if not short:
            for label in axes.get_xticklabels():
                label.set(rotation=45, horizontalalignment="right", rotation_mode="anchor")
        axes.set_yticks(range(number), names, fontsize=font_size, parse_math=False)
        axes.set_xlabel("prediction")
        axes.set_ylabel("truth")
    else:
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(nbins=10, integer=True))
        axes.set_xlabel("prediction (class number)")
        axes.set_ylabel("truth (class number)")


# --- calibration -------------------------------------------------------------------------------------------


def reliability_diagram(
    confidence: ArrayLike, correct: ArrayLike, bins: int = 15, palette: Palette = LIGHT
) -> Figure:
    """Show how often the network is right when it is so and so sure, and how often it is so sure.

    Parameters
    ----------
    confidence
        Probability of the predicted class, shape (N,).
    correct
        Whether it was the right one, shape (N,).
    bins
        How many equally wide bins.
    """
    from matplotlib.ticker import PercentFormatter

    table = reliability(confidence, correct, bins)
    middle = (table.edges[:-1] + table.edges[1:]) / 2
    width = 0.88 / bins
    many = table.count >= _FEW
    few = (table.count > 0) & ~many
    with _figure(palette, 4.8, 5.0) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3.4, 1))
        blue = palette.validation
        upper.bar(middle[many], table.accuracy[many], width, color=blue, label="share that is right")
        if few.any():
            label = f"the same, under {_FEW} pictures"
            upper.bar(middle[few], table.accuracy[few], width, color=blue, alpha=0.35, label=label)
        ideal = (0, (4, 3))
        upper.plot(
            [0, 1], [0, 1], color=palette.muted, linewidth=1, linestyle=ideal, label="perfectly calibrated"
        )
        filled = many | few
        left, right = table.edges[:-1][filled], table.edges[1:][filled]
        upper.hlines(table.confidence[filled], left, right, color=palette.average, label="mean confidence")
        upper.set_xlim(0, 1)
        upper.set_ylim(0, 1.02)
        upper.set_ylabel("share that is right")
        error = table.expected_calibration_error
        upper.set_title(f"Calibration error {percent(error)} (ECE)" if filled.any() else "No pictures")
        lower.bar(middle, table.count, width, color=palette.train)
        lower.set_ylabel("pictures")
        lower.set_xlabel("confidence")
        lower.locator_params(axis="y", nbins=3, integer=True)
        for axis in (upper.yaxis, lower.xaxis):
            axis.set_major_formatter(PercentFormatter(1.0))
        figure.align_ylabels()
        figure.legend(loc="outside lower center", ncols=2, fontsize=8.5)
    return figure


# --- per class ---------------------------------------------------------------------------------------------


def per_class_bars(
    classes: Sequence[str],
    values: ArrayLike,
    label: str = "recall",
    limit: int = 30,
    palette: Palette = LIGHT,
) -> Figure:
    """Draw one bar a class, the worst first; at most `limit` of them, and a line says how many are left out.

    Parameters
    ----------
    classes, values
        K names and K shares from 0 to 1; NaN (no pictures) is left out.
    label
        What the shares are.
    """
    from matplotlib.ticker import PercentFormatter

    shares = np.asarray(values, dtype=np.float64)
    if shares.shape != (len(classes),):
        raise ValueError(f"{len(classes)} class names but values of shape {shares.shape}")
    order = [int(i) for i in np.argsort(shares, kind="stable") if np.isfinite(shares[i])]
    shown = order[:limit]
    with _figure(palette, 6.2, 1.1 + 0.27 * max(1, len(shown))) as figure:
        axes = figure.subplots()
        axes.grid(visible=False)
        axes.spines[["left", "bottom"]].set_visible(False)
        places = range(len(shown))
        axes.barh(places, [1.0] * len(shown), 0.62, color=palette.line)
        axes.barh(places, shares[shown], 0.62, color=palette.validation)
        for place, index in zip(places, shown, strict=True):
            axes.text(1.02, place, percent(float(shares[index])), va="center", fontsize=9)
        names = [shortened(classes[i], 26) for i in shown]
        axes.set_yticks(list(places), names, parse_math=False)
        axes.tick_params(length=0)
        axes.set_xlim(0, 1.14)
        axes.set_xticks([0, 0.5, 1])
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_ylim(len(shown) - 0.4, -0.6)
        title = plain(label)[:1].upper() + plain(label)[1:]
        if len(order) > len(shown):
            title += f": the worst {len(shown)} of {len(order)} classes"
        axes.set_title(title, parse_math=False)
    return figure
