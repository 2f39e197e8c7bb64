"""The C library (``engine/include/sqz.h``): finds it, loads it, and says what its errors mean.

What :mod:`squeezekit.format` and :mod:`squeezekit.engine` both need of it: the file's sections, texts, names.
Each declares the functions that it alone calls. ctypes releases the interpreter's lock during every call.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections.abc import Callable, Mapping
from ctypes import POINTER, Structure, byref, c_int, c_size_t, c_uint8, c_uint32, c_void_p, string_at
from types import MappingProxyType
from typing import Any

from squeezekit.errors import UserError

__all__ = [
    "FileHead",
    "buffer",
    "check",
    "declare",
    "declaring",
    "library",
    "names",
    "read_bytes",
    "sections",
    "tell",
    "text_decode",
]

OK, END, NO_SQZ, NEWER, TRUNCATED, CHECKSUM, CORRUPT, LIMIT, SPACE, ARGUMENT, UNSUPPORTED = range(11)
GRAPH, LABELS, WEIGHTS, METADATA = range(4)

MAGIC = b"SQZ\x1a"
_LARGEST = 2**32  # bytes of a file: beyond every network that the format's limits allow

Functions = Mapping[str, tuple[Any, list[Any]]]
"""What functions return and take."""


class SectionHead(Structure):
    """sqz_section."""

    _fields_ = [("data", c_void_p), ("size", c_size_t)]


class FileHead(Structure):
    """sqz_file."""

    _fields_ = [("major", c_uint8), ("minor", c_uint8), ("section", SectionHead * 4)]


_FUNCTIONS: Functions = {
    "sqz_error_name": (ctypes.c_char_p, [c_int]),
    "sqz_file_open": (c_int, [POINTER(FileHead), c_void_p, c_size_t]),
    "sqz_text_workspace": (c_size_t, []),
    "sqz_text_size": (c_int, [c_void_p, c_size_t, POINTER(c_size_t)]),
    "sqz_text_decode": (c_int, [c_void_p, c_size_t, c_void_p, c_size_t, c_void_p, c_size_t]),
    "sqz_operator_name": (ctypes.c_char_p, [c_uint32]),
    "sqz_role_name": (ctypes.c_char_p, [c_uint32]),
    "sqz_activation_name": (ctypes.c_char_p, [c_uint32]),
}


@functools.cache
def library() -> Any:
    """Load the C library that was built with the package.

    Raises
    ------
    UserError
        It is not there: the package was copied, not installed.
    """
    import squeezekit as package

    name = {"win32": "sqz.dll", "darwin": "libsqz.dylib"}.get(sys.platform, "libsqz.so")
    # An editable install keeps what was compiled beside the other installed packages.
    folders = [*package.__path__, *(f"{entry}/squeezekit" for entry in sys.path)]
    for folder in folders:
        file = f"{folder}/format/{name}"
        if os.access(file, os.R_OK):
            loaded = ctypes.CDLL(file)
            break
    else:
        raise UserError(f"squeezekit: its C library {name} is missing (install it: pip install squeezekit)")
    declare(loaded, _FUNCTIONS)
    return loaded


def declare(loaded: Any, functions: Functions) -> None:
    """Tell ctypes what functions of the library take and return.

    Raises
    ------
    UserError
        One is not there: the library is of another version than the package.
    """
    for function, (result, arguments) in functions.items():
        try:
            pointer = getattr(loaded, function)
        except AttributeError:
            raise UserError(
                f"squeezekit: its C library has no {function} (install it anew: pip install squeezekit)"
            ) from None
        pointer.restype, pointer.argtypes = result, arguments


def declaring(functions: Functions, optional: Functions = MappingProxyType({})) -> Callable[[], Any]:
    """Return what loads the library, ready for the functions that one room alone calls.

    A build may lack all of the `optional` ones. The loader raises UserError where the library is missing, or
    of another version than the package.
    """

    @functools.cache
    def load() -> Any:
        loaded = library()
        declare(loaded, functions)
        if all(hasattr(loaded, name) for name in optional):
            declare(loaded, optional)
        return loaded

    return load


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


def sections(data: bytes) -> list[bytes]:
    """Check a file's head and checksums and return its sections, still coded.

    Raises
    ------
    UserError
        The bytes are no .sqz file, or a damaged one.
    """
    head = FileHead()
    error = library().sqz_file_open(byref(head), data, len(data))
    if error == NO_SQZ:
        raise UserError("not a .sqz file (squeezekit compress makes one)")
    if error == NEWER:
        version = f"{head.major}.{head.minor}"
        raise UserError(f"of format version {version}, newer than this squeezekit can read (update it)")
    if error:
        raise UserError(tell(error))
    # An empty section at the very end lies behind the last byte: there is nothing to read then.
    return [string_at(part.data, part.size) if part.size else b"" for part in head.section]


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Read a whole file, unless it is none of ours or too large to be.

    Raises
    ------
    UserError
        It cannot be read, or is no .sqz.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123 (pathlib costs a cold start milliseconds)
            start = file.read(len(MAGIC))
            if start != MAGIC:
                raise UserError(f"{path}: not a .sqz file (squeezekit compress makes one)")
            if os.fstat(file.fileno()).st_size > _LARGEST:
                raise UserError(f"{path}: larger than any .sqz file")
            return start + file.read()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
