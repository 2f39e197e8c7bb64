"""The network as data: nodes, shapes, cost, passes; from ``torch.export`` and from ONNX.

>>> from squeezekit.graph.from_torch import from_torch
>>> graph = from_torch(network, (3, 224, 224))  # doctest: +SKIP
>>> print(graph)  # doctest: +SKIP

Readers and writers stand in modules of their own (``from_torch``, ``from_onnx``, ``to_torch``, ``run``,
``passes``, ``cost``): what is here needs NumPy alone.
"""

from __future__ import annotations

from squeezekit.graph.graph import INPUT, Codebook, Graph, Node, Quantization, Tensor, dense, frozen, same

__all__ = [
    "INPUT",
    "Codebook",
    "Graph",
    "Node",
    "Quantization",
    "Tensor",
    "dense",
    "frozen",
    "same",
]
