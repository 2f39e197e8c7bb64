r"""What a file says in words: preparation, class names and synsets; metadata.

Lines of the labels' text: the preparation as JSON; the number of classes; how the synsets are written
(``-`` none, ``n`` WordNet's rising numbers as differences, ``=`` as they are); the names; the synsets. In
names and synsets a backslash and line breaks are written as ``\\``, ``\n`` and ``\r``.
"""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

from squeezekit.errors import UserError
from squeezekit.library import text_decode

__all__ = ["pack_labels", "unpack_labels", "unpack_metadata"]

_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r"}
_WORDNET = re.compile("n[0-9]{8}")


def pack_labels(preparation: Any, names: tuple[str, ...], synsets: tuple[str, ...] | None) -> bytes:
    """Write the section's text."""
    kind = "-" if synsets is None else "n" if _are_rising(synsets) else "="
    lines = [json.dumps(preparation, ensure_ascii=False, separators=(",", ":")), str(len(names)), kind]
    lines += map(_escape, names)
    if kind == "n":
        numbers = [int(synset[1:]) for synset in synsets or ()]
        lines += [str(b - a) for a, b in zip([0, *numbers], numbers, strict=False)]
    elif synsets is not None:
        lines += map(_escape, synsets)
    return "\n".join(lines).encode()


def _are_rising(synsets: tuple[str, ...]) -> bool:
    """Whether all are WordNet's numbers in rising order, so that differences are enough."""
    return all(map(_WORDNET.fullmatch, synsets)) and all(a < b for a, b in pairwise(synsets))


def unpack_labels(data: bytes) -> tuple[Any, tuple[str, ...], tuple[str, ...] | None]:
    """Read the section's text.

    Raises
    ------
    UserError
        It is none.
    """
    try:
        first, count, kind, *lines = data.decode().split("\n")
        preparation, number = json.loads(first), int(count)
        if not isinstance(preparation, dict) or kind not in ("-", "n", "="):
            raise ValueError
        if len(lines) != number * (1 if kind == "-" else 2):
            raise ValueError
        names = tuple(map(_unescape, lines[:number]))
        if kind == "-":
            return preparation, names, None
        if kind == "=":
            return preparation, names, tuple(map(_unescape, lines[number:]))
        synsets, total = [], 0
        for line in lines[number:]:
            total += int(line)
            synsets.append(f"n{total:08d}")
        if not _are_rising(tuple(synsets)):
            raise ValueError
        return preparation, names, tuple(synsets)
    except (ValueError, RecursionError):
        raise UserError("the labels: they say something impossible (write the file again)") from None


def unpack_metadata(data: bytes) -> dict[str, str]:
    """Decode the metadata section, which may be empty.

    Raises
    ------
    UserError
        It is none.
    """
    if not data:
        return {}
    try:
        metadata = json.loads(text_decode(data, "the metadata"))
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError
    except (ValueError, RecursionError):
        raise UserError("the metadata: it says something impossible (write the file again)") from None
    return metadata


def _escape(text: str) -> str:
    return re.sub(r"[\\\n\r]", lambda found: _ESCAPES[found[0]], text)


def _unescape(text: str) -> str:
    def restore(found: re.Match[str]) -> str:
        return {"\\\\": "\\", "\\n": "\n", "\\r": "\r"}[found[0]]

    if re.search(r"\\(?![\\nr])", re.sub(r"\\\\", "", text)):
        raise ValueError(text)
    return re.sub(r"\\[\\nr]", restore, text)
