"""The SqueezeNet that the studies of its paper vary: v1.0, and a quarter of it for the quick forms."""

from __future__ import annotations

from typing import Any

from squeezekit.explore.design import Design
from squeezekit.explore.studies.study import Setting

__all__ = ["squeezenet_baseline"]

#: SqueezeNet v1.0 at a quarter of its width; the whole one has four times the filters in every layer.
_QUARTER: dict[str, Any] = {"base_e": 32, "incr_e": 32, "conv1_channels": 24}


def squeezenet_baseline(setting: Setting, **metaparameters: Any) -> Design:
    """Return SqueezeNet (table 1) for a setting, with metaparameters changed.

    Examples
    --------
    >>> squeezenet_baseline(Setting(224, quick=False), squeeze_ratio=0.5).model
    'squeezenet'
    """
    return Design.of("squeezenet", setting.size, **(_QUARTER if setting.quick else {}), **metaparameters)
