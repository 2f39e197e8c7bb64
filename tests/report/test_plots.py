from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("matplotlib")

from squeezekit.report.plots import (
    confusion_matrix,
    learning_curve_panels,
    learning_curves,
    per_class_bars,
    png,
    reliability_diagram,
)
from squeezekit.report.style import DARK

HOSTILE = ["$\\frac{", "<b>&\"'", "\x1b[31m\n", "\udc80half", "蚂蚁", "a" * 300, "_^{}$$", "%s{0}"]


def history(epochs: int) -> list[dict[str, float | None]]:
    return [
        {
            "epoch": epoch,
            "train_loss": 2 / epoch,
            "val_loss": 2.2 / epoch,
            "train_accuracy": 1 - 0.8 / epoch,
            "val_accuracy": 1 - 0.9 / epoch,
            "ema_accuracy": None if epoch == 1 else 1 - 0.85 / epoch,
            "learning_rate": 0.04 / epoch,
        }
        for epoch in range(1, epochs + 1)
    ]


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    assert image.format == "PNG"
    return image


@pytest.mark.parametrize("epochs", [0, 1, 2, 40])
def test_learning_curves_of_any_length(epochs: int) -> None:
    image = opened(png(learning_curves(history(epochs)), dpi=50))
    assert image.width > image.height > 100


def test_learning_curves_show_each_line_and_the_best_epoch() -> None:
    loss, accuracy, rate = learning_curves(history(20)).axes
    assert [line.get_label() for line in loss.lines] == ["training", "validation"]
    assert [len(line.get_xdata()) for line in accuracy.lines] == [20, 20, 19, 1]  # the last: the ring
    assert "epoch 20" in accuracy.get_title(loc="right")
    assert rate.get_title(loc="left") == "Learning rate"


def test_learning_curves_pass_over_missing_numbers() -> None:
    rows = [{"train_loss": float("nan")}, {"train_loss": 1.0, "val_loss": float("inf")}, {}]
    loss, accuracy = learning_curves(rows).axes  # and no learning rate, so no panel for it
    assert loss.lines[0].get_xdata().tolist() == [2.0]
    assert "no values" in [text.get_text() for text in accuracy.texts]


def test_panels_are_the_same_plots_alone() -> None:
    assert list(learning_curve_panels(history(3), DARK)) == ["loss", "accuracy", "learning rate"]
    assert list(learning_curve_panels([{"val_loss": 1.0}])) == ["loss", "accuracy"]


@pytest.mark.parametrize(
    ("number", "named", "counted"),
    [(2, True, True), (10, True, True), (40, True, False), (500, False, False)],
)
def test_confusion_matrix_of_few_and_many_classes(number: int, named: bool, counted: bool) -> None:
    matrix = np.eye(number, dtype=int) * 20 + np.eye(number, k=1, dtype=int)
    names = [f"class {i}" for i in range(number)]
    figure = confusion_matrix(matrix, names)
    image = opened(png(figure, dpi=60))
    assert 150 < image.width < 700
    axes = figure.axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert (labels == names) is named
    assert bool(axes.texts) is counted
    if not named:
        assert len(labels) <= 12


def test_confusion_matrix_without_any_picture() -> None:
    opened(png(confusion_matrix(np.zeros((3, 3), int), ["a", "b", "c"]), dpi=50))


def test_hostile_names_are_drawn_as_text() -> None:
    number = len(HOSTILE)
    opened(png(confusion_matrix(np.ones((number, number), int), HOSTILE), dpi=50))
    opened(png(per_class_bars(HOSTILE, np.linspace(0, 1, number), label="$recall"), dpi=50))


def test_reliability_diagram_tells_the_error() -> None:
    figure = reliability_diagram(
        [0.95] * 10 + [0.55] * 10, [True] * 9 + [False] + [True] * 7 + [False] * 3, bins=10
    )
    assert "10.0" in figure.axes[0].get_title(loc="left")
    opened(png(figure, dpi=50))
    opened(png(reliability_diagram([], []), dpi=50))


def test_per_class_bars_are_capped_and_say_so() -> None:
    names = [f"class {i}" for i in range(100)]
    values = np.linspace(1, 0, 100)
    values[7] = np.nan
    axes = per_class_bars(names, values, limit=12).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == names[:-13:-1]
    assert "worst 12 of 99" in axes.get_title(loc="left")
    assert "class 7" not in [
        label.get_text() for label in per_class_bars(names, values, limit=100).axes[0].get_yticklabels()
    ]


def test_the_same_figure_gives_the_same_bytes() -> None:
    assert png(learning_curves(history(4))) == png(learning_curves(history(4)))


def test_matplotlib_is_imported_only_for_a_plot_and_pyplot_never() -> None:
    code = (
        "import sys; from squeezekit.report import plots, html, sheet, tables;"
        "assert 'matplotlib' not in sys.modules;"
        "plots.png(plots.learning_curves([{'val_loss': 1.0}]));"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_settings_do_not_leak() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    png(learning_curves(history(3), DARK), dpi=50)
    assert dict(matplotlib.rcParams) == before
