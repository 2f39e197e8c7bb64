"""Published ImageNet weights: torchvision's files, fetched once, checked by their hash, kept in a cache."""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path

from squeezekit.errors import UserError
from squeezekit.files import write_atomically

__all__ = ["IMAGENET", "cache_folder", "fetch"]

BASE = "https://download.pytorch.org/models/"
IMAGENET = {
    "squeezenet1_0": "squeezenet1_0-b66bff10.pth",
    "squeezenet1_1": "squeezenet1_1-b8a52dc0.pth",
    "mobilenet_v2": "mobilenet_v2-b0353104.pth",
    "efficientnet_b0": "efficientnet_b0_rwightman-7f5810bc.pth",
    "efficientnet_b1": "efficientnet_b1_rwightman-bac287d4.pth",
    "efficientnet_b2": "efficientnet_b2_rwightman-c35c1473.pth",
    "efficientnet_b3": "efficientnet_b3_rwightman-b3899882.pth",
    "efficientnet_b4": "efficientnet_b4_rwightman-23ab8bcd.pth",
    "efficientnet_b5": "efficientnet_b5_lukemelas-1a07897c.pth",
    "efficientnet_b6": "efficientnet_b6_lukemelas-24a108a5.pth",
    "efficientnet_b7": "efficientnet_b7_lukemelas-c5b4e57e.pth",
}
"""File of each network's weights. The hexadecimal digits at its end begin the SHA-256 of its content."""

_LARGEST = 400 * 2**20  # bytes; B7's file has 255 MiB
_SILENCE = 30.0  # seconds without a byte before the download is given up


def cache_folder() -> Path:
    """Name the folder of fetched weights: ``$XDG_CACHE_HOME/squeezekit`` or ``~/.cache/squeezekit``."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(root) if Path(root).is_absolute() else Path.home() / ".cache") / "squeezekit"


def fetch(name: str) -> Path:
    """Give the file of a network's ImageNet weights, downloading it the first time.

    Parameters
    ----------
    name
        The network: one of `IMAGENET`.

    Returns
    -------
    pathlib.Path
        In :func:`cache_folder`, its hash checked just now.

    Raises
    ------
    UserError
        There are none of this network, the download failed, or what came is not the published file.
    """
    if name not in IMAGENET:
        raise UserError(
            f"{name}: no published ImageNet weights are known (there are for {', '.join(IMAGENET)}; "
            "or give a file: --weights FILE)"
        )
    file = IMAGENET[name]
    path = cache_folder() / file
    begins = path.stem.rpartition("-")[2]
    try:
        if path.is_file() and _sha256(path).startswith(begins):
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(path) as temporary:
            _download(BASE + file, temporary)
            digest = _sha256(temporary)
            if not digest.startswith(begins):
                raise UserError(
                    f"{BASE}{file}: came with SHA-256 {digest[:8]}…, published is {begins}… (try again)"
                )
    except (OSError, HTTPException) as error:
        reason = (str(getattr(error, "reason", None) or error) or "no answer").splitlines()[0]
        raise UserError(
            f"{BASE}{file}: could not be downloaded: {reason} "
            "(without a network: fetch that file elsewhere and give it as --weights FILE)"
        ) from error
    return path


def _download(url: str, path: Path) -> None:
    with urllib.request.urlopen(url, timeout=_SILENCE) as answer, path.open("wb") as file:
        total = 0
        while chunk := answer.read(2**20):
            total += len(chunk)
            if total > _LARGEST:
                raise UserError(f"{url}: more than {_LARGEST:,} bytes came (not the published file)")
            file.write(chunk)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()
