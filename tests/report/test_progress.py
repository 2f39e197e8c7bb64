"""How far it is: a bar on a terminal, a line a minute in a log."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from squeezekit.report import progress
from squeezekit.report.progress import progress_bar


def test_a_log_gets_a_line_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    log = io.StringIO()
    with progress_bar("learning [of pictures]", Console(file=log)) as advance:
        for second in range(0, 181, 10):
            clock[0] = second
            advance(second * 10, 1800)
    assert log.getvalue().splitlines() == [
        "learning [of pictures]: 600 of 1,800, about 0:02:00 left",
        "learning [of pictures]: 1,200 of 1,800, about 0:01:00 left",
    ]


def test_a_terminal_gets_a_bar_that_goes_away() -> None:
    screen = io.StringIO()
    with progress_bar("reading", Console(file=screen, force_terminal=True, width=80)) as advance:
        advance(1, 2)
        advance(2, 2)
    assert "reading" in screen.getvalue()
    assert "2/2" in screen.getvalue()
    assert "about" not in screen.getvalue()
