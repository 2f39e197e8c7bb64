"""Writes and reads .sqz files. ``docs/format.md`` describes them."""

from __future__ import annotations

import json
import os
from ctypes import byref, string_at
from pathlib import Path

import numpy as np

from squeezekit.errors import UserError
from squeezekit.files import write_atomically
from squeezekit.format import library as c
from squeezekit.format.labels import pack_labels, unpack_labels
from squeezekit.format.library import FileHead, buffer, check, library, tell, text_decode, text_encode
from squeezekit.format.model import Model
from squeezekit.format.pack import pack, unpack
from squeezekit.format.weights import Coding, decode_weights, encode_weights

__all__ = ["dumps", "is_sqz", "loads", "read", "sections", "write"]

MAGIC = b"SQZ\x1a"
_LARGEST = 2**32  # bytes of a file: beyond every network that the format's limits allow


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
    try:
        with write_atomically(path) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error
    return len(data)


def sections(data: bytes) -> list[bytes]:
    """Check a file's head and checksums and return its sections, still coded.

    Raises
    ------
    UserError
        The bytes are no .sqz file, or a damaged one.
    """
    head = FileHead()
    error = library().sqz_file_open(byref(head), data, len(data))
    if error == c.NO_SQZ:
        raise UserError("not a .sqz file (squeezekit compress makes one)")
    if error == c.NEWER:
        version = f"{head.major}.{head.minor}"
        raise UserError(f"of format version {version}, newer than this squeezekit can read (update it)")
    if error:
        raise UserError(tell(error))
    # An empty section at the very end lies behind the last byte: there is nothing to read then.
    return [string_at(part.data, part.size) if part.size else b"" for part in head.section]


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
    return Model(graph, preparation, names, synsets, _metadata(parts[c.METADATA]))


def _metadata(data: bytes) -> dict[str, str]:
    if not data:
        return {}
    try:
        metadata = json.loads(text_decode(data, "the metadata"))
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError
    except (ValueError, RecursionError):
        raise UserError("the metadata: it says something impossible (write the file again)") from None
    return metadata


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


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Read a whole file, unless it is none of ours or too large to be."""
    try:
        with Path(path).open("rb") as file:
            start = file.read(len(MAGIC))
            if start != MAGIC:
                raise UserError(f"{path}: not a .sqz file (squeezekit compress makes one)")
            if os.fstat(file.fileno()).st_size > _LARGEST:
                raise UserError(f"{path}: larger than any .sqz file")
            return start + file.read()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def is_sqz(path: str | os.PathLike[str]) -> bool:
    """Tell by its first bytes whether a file is a .sqz."""
    try:
        with Path(path).open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False
