"""The page of a search: what it says is on it, and its table fits beside its commands."""

from __future__ import annotations

import re

from squeezekit.report.explore import StudyReport, render_study

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
