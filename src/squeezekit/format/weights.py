"""The weights section: arrays to bytes and back, one call of the C library a tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from ctypes import byref, c_size_t, c_uint32, c_void_p
from typing import Literal

import numpy as np

from squeezekit.errors import UserError, suggest
from squeezekit.format.library import (
    CODEBOOK,
    FLOAT32,
    INT8,
    INT32,
    LIMIT,
    UINT8,
    TensorHead,
    buffer,
    check,
    library,
    names,
    tell,
)
from squeezekit.format.pack import ROLES, Take, tensor_head
from squeezekit.graph.graph import Array, Codebook, Graph, Node, dense, frozen

__all__ = ["Coding", "Decoder", "Encoder", "decode_weights", "encode_weights", "weight_bytes"]

Coding = Literal["range", "huffman"]
CODINGS = ("range", "huffman")

_TYPES = {FLOAT32: np.float32, INT8: np.int8, UINT8: np.uint8, INT32: np.int32, CODEBOOK: np.uint8}
_EXPANSION = 16384  # SQZ_MAX_EXPANSION


def _coding_number(coding: str) -> int:
    if coding not in CODINGS:
        raise UserError(
            f"there is no coding {coding!r}{suggest(coding, CODINGS)} (one of {', '.join(CODINGS)})"
        )
    return CODINGS.index(coding)


def _columns(head: TensorHead) -> int:
    """Count the numbers of one filter, which is what the library's workspace depends on."""
    if head.type not in (INT8, CODEBOOK):
        return 0
    shape = tuple(head.shape)
    return shape[0] if head.dimensions == 1 else math.prod(shape[1:])


class Encoder:
    """Encodes tensors, which are all told beforehand, one after the other."""

    def __init__(self, coding: str, heads: Sequence[TensorHead]) -> None:
        size = 2 * sum(math.prod(head.shape) * np.dtype(_TYPES[head.type]).itemsize for head in heads)
        size += 4096 + 2048 * len(heads)
        self.numbers, self.body = np.empty(size, np.uint8), np.empty(size, np.uint8)
        self.workspace = buffer(library().sqz_weights_workspace(max(map(_columns, heads), default=0)))
        self.state = c_void_p()
        check(
            library().sqz_weights_begin(
                byref(self.state),
                _coding_number(coding),
                self.numbers.ctypes.data,
                self.body.ctypes.data,
                size,
                self.workspace,
                len(self.workspace),
            )
        )

    def add(self, head: TensorHead, weight: Array | Codebook, multipliers: Array | None = None) -> None:
        """Encode a weight; biases beside the multipliers of their node."""
        data = np.ascontiguousarray(weight.indices if isinstance(weight, Codebook) else weight)
        values = np.ascontiguousarray(weight.values) if isinstance(weight, Codebook) else multipliers
        pointer, count = (None, 0) if values is None else (values.ctypes.data, values.size)
        check(library().sqz_weights_add(self.state, byref(head), data.ctypes.data, pointer, count))

    def finish(self) -> bytes:
        """Return the section."""
        out, written = np.empty(2 * self.body.size + 16, np.uint8), c_size_t()
        check(library().sqz_weights_end(self.state, out.ctypes.data, out.size, byref(written)))
        return out[: written.value].tobytes()


def graph_tensors(graph: Graph) -> list[tuple[str, str, Array | Codebook]]:
    """List the tensors of a graph in a file's order: name of the node, which weight, values."""
    return [
        (node.name, role, node.weights[role])
        for node in graph.nodes
        for role in ROLES.get(node.op, ())
        if role in node.weights
    ]


def encode_weights(graph: Graph, coding: str = "range") -> bytes:
    """Code the weights of all nodes.

    Raises
    ------
    UserError
        Of a weight that files do not hold, or an unknown coding.
    """
    tensors = graph_tensors(graph)
    heads = []
    for name, role, weight in tensors:
        if not isinstance(weight, Codebook) and weight.dtype not in (np.float32, np.int8, np.uint8, np.int32):
            raise UserError(f"{name}: its {role} is of type {weight.dtype}, which files do not hold")
        heads.append(tensor_head(role, weight))
    encoder = Encoder(coding, heads)
    for head, (name, role, weight) in zip(heads, tensors, strict=True):
        multipliers = _multipliers(graph.node(name)) if head.type == INT32 else None
        try:
            encoder.add(head, weight, multipliers)
        except UserError as error:
            raise UserError(f"{name}: its {role} cannot be written: {error}") from None
    return encoder.finish()


def _multipliers(node: Node) -> Array | None:
    weight = node.weights.get("multiplier")
    return None if weight is None else np.ascontiguousarray(dense(weight))


def weight_bytes(weight: Array | Codebook, coding: str = "range") -> int:
    """Count the bytes that a weight takes when coded alone.

    In a file it takes a little less: there the coder has learnt from the tensors before.

    Parameters
    ----------
    weight : ndarray of int8, uint8, int32 or float32, or Codebook
        Up to four dimensions; filters along the first.
    """
    head = tensor_head("weight", weight)
    encoder = Encoder(coding, [head])
    encoder.add(head, weight)
    return len(encoder.finish())


class Decoder:
    """Decodes the tensors of a section, in order, and counts what each takes.

    Parameters
    ----------
    data
        The section.
    heads
        All its tensors: what they ask for is checked against what the section can hold before any is made.
    """

    def __init__(self, data: bytes, heads: Sequence[TensorHead]) -> None:
        total = sum(math.prod(head.shape) for head in heads)
        if total > (len(data) + 16) * _EXPANSION:
            raise UserError(tell(LIMIT, "the weights"))
        self._data = data  # kept alive: the library reads from it
        self._workspace = buffer(library().sqz_weights_workspace(max(map(_columns, heads), default=0)))
        self._state = c_void_p()
        check(
            library().sqz_weights_open(
                byref(self._state), data, len(data), self._workspace, len(self._workspace)
            ),
            "the weights",
        )
        self.coding = CODINGS[library().sqz_weights_coding(self._state)]
        self.bits: list[int] = []
        self._position = 0
        self._multipliers: Array | None = None

    def take(self, head: TensorHead) -> Array | Codebook:
        """Decode the next tensor."""
        out = np.empty(tuple(head.shape)[: head.dimensions], _TYPES[head.type])
        values: Array | None = np.zeros(256, np.float32) if head.type == CODEBOOK else None
        if head.type == INT32:  # a node's multipliers come before its biases
            values = self._multipliers
        count = c_uint32(0 if values is None else values.size)
        error = library().sqz_weights_next(
            self._state,
            byref(head),
            out.ctypes.data,
            None if values is None else values.ctypes.data,
            byref(count),
        )
        check(error, f"the weights, at tensor {len(self.bits) + 1}")
        position = library().sqz_weights_position(self._state)
        self.bits.append(position - self._position)
        self._position = position
        self._multipliers = out if names("role")[head.role] == "multiplier" else None
        if head.type == CODEBOOK and values is not None:
            return Codebook(frozen(values[: count.value].copy()), frozen(out))
        return frozen(out)


def decode_weights(data: bytes, heads: Sequence[TensorHead]) -> Take:
    """Return what gives the tensors of a weights section, one after the other."""
    return Decoder(data, heads).take
