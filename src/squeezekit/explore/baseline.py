"""What ``--baseline`` may be: a network's name, or one that was trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from squeezekit.errors import UserError, suggest
from squeezekit.explore.design import Design
from squeezekit.models import create_model, list_models, model_spec
from squeezekit.models.checkpoint import is_checkpoint, read_checkpoint_config
from squeezekit.train.origin import checkpoint_origin, origin, weights_file

__all__ = ["Baseline", "find_baseline"]

#: What a recipe chooses where nobody says otherwise: said always, so that training repeats what was counted.
_BY_RECIPE = ("stem", "norm", "dropout")


@dataclass(frozen=True)
class Baseline:
    """A network to scale, and what its logits and pictures are.

    Attributes
    ----------
    design : Design
    classes : int
    channels : int
        3 for RGB.
    """

    design: Design
    classes: int
    channels: int = 3


def find_baseline(
    model: str,
    metaparameters: Mapping[str, Any] | None = None,
    *,
    size: int | None = None,
    classes: int | None = None,
) -> Baseline:
    """Find the network that is meant.

    Parameters
    ----------
    model
        A name of :func:`squeezekit.models.list_models`, a run folder, or a weight file.
    metaparameters
        Changes to the network's own.
    size
        Side of its pictures; by default what it is made for, or was trained with.
    classes
        By default 1000, or what it was trained for.

    Raises
    ------
    UserError
        There is no such network, or a metaparameter is unknown or out of range.

    Examples
    --------
    >>> find_baseline("squeezenet1_1").design.size
    224
    """
    given = dict(metaparameters or {})
    if model in list_models():
        size = size or _made_for(model, given)
        return Baseline(Design.of(model, size, **given), classes or 1000)
    path = Path(model)
    if not path.exists():
        raise UserError(
            f"--baseline {model}: no such network or run folder{suggest(model, list_models())} "
            "(squeezekit models lists the networks)"
        )
    if path.suffix.lower() in (".sqz", ".onnx"):
        raise UserError(f"--baseline {model}: cannot be built anew (name the run folder it was made of)")
    file = weights_file(path)
    channels = 3
    if file.suffix == ".safetensors" and is_checkpoint(file):
        config = read_checkpoint_config(file)
        found = checkpoint_origin(config)
        classes = classes or int(config["model"]["num_classes"])
        channels = int(config["model"]["in_channels"])
    else:
        found = origin(file)
    default = model_spec(found.name).metaparameters
    own = {
        key: value
        for key, value in {**default, **found.metaparameters}.items()
        if key in _BY_RECIPE or key in given or _tuple(value) != default.get(key)
    }
    design = Design.of(found.name, size or found.preparation.size, **{**own, **given})
    return Baseline(design, classes or 1000, channels)


def _made_for(model: str, metaparameters: Mapping[str, Any]) -> int:
    with torch.device("meta"):
        return create_model(model, **metaparameters).input_size


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
