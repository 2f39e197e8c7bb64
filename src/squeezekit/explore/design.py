"""A point of the design space: what is built, tried, compared and in the end trained."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from squeezekit.errors import UserError
from squeezekit.models import Network, create_model
from squeezekit.train.plan import defaults_for
from squeezekit.train.recipes import recipe

__all__ = ["Design"]


@dataclass(frozen=True)
class Design:
    """A network and the side of its pictures. Made by :meth:`of`; can be a key and be compared.

    Attributes
    ----------
    model : str
        A name of :func:`squeezekit.models.list_models`.
    metaparameters : tuple of (str, value)
        Sorted by name; sequences are tuples.
    size : int
        Side of the pictures in pixels.

    Examples
    --------
    >>> Design.of("mobilenet_v1", 32, width_mult=0.25).command("photos/", "run/")
    'squeezekit train photos/ --out run/ --model mobilenet_v1 --set dropout=0.0 --set stem=small --set width_mult=0.25 --size 32'
    """  # noqa: E501

    model: str
    metaparameters: tuple[tuple[str, Any], ...]
    size: int

    @classmethod
    def of(cls, model: str, size: int, **metaparameters: Any) -> Design:
        """Make a design; what is not given of stem, norm and dropout is what ``train`` would choose.

        Raises
        ------
        UserError
            There is no such network.
        """
        chosen = {**defaults_for(model, size, recipe("modern")), **metaparameters}
        items = ((key, tuple(v) if isinstance(v, list) else v) for key, v in sorted(chosen.items()))
        return cls(model, tuple(items), size)

    def build(self, classes: int, channels: int) -> Network:
        """Build the network, initialised from torch's generator.

        Parameters
        ----------
        classes
            Width of the logits.
        channels
            Of the pictures: 3, or 1 for grey ones.

        Raises
        ------
        UserError
            A metaparameter is unknown or out of range.

        Examples
        --------
        >>> with torch.device("meta"):  # shapes only, nothing allocated  # doctest: +SKIP
        ...     design.build(10, 3)
        """
        return create_model(self.model, classes, channels, **dict(self.metaparameters))

    def command(self, data: str, out: str) -> str:
        """Return the line for a shell that trains this design in full."""
        words = ["squeezekit", "train", data, "--out", out, "--model", self.model]
        for key, value in self.metaparameters:
            words += ["--set", f"{key}={_literal(value)}"]
        return shlex.join([*words, "--size", str(self.size)])

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        meta = {key: list(v) if isinstance(v, tuple) else v for key, v in self.metaparameters}
        return {"model": self.model, "size": self.size, "metaparameters": meta}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Design:
        """Read what :meth:`to_dict` made.

        Raises
        ------
        UserError
            Something is missing or of no use.
        """
        try:
            return cls.of(str(values["model"]), int(values["size"]), **values["metaparameters"])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"a design: damaged, or written by another version ({error!r})") from error


def _literal(value: Any) -> str:
    """Write a value as ``train --set`` reads it."""
    if isinstance(value, tuple):
        return "(" + "".join(f"{each!r}," for each in value) + ")"
    return value if isinstance(value, str) else repr(value)
