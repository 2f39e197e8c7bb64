"""The engine: runs the int8 network of a ``.sqz`` file, to the bit as :mod:`squeezekit.graph.run` defines it.

The Python face of the C library in ``engine/``. Needs NumPy, and Pillow for pictures.

>>> import squeezekit
>>> model = squeezekit.load("model.sqz")  # doctest: +SKIP
>>> model.predict("cat.jpg", top=2)  # doctest: +SKIP
[('tabby', 0.71), ('tiger cat', 0.18)]
"""

from squeezekit.engine.model import FloatFileError, Info, Model, Step, load

__all__ = ["FloatFileError", "Info", "Model", "Step", "load"]
