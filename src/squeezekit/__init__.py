"""squeezekit: small image classifiers, from a folder of pictures to one file.

The names below are loaded when first used: ``import squeezekit`` itself imports neither torch nor NumPy, so
what only reads a version number or runs a shipped file stays quick and needs no training installation.

>>> import squeezekit
>>> network = squeezekit.create_model("squeezenet1_1", num_classes=10)  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "UserError",
    "__version__",
    "compress",
    "create_model",
    "evaluate",
    "list_models",
    "load",
    "load_classifier",
    "predict",
    "train",
]

# Where each name lives. `train` is a package that can be called (see squeezekit/_callable.py).
_HOMES = {
    "UserError": "squeezekit.errors",
    "create_model": "squeezekit.models",
    "evaluate": "squeezekit.train.evaluate",
    "list_models": "squeezekit.models",
    "load": "squeezekit.engine.model",
    "load_classifier": "squeezekit.train.classifier",
    "predict": "squeezekit.train.predict",
}
_PACKAGES = ("compress", "train")

if TYPE_CHECKING:
    from squeezekit.compress.compress import compress
    from squeezekit.engine.model import load
    from squeezekit.errors import UserError
    from squeezekit.models import create_model, list_models
    from squeezekit.train.classifier import load_classifier
    from squeezekit.train.evaluate import evaluate
    from squeezekit.train.fit import train
    from squeezekit.train.predict import predict


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f"{__name__}.{name}")  # the import system keeps it as our attribute
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value  # the next look-up is an ordinary one
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
