"""The memory of one run: activations, scratch, and threads that wait for work."""

from __future__ import annotations

import os
import weakref
from ctypes import byref, c_void_p
from typing import TYPE_CHECKING, Any

import numpy as np

from squeezekit.engine.library import ALIGNMENT, library
from squeezekit.errors import UserError
from squeezekit.library import OK, check

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Room", "aligned"]


def aligned(size: int) -> NDArray[np.uint8]:
    """Give `size` bytes (at least one) that begin where the engine wants them to."""
    size = max(1, size)
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size]


class Room:
    """What a run needs for itself; for one run at a time.

    Parameters
    ----------
    activations, scratch : int
        Bytes.
    threads : int
        That share a run, the calling one among them.
    """

    def __init__(self, activations: int, scratch: int, threads: int) -> None:
        self.threads = threads
        self.process = os.getpid()
        self._kept: list[Any] = [aligned(activations), aligned(scratch)]
        self.activations, self.scratch = (int(memory.ctypes.data) for memory in self._kept)
        self._pool: int | None = None
        if threads > 1:
            self._start(threads)

    @property
    def usable(self) -> bool:
        """Whether its threads are here: a process that was forked has left them behind."""
        return self.process == os.getpid()

    def _start(self, threads: int) -> None:
        engine, pool = library(), c_void_p()
        memory = aligned(engine.sqz_threads_size(threads))
        if engine.sqz_threads_start(byref(pool), threads, memory.ctypes.data, memory.size) != OK:
            raise UserError(f"threads={threads}: the system gives no more threads (ask for fewer)")
        assert pool.value is not None
        self._pool = pool.value
        # The memory is an argument, so that it outlives the threads.
        weakref.finalize(self, _stop, pool.value, memory, self.process)

    def run(self, model: int, picture: int, row_bytes: int, logits: int) -> None:
        """Run a network on one picture; all are addresses."""
        if self._pool is None:
            code = library().sqz_run(model, picture, row_bytes, self.activations, self.scratch, logits)
        else:
            code = library().sqz_threads_run(
                self._pool, model, picture, row_bytes, self.activations, self.scratch, logits
            )
        check(code, "a run")


def _stop(pool: int, _memory: Any, process: int) -> None:
    if os.getpid() == process:
        library().sqz_threads_stop(pool)
