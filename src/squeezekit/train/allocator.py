"""Keep freed memory for the next step, on Linux with glibc."""

from __future__ import annotations

import ctypes

__all__ = ["keep_freed_memory"]

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # <malloc.h>


def keep_freed_memory() -> None:
    """Ask glibc not to give freed memory back to the system.

    A training step frees and asks for the same activations again and again. By default glibc maps each large
    one anew, and the kernel has to clear every page of it: 3 to 5 % of a step on the CPU. The process then
    stays as large as its largest step. Other C libraries have no such switch, and are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)
