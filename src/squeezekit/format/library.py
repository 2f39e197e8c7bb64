"""What the C library (``engine/include/sqz.h``) reads and writes of graphs and weights, as Python sees it."""

from __future__ import annotations

from ctypes import (
    POINTER,
    Structure,
    byref,
    c_char,
    c_double,
    c_float,
    c_int,
    c_int32,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
)

from squeezekit.library import (
    CORRUPT,
    END,
    GRAPH,
    LABELS,
    LIMIT,
    METADATA,
    OK,
    WEIGHTS,
    FileHead,
    Functions,
    buffer,
    check,
    declaring,
    names,
    tell,
    text_decode,
)

__all__ = [
    "CORRUPT",
    "END",
    "GRAPH",
    "LABELS",
    "LIMIT",
    "METADATA",
    "OK",
    "WEIGHTS",
    "FileHead",
    "GraphHead",
    "NodeHead",
    "TensorHead",
    "ValueHead",
    "buffer",
    "check",
    "library",
    "names",
    "tell",
    "text_decode",
    "text_encode",
]

FLOAT32, INT8, UINT8, INT32, CODEBOOK = range(5)


class ValueHead(Structure):
    """sqz_value."""

    _fields_ = [
        ("dimensions", c_uint32),
        ("shape", c_uint32 * 3),
        ("quantized", c_uint32),
        ("scale", c_float),
        ("zero_point", c_uint32),
    ]


class TensorHead(Structure):
    """sqz_tensor."""

    _fields_ = [("role", c_uint32), ("type", c_uint32), ("dimensions", c_uint32), ("shape", c_uint32 * 4)]


class NodeHead(Structure):
    """sqz_node."""

    _fields_ = [
        ("name", POINTER(c_char)),
        ("name_size", c_uint32),
        ("op", c_uint32),
        ("inputs", c_uint32),
        ("input", c_uint32 * 255),
        ("kernel", c_uint32 * 2),
        ("stride", c_uint32 * 2),
        ("padding", c_uint32 * 4),
        ("dilation", c_uint32 * 2),
        *((name, c_uint32) for name in ("groups", "activation", "logits", "ceil_mode", "count_include_pad")),
        *((name, c_uint32) for name in ("start", "end", "size")),
        ("real", c_double * 3),
        ("value", ValueHead),
        ("tensors", c_uint32),
        ("tensor", TensorHead * 4),
    ]


class GraphHead(Structure):
    """sqz_graph."""

    _fields_ = [
        ("int8", c_uint32),
        ("nodes", c_uint32),
        ("done", c_uint32),
        ("output", c_uint32),
        ("input", ValueHead),
        ("at", c_void_p),
        ("end", c_void_p),
        ("values", c_void_p),
        ("weights", c_uint64),
    ]


_SIZE, _WORD = POINTER(c_size_t), POINTER(c_uint32)
_FUNCTIONS: Functions = {
    "sqz_file_size": (c_size_t, [POINTER(FileHead)]),
    "sqz_file_write": (c_int, [POINTER(FileHead), c_void_p, c_size_t]),
    "sqz_text_encode": (c_int, [c_void_p, c_size_t, _SIZE, c_void_p, c_size_t, c_void_p, c_size_t]),
    "sqz_graph_open": (c_int, [POINTER(GraphHead), c_void_p, c_size_t]),
    "sqz_graph_values": (c_int, [POINTER(GraphHead), POINTER(ValueHead), c_size_t]),
    "sqz_graph_next": (c_int, [POINTER(GraphHead), POINTER(NodeHead)]),
    "sqz_weights_workspace": (c_size_t, [c_uint32]),
    "sqz_weights_open": (c_int, [POINTER(c_void_p), c_void_p, c_size_t, c_void_p, c_size_t]),
    "sqz_weights_next": (c_int, [c_void_p, POINTER(TensorHead), c_void_p, c_void_p, _WORD]),
    "sqz_weights_position": (c_uint64, [c_void_p]),
    "sqz_weights_coding": (c_int, [c_void_p]),
    "sqz_weights_begin": (
        c_int,
        [POINTER(c_void_p), c_int, c_void_p, c_void_p, c_size_t, c_void_p, c_size_t],
    ),
    "sqz_weights_add": (c_int, [c_void_p, POINTER(TensorHead), c_void_p, c_void_p, c_uint32]),
    "sqz_weights_end": (c_int, [c_void_p, c_void_p, c_size_t, _SIZE]),
    "sqz_bias_shift": (c_int, [c_float]),
    "sqz_grid": (c_float, [c_float, c_int32]),
}


library = declaring(_FUNCTIONS)


def text_encode(text: bytes) -> bytes:
    """Code a text section."""
    capacity = len(text) + len(text) // 8 + 64
    out, workspace = buffer(capacity), buffer(library().sqz_text_workspace())
    written = c_size_t()
    check(
        library().sqz_text_encode(out, capacity, byref(written), text, len(text), workspace, len(workspace)),
        f"a text of {len(text):,} bytes",
    )
    return bytes(memoryview(out)[: written.value])
