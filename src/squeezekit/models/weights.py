"""Weights into a network, from whichever file holds them."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from squeezekit.errors import UserError
from squeezekit.models.checkpoint import check_finite, read_safetensors
from squeezekit.models.deep_compression import is_deep_compression, read_deep_compression
from squeezekit.models.head import head_name
from squeezekit.models.interchange import TORCHVISION_NAMES, from_torchvision
from squeezekit.models.network import Network
from squeezekit.models.published import fetch

__all__ = ["head_classes", "load_weights", "read_weights"]


def load_weights(network: Network, source: str | os.PathLike[str]) -> list[str]:
    """Put weights into a network, in place.

    Parameters
    ----------
    network
        Built by this package.
    source
        ``"imagenet"``: torchvision's published weights, downloaded once (squeezenet1_0 and 1_1,
        mobilenet_v2, efficientnet_b0 … b7). Or a file: a checkpoint of squeezekit, torchvision's state dict
        (``.pth``, read with ``weights_only=True``, or safetensors), or the authors' Deep Compression file
        (squeezenet1_0 alone).

    Returns
    -------
    list of str
        The tensors left as initialised, because the file's head has another number of classes: empty, or
        weight and bias of the last layer.

    Raises
    ------
    UserError
        The file cannot be read, is of no known kind, or does not fit the network.

    Examples
    --------
    >>> load_weights(create_model("squeezenet1_1", 2), "squeezenet1_1-b8a52dc0.pth")  # doctest: +SKIP
    ['classifier.conv10.weight', 'classifier.conv10.bias']
    """
    name = network.config["name"]
    if source == "imagenet":
        source = fetch(name)
    state = read_weights(source, name)
    expected = network.state_dict()

    left = []
    head = head_name(network)
    for key in (f"{head}.weight", f"{head}.bias"):
        if key in state and key in expected and state[key].shape[:1] != expected[key].shape[:1]:
            left.append(key)
            state[key] = expected[key]

    missing = [k for k in expected if k not in state and not k.endswith(".num_batches_tracked")]
    surplus = [k for k in state if k not in expected]
    if missing or surplus:
        what = [f"{len(missing)} tensors are missing, such as {missing[0]}"] if missing else []
        what += [f"{len(surplus)} are not the network's, such as {surplus[0]}"] if surplus else []
        raise UserError(f"{source}: does not fit {_described(network)}: {'; '.join(what)}")
    for key, tensor in expected.items():
        if key in state and state[key].shape != tensor.shape:
            raise UserError(
                f"{source}: does not fit {_described(network)}: {key} is {_shape(state[key])} in the file, "
                f"{_shape(tensor)} in the network"
            )
    network.load_state_dict(state, strict=False)  # strict but for counters of batches, as checked above
    return left


def head_classes(network: Network, source: str | os.PathLike[str]) -> int:
    """Return for how many classes the weights in a file, or ``"imagenet"``, were trained.

    Raises
    ------
    UserError
        As :func:`load_weights`.
    """
    name = network.config["name"]
    state = read_weights(fetch(name) if source == "imagenet" else source, name)
    head = f"{head_name(network)}.weight"
    if head not in state:
        raise UserError(f"{source}: does not fit {_described(network)}: {head} is missing")
    return state[head].shape[0]


def read_weights(path: str | os.PathLike[str], name: str) -> dict[str, Tensor]:
    """Read a file of weights of the network `name` into a state dict with this package's names.

    Raises
    ------
    UserError
        The file cannot be read or is of no known kind.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file (expected a file of weights, or the word imagenet)")
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error

    if path.suffix == ".net" or is_deep_compression(path):
        if name != "squeezenet1_0":
            raise UserError(f"{path}: Deep Compression file of squeezenet1_0, which does not fit {name}")
        return read_deep_compression(path)
    if path.suffix == ".safetensors" or _begins_like_safetensors(start, path.stat().st_size):
        state, _ = read_safetensors(path)
    elif start.startswith((b"PK\x03\x04", b"\x80")):  # torch.save: a zip file, and before 1.6 a pickle
        state = _read_torch(path)
    else:
        raise UserError(
            f"{path}: not a file of weights (expected .safetensors, torch's .pth, or Deep Compression's .net)"
        )
    if name in TORCHVISION_NAMES and any(part.isdigit() for key in state for part in key.split(".")[1:2]):
        try:
            return from_torchvision(name, state)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
    return state


def _begins_like_safetensors(start: bytes, size: int) -> bool:
    """Tell whether a file begins with the length of a JSON header that it can hold, and a brace."""
    return len(start) > 8 and start[8:9] == b"{" and struct.unpack("<Q", start[:8])[0] <= size - 8


def _read_torch(path: Path) -> dict[str, Tensor]:
    """Read torch's own format, tensors and plain containers only: code in the file is never run."""
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load promises no set of errors for a damaged file
        reason = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise UserError(f"{path}: cannot be read as plain weights of torch ({reason})") from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(
        isinstance(k, str) and isinstance(v, Tensor) and v.layout == torch.strided for k, v in content.items()
    ):
        raise UserError(f"{path}: holds no state dict (expected names and dense tensors)")
    check_finite(path, content)
    return dict(content)


def _described(network: Network) -> str:
    """Say which network this is, with the metaparameters that change its tensors."""
    given = network.config["metaparameters"]
    notable = [
        f"{k}={given[k]}"
        for k in ("stem", "norm", "bypass")
        if given.get(k) not in (None, False, "standard", "none")
    ]
    return " ".join([network.config["name"], *notable])


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a single number"
