from __future__ import annotations

import io
import itertools
from typing import Any

import pytest
from rich.console import Console

pytest.importorskip("matplotlib")

from squeezekit.report.plots import png
from squeezekit.report.studies import study_figure, study_markdown, study_table, verdicts_text
from squeezekit.report.style import DARK


def variant(name: str, **changed: Any) -> dict[str, Any]:
    return {
        "variant": name,
        "series": [""],
        "paper": "57.5 %",
        "seeds": 3,
        "size": 32,
        "parameters": 48_322,
        "macs": 3_796_992,
        "bytes": 193_288,
        "test_accuracy": 0.847,
        "test_deviation": 0.012,
        "train_accuracy": 0.9,
        "gap_deviation": 0.01,
        **changed,
    }


def result(figure: str = "size", *variants: dict[str, Any]) -> dict[str, Any]:
    return {
        "study": {
            "name": "bypass",
            "title": "Bypass",
            "source": "A paper",
            "found": "That.",
            "figure": figure,
        },
        "command": "squeezekit study bypass photos/ --out DIR",
        "threads": 2,
        "seconds": 125.0,
        "settings": {
            "quick": True,
            "train": 1443,
            "val": 206,
            "test": 413,
            "size": 32,
            "epochs": 12,
            "split_seed": 0,
        },
        "variants": list(variants),
        "verdicts": [
            {"verdict": "agrees", "sentence": "It is so. Here a less b: +2.0 ± 1.0 points: agrees."},
            {"verdict": "open", "sentence": "It is not."},
        ],
    }


def test_the_page_says_how_it_was_made_and_what_agrees() -> None:
    page = study_markdown(
        result("size", variant("a"), variant("b|c", train_accuracy=None, test_deviation=None))
    )
    assert "    squeezekit study bypass photos/ --out DIR\n" in page
    assert (
        "1,443 pictures train, 206 choose the epoch, 413 test; 32 pixels, 12 epochs; seeds: 3, on one" in page
    )
    assert "| a | 48,322 | 3,796,992 | 193 kB | 84.7 ± 1.2\u00a0% | +5.3 | 57.5 % |" in page
    assert "| b\\|c | 48,322 | 3,796,992 | 193 kB | 84.7\u00a0% | – | 57.5 % |" in page
    assert "Of 2 claims of the paper 1 agree with these figures, 0 disagree, and 1 cannot be told" in page
    assert "- ✓ It is so. Here a less b: +2.0 ± 1.0 points: agrees." in page


def test_the_page_of_a_network_that_was_there_tells_of_no_training_of_the_study() -> None:
    told = result("size", variant("float32"))
    page = study_markdown({**told, "settings": {**told["settings"], "model": "run/"}})
    assert "The network of run/, on the pictures that `squeezekit evaluate` takes for it; seeds of" in page
    assert "pictures train" not in page
    assert "12 epochs" not in page


def test_the_table_and_the_verdicts_for_a_terminal() -> None:
    console = Console(file=io.StringIO(), width=160)
    console.print(study_table(result("size", variant("[red]a"))))
    assert "[red]a" in console.file.getvalue()  # type: ignore[attr-defined]
    assert verdicts_text(result())[1] == "? It is not."


@pytest.mark.parametrize("figure", ["size", "work", "names"])
@pytest.mark.parametrize("count", [0, 1, 9])
def test_every_form_of_figure(figure: str, count: int) -> None:
    series = ["depth", "width"] if figure == "work" else [""]
    rows = [
        variant(
            f"$\\frac{{ {i}",
            series=series if i == 0 else series[i % len(series) :][:1],
            macs=10**i,
            bytes=2**i,
        )
        for i in range(1, count + 1)
    ]
    drawn = study_figure(result(figure, *rows), DARK)
    assert png(drawn, dpi=40).startswith(b"\x89PNG")
    (axes,) = drawn.axes
    if count and figure != "names":
        points = {tuple(point) for line in axes.lines for point in line.get_xydata()}
        assert (rows[0]["bytes" if figure == "size" else "macs"], 84.7) in points


def test_points_are_labelled_as_in_the_paper() -> None:
    drawn = study_figure(result("size", variant("SR = 0.5"), variant("SR = 1", bytes=10**6)))
    assert [text.get_text() for text in drawn.axes[0].texts] == [
        "SR = 0.5\n84.7\u00a0%",
        "SR = 1\n84.7\u00a0%",
    ]


def test_the_papers_own_networks_have_readable_costs() -> None:
    drawn = study_figure(result("names", variant("SqueezeNet", macs=861_346_816), variant("b")))
    labels = [text.get_text() for text in drawn.axes[0].get_yticklabels()]
    assert labels == ["SqueezeNet\n193 kB, 861 M MACs", "b\n193 kB, 3.8 M MACs"]


def test_labels_do_not_cross_a_line_that_rises() -> None:
    costs, accuracies = (253, 365, 488, 734, 980, 1220), (0.722, 0.851, 0.918, 0.944, 0.958, 0.958)
    deviations = (0.034, 0.062, 0.007, 0.008, 0.022, 0.009)
    rows = [
        variant("12.5 % 3×3", series=["SqueezeNet"], bytes=cost, test_accuracy=mean, test_deviation=deviation)
        for cost, mean, deviation in zip(costs, accuracies, deviations, strict=True)
    ]
    drawn = study_figure(result("size", *rows))
    png(drawn, dpi=round(drawn.dpi))  # places everything
    (axes,) = drawn.axes
    line = axes.lines[0].get_path().transformed(axes.lines[0].get_transform())
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == len(rows)
    assert not any(line.intersects_bbox(box, filled=False) for box in boxes)
    assert not any(a.overlaps(b) for a, b in itertools.pairwise(boxes))


def test_of_two_networks_of_one_size_the_better_is_labelled_above() -> None:
    drawn = study_figure(result("size", variant("no bypass"), variant("simple", test_accuracy=0.9)))
    assert [(text.get_text().partition("\n")[0], text.get_va()) for text in drawn.axes[0].texts] == [
        ("simple", "bottom"),
        ("no bypass", "top"),
    ]
