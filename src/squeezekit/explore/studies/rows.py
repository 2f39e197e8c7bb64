"""What a study has measured, and the folder in which it is safe from the first row on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from squeezekit.errors import UserError
from squeezekit.files import write_atomically

__all__ = ["STATE", "Row", "StudyFolder"]

STATE = "study.json"


@dataclass(frozen=True)
class Row:
    """One network, trained from one seed and measured.

    Attributes
    ----------
    variant : str
    seed : int
        Of initial weights, order and augmentation.
    size : int
        Side of its pictures in pixels.
    parameters, macs : int
        MACs are those of one picture.
    bytes : int
        Of the parameters in float32, as the papers count; of the file where there is one.
    test_accuracy : float
        Top-1, 0 to 1, on pictures that neither trained nor chose the epoch.
    train_accuracy : float or None
        The same on the training pictures, not augmented.
    seconds : float
        Of training, or of compression.
    """

    variant: str
    seed: int
    size: int
    parameters: int
    macs: int
    bytes: int
    test_accuracy: float
    train_accuracy: float | None
    seconds: float

    @property
    def gap(self) -> float:
        """Training less test accuracy; NaN where the former was not measured."""
        return float("nan") if self.train_accuracy is None else self.train_accuracy - self.test_accuracy


class StudyFolder:
    """A study's folder: ``study.json`` holds its settings and every row so far, and is always whole.

    Parameters
    ----------
    path : Path
        Made if it is not there.
    settings : mapping
        Everything that rows depend on, as plain values. Rows of other settings would not compare.

    Raises
    ------
    UserError
        The folder holds another study, or cannot be read or written.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self.settings = json.loads(json.dumps(settings))
        self.rows: list[Row] = []
        if path.exists() and not path.is_dir():
            raise UserError(f"{path}: a file, not a folder (name another --out)")
        if (path / STATE).exists():
            self._read()
        elif path.is_dir() and any(path.iterdir()):
            raise UserError(f"{path}/: is not empty and holds no study (name another --out)")
        path.mkdir(parents=True, exist_ok=True)

    def _read(self) -> None:
        file = self.path / STATE
        try:
            state = json.loads(file.read_text(encoding="utf-8"))
            before = dict(state["settings"])
            rows = [Row(**{key: row[key] for key in Row.__dataclass_fields__}) for row in state["rows"]]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{file}: damaged ({error!r}; name another --out)") from error
        for key in {**before, **self.settings}:
            if before.get(key) != self.settings.get(key):
                raise UserError(
                    f"{self.path}/: holds a study with {key} = {before.get(key)}, "
                    f"not {self.settings.get(key)} (name another --out)"
                )
        self.rows = rows

    def has(self, variant: str, seed: int) -> bool:
        """Tell whether a row is there already."""
        return any((row.variant, row.seed) == (variant, seed) for row in self.rows)

    def append(self, row: Row) -> None:
        """Keep a row: when this returns, no kill can lose it."""
        self.rows.append(row)
        self.keep()

    def keep(self) -> None:
        """Write what there is so far."""
        self.write({"settings": self.settings, "rows": [asdict(each) for each in self.rows]})

    def write(self, state: Mapping[str, Any]) -> None:
        """Write ``study.json``; `state` has at least the settings and the rows."""
        with write_atomically(self.path / STATE) as temporary:
            text = json.dumps(state, indent=2, ensure_ascii=False, allow_nan=False)
            temporary.write_text(text + "\n", encoding="utf-8")
