"""Checkpoints: a safetensors file (no code in it, sizes checked) that carries its configuration.

The tensors are the network's state dict, contiguous, under their own names. The configuration is JSON in the
metadata entry ``"squeezekit"``::

    {"format": 1, "model": {...}, "preparation": {...}, "classes": [...], "training": {...}}

of which the last three may be null.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from squeezekit.errors import UserError
from squeezekit.files import write_atomically
from squeezekit.models.network import Network
from squeezekit.models.registry import build

__all__ = [
    "check_finite",
    "is_checkpoint",
    "load_checkpoint",
    "read_checkpoint",
    "read_checkpoint_config",
    "read_safetensors",
    "save_checkpoint",
]

FORMAT = 1
_KEY = "squeezekit"


def save_checkpoint(path: str | os.PathLike[str], network: nn.Module, config: dict[str, Any]) -> None:
    """Write a network's weights and its configuration into one file, atomically.

    Parameters
    ----------
    path
        The file, usually ``….safetensors``. Its folder must exist.
    network
        Whose state dict is stored.
    config
        ``{"format": 1, "model": network.config, "preparation": …, "classes": …, "training": …}``; missing
        entries are stored as null, a missing ``"format"`` as 1. ``"model"`` is required.

    Raises
    ------
    ValueError
        `config` has no ``"model"``, or holds what JSON cannot (NaN included).
    OSError
        The file cannot be written.
    """
    if not isinstance(config.get("model"), dict):
        raise ValueError("config['model'] must be the network's .config")
    whole = {"format": FORMAT, "preparation": None, "classes": None, "training": None, **config}
    text = json.dumps(whole, allow_nan=False)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with write_atomically(path) as temporary:
        # Not save_file, which makes the file anew, readable by its owner alone.
        temporary.write_bytes(save(state, metadata={_KEY: text}))


def read_safetensors(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read any safetensors file.

    Returns
    -------
    tensors : dict of str to Tensor
    metadata : dict of str to str

    Raises
    ------
    UserError
        There is no such file, or it is damaged.
    """
    return _read(path, tensors=True)


def is_checkpoint(path: str | os.PathLike[str]) -> bool:
    """Tell whether a safetensors file carries a configuration of squeezekit. Reads its header alone.

    Raises
    ------
    UserError
        There is no such file, or it is damaged.
    """
    return _KEY in _read(path, tensors=False)[1]


def _read(path: str | os.PathLike[str], *, tensors: bool) -> tuple[dict[str, Tensor], dict[str, str]]:
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            names = file.keys() if tensors else ()
            found = {name: file.get_tensor(name) for name in names}
            metadata = dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, RuntimeError, AttributeError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({_line(error)})") from error
    check_finite(path, found)
    return found, metadata


def check_finite(path: str | os.PathLike[str], tensors: Mapping[str, Tensor]) -> None:
    """Complain of the first of a file's tensors that holds NaN or infinity."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise UserError(f"{path}: {name} holds values that are not finite (NaN or infinity)")


def read_checkpoint(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`save_checkpoint` wrote, without building the network.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    state : dict of str to Tensor
        On the CPU.
    config : dict
        With the keys ``"format"``, ``"model"``, ``"preparation"``, ``"classes"`` and ``"training"``. The
        first two are checked here; the others belong to the rooms that wrote them.

    Raises
    ------
    UserError
        No such file, a damaged file, no checkpoint of squeezekit, or one of a later version.
    """
    state, metadata = read_safetensors(path)
    return state, _config(path, metadata)


def read_checkpoint_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the configuration that :func:`read_checkpoint` returns, without the tensors."""
    return _config(path, _read(path, tensors=False)[1])


def _config(path: str | os.PathLike[str], metadata: dict[str, str]) -> dict[str, Any]:
    if _KEY not in metadata:
        raise UserError(
            f"{path}: a safetensors file, but not a checkpoint of squeezekit (to train from it: --weights)"
        )
    try:
        config = json.loads(metadata[_KEY])
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged configuration ({_line(error)})") from error
    if not isinstance(config, dict) or not isinstance(config.get("model"), dict):
        raise UserError(f"{path}: damaged configuration (no model in it)")
    if config.get("format") != FORMAT:
        raise UserError(
            f"{path}: format {config.get('format')!r} is not the one read here, {FORMAT} (update squeezekit)"
        )
    return {"preparation": None, "classes": None, "training": None, **config}


def load_checkpoint(path: str | os.PathLike[str]) -> tuple[Network, dict[str, Any]]:
    """Build the network of a checkpoint, with its weights.

    The network is first built without memory and compared with the tensors, so that a configuration which
    does not belong to them allocates nothing.

    Returns
    -------
    network : Network
        On the CPU, in evaluation mode.
    config : dict
        See :func:`read_checkpoint`.

    Raises
    ------
    UserError
        As :func:`read_checkpoint`, or the configuration and the tensors do not belong together.
    """
    state, config = read_checkpoint(path)
    try:
        with torch.device("meta"):
            network = build(config["model"])
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    expected = network.state_dict()
    for name in sorted({*expected, *state}):
        if name not in state or name not in expected or state[name].shape != expected[name].shape:
            raise UserError(f"{path}: its tensors are not those of its own configuration ({name} differs)")
    network.load_state_dict({name: state[name].to(expected[name].dtype) for name in expected}, assign=True)
    return network.eval(), config


def _line(error: BaseException) -> str:
    """Give the first line of an error's text, for a message of one line."""
    return (str(error) or type(error).__name__).splitlines()[0][:200]
