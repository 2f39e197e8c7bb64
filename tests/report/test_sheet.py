from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from squeezekit.errors import UserError
from squeezekit.report import style
from squeezekit.report.prediction import Prediction, as_image, thumbnail
from squeezekit.report.sheet import prediction_sheet, save_prediction_sheet, sheet_format
from squeezekit.report.style import LIGHT, drawable, font_for

GREEN, RED = (tuple(bytes.fromhex(colour[1:])) for colour in (LIGHT.right, LIGHT.wrong))


def item(number: int = 0, truth: str | None = None, classes: int = 5, **options: object) -> Prediction:
    picture = np.full((40, 60, 3), 7 * number % 256, np.uint8)
    top = [(f"class {i}", 0.5 / 2**i) for i in range(classes)]
    return Prediction(**{"name": f"{number}.jpg", "top": top, "truth": truth, "image": picture, **options})  # type: ignore[arg-type]


def colours(image: Image.Image) -> set[tuple[int, ...]]:
    return set(map(tuple, np.asarray(image).reshape(-1, 3).tolist()))


def test_one_picture_makes_one_card() -> None:
    sheet = prediction_sheet([item()])
    assert sheet.mode == "RGB"
    assert 500 < sheet.width < 800
    assert 200 < sheet.height < 450


@pytest.mark.parametrize("number", [2, 7, 30])
def test_sheets_grow_in_both_directions(number: int) -> None:
    one, many = prediction_sheet([item()]), prediction_sheet([item(i) for i in range(number)])
    assert many.width * many.height > 0.8 * number * one.width * one.height * 0.9
    assert 0.4 < many.width / many.height < 5


def test_columns_can_be_chosen() -> None:
    sheet = prediction_sheet([item(i) for i in range(6)], columns=1)
    assert sheet.width == prediction_sheet([item()]).width
    assert prediction_sheet([item()], columns=50).width == sheet.width


def test_many_pictures_are_capped_with_a_note_and_read_once() -> None:
    seen = 0

    def stream() -> Iterator[Prediction]:
        nonlocal seen
        for i in range(150):
            seen += 1
            yield item(i)

    capped = prediction_sheet(stream(), limit=10)
    assert seen == 150
    assert capped.height > prediction_sheet([item(i) for i in range(10)]).height  # the note's line
    assert prediction_sheet([item(i) for i in range(150)]).height < 8000


def test_right_is_green_and_wrong_is_red() -> None:
    right, wrong, unknown = (colours(prediction_sheet([item(truth=t)])) for t in ("class 0", "class 9", None))
    assert GREEN in right
    assert RED not in right
    assert {GREEN, RED} <= wrong  # the truth is written in green
    assert not {GREEN, RED} & unknown


def test_names_of_any_length_and_kind_stay_in_the_card() -> None:
    names = ["word " * 200, "x" * 5000, "\x1b[31m\n\udc80", "蚂蚁", "", "ü" * 80]
    top = [(name, 1 / len(names)) for name in names]
    plain = prediction_sheet([item(classes=len(names))])
    odd = prediction_sheet([item(top=top, name="/deep/" * 300, truth="y" * 900)])
    assert odd.width == plain.width
    assert (
        set(map(tuple, np.asarray(odd)[:, -25].tolist()))
        <= {  # the card's right padding stays empty
            tuple(bytes.fromhex(colour[1:])) for colour in (LIGHT.surface, LIGHT.background, LIGHT.line)
        }
    )


def test_what_no_font_draws_is_written_in_code_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else two names in such a script were rows of the same boxes."""
    monkeypatch.setattr(style, "_fonts", lambda size: (style._own_font(size),))  # as where none is installed
    assert drawable("ant 蚂蚁 मैं", 19) == r"ant \u8682\u8681 \u092e\u0948\u0902"
    for name in ("蚂蚁", "蜜蜂"):
        assert font_for(drawable(name, 19), 19) is style._own_font(19)
    one, other = (prediction_sheet([item(top=[(name, 1.0)])]) for name in ("蚂蚁", "蜜蜂"))
    assert one.tobytes() != other.tobytes()


def test_what_a_font_draws_is_left_as_it_is() -> None:
    assert drawable("ant", 19) == "ant"
    if any("DejaVu" in str(font.getname()[0]) for font in style._fonts(19)):  # type: ignore[union-attr]
        assert drawable("кот ü", 19) == "кот ü"


def test_probabilities_out_of_range_do_no_harm() -> None:
    prediction_sheet([item(top=[("a", float("nan")), ("b", 1.0000002), ("c", -1e-9)])])


def test_pictures_of_any_shape_and_mode() -> None:
    images = [
        Image.new("L", (3, 900)),
        Image.new("RGBA", (1, 1)),
        Image.new("P", (2000, 2)),
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 1), np.uint8),
    ]
    prediction_sheet([item(image=image) for image in images])


def test_what_is_no_picture_is_refused() -> None:
    for wrong in (np.zeros((4, 4, 3)), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4), np.uint8)):
        with pytest.raises(ValueError, match="expected uint8"):
            as_image(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs the picture"):
        prediction_sheet([item(image=None)])
    with pytest.raises(ValueError, match="at least one"):
        prediction_sheet([])
    with pytest.raises(ValueError, match="at least one class"):
        Prediction("a.jpg", [])


def test_transparency_is_laid_on_white() -> None:
    assert as_image(Image.new("RGBA", (2, 2), (9, 9, 9, 0))).getpixel((0, 0)) == (255, 255, 255)


def test_tiny_pictures_are_enlarged_pixel_by_pixel() -> None:
    tiny = np.zeros((8, 8, 3), np.uint8)
    tiny[0, 0] = 255
    assert len(colours(thumbnail(tiny, 224))) == 2


@pytest.mark.parametrize("ending", ["png", "jpg", "JPEG", "webp", "pdf"])
def test_the_ending_chooses_the_format(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"sheet.{ending}"
    save_prediction_sheet(path, [item()])
    if ending == "pdf":
        assert path.read_bytes().startswith(b"%PDF")
    else:
        with Image.open(path) as image:
            image.load()
    assert list(tmp_path.iterdir()) == [path]


def test_an_unknown_ending_is_refused_before_any_work(tmp_path: Path) -> None:
    def never() -> Iterator[Prediction]:
        raise AssertionError("drawn")
        yield item()

    with pytest.raises(UserError, match=r"sheet\.txt: cannot write .* \(use one of png"):
        save_prediction_sheet(tmp_path / "sheet.txt", never())
    with pytest.raises(UserError):
        sheet_format("sheet")


def test_real_photographs(shared: Path) -> None:
    photographs = sorted((shared / "data/ants-bees/val/ants").glob("*.jpg"))[:3]
    items = [item(name=path.name, image=Image.open(path), truth="class 0") for path in photographs]
    assert prediction_sheet(items).width > 600
