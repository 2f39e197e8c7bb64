"""What a study is: networks that differ in one thing, and what the paper found of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from squeezekit.explore.design import Design

if TYPE_CHECKING:
    from squeezekit.explore.studies.ground import Ground
    from squeezekit.explore.studies.rows import Row

__all__ = ["Claim", "Plan", "Setting", "Study", "Variant"]

Figure = Literal["size", "work", "names"]
"""Accuracy over bytes (figure 3 of SqueezeNet), over MACs (figures 3 and 8 of EfficientNet), or by name."""


@dataclass(frozen=True)
class Setting:
    """What the variants are made for.

    Attributes
    ----------
    size : int
        Side of the pictures in pixels.
    quick : bool
        Small networks that train in seconds, in place of the paper's.
    """

    size: int
    quick: bool


@dataclass(frozen=True)
class Variant:
    """One of the networks that are compared.

    Attributes
    ----------
    name : str
        As it stands in table and figure; no two of a study have the same.
    build : callable
        (classes, channels) -> module with ``features`` and ``classifier``, freshly initialised.
    size : int
        Side of its pictures in pixels.
    series : str
        The line of the figure that it is a point of; a variant may be a point of several: ``"width|depth"``.
    paper : str
        What the paper measured of it, on ImageNet.
    """

    name: str
    build: Callable[[int, int], nn.Module]
    size: int
    series: str = ""
    paper: str = ""

    @classmethod
    def of(cls, name: str, design: Design, series: str = "", paper: str = "") -> Variant:
        """Make a variant of a design."""
        return cls(name, design.build, design.size, series, paper)


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper that the measurements can agree or disagree with.

    Attributes
    ----------
    text : str
        What the paper says.
    one, other : str
        The variants that it compares.
    expects : {"more", "less", "same"}
        What `one` has of `figure`, compared with `other`.
    figure : {"test_accuracy", "gap", "bytes"}
        ``"gap"`` is training less test accuracy: overfitting.
    """

    text: str
    one: str
    other: str
    expects: Literal["more", "less", "same"]
    figure: Literal["test_accuracy", "gap", "bytes"] = "test_accuracy"


@dataclass(frozen=True)
class Plan:
    """The variants of a study for a setting, and what is claimed of them."""

    variants: tuple[Variant, ...]
    claims: tuple[Claim, ...]


@dataclass(frozen=True)
class Study:
    """A study of a paper.

    Attributes
    ----------
    name : str
        On the command line.
    title : str
    source : str
        Paper, section, figure or table.
    found : str
        What the paper found, in a sentence or two.
    figure : {"size", "work", "names"}
    plan : callable
        Setting -> variants and claims.
    pictures_seen : int
        Pictures that a network of the quick form is shown in all: that makes its epochs.
    measure : callable or None
        (ground, variant, seed) -> row. None trains the variant and measures it.
    """

    name: str
    title: str
    source: str
    found: str
    figure: Figure
    plan: Callable[[Setting], Plan]
    pictures_seen: int = 18_000
    measure: Callable[[Ground, Variant, int], Row] | None = None

    def to_dict(self) -> dict[str, Any]:
        """What a reader wants to know of it, as plain values."""
        return {"name": self.name, "title": self.title, "source": self.source, "found": self.found}
