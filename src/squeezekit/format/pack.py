"""The graph section's plain bytes: a :class:`Graph` to bytes, and back through the C library's reader.

``docs/format.md``, "The graph". Weights are not part of it; :mod:`squeezekit.format.weights` codes them.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Mapping
from ctypes import byref
from typing import Any

import numpy as np

from squeezekit.errors import UserError
from squeezekit.format.library import (
    CODEBOOK,
    END,
    FLOAT32,
    INT8,
    INT32,
    UINT8,
    GraphHead,
    NodeHead,
    TensorHead,
    ValueHead,
    check,
    library,
    names,
    tell,
)
from squeezekit.graph.graph import INPUT, Array, Codebook, Graph, Node, Quantization, Tensor

__all__ = ["pack", "unpack"]

# How each attribute is written. Within a node they stand in this order.
_ATTRIBUTES = {
    **dict.fromkeys(("kernel", "stride", "padding", "dilation"), "sizes"),
    "groups": "size",
    "activation": "activation",
    **dict.fromkeys(("logits", "ceil_mode", "count_include_pad", "start", "end", "size"), "size"),
    **dict.fromkeys(("eps", "alpha", "beta", "k"), "real"),
}
_REALS = {"batch_norm": ("eps",), "local_response_norm": ("alpha", "beta", "k")}
#: The weights of each operator in the file's order.
ROLES = {
    "conv": ("weight", "multiplier", "bias", "pad_value"),
    "linear": ("weight", "multiplier", "bias"),
    "affine": ("scale", "shift"),
    "batch_norm": ("gamma", "beta", "mean", "var"),
    **dict.fromkeys(("add", "mul", "avg_pool", "global_avg_pool"), ("multiplier",)),
    "table": ("table",),
}
_INT8_ONLY = ("multiplier", "table")  # weights that a float32 graph has not
_TYPES = {
    np.dtype(np.float32): FLOAT32,
    np.dtype(np.int8): INT8,
    np.dtype(np.uint8): UINT8,
    np.dtype(np.int32): INT32,
}


def _number(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _quantization(q: Quantization) -> bytes:
    return struct.pack("<fB", q.scale, q.zero_point)


def pack(graph: Graph) -> bytes:
    """Write a graph down, without its weights.

    Raises
    ------
    UserError
        Names too long, too many nodes, or an operator that files do not have.
    """
    if len(graph.nodes) > 65535:
        raise UserError(f"{len(graph.nodes):,} nodes (a file holds at most 65,535)")
    shape = graph.input.shape
    out = [bytes([graph.is_int8, len(shape)]), *map(_number, shape)]
    if graph.input.quantization is not None:
        out.append(_quantization(graph.input.quantization))
    out.append(_number(len(graph.nodes)))
    places = {INPUT: 0}
    for node in graph.nodes:
        try:
            out.append(_pack_node(graph, node, places))
        except UserError as error:
            raise UserError(f"{node.name[:80]} ({node.op}): {error}") from None
        places[node.name] = len(places)
    out.append(_number(places[graph.output]))
    return b"".join(out)


def _pack_node(graph: Graph, node: Node, places: Mapping[str, int]) -> bytes:
    name = node.name.encode(errors="surrogatepass")
    if len(name) > 255 or not _is_text(node.name):
        raise UserError("its name cannot be written (at most 255 bytes of UTF-8)")
    operators = names("operator")
    if node.op not in operators:
        raise UserError("files do not know this operator")
    out = [_number(len(name)), name, bytes([operators.index(node.op)])]
    if node.op == "concat":
        if len(node.inputs) > 255:
            raise UserError(f"{len(node.inputs)} inputs (at most 255)")
        out.append(_number(len(node.inputs)))
    out += [_number(len(places) - places[each]) for each in node.inputs]
    out += [
        _attribute(kind, node.attributes[key]) for key, kind in _ATTRIBUTES.items() if key in node.attributes
    ]
    if graph.is_int8:
        out.append(_result(graph, node))
    if node.op in ("conv", "linear"):
        out.append(_number(node.weights["weight"].shape[0]))
    for role in ROLES.get(node.op, ()):
        if role in _INT8_ONLY and not graph.is_int8:
            continue
        weight = node.weights.get(role)
        out.append(_number(0 if weight is None else 2 if isinstance(weight, Codebook) else 1))
        if node.op == "avg_pool" and weight is not None:
            out.append(_number(weight.size))
    return b"".join(out)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _attribute(kind: str, value: Any) -> bytes:
    if kind == "sizes":
        return b"".join(map(_number, value))
    if kind == "size":
        return _number(value)
    if kind == "activation":
        return _number(names("activation").index(value))
    return struct.pack("<d", value)


def _result(graph: Graph, node: Node) -> bytes:
    if node.quantization is None:
        return b"\0"
    if node.quantization == graph.tensors[node.inputs[0]].quantization:
        return b"\1"
    return b"\2" + _quantization(node.quantization)


# --- and back ----------------------------------------------------------------------------------------------

#: Gives the next tensor of a file, in the order of the graph.
Take = Callable[[TensorHead], "Array | Codebook"]


def _value_quantization(value: ValueHead) -> Quantization | None:
    return Quantization(float(value.scale), int(value.zero_point)) if value.quantized else None


def unpack(data: bytes, begin: Callable[[list[TensorHead]], Take]) -> Graph:
    """Read a graph.

    Parameters
    ----------
    data
        The section's plain bytes.
    begin
        Called once with all tensors that the graph declares, when everything about them has been checked and
        before any is asked for.

    Raises
    ------
    UserError
        The bytes are no graph.
    """
    head = GraphHead()
    check(library().sqz_graph_open(byref(head), data, len(data)), "the graph")
    values = (ValueHead * (head.nodes + 1))()
    check(library().sqz_graph_values(byref(head), values, len(values)), "the graph")
    heads = []
    while True:
        node = NodeHead()
        error = library().sqz_graph_next(byref(head), byref(node))
        if error == END:
            break
        if error:
            raise UserError(tell(error, f"the graph, at node {head.done + 1} of {head.nodes}"))
        heads.append(node)
    take = begin([node.tensor[i] for node in heads for i in range(node.tensors)])
    value_names = [INPUT]
    nodes = [_unpack_node(node, value_names, take) for node in heads]
    size = head.input.dimensions
    source = Tensor(INPUT, tuple(head.input.shape)[:size], _value_quantization(head.input))
    return Graph(source, tuple(nodes), value_names[head.output])


def _unpack_node(head: NodeHead, value_names: list[str], take: Take) -> Node:
    from squeezekit.graph.operators import OPERATORS

    op = names("operator")[head.op]
    try:
        name = ctypes.string_at(head.name, head.name_size).decode()
    except UnicodeDecodeError:
        raise UserError(f"the graph, at node {len(value_names)}: its name is no text") from None
    attributes: dict[str, Any] = {}
    for key in OPERATORS[op].attributes:
        if key in _REALS.get(op, ()):
            attributes[key] = float(head.real[_REALS[op].index(key)])
        elif _ATTRIBUTES[key] == "sizes":
            attributes[key] = tuple(getattr(head, key))
        elif key == "activation":
            attributes[key] = names("activation")[head.activation]
        else:
            attributes[key] = int(getattr(head, key))
    weights: dict[str, Array | Codebook] = {}
    for i in range(head.tensors):
        weights[names("role")[head.tensor[i].role]] = take(head.tensor[i])
    inputs = tuple(value_names[head.input[i]] for i in range(head.inputs))
    value_names.append(name)
    return Node(name, op, inputs, attributes, weights, _value_quantization(head.value))


def tensor_head(role: str, array: Array | Codebook) -> TensorHead:
    """Describe a weight to the library."""
    kind = CODEBOOK if isinstance(array, Codebook) else _TYPES[array.dtype]
    shape = array.shape
    return TensorHead(
        names("role").index(role), kind, len(shape), (ctypes.c_uint32 * 4)(*shape, *[1] * (4 - len(shape)))
    )
