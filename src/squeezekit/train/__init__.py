"""Recipes, the training loop, evaluation and prediction with PyTorch.

``squeezekit.train(data, out)`` calls :func:`squeezekit.train.fit.train`.
"""

from squeezekit._callable import make_callable

make_callable(__name__, "squeezekit.train.fit", "train")
