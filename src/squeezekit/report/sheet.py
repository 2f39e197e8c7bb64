"""Predictions drawn onto one picture: each photograph with its best classes as bars.

Drawn with Pillow alone, so that ``squeezekit predict --out sheet.png`` needs no plotting library.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from PIL import Image, ImageDraw

from squeezekit.errors import UserError
from squeezekit.files import write_atomically
from squeezekit.report.prediction import Prediction, thumbnail
from squeezekit.report.style import LIGHT, drawable, font_for, percent, plain

MOST_PICTURES = 100  # on one sheet
MOST_BARS = 10  # on one card

# Measures in pixels.
_GAP = 20
_PAD = 18
_PICTURE = 232
_BARS = 296
_ROW = 39
_HEAD = 34
_CARD_WIDTH = _PAD + _PICTURE + _PAD + _BARS + _PAD
_FOOT = 46
_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".pdf": "PDF"}


def prediction_sheet(
    items: Iterable[Prediction], columns: int | None = None, limit: int = MOST_PICTURES
) -> Image.Image:
    """Draw predictions as cards, row by row.

    A known truth colours the predicted class: a green tick when right, a red cross and the truth when wrong.

    Parameters
    ----------
    items
        Predictions with images; read once, and no picture is kept larger than its thumbnail, so it may be a
        generator over any number of files.
    columns
        Cards in a row; None chooses for a sheet that fits a screen.
    limit
        At most so many cards; a line at the foot says how many pictures are not shown.

    Returns
    -------
    PIL.Image.Image
        RGB.

    Raises
    ------
    ValueError
        When there is no item, or one has no image.
    """
    cards: list[tuple[Prediction, Image.Image]] = []
    left_out = 0
    for item in items:
        if len(cards) >= limit:
            left_out += 1
            continue
        if item.image is None:
            raise ValueError(f"{item.name!r}: a sheet needs the picture itself")
        cards.append((item, thumbnail(item.image, _PICTURE)))
    if not cards:
        raise ValueError("a sheet needs at least one prediction")

    bars = max(min(len(item.top), MOST_BARS) for item, _ in cards)
    notes = any(item.right is False for item, _ in cards)
    card_height = 2 * _PAD + max(_PICTURE, _HEAD + bars * _ROW + (_HEAD if notes else 0) - 8)
    if columns is None:
        columns = _columns(len(cards), card_height)
    columns = max(1, min(columns, len(cards)))
    rows = math.ceil(len(cards) / columns)
    width = _GAP + columns * (_CARD_WIDTH + _GAP)
    height = _GAP + rows * (card_height + _GAP) + (_FOOT if left_out else 0)
    sheet = Image.new("RGB", (width, height), LIGHT.background)
    for number, (item, picture) in enumerate(cards):
        row, column = divmod(number, columns)
        place = (_GAP + column * (_CARD_WIDTH + _GAP), _GAP + row * (card_height + _GAP))
        _card(sheet, place, card_height, item, picture)
    if left_out:
        pictures = "picture is" if left_out == 1 else "pictures are"
        note = f"The first {len(cards)} pictures; {left_out:,} more {pictures} not on this sheet."
        ImageDraw.Draw(sheet).text(
            (_GAP, height - _FOOT), _fitted(note, 20, width - 2 * _GAP), LIGHT.muted, font_for(note, 20)
        )
    return sheet


def save_prediction_sheet(
    path: str | Path, items: Iterable[Prediction], columns: int | None = None, limit: int = MOST_PICTURES
) -> None:
    """Draw a sheet and write it atomically; the ending chooses the format (png, jpg, webp, pdf).

    Raises
    ------
    UserError
        When the ending names no such format. Checked before anything is drawn.
    """
    path = Path(path)
    form = sheet_format(path)
    sheet = prediction_sheet(items, columns, limit)
    with write_atomically(path) as unfinished:
        if form == "JPEG":
            sheet.save(unfinished, form, quality=90, subsampling=0)
        else:
            sheet.save(unfinished, form)


def sheet_format(path: str | Path) -> str:
    """Pillow's name of the format a sheet at `path` has, or UserError: ask before predicting anything."""
    suffix = Path(path).suffix.lower()
    if suffix not in _FORMATS:
        known = ", ".join(ending.lstrip(".") for ending in _FORMATS)
        raise UserError(f"{path}: cannot write a sheet of predictions in this format (use one of {known})")
    return _FORMATS[suffix]


def _columns(number: int, card_height: int) -> int:
    """Columns that make the sheet about 1.4 times as wide as high, and no wider than five cards."""
    return max(1, min(5, number, round(math.sqrt(1.4 * number * card_height / _CARD_WIDTH))))


def _card(
    sheet: Image.Image, place: tuple[int, int], height: int, item: Prediction, picture: Image.Image
) -> None:
    left, top = place
    draw = ImageDraw.Draw(sheet)
    draw.rounded_rectangle(
        (left, top, left + _CARD_WIDTH - 1, top + height - 1), 12, fill=LIGHT.surface, outline=LIGHT.line
    )
    inside = top + _PAD
    sheet.paste(
        picture, (left + _PAD + (_PICTURE - picture.width) // 2, inside + (_PICTURE - picture.height) // 2)
    )

    x = left + _PAD + _PICTURE + _PAD
    name = _fitted(item.name, 17, _BARS)
    draw.text((x, inside - 2), name, LIGHT.muted, font_for(name, 17))
    y = inside + _HEAD
    for rank, (class_name, probability) in enumerate(item.top[:MOST_BARS]):
        colour = LIGHT.validation if rank == 0 else LIGHT.train
        if rank == 0 and item.right is not None:
            colour = LIGHT.right if item.right else LIGHT.wrong
        elif item.truth == class_name:
            colour = LIGHT.right
        _bar(
            draw,
            x,
            y,
            class_name,
            probability,
            colour,
            strong=rank == 0,
            mark=item.right if rank == 0 else None,
        )
        y += _ROW
    if item.right is False:
        truth = _fitted(f"truth: {item.truth}", 18, _BARS)
        draw.text((x, y + 2), truth, LIGHT.right, font_for(truth, 18))


def _bar(
    draw: ImageDraw.ImageDraw,
    x: int,
    y: int,
    class_name: str,
    probability: float,
    colour: str,
    *,
    strong: bool,
    mark: bool | None,
) -> None:
    """One class: name on the left, probability on the right, a bar beneath."""
    share = min(1.0, max(0.0, probability)) if math.isfinite(probability) else 0.0
    number = _fitted(percent(probability), 19, _BARS)
    text = LIGHT.text if strong else LIGHT.muted
    number_font = font_for(number, 19)
    number_width = math.ceil(number_font.getlength(number))
    indent = 0
    if mark is not None:
        _mark(draw, x, y + 4, mark)
        indent = 24
    name = _fitted(class_name, 19, _BARS - number_width - indent - 12)
    draw.text((x + indent, y), name, colour if mark is not None else text, font_for(name, 19))
    draw.text((x + _BARS - number_width, y), number, text, number_font)
    track = y + 25
    draw.rounded_rectangle((x, track, x + _BARS - 1, track + 6), 3, fill=LIGHT.line)
    filled = round(share * _BARS)
    if filled:
        draw.rounded_rectangle((x, track, x + max(filled, 7) - 1, track + 6), 3, fill=colour)


def _mark(draw: ImageDraw.ImageDraw, x: int, y: int, right: bool) -> None:
    """Draw a tick or a cross, 16 pixels, as lines: not every font has one."""
    if right:
        draw.line((x + 1, y + 8, x + 6, y + 13, x + 15, y + 2), LIGHT.right, 3, joint="curve")
    else:
        draw.line((x + 2, y + 2, x + 13, y + 13), LIGHT.wrong, 3)
        draw.line((x + 2, y + 13, x + 13, y + 2), LIGHT.wrong, 3)


def _fitted(text: str, font_size: int, width: int) -> str:
    """`text` cut in its middle until it is no wider than `width` pixels."""
    # Pillow's font has no such space.
    text = drawable(plain(text[:400]).replace("\u00a0", " "), font_size)
    font = font_for(text, font_size)
    if font.getlength(text) <= width:
        return text
    low, high = 1, len(text)  # how many characters may stay
    while low < high:
        keep = (low + high + 1) // 2
        if font.getlength(_cut(text, keep)) <= width:
            low = keep
        else:
            high = keep - 1
    return _cut(text, low)


def _cut(text: str, keep: int) -> str:
    tail = keep // 2
    return text[: keep - tail].rstrip() + "…" + text[len(text) - tail :].lstrip()
