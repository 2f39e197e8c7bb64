"""Where the bytes of a .sqz file are: by section, and by tensor."""

from __future__ import annotations

import os
from dataclasses import dataclass

from squeezekit.errors import UserError
from squeezekit.format import library as c
from squeezekit.format.file import loads, sections
from squeezekit.format.library import TensorHead, text_decode
from squeezekit.format.model import Model
from squeezekit.format.pack import Take, unpack
from squeezekit.format.weights import Decoder, graph_tensors
from squeezekit.library import read_bytes

__all__ = ["Sizes", "TensorSize", "sizes"]


@dataclass(frozen=True)
class TensorSize:
    """What one tensor takes.

    Attributes
    ----------
    node, role : str
        Whose weight it is, and which.
    count : int
        How many numbers.
    bits : int
        That they take in the file, to within a few.
    """

    node: str
    role: str
    count: int
    bits: int


@dataclass(frozen=True)
class Sizes:
    """What a file holds and where its bytes are.

    Attributes
    ----------
    model : Model
    total : int
        Bytes of the file.
    version : tuple of int
        Of its format.
    coding : str
        Of its weights.
    sections : dict of str to int
        Bytes of each section as coded, ``head`` (table and checksums) among them.
    tensors : tuple of TensorSize
        In the file's order.
    """

    model: Model
    total: int
    version: tuple[int, int]
    coding: str
    sections: dict[str, int]
    tensors: tuple[TensorSize, ...]


def sizes(path: str | os.PathLike[str]) -> Sizes:
    """Read a file and count its bytes.

    Raises
    ------
    UserError
        As :func:`squeezekit.format.read`.
    """
    data = read_bytes(path)
    try:
        parts = sections(data)
        decoders: list[Decoder] = []

        def begin(heads: list[TensorHead]) -> Take:
            decoders.append(Decoder(parts[c.WEIGHTS], heads))
            return decoders[0].take

        model = loads(data)
        unpack(text_decode(parts[c.GRAPH], "the graph"), begin)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    tensors = tuple(
        TensorSize(node, role, weight.size, bits)
        for (node, role, weight), bits in zip(graph_tensors(model.graph), decoders[0].bits, strict=True)
    )
    by_section = dict(zip(("graph", "labels", "weights", "metadata"), map(len, parts), strict=True))
    by_section["head"] = len(data) - sum(by_section.values())
    return Sizes(model, len(data), (data[4], data[5]), decoders[0].coding, by_section, tensors)
