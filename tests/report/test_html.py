from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("matplotlib")

from squeezekit.report import html
from squeezekit.report.html import RunReport, render_report, write_report
from squeezekit.report.prediction import Prediction

SECTIONS = [
    "numbers",
    "curves",
    "confusion",
    "calibration",
    "classes",
    "mistakes",
    "samples",
    "configuration",
    "broken",
    "next",
]
HOSTILE = "<script>alert(1)</script>\"'&<img src=x onerror=y>\x00\x1b\u202e\udcff"
VOID = {"meta", "img", "source", "br"}


class Page(HTMLParser):
    """The page as a list of elements; asserts that tags nest properly."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.text += data

    def ids(self) -> list[str]:
        return [attributes["id"] or "" for _, attributes in self.elements if "id" in attributes]

    def count(self, tag: str, **wanted: str) -> int:
        return sum(t == tag and all(a.get(k) == v for k, v in wanted.items()) for t, a in self.elements)

    def images(self) -> list[str]:
        keys = {"img": "src", "source": "srcset"}
        return [attributes[keys[tag]] or "" for tag, attributes in self.elements if tag in keys]


def run(number: int = 3, name: str = "class", **options: object) -> RunReport:
    names = [f"{name} {i}" for i in range(number)]
    matrix = np.eye(number, dtype=int) * 9 + np.eye(number, k=1, dtype=int)
    picture = np.zeros((80, 120, 3), np.uint8)
    wrong = Prediction(f"{name}.jpg", [(names[1], 0.9), (names[0], 0.1)], names[0], picture)
    right = Prediction("right.png", [(names[0], 0.75)], names[0], picture[:32, :32])
    settings: dict[str, object] = {
        "name": "squeezenet1_1",
        "classes": names,
        "confusion": matrix,
        "data": "photos",
        "split": "test",
        "history": [{"epoch": e, "val_loss": 1 / e, "val_accuracy": 1 - 1 / e} for e in range(1, 5)],
        "confidence": np.linspace(0.3, 1, 50),
        "correct": np.arange(50) % 4 > 0,
        "top5": 0.987,
        "parameters": 1_235_496,
        "pictures": {"train": 800, "val": 100, "test": 100},
        "seconds": 190.0,
        "mistakes": [wrong],
        "samples": [right, wrong],
        "configuration": {"recipe": "modern", "optimizer": {"lr": 0.04, "nesterov": True}, "weights": None},
        "broken": ["cat/1.jpg: truncated"],
    }
    return RunReport(**{**settings, **options})  # type: ignore[arg-type]


def test_every_section_is_there_in_order() -> None:
    page = Page(render_report(run()))
    assert page.ids() == SECTIONS
    for words in (
        "squeezenet1_1 on photos",
        "4.94 MB",
        "1,235,496",
        "3 min 10 s",
        "optimizer.lr",
        "cat/1.jpg: truncated",
        "squeezekit predict run/ photo.jpg",
        "Most often confused",
    ):
        assert words in page.text, words


def test_the_least_run_still_makes_a_page() -> None:
    page = Page(render_report(RunReport("alexnet", ["a", "b"], [[0, 0], [0, 0]])))
    assert set(page.ids()) == set(SECTIONS) - {"calibration"}
    assert "No mistakes to show" in page.text


def test_the_page_needs_nothing_but_itself() -> None:
    text = render_report(run())
    page = Page(text)
    assert not {"script", "link", "iframe", "object", "form"} & {tag for tag, _ in page.elements}
    assert "http" not in re.sub(r"data:image/[a-z]+;base64,[A-Za-z0-9+/=]+|http-equiv", "", text)
    assert "url(" not in text
    assert page.images()
    for address in page.images():
        kind, content = address.removeprefix("data:image/").split(";base64,")
        image = Image.open(io.BytesIO(base64.b64decode(content, validate=True)))
        image.load()
        assert (image.format or "").lower() == kind


def test_hostile_names_stay_text() -> None:
    honest, page = (
        Page(render_report(run())),
        Page(
            render_report(
                run(
                    name=HOSTILE,
                    data=HOSTILE,
                    split=HOSTILE,
                    broken=[HOSTILE],
                    commands=[HOSTILE],
                    finished=HOSTILE,
                    configuration={HOSTILE: HOSTILE, "deeper": {HOSTILE: [HOSTILE]}},
                    pictures={HOSTILE: 3},
                )
            )
        ),
    )
    assert {tag for tag, _ in page.elements} == {tag for tag, _ in honest.elements}
    assert page.count("script") == 0
    keys = {key for _, attributes in page.elements for key in attributes}
    assert keys == {key for _, attributes in honest.elements for key in attributes}
    assert "<script>alert(1)</script>" in page.text
    assert not {"\x00", "\x1b", "\u202e"} & set(page.text)


@pytest.mark.parametrize("number", [2, 10, 500])
def test_pages_of_few_and_many_classes(tmp_path: Path, number: int) -> None:
    path = tmp_path / "report.html"
    write_report(path, run(number))
    page = Page(path.read_text("utf-8"))
    assert page.count("tr") > number  # every class has its row
    assert path.stat().st_size < 2_000_000
    assert ("top-5" in page.text) is (number > 5)


def test_classes_come_worst_first() -> None:
    matrix = [[9, 1, 0], [0, 10, 0], [5, 0, 5]]
    text = Page(render_report(run(confusion=matrix))).text
    table = text[text.index("The worst recall first") : text.index("Most confused pictures")]
    assert re.findall(r"class \d(?! \()", table) == ["class 2", "class 0", "class 1"]


def test_mistakes_are_the_most_confident_and_capped() -> None:
    picture = np.zeros((90, 90, 3), np.uint8)
    mistakes = [Prediction(f"{i:03d}.jpg", [("b", i / 100)], "a", picture) for i in range(100)]
    text = Page(render_report(run(mistakes=mistakes, samples=[]))).text
    assert text.index("099.jpg") < text.index("098.jpg")
    assert "050.jpg" not in text
    assert len(re.findall(r"\d{3}\.jpg", text)) == html.MOST_PICTURES


def test_a_long_list_of_broken_pictures_is_capped_and_counted() -> None:
    page = Page(render_report(run(broken=[f"{i}.jpg" for i in range(900)], broken_count=1234)))
    assert "1,234 could not be read and were left out" in page.text
    assert "and 1,034 more" in page.text
    assert "every picture could be read" in Page(render_report(run(broken=[]))).text.lower()


def test_numbers_that_do_not_fit_are_refused_and_leave_the_old_page(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(ValueError, match="class names"):
        write_report(path, run(confusion=np.eye(7)))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_large_photographs_are_made_small() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1500, 2000, 3), dtype=np.uint8)
    samples = [Prediction("large.jpg", [("a", 1.0)], None, noise)]
    sizes = [len(a) for a in Page(render_report(run(samples=samples, mistakes=[]))).images() if "jpeg" in a]
    assert sizes
    assert max(sizes) < 60_000
