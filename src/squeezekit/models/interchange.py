"""Weights to and from torchvision: the same networks, other names.

torchvision numbers the layers of a sequence, here they carry the paper's names. Both have them in the same
order, so a name follows from a few rules, without a table per network.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from squeezekit.errors import UserError
from squeezekit.models.network import Network
from squeezekit.models.registry import model_spec

__all__ = ["TORCHVISION_NAMES", "from_torchvision", "to_torchvision", "torchvision_names"]

TORCHVISION_NAMES = (
    "squeezenet1_0",
    "squeezenet1_1",
    "mobilenet_v2",
    *(f"efficientnet_b{i}" for i in range(8)),
)
"""The networks whose weights fit torchvision's of the same name."""

_IN_CONV_NORM = {"conv": "0", "norm": "1"}
_IN_SQUEEZE_EXCITATION = {"reduce": "fc1", "expand": "fc2"}


def torchvision_names(name: str, ours: Iterable[str]) -> dict[str, str]:
    """Translate the names of a state dict.

    Parameters
    ----------
    name
        The network: one of `TORCHVISION_NAMES`.
    ours
        The keys of its state dict here.

    Returns
    -------
    dict of str to str
        Each key here, with the one in torchvision.

    Examples
    --------
    >>> torchvision_names("squeezenet1_1", ["features.fire2.squeeze1x1.weight"])
    {'features.fire2.squeeze1x1.weight': 'features.3.squeeze.weight'}
    """
    keys = list(ours)
    if name.startswith("squeezenet"):
        return {key: _squeezenet(name, key) for key in keys}
    # A block without expansion has one layer less, so those behind it count one lower.
    expanding = {key.rsplit(".expand.conv.", 1)[0] for key in keys if ".expand.conv." in key}
    return {key: _mobile(name, key, expanding) for key in keys}


def _squeezenet(name: str, key: str) -> str:
    part, layer, *rest = key.split(".")
    if part == "classifier":
        return f"classifier.1.{rest[0]}"  # conv10, behind the dropout
    if layer == "conv1":
        return f"features.0.{rest[0]}"
    number = int(layer.removeprefix("fire"))
    pools = (1, 4, 8) if name == "squeezenet1_0" else (1, 3, 5)
    position = number + sum(pool < number for pool in pools)  # conv1 and its ReLU take two places
    return ".".join([part, str(position), rest[0].replace("squeeze1x1", "squeeze"), rest[1]])


def _mobile(name: str, key: str, expanding: set[str]) -> str:
    if key.startswith("classifier."):
        return key.replace("linear", "1")
    match = re.fullmatch(r"(features\.\w+(?:\.\d+)?)\.(\w+)\.(\w+)(?:\.(\w+))?", key)
    assert match is not None, key
    block, layer, inner, leaf = match.groups()
    efficientnet = name.startswith("efficientnet")
    position = _stage(block, efficientnet)
    if leaf is None:  # not in a block: features.conv1.norm.weight
        return f"{position}.{_IN_CONV_NORM[layer]}.{inner}"
    first = int(block in expanding)
    index = {
        "expand": 0,
        "depthwise": first,
        "squeeze_excitation": first + 1,
        "project": first + 1 + efficientnet,
    }[layer]
    prefix = f"{position}.{'block' if efficientnet else 'conv'}"
    if layer == "squeeze_excitation":
        return f"{prefix}.{index}.{_IN_SQUEEZE_EXCITATION[inner]}.{leaf}"
    if layer == "project" and not efficientnet:  # torchvision's MobileNetV2 does not wrap its last pair
        return f"{prefix}.{index + int(_IN_CONV_NORM[inner])}.{leaf}"
    return f"{prefix}.{index}.{_IN_CONV_NORM[inner]}.{leaf}"


def _stage(block: str, efficientnet: bool) -> str:
    """Give a stage its number in torchvision: ``features.stage3.1`` is ``features.2.1``."""
    _, stage, *rest = block.split(".")
    if efficientnet:
        position = int(stage.removeprefix("stage")) - 1
    elif stage.startswith("bottleneck"):
        position = int(stage.removeprefix("bottleneck"))
    else:
        position = {"conv1": 0, "conv2": 18}[stage]
    return ".".join(["features", str(position), *rest])


def _names(name: str) -> dict[str, str]:
    if name not in TORCHVISION_NAMES:
        raise UserError(f"{name}: torchvision has no such network (it has {', '.join(TORCHVISION_NAMES)})")
    with torch.device("meta"):
        return torchvision_names(name, model_spec(name).builder().state_dict())


def from_torchvision(name: str, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give torchvision's weights the names they have here.

    Parameters
    ----------
    name
        The network: squeezenet1_0, squeezenet1_1, mobilenet_v2 or efficientnet_b0 … b7.
    state_dict
        Of torchvision's network of that name, for any number of classes.

    Returns
    -------
    dict of str to Tensor
        The same tensors. Counters of batches (``num_batches_tracked``), which old files lack, are added as 0.

    Raises
    ------
    UserError
        torchvision has no such network, or the weights are another network's.
    """
    state: dict[str, Tensor] = {}
    missing = []
    names = _names(name)
    for ours, theirs in names.items():
        if theirs in state_dict:
            state[ours] = state_dict[theirs]
        elif theirs.endswith(".num_batches_tracked"):
            state[ours] = torch.tensor(0)
        else:
            missing.append(theirs)
    surplus = sorted({*state_dict} - {*names.values()})
    if missing or surplus:
        what = [f"no {missing[0]}"] if missing else []
        what += [f"{surplus[0]} is none of its"] if surplus else []
        raise UserError(f"not torchvision's weights of {name}: {', '.join(what)}")
    return state


def to_torchvision(network: Network) -> dict[str, Tensor]:
    """Give a network's weights the names they have in torchvision.

    Parameters
    ----------
    network
        Built as squeezenet1_0, squeezenet1_1 (without `norm`), mobilenet_v2 or efficientnet_b0 … b7.

    Returns
    -------
    dict of str to Tensor
        For ``load_state_dict`` of torchvision's network of that name and number of classes.

    Raises
    ------
    UserError
        torchvision has no such network.
    """
    name = network.config.get("name", "")
    if network.config.get("metaparameters", {}).get("norm"):
        raise UserError(
            f"{name}: torchvision's has no batch normalisation (this one was built with norm=True)"
        )
    names = _names(name)
    return {names[key]: tensor for key, tensor in network.state_dict().items()}
