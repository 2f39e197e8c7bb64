"""The file: a network in one ``.sqz``.

The bytes are described in ``docs/format.md``; the C library in ``engine/`` codes and decodes them. The names
below are loaded when first used: what only runs a file never loads what builds graphs.

>>> from squeezekit import format
>>> model = format.read("model.sqz")  # doctest: +SKIP
>>> format.write("copy.sqz", model)  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__all__ = [
    "Model",
    "Sizes",
    "TensorSize",
    "bias_shift",
    "dumps",
    "loads",
    "read",
    "scale_grid",
    "sizes",
    "write",
]

# No module here is called as one of the names: it would hide it.
_HOMES = {
    **dict.fromkeys(("dumps", "loads", "read", "write"), "file"),
    **dict.fromkeys(("bias_shift", "scale_grid"), "grid"),
    **dict.fromkeys(("Sizes", "TensorSize", "sizes"), "measure"),
    "Model": "model",
}

if TYPE_CHECKING:
    from squeezekit.format.file import dumps, loads, read, write
    from squeezekit.format.grid import bias_shift, scale_grid
    from squeezekit.format.measure import Sizes, TensorSize, sizes
    from squeezekit.format.model import Model


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value  # the next look-up is an ordinary one
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
