"""What runs a network in the C library (``engine/include/sqz.h``), as Python sees it."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p

from squeezekit.library import Functions, declaring

__all__ = ["ALIGNMENT", "ISA", "InfoHead", "NeedsHead", "StepHead", "library"]

ALIGNMENT = 64
#: What ``isa=`` and SQUEEZEKIT_ISA may say, with the library's numbers.
ISA = {"best": 0, "scalar": 1, "avx2": 2, "avx512": 3}


class NeedsHead(Structure):
    """sqz_needs."""

    _fields_ = [(name, c_size_t) for name in ("open", "model", "activations", "scratch", "bound")]


class InfoHead(Structure):
    """sqz_info."""

    _fields_ = [
        *((name, c_uint32) for name in ("height", "width", "channels", "outputs", "steps")),
        ("isa", c_int),
        ("macs", c_uint64),
        ("needs", NeedsHead),
    ]


class StepHead(Structure):
    """sqz_step."""

    _fields_ = [
        ("name", c_char_p),
        *((name, c_uint32) for name in ("op", "channels", "height", "width")),
        ("macs", c_uint64),
    ]


_SIZE, _RUN = POINTER(c_size_t), [c_void_p, c_void_p, c_size_t, c_void_p, c_void_p, c_void_p]
_FUNCTIONS: Functions = {
    "sqz_isa_name": (c_char_p, [c_int]),
    "sqz_isa_available": (c_int, [c_int]),
    "sqz_workspace": (c_int, [c_void_p, c_size_t, _SIZE]),
    "sqz_plan": (c_int, [POINTER(NeedsHead), c_void_p, c_size_t, c_int, c_void_p, c_size_t]),
    "sqz_open": (c_int, [POINTER(c_void_p), c_void_p, c_size_t, c_void_p, c_void_p, c_size_t]),
    "sqz_describe": (None, [c_void_p, POINTER(InfoHead)]),
    "sqz_step_info": (c_int, [c_void_p, c_uint32, POINTER(StepHead)]),
    "sqz_run": (c_int, _RUN),
    "sqz_run_part": (c_int, [*_RUN, c_uint32, c_uint32, c_void_p, c_uint32, c_uint32]),
}
_THREADS: Functions = {
    "sqz_threads_size": (c_size_t, [c_uint32]),
    "sqz_threads_start": (c_int, [POINTER(c_void_p), c_uint32, c_void_p, c_size_t]),
    "sqz_threads_run": (c_int, [c_void_p, *_RUN]),
    "sqz_threads_stop": (None, [c_void_p]),
}


library = declaring(_FUNCTIONS, optional=_THREADS)


def has_threads(loaded: ctypes.CDLL) -> bool:
    """Whether the library was built with threads of its own; on Windows it is not."""
    return hasattr(loaded, "sqz_threads_start")
