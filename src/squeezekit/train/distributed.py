"""Data-parallel training over several processes, with the gradients compressed on their way.

One worker a device computes the gradients of its share of the batch; all-reduce averages them. What travels
a step is proportional to the number of parameters, which is SqueezeNet's first argument for being small
(section 1). PyTorch's communication hooks shrink it further: float16 halves it, PowerSGD (arXiv:1905.13727)
sends two thin factors of each gradient matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

from lightning.pytorch.strategies import DDPStrategy
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook

from squeezekit.errors import UserError, suggest

__all__ = ["COMPRESSIONS", "Compression", "communication_hook", "data_parallel"]

Compression = Literal["none", "fp16", "powersgd"]
COMPRESSIONS: tuple[str, ...] = get_args(Compression)


class _HookedDDP(DDPStrategy):
    """Lightning registers hooks on CUDA only; PyTorch's work on gloo and the CPU as well."""

    def _register_ddp_hooks(self) -> None:
        if self._ddp_comm_hook is not None and self.root_device.type != "cuda":
            self.model.register_comm_hook(state=self._ddp_comm_state, hook=self._ddp_comm_hook)  # type: ignore[union-attr,operator]
            return
        super()._register_ddp_hooks()


def communication_hook(compression: str) -> tuple[Any, Callable[..., Any]] | None:
    """Return what shrinks the gradients on their way, as (state, hook) for ``register_comm_hook``.

    Parameters
    ----------
    compression : {"none", "fp16", "powersgd"}
        PowerSGD works at rank 4, starts after the first ten steps, and keeps its error as feedback
        (algorithm 2 of its paper).

    Raises
    ------
    UserError
        For another name.
    """
    if compression == "none":
        return None
    if compression == "fp16":
        return None, default_hooks.fp16_compress_hook
    if compression == "powersgd":
        state = powerSGD_hook.PowerSGDState(
            process_group=None, matrix_approximation_rank=4, start_powerSGD_iter=10, min_compression_rate=0.5
        )
        return state, powerSGD_hook.powerSGD_hook
    raise UserError(
        f"--gradient-compression {compression}: unknown{suggest(compression, COMPRESSIONS)} "
        f"({', '.join(COMPRESSIONS)})"
    )


def data_parallel(compression: str = "none", *, find_unused: bool = False) -> DDPStrategy:
    """Return Lightning's strategy for several processes.

    Parameters
    ----------
    compression : {"none", "fp16", "powersgd"}
    find_unused : bool
        Needed while a part of the network is frozen.

    Raises
    ------
    UserError
        For an unknown compression.
    """
    state, hook = communication_hook(compression) or (None, None)
    return _HookedDDP(find_unused_parameters=find_unused, ddp_comm_state=state, ddp_comm_hook=hook)
