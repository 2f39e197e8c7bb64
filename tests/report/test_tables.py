from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console, RenderableType

from squeezekit.report.prediction import Prediction
from squeezekit.report.style import duration, percent, plain, shortened, size
from squeezekit.report.tables import bar, class_table, evaluation_table, predictions_table


def shown(renderable: RenderableType, width: int = 120) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(renderable)
    return stream.getvalue().replace("\u00a0", " ")


def test_evaluation_table_shows_what_is_known() -> None:
    text = shown(
        evaluation_table(name="run/", pictures=500, top1=0.64, top5=0.844, agreement=0.9, against="m.sqz")
    )
    for words in ("64.00 %", "84.40 %", "500", "90.00 %", "m.sqz", "59.7 to 68.1 %"):
        assert words in text
    assert "speed" not in text
    assert "calibration" not in text


def test_class_table_is_worst_first_and_capped() -> None:
    names = [f"class{i}" for i in range(30)]
    matrix = np.eye(30, dtype=int) * 10
    matrix[17, 3] = 30
    matrix[29] = 0
    text = shown(class_table(names, matrix, limit=5))
    assert "25.0 %" in text.splitlines()[4]
    assert "class3 (30)" in text
    assert "24 more classes are not listed" in text
    assert "class29" not in shown(class_table(names, matrix, limit=None))


def test_predictions_table_marks_right_and_wrong() -> None:
    items = [
        Prediction("a.jpg", [("cat", 0.9), ("dog", 0.1)], "cat"),
        Prediction("b.jpg", [("cat", 0.8)], "dog"),
        Prediction("c.jpg", [("cat", 0.7)]),
    ]
    text = shown(predictions_table(items))
    assert text.count("✓") == text.count("✗") == 1
    assert "truth: dog" in text
    assert "90.0 %" in text


def test_names_are_never_markup_nor_steer_the_terminal() -> None:
    hostile = "[red]x[/red]\x1b[2J\r\n[/]"
    text = shown(predictions_table([Prediction(hostile, [(hostile, 1.0)], "y")]))
    assert "[red]x[/red]" in text
    assert "\x1b" not in text
    assert "[red]" in shown(
        evaluation_table(name=hostile, pictures=1, top1=1.0, against=hostile, agreement=1.0)
    )
    assert "[red]" in shown(class_table([hostile, "b"], [[1, 1], [0, 1]]))


@pytest.mark.parametrize("width", [40, 60, 200])
def test_tables_fit_the_terminal(width: int) -> None:
    items = [Prediction("a/very/long/path/" * 9, [("a long class name " * 5, 0.5)], "truth " * 20)]
    assert max(map(len, shown(predictions_table(items), width).splitlines())) <= width


@pytest.mark.parametrize("share", [0, 1e-9, 0.5, 0.999, 1, 2, -1, float("nan")])
def test_bars_have_one_width(share: float) -> None:
    assert len(bar(share, 10)) == 10


def test_how_numbers_and_names_are_written() -> None:
    assert percent(0.97649) == "97.6\u00a0%"
    assert percent(None) == percent(float("nan")) == "–"
    assert [size(n) for n in (0, 999, 1000, 4_985_224, 999_999, 243_860_896)] == [
        "0 B",
        "999 B",
        "1 kB",
        "4.99 MB",
        "1 MB",
        "244 MB",
    ]
    assert [duration(s) for s in (0.04, 42, 59.7, 188, 7500, None)] == [
        "0.0 s",
        "42 s",
        "1 min 00 s",
        "3 min 08 s",
        "2 h 05 min",
        "–",
    ]
    assert plain("a\tb\u202ec\udc80") == "a\ufffdb\ufffdc\ufffd"
    assert shortened("abcdefghij", 5) == "ab…ij"
    assert shortened("abc", 3) == "abc"
