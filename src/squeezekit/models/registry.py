"""Networks by name: builders register themselves, and every network built knows how it was built."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec

import torch

from squeezekit.errors import UserError, suggest
from squeezekit.models import checks
from squeezekit.models.network import Network

__all__ = [
    "ModelSpec",
    "build",
    "check_picture_size",
    "create_model",
    "list_models",
    "model_spec",
    "register",
]

P = ParamSpec("P")

_SHARED = ("num_classes", "in_channels")


@dataclass(frozen=True)
class ModelSpec:
    """A registered architecture.

    Attributes
    ----------
    name
        The builder function's name.
    builder
        The function: ``builder(num_classes, in_channels, **metaparameters) -> Network``.
    input_size
        Side in pixels of the paper's pictures. Metaparameters can change it (``resolution_mult``, ``phi``,
        ``stem``): ``network.input_size`` is the one of a network as built.
    paper
        Where the architecture is described.
    metaparameters
        Name and default of each.
    """

    name: str
    builder: Callable[..., Network]
    input_size: int
    paper: str
    metaparameters: Mapping[str, Any] = field(default_factory=dict)


_SPECS: dict[str, ModelSpec] = {}


def register(*, input_size: int, paper: str) -> Callable[[Callable[P, Network]], Callable[P, Network]]:
    """Make a builder function known under its own name, and let what it builds carry its configuration.

    Parameters
    ----------
    input_size
        Side in pixels of the paper's pictures.
    paper
        Where the architecture is described.

    Examples
    --------
    >>> @register(input_size=32, paper="none")  # doctest: +SKIP
    ... def tiny(num_classes=10, in_channels=3, *, stem="standard", dropout=0.0) -> Network: ...
    """

    def decorate(builder: Callable[P, Network]) -> Callable[P, Network]:
        signature = inspect.signature(builder)
        name = builder.__name__

        @functools.wraps(builder)
        def build_and_remember(*args: P.args, **kwargs: P.kwargs) -> Network:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            given = dict(bound.arguments)
            num_classes = checks.whole("num_classes", given.pop("num_classes"), 1, 10**6)
            in_channels = checks.whole("in_channels", given.pop("in_channels"), 1, 1024)
            network = builder(*args, **kwargs)
            network.config = {
                "name": name,
                "num_classes": num_classes,
                "in_channels": in_channels,
                "metaparameters": {
                    key: list(value) if isinstance(value, tuple) else value for key, value in given.items()
                },
            }
            network.input_size = network.input_size or input_size
            return network

        _SPECS[name] = ModelSpec(
            name=name,
            builder=build_and_remember,
            input_size=input_size,
            paper=paper,
            metaparameters={k: p.default for k, p in signature.parameters.items() if k not in _SHARED},
        )
        return build_and_remember

    return decorate


def list_models() -> list[str]:
    """Name every architecture, in alphabetical order."""
    return sorted(_SPECS)


def model_spec(name: str) -> ModelSpec:
    """Look an architecture up by its name.

    Raises
    ------
    UserError
        There is none of this name.
    """
    if name not in _SPECS:
        raise UserError(f"{name}: no such network{suggest(name, _SPECS)} (known: {', '.join(list_models())})")
    return _SPECS[name]


def create_model(
    name: str,
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    weights: str | Path | None = None,
    **metaparameters: Any,
) -> Network:
    """Build a network by name.

    Parameters
    ----------
    name
        One of :func:`list_models`.
    num_classes
        Width of the logits.
    in_channels
        3 for RGB, 1 for grey pictures.
    weights
        None: initialised as the paper does. A file, or ``"imagenet"`` for published weights: see
        :func:`squeezekit.models.load_weights`. A head of another size than the file's stays initialised.
    **metaparameters
        The architecture's own: the keyword arguments of the builder of that name.

    Returns
    -------
    Network
        In training mode, on the default device, float32.

    Raises
    ------
    UserError
        Unknown name or metaparameter, a value out of range, or weights that do not fit.

    Examples
    --------
    >>> network = create_model("squeezenet1_1", num_classes=10, stem="small", norm=True)
    >>> network.config["name"], network.input_size
    ('squeezenet1_1', 32)
    """
    spec = model_spec(name)
    for key in metaparameters:
        if key not in spec.metaparameters:
            known = ", ".join(spec.metaparameters)
            raise UserError(
                f"{name}: no metaparameter {key!r}{suggest(key, spec.metaparameters)} (known: {known})"
            )
    try:
        network = spec.builder(num_classes, in_channels, **metaparameters)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    if weights is not None:
        from squeezekit.models.weights import load_weights  # it needs this module

        load_weights(network, weights)
    return network


def build(config: Mapping[str, Any]) -> Network:
    """Build the network that `config`, a network's ``.config``, describes.

    Parameters
    ----------
    config
        ``{"name", "num_classes", "in_channels", "metaparameters"}``, as it comes back from JSON.

    Raises
    ------
    UserError
        An entry is missing, of the wrong type or out of range.
    """
    entries = {"name": str, "num_classes": int, "in_channels": int, "metaparameters": Mapping}
    for key, kind in entries.items():
        if not isinstance(config.get(key), kind):
            raise UserError(f"configuration of a network: {key!r} is missing or of the wrong type")
    metaparameters = config["metaparameters"]
    if not all(isinstance(key, str) for key in metaparameters) or {"name", "weights", *_SHARED} & {
        *metaparameters
    }:
        raise UserError("configuration of a network: 'metaparameters' has an entry that is none")
    return create_model(config["name"], config["num_classes"], config["in_channels"], **metaparameters)


def check_picture_size(config: Mapping[str, Any], size: int) -> None:
    """Find out, without computing anything, whether a network takes pictures of `size` × `size` pixels.

    Parameters
    ----------
    config
        A network's ``.config``.
    size
        Side in pixels.

    Raises
    ------
    UserError
        The network shrinks such a picture to nothing, or wants another size.
    """
    checks.whole("size", size, 1, 2**14)
    with torch.device("meta"):
        network = build(config).eval()
        try:
            network(torch.empty(1, config["in_channels"], size, size))
        except RuntimeError:
            hint = "" if config["metaparameters"].get("stem") == "small" else ", or stem=small"
            raise UserError(
                f"{config['name']}: pictures of {size} x {size} pixels are too small for it "
                f"(take larger ones: it is made for {network.input_size}{hint})"
            ) from None
