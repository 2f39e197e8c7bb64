"""Writes and reads .sqz files. ``docs/format.md`` describes them."""

from __future__ import annotations

import json
import os
from ctypes import byref
from pathlib import Path

import numpy as np

from squeezekit.errors import UserError
from squeezekit.files import write_bytes
from squeezekit.format import library as c
from squeezekit.format.labels import pack_labels, unpack_labels, unpack_metadata
from squeezekit.format.library import FileHead, buffer, check, library, text_decode, text_encode
from squeezekit.format.model import Model
from squeezekit.format.pack import pack, unpack
from squeezekit.format.weights import Coding, decode_weights, encode_weights
from squeezekit.library import MAGIC, read_bytes, sections

__all__ = ["dumps", "is_sqz", "loads", "read", "sections", "write"]


def dumps(model: Model, coding: Coding = "range") -> bytes:
    """Return the bytes of a .sqz file. Equal models give equal bytes, on every machine.

    Parameters
    ----------
    model
    coding : {"range", "huffman"}
        How the weights are coded. ``"range"`` is smaller, ``"huffman"`` the method of Deep Compression.

    Raises
    ------
    UserError
        The model has something that files do not hold.
    """
    parts = [b""] * 4
    parts[c.GRAPH] = text_encode(pack(model.graph))
    parts[c.LABELS] = text_encode(pack_labels(model.preparation, model.names, model.synsets))
    parts[c.WEIGHTS] = encode_weights(model.graph, coding)
    metadata = json.dumps(dict(model.metadata), ensure_ascii=False, separators=(",", ":"))
    parts[c.METADATA] = text_encode(metadata.encode()) if model.metadata else b""
    head = FileHead()
    kept = [np.frombuffer(part or b"\0", np.uint8) for part in parts]
    for place, (part, memory) in enumerate(zip(parts, kept, strict=True)):
        head.section[place].data, head.section[place].size = memory.ctypes.data, len(part)
    out = buffer(library().sqz_file_size(byref(head)))
    check(library().sqz_file_write(byref(head), out, len(out)), "the file")
    return bytes(out)


def write(path: str | os.PathLike[str], model: Model, coding: Coding = "range") -> int:
    """Write a model to a file, which appears whole or not at all.

    Returns
    -------
    int
        The file's bytes.

    Raises
    ------
    UserError
        As :func:`dumps`; or the file cannot be written.
    """
    data = dumps(model, coding)
    write_bytes(path, data)
    return len(data)


def loads(data: bytes) -> Model:
    """Return the model that the bytes of a .sqz file hold.

    Raises
    ------
    UserError
        The bytes are none: damaged, truncated, of a newer version, or something else altogether.
    """
    parts = sections(data)
    graph = unpack(
        text_decode(parts[c.GRAPH], "the graph"), lambda heads: decode_weights(parts[c.WEIGHTS], heads)
    )
    preparation, names, synsets = unpack_labels(text_decode(parts[c.LABELS], "the labels"))
    return Model(graph, preparation, names, synsets, unpack_metadata(parts[c.METADATA]))


def read(path: str | os.PathLike[str]) -> Model:
    """Read a model from a file.

    Raises
    ------
    UserError
        The file cannot be read, is damaged, truncated, of a newer version, or no .sqz at all.
    """
    data = read_bytes(path)
    try:
        return loads(data)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def is_sqz(path: str | os.PathLike[str]) -> bool:
    """Tell by its first bytes whether a file is a .sqz."""
    try:
        with Path(path).open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False
