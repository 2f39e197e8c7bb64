"""The file: a network in one ``.sqz``.

The bytes are described in ``docs/format.md``; the C library in ``engine/`` codes and decodes them.

>>> from squeezekit import format
>>> model = format.read("model.sqz")  # doctest: +SKIP
>>> format.write("copy.sqz", model)  # doctest: +SKIP
"""

from squeezekit.format.file import dumps, loads, read, write
from squeezekit.format.grid import bias_shift, scale_grid
from squeezekit.format.model import Model
from squeezekit.format.sizes import Sizes, TensorSize, sizes

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
