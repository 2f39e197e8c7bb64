"""The C library (``engine/include/sqz.h``), as Python sees it: structures, functions, errors.

ctypes releases the interpreter's lock during every call, so files can be read side by side.
"""

from __future__ import annotations

import ctypes
import functools
import sys
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
    c_uint8,
    c_uint32,
    c_uint64,
    c_void_p,
)
from pathlib import Path
from typing import Any

from squeezekit.errors import UserError

__all__ = [
    "FileHead",
    "GraphHead",
    "NodeHead",
    "TensorHead",
    "ValueHead",
    "buffer",
    "check",
    "library",
    "tell",
]

OK, END, NO_SQZ, NEWER, TRUNCATED, CHECKSUM, CORRUPT, LIMIT, SPACE, ARGUMENT = range(10)
GRAPH, LABELS, WEIGHTS, METADATA = range(4)
FLOAT32, INT8, UINT8, INT32, CODEBOOK = range(5)


class SectionHead(Structure):
    """sqz_section."""

    _fields_ = [("data", c_void_p), ("size", c_size_t)]


class FileHead(Structure):
    """sqz_file."""

    _fields_ = [("major", c_uint8), ("minor", c_uint8), ("section", SectionHead * 4)]


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
_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "sqz_error_name": (ctypes.c_char_p, [c_int]),
    "sqz_file_open": (c_int, [POINTER(FileHead), c_void_p, c_size_t]),
    "sqz_file_size": (c_size_t, [POINTER(FileHead)]),
    "sqz_file_write": (c_int, [POINTER(FileHead), c_void_p, c_size_t]),
    "sqz_text_workspace": (c_size_t, []),
    "sqz_text_size": (c_int, [c_void_p, c_size_t, _SIZE]),
    "sqz_text_decode": (c_int, [c_void_p, c_size_t, c_void_p, c_size_t, c_void_p, c_size_t]),
    "sqz_text_encode": (c_int, [c_void_p, c_size_t, _SIZE, c_void_p, c_size_t, c_void_p, c_size_t]),
    "sqz_graph_open": (c_int, [POINTER(GraphHead), c_void_p, c_size_t]),
    "sqz_graph_values": (c_int, [POINTER(GraphHead), POINTER(ValueHead), c_size_t]),
    "sqz_graph_next": (c_int, [POINTER(GraphHead), POINTER(NodeHead)]),
    "sqz_operator_name": (ctypes.c_char_p, [c_uint32]),
    "sqz_role_name": (ctypes.c_char_p, [c_uint32]),
    "sqz_activation_name": (ctypes.c_char_p, [c_uint32]),
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


@functools.cache
def library() -> Any:
    """Load the C library that was built with the package.

    Raises
    ------
    UserError
        It is not there: the package was copied, not installed.
    """
    import squeezekit.format as package

    name = {"win32": "sqz.dll", "darwin": "libsqz.dylib"}.get(sys.platform, "libsqz.so")
    # An editable install keeps what was compiled beside the other installed packages.
    folders = [*package.__path__, *(str(Path(entry) / "squeezekit" / "format") for entry in sys.path)]
    for folder in folders:
        file = Path(folder) / name
        if file.is_file():
            loaded = ctypes.CDLL(str(file))
            break
    else:
        raise UserError(f"squeezekit: its C library {name} is missing (install it: pip install squeezekit)")
    for function, (result, arguments) in _FUNCTIONS.items():
        pointer = getattr(loaded, function)
        pointer.restype, pointer.argtypes = result, arguments
    return loaded


@functools.cache
def names(of: str) -> tuple[str, ...]:
    """List the library's names: of ``"operator"``, ``"role"`` or ``"activation"``, by number."""
    function = getattr(library(), f"sqz_{of}_name")
    found: list[str] = []
    while (name := function(len(found))) is not None:
        found.append(name.decode())
    return tuple(found)


_MEANINGS = {
    TRUNCATED: "it ends too early (copy or download it again)",
    CHECKSUM: "its checksum does not fit: the bytes are damaged (copy or download it again)",
    CORRUPT: "it says something impossible (write it again)",
    LIMIT: "it asks for more than a file of its size can hold (it is damaged, or not to be trusted)",
}


def tell(error: int, what: str = "") -> str:
    """Say what an error code means, for the end of a message; `what` names the part of the file."""
    meaning = _MEANINGS.get(error, library().sqz_error_name(error).decode())
    return f"{what}: {meaning}" if what else meaning


def check(error: int, what: str = "") -> None:
    """Turn an error code into a UserError.

    Raises
    ------
    UserError
        The code is not OK.
    """
    if error != OK:
        raise UserError(tell(error, what))


def buffer(size: int) -> Any:
    """Give `size` bytes of memory (at least one), to pass to the library."""
    return (c_uint8 * max(1, size))()


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


def text_decode(data: bytes, what: str) -> bytes:
    """Decode a text section; `what` names it in an error."""
    size = c_size_t()
    check(library().sqz_text_size(data, len(data), byref(size)), what)
    out, workspace = buffer(size.value), buffer(library().sqz_text_workspace())
    check(
        library().sqz_text_decode(out, len(out), data, len(data), workspace, len(workspace)),
        what,
    )
    return bytes(memoryview(out)[: size.value])
