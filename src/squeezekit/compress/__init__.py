"""From a float network to a small file: the papers' methods, and what is best known today.

``squeezekit.compress(model, "model.sqz", data)`` calls :func:`squeezekit.compress.compress.compress`.
"""

from squeezekit._callable import make_callable

make_callable(__name__, "squeezekit.compress.compress", "compress")
