"""Reader for the file of SqueezeNet v1.0 that its authors published: pruned, with 8-bit shared weights.

"Deep Compression" (Han, Mao and Dally, arXiv:1510.00149): of each layer only the weights that survived
pruning are stored (section 2), as gaps from one to the next (figure 2), and each as the index of a shared
value (section 3).

``compressed_SqueezeNet.net`` of github.com/songhan/SqueezeNet-Deep-Compression has no magic number.
Little-endian:

1. ``uint32[26]``: entries stored of each layer: conv1, then squeeze1x1, expand1x1 and expand3x3 of
   fire2 … fire9, then conv10.
2. For each layer: ``float32[256]`` shared values, the first 0; ``float32[out_channels]`` biases; ``uint8[n]``
   indices of the shared values; ``uint8[ceil(n / 2)]`` gaps of 4 bits, low half first. Entry i lies at
   ``cumsum(gap + 1)[i] - 1`` of the flattened weight. A longer gap is bridged by entries of the value 0.
"""

from __future__ import annotations

import functools
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from squeezekit.errors import UserError
from squeezekit.models.squeezenet import squeezenet1_0

__all__ = ["is_deep_compression", "read_deep_compression"]

_VALUES = 256


@functools.cache
def _layers() -> dict[str, tuple[int, ...]]:
    """Name the 26 convolutions of SqueezeNet v1.0 in the file's order, with their weights' shapes."""
    with torch.device("meta"):
        network = squeezenet1_0()
    return {name: tuple(m.weight.shape) for name, m in network.named_modules() if isinstance(m, nn.Conv2d)}


def _size_of_layer(entries: int, out_channels: int) -> int:
    return 4 * _VALUES + 4 * out_channels + entries + (entries + 1) // 2


def _read(path: str | os.PathLike[str]) -> bytes:
    """Read the file, but never more of it than a file of this kind can hold."""
    layers = _layers().values()
    largest = 4 * len(layers) + sum(_size_of_layer(math.prod(shape), shape[0]) for shape in layers)
    try:
        with Path(path).open("rb") as file:
            data = file.read(largest + 1)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if len(data) > largest:
        raise UserError(
            f"{path}: not a Deep Compression file of SqueezeNet v1.0 (larger than {largest:,} bytes)"
        )
    return data


def _entries(data: bytes) -> list[int]:
    """Read how many entries each layer stores, and check that the file has exactly the bytes for them."""
    layers = _layers()
    if len(data) < 4 * len(layers):
        raise UserError(f"ends within its first {4 * len(layers)} bytes")
    entries: list[int] = np.frombuffer(data, "<u4", len(layers)).tolist()
    size = 4 * len(layers)
    for stored, (name, shape) in zip(entries, layers.items(), strict=True):
        if stored > math.prod(shape):
            raise UserError(f"{name} has {math.prod(shape):,} weights, the file claims {stored:,}")
        size += _size_of_layer(stored, shape[0])
    if size != len(data):
        raise UserError(f"should have {size:,} bytes by its own count, has {len(data):,}")
    return entries


def is_deep_compression(path: str | os.PathLike[str]) -> bool:
    """Tell by its sizes whether a file is a Deep Compression file of SqueezeNet v1.0."""
    try:
        _entries(_read(path))
    except UserError:
        return False
    return True


def read_deep_compression(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read the published file into a state dict of ``squeezenet1_0``.

    Every count is checked before it is used, so that a damaged or hostile file ends in an error, and never
    in more memory than the network takes.

    Parameters
    ----------
    path
        ``compressed_SqueezeNet.net``.

    Returns
    -------
    dict of str to Tensor
        float32: ``features.conv1.weight`` (96, 3, 7, 7), ``features.conv1.bias`` (96,), ... The network wants
        pictures of 227 × 227 in the order blue, green, red, from 0 to 255 less (104, 117, 123).

    Raises
    ------
    UserError
        The file cannot be read, is truncated or damaged, or is none of this kind.
    """
    data = _read(path)
    try:
        return _decode(data, _entries(data))
    except UserError as error:
        raise UserError(f"{path}: not a sound Deep Compression file of SqueezeNet v1.0 ({error})") from None


def _decode(data: bytes, entries: list[int]) -> dict[str, Tensor]:
    """Decode the layers; `entries` has been checked against the length of `data`."""
    state: dict[str, Tensor] = {}
    offset = 4 * len(entries)

    def take(dtype: str, count: int) -> NDArray[Any]:
        nonlocal offset
        array = np.frombuffer(data, dtype, count, offset)
        offset += array.nbytes
        return array

    for stored, (name, shape) in zip(entries, _layers().items(), strict=True):
        values = take("<f4", _VALUES).astype(np.float32)
        bias = take("<f4", shape[0]).astype(np.float32)
        indices = take("u1", stored)
        packed = take("u1", (stored + 1) // 2)
        if not (np.isfinite(values).all() and np.isfinite(bias).all()):
            raise UserError(f"{name} has a shared value or bias that is no finite number")
        if values[0] != 0:
            raise UserError(f"{name}: the first shared value is {values[0]:g}, not 0")
        gaps = np.stack([packed & 15, packed >> 4], axis=1).reshape(-1)[:stored]
        positions = np.cumsum(gaps.astype(np.int64) + 1) - 1
        weight = np.zeros(math.prod(shape), np.float32)
        if stored and positions[-1] >= weight.size:
            raise UserError(f"{name}: the gaps lead to weight {positions[-1]:,} of {weight.size:,}")
        weight[positions] = values[indices]
        state[f"{name}.weight"] = torch.from_numpy(weight.reshape(shape))
        state[f"{name}.bias"] = torch.from_numpy(bias)
    return state
