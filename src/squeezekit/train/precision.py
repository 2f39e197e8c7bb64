"""Which numbers a device computes with."""

from __future__ import annotations

from typing import Literal

import torch

__all__ = ["bf16_pays", "mixed"]


def bf16_pays(device: str) -> bool:
    """Return whether the device computes bfloat16 in hardware, so that it is faster than float32."""
    if device in ("auto", "cuda") and torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device in ("auto", "mps") and torch.backends.mps.is_available():
        return False
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def mixed(precision: str, device: str) -> Literal["bf16-mixed", "32-true"]:
    """Return Lightning's word for a ``--precision``: "auto" is bfloat16 where that pays."""
    chosen = precision == "bf16" or (precision == "auto" and bf16_pays(device))
    return "bf16-mixed" if chosen else "32-true"
