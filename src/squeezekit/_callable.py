"""Packages that can be called: ``squeezekit.train(...)``, and beside it ``squeezekit.train.fit``.

A package and a function cannot share one attribute: whichever was loaded last would win, and the other would
break. So the package itself takes the call and hands it on.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

__all__ = ["make_callable"]


class _CallablePackage(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        module, function = self.__dict__["_called"]
        return getattr(import_module(module), function)(*args, **kwargs)


def make_callable(package: str, module: str, function: str) -> None:
    """Let calls of `package` go to a function of one of its modules, which is loaded at the first call.

    Parameters
    ----------
    package
        The package's full name, ``__name__`` in its ``__init__.py``.
    module, function
        The full name of the module, and the function in it.

    Examples
    --------
    In ``squeezekit/train/__init__.py``::

        make_callable(__name__, "squeezekit.train.fit", "train")
    """
    itself = sys.modules[package]
    itself.__dict__["_called"] = (module, function)
    itself.__class__ = _CallablePackage
