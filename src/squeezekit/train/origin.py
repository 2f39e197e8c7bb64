"""Where weights come from: which network they belong to, and how its pictures are prepared."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from squeezekit.data.preparation import CAFFE, IMAGENET, Preparation
from squeezekit.errors import UserError
from squeezekit.models.checkpoint import is_checkpoint, read_checkpoint_config
from squeezekit.models.deep_compression import is_deep_compression
from squeezekit.models.interchange import TORCHVISION_NAMES, from_torchvision
from squeezekit.models.registry import model_spec
from squeezekit.models.weights import read_weights

__all__ = ["WEIGHTS", "Origin", "checkpoint_origin", "origin", "torchvision_preparation", "weights_file"]

#: What a run folder calls its weights.
WEIGHTS = "model.safetensors"

#: torchvision scales the short side to this before it crops; its other networks take 8/7 of the input.
_RESIZE_TO = dict(
    zip((f"efficientnet_b{i}" for i in range(8)), (256, 256, 288, 320, 384, 456, 528, 600), strict=True)
)


@dataclass(frozen=True)
class Origin:
    """What is known of some weights.

    Attributes
    ----------
    name : str
        The architecture.
    metaparameters : dict
    preparation : Preparation
    """

    name: str
    preparation: Preparation
    metaparameters: dict[str, Any] = field(default_factory=dict)


def origin(weights: str | Path, name: str | None = None) -> Origin:
    """Find out what weights belong to.

    Parameters
    ----------
    weights : path or "imagenet"
        A checkpoint or run folder, the authors' Deep Compression file, torchvision's state dict, or the word
        for torchvision's published weights of the network `name`.
    name : str, optional
        The architecture that is expected.

    Raises
    ------
    UserError
        The file is missing, damaged, or of no known network.
    """
    if str(weights) == "imagenet":
        if name is None:
            raise UserError(
                "--weights imagenet: of which network? (add its name, such as --model squeezenet1_1)"
            )
        return Origin(name, torchvision_preparation(name))
    path = weights_file(weights)
    if path.suffix == ".net" or is_deep_compression(path):
        return Origin("squeezenet1_0", CAFFE)
    # A state dict of torchvision's may be stored as safetensors too.
    if path.suffix == ".safetensors" and is_checkpoint(path):
        return checkpoint_origin(read_checkpoint_config(path))
    found = name or _recognised(path)
    return Origin(found, torchvision_preparation(found))


def checkpoint_origin(config: dict[str, Any]) -> Origin:
    """Return what a checkpoint's configuration says of its weights.

    Raises
    ------
    UserError
        It names no known network, or its preparation makes no sense.
    """
    model, prepared = config["model"], config["preparation"]
    name = str(model.get("name"))
    preparation = Preparation.from_dict(prepared) if prepared else IMAGENET.at(model_spec(name).input_size)
    return Origin(name, preparation, dict(model.get("metaparameters") or {}))


def weights_file(weights: str | Path) -> Path:
    """Return the file that is meant: itself, or the weights in a run folder.

    Raises
    ------
    UserError
        There is none.
    """
    path = Path(weights)
    if path.is_dir():
        path = path / WEIGHTS
        if not path.is_file():
            raise UserError(
                f"{weights}: not a run folder (no {WEIGHTS} in it; squeezekit train DATA --out RUN makes one)"
            )
    if not path.is_file():
        raise UserError(f"--weights {weights}: no such file (a weight file, a run folder, or imagenet)")
    return path


def torchvision_preparation(name: str) -> Preparation:
    """Return the preparation that torchvision's published weights of a network were trained for."""
    size = model_spec(name).input_size
    if name not in _RESIZE_TO:
        return IMAGENET.at(size)
    return replace(IMAGENET, size=size, resize_to=_RESIZE_TO[name], interpolation="bicubic")


def _recognised(path: Path) -> str:
    """Name the network whose torchvision state dict this file is."""
    state = read_weights(path, "")
    for name in TORCHVISION_NAMES:
        with contextlib.suppress(UserError):
            from_torchvision(name, state)
            return name
    raise UserError(
        f"{path}: weights of no known network (a checkpoint of squeezekit, or torchvision's weights of "
        "a SqueezeNet, MobileNetV2 or EfficientNet)"
    )
