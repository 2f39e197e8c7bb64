"""The one look of plots, sheets and pages: palettes, fonts, and how names and numbers are written.

Hues are told apart by colour-blind readers (after Okabe and Ito's set): blue, vermilion, bluish green, amber.
Right and wrong never differ by colour alone; a tick or a cross stands beside it.
"""

from __future__ import annotations

import contextlib
import functools
import math
import unicodedata
from dataclasses import dataclass
from typing import Any

from PIL import ImageFont


@dataclass(frozen=True)
class Palette:
    """Colours as ``#rrggbb``."""

    background: str
    surface: str  #: cards and plots
    text: str
    muted: str  #: secondary text
    line: str  #: borders, grids, the track of a bar
    train: str
    validation: str
    average: str  #: the averaged (EMA) weights
    rate: str
    right: str
    wrong: str


LIGHT = Palette(
    background="#f6f7f9",
    surface="#ffffff",
    text="#1b2430",
    muted="#5d6978",
    line="#e1e5ea",
    train="#8a97a8",
    validation="#0067a8",
    average="#c65a00",
    rate="#7a5195",
    right="#00795c",
    wrong="#c1341a",
)
DARK = Palette(
    background="#12161c",
    surface="#1a2029",
    text="#e7ecf2",
    muted="#9aa7b6",
    line="#303945",
    train="#7f8ea1",
    validation="#58b4f0",
    average="#f2a154",
    rate="#c3a0e0",
    right="#3fc79f",
    wrong="#ff8266",
)

# Where installed, for class names in scripts beyond those of DejaVu Sans, which every matplotlib carries.
_FALLBACK_FAMILIES = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "WenQuanYi Zen Hei",
    "Hiragino Sans",
    "Microsoft YaHei",
    "Noto Sans Arabic",
    "Noto Sans Devanagari",
    "Arial Unicode MS",
)
_FALLBACK_FILES = (
    "DejaVuSans.ttf",
    "NotoSansCJK-Regular.ttc",
    "wqy-zenhei.ttc",
    "msyh.ttc",
    "Hiragino Sans GB.ttc",
    "Arial Unicode.ttf",
)


def matplotlib_settings(palette: Palette) -> dict[str, Any]:
    """Give settings for `matplotlib.rc_context`: set while a figure is built, gone afterwards."""
    from matplotlib.font_manager import fontManager

    installed = set(fontManager.get_font_names())
    return {
        "font.family": ["DejaVu Sans", *(name for name in _FALLBACK_FAMILIES if name in installed)],
        "font.size": 9.5,
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.titlepad": 10,
        "axes.titlecolor": palette.text,
        "axes.labelsize": 9.5,
        "axes.labelcolor": palette.muted,
        "axes.edgecolor": palette.line,
        "axes.facecolor": palette.surface,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "grid.color": palette.line,
        "grid.linewidth": 0.8,
        "figure.facecolor": palette.surface,
        "legend.frameon": False,
        "legend.fontsize": 9,
        "lines.linewidth": 2.0,
        "lines.solid_capstyle": "round",
        "text.color": palette.text,
        "xtick.color": palette.line,
        "ytick.color": palette.line,
        "xtick.labelcolor": palette.muted,
        "ytick.labelcolor": palette.muted,
        "xtick.labelsize": 9,
        "ytick.labelsize": 9,
    }


_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@functools.lru_cache(maxsize=64)
def _own_font(size: int) -> _Font:
    return ImageFont.load_default(size)


@functools.lru_cache(maxsize=64)
def _fonts(size: int) -> tuple[_Font, ...]:
    """Pillow's own font, and those of :data:`_FALLBACK_FILES` that are installed."""
    fonts = [_own_font(size)]
    for file in _FALLBACK_FILES:
        with contextlib.suppress(OSError):
            fonts.append(ImageFont.truetype(file, size))
    return tuple(fonts)


def font_for(text: str, size: int) -> _Font:
    """Choose a font of `size` pixels that can draw `text`: Pillow's own, else an installed one."""
    own = _own_font(size)
    if text.isascii():
        return own
    return next((font for font in _fonts(size) if not _missing(font, text)), own)


def drawable(text: str, size: int) -> str:
    r"""`text` with what no font draws written as in Python: ``猫`` -> ``\u732b``, where no font has it.

    A row of empty boxes says nothing; two names in such a script could not be told apart.
    """
    if text.isascii():
        return text
    missing = min((_missing(font, text) for font in _fonts(size)), key=len)
    return "".join(c.encode("unicode_escape").decode() if c in missing else c for c in text)


def _missing(font: _Font, text: str) -> set[str]:
    """Return the characters of `text` that are drawn as the font's box for missing ones."""
    characters = {character for character in text if not character.isspace()}
    if not isinstance(font, ImageFont.FreeTypeFont):
        return {character for character in characters if not character.isascii()}
    alone = _by_character(font)
    box = bytes(alone.getmask("\U0010fffe"))
    return {character for character in characters if bytes(alone.getmask(character)) == box}


@functools.lru_cache(maxsize=64)
def _by_character(font: ImageFont.FreeTypeFont) -> ImageFont.FreeTypeFont:
    """Return the font without shaping, which would set a mark that stands alone on a dotted circle."""
    return font.font_variant(layout_engine=ImageFont.Layout.BASIC)


_BIDI_CONTROLS = set("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def plain(text: str) -> str:
    """`text` on one line with every control character, half surrogate and bidi override shown as U+FFFD.

    Class and file names come from anybody's folder: they must neither steer a terminal nor break a page.
    """
    return "".join(
        "\ufffd" if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or c in _BIDI_CONTROLS else c
        for c in text
    )


def shortened(text: str, length: int) -> str:
    """`text`, cut in its middle to `length` characters: ``a_very_lo…ss_name``."""
    text = plain(text)
    if len(text) <= length:
        return text
    tail = (length - 1) // 2
    return text[: length - 1 - tail] + "…" + text[len(text) - tail :]


def percent(share: float | None, digits: int = 1) -> str:
    """0.976 -> ``97.6 %``; an en dash when there is no number."""
    if share is None or not math.isfinite(share):
        return "–"
    return f"{100 * share:.{digits}f}\u00a0%"


def size(count: float | None) -> str:
    """Write a number of bytes for people, in powers of 1000: 4,985,224 -> ``4.99 MB``."""
    if count is None or not math.isfinite(count):
        return "–"
    if count < 1000:
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if count < 999.5 or unit == "GB":
            break
    return f"{count:.3g} {unit}" if count < 999.5 else f"{count:,.0f} {unit}"


def duration(seconds: float | None) -> str:
    """Write seconds for people: ``42 s``, ``3 min 08 s``, ``2 h 05 min``."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
