"""What a .sqz holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from squeezekit.errors import UserError
from squeezekit.graph.graph import Graph

__all__ = ["Model"]


@dataclass(frozen=True, eq=False)
class Model:
    """A network with all that is needed to use it.

    Attributes
    ----------
    graph : Graph
    preparation : dict
        How a picture becomes the graph's input: :meth:`squeezekit.data.preparation.Preparation.to_dict`.
    names : tuple of str
        Of the classes, in the order of the outputs. May be empty.
    synsets : tuple of str or None
        WordNet's numbers of the classes (``n01440764``), or whatever else names them.
    metadata : dict of str to str
        Anything more.

    Raises
    ------
    UserError
        Names and synsets differ in number, or something cannot be written as JSON.
    """

    graph: Graph
    preparation: Mapping[str, Any]
    names: tuple[str, ...] = ()
    synsets: tuple[str, ...] | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for what in ("names", "synsets"):
            given: Any = getattr(self, what)
            if what == "synsets" and given is None:
                continue
            labels = tuple(given)
            for label in labels:
                _check_text(label, f"one of the {what}")
            object.__setattr__(self, what, labels)
        if self.synsets is not None and len(self.synsets) != len(self.names):
            raise UserError(f"{len(self.names)} names but {len(self.synsets)} synsets (one a class)")
        for key, value in self.metadata.items():
            _check_text(key, "a key of the metadata")
            _check_text(value, f"metadata {key!r}")
        try:
            preparation = json.loads(json.dumps(dict(self.preparation), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise UserError(f"the preparation cannot be written as JSON ({error})") from None
        object.__setattr__(self, "preparation", preparation)
        object.__setattr__(self, "metadata", dict(self.metadata))


def _check_text(value: Any, what: str) -> None:
    if not isinstance(value, str):
        raise UserError(f"{what} is {value!r} (a text)")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UserError(f"{what} is {value!r} (no text in Unicode: it holds half a character)") from None
