"""The page of a search: what it says is on it, and its table fits beside its commands."""

from __future__ import annotations

import re

import numpy as np

from squeezekit.report.explore import Point, StudyReport, pareto_plot, render_study
from squeezekit.report.plots import png

DESIGN = {
    "trial": "3",
    "design": "squeezenet at 32 px",
    "metaparameters": "base_e=16, <b>",
    "val": "90.0%",
    "bytes": "4.1k",
    "commands": ("squeezekit train 'a & b' --out s/trial-3", "squeezekit compress s/trial-3"),
}


def test_commands_are_wrapped_so_that_the_numbers_beside_them_stay_in_sight() -> None:
    page = render_study(StudyReport("t", "l", [], {}, {}, {}, {}, [DESIGN]))
    numbers, below = re.findall(r"<tr>.*?</tr>", page.partition("<tbody>")[2].partition("</tbody>")[0], re.S)
    assert all(word in numbers for word in (">3<", ">90.0%<", ">4.1k<", ">squeezenet at 32 px<"))
    assert "base_e=16, &lt;b&gt;" in below  # as wide as the table, as the commands are
    (style,) = re.findall(r'<pre style="([^"]*)">', below)
    assert "white-space:pre-wrap" in style
    assert "squeezekit train &#x27;a &amp; b&#x27; --out s/trial-3\nsqueezekit compress" in page


def test_the_front_is_drawn_in_full_sight() -> None:
    points = [
        Point(i, "squeezenet", 0.2 + i / 20, {"bytes": 3100.0 + 60 * i, "macs": 2e4 * 3**i}, i < 4, i > 7)
        for i in range(10)
    ]
    names = {"bytes": "size", "macs": "work"}
    figure = pareto_plot(StudyReport("t", "l", points, names, {"bytes": 3700}, {}, {}, []))
    assert figure is not None
    png(figure)  # lays it out
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["stopped early", "squeezenet", "budget"]
    box = legend.get_window_extent()
    for axes in figure.axes:
        assert not box.overlaps(axes.get_window_extent())  # nothing that is drawn lies under it
        assert axes.get_legend() is None
        low, high = axes.get_xlim()
        labels = [t.get_text() for t in axes.get_xticklabels() if low <= t.get_position()[0] <= high]
        assert sum(bool(label) for label in labels) >= 2
        assert len(axes.collections[0].get_facecolor()) == 0  # those that were stopped: hollow
        assert max(np.atleast_1d(axes.collections[0].get_linewidth())) >= 1
