"""How long a design takes on this machine, measured in the engine before it is trained.

Time does not depend on what the weights are, so any will do: the design becomes an int8 network of noise.
"""

from __future__ import annotations

import numpy as np
import torch

from squeezekit.compress.canonical import canonical
from squeezekit.compress.integers import int8_graph
from squeezekit.compress.ranges import logits_node
from squeezekit.compress.rounding import Rounded
from squeezekit.data.preparation import Preparation
from squeezekit.engine.bench import latency as bench
from squeezekit.engine.model import Model as Engine
from squeezekit.explore.counting import layers
from squeezekit.explore.design import Design
from squeezekit.format import Model, dumps
from squeezekit.graph.graph import INPUT, Graph, Node, Quantization

__all__ = ["latency"]


def latency(design: Design, classes: int, channels: int, seconds: float = 0.2) -> float:
    """Measure a design.

    Parameters
    ----------
    design
    classes, channels
        Width of the logits; of the pictures.
    seconds
        For how long to run; at least five runs.

    Returns
    -------
    float
        Seconds a picture, the median, on one thread.
    """
    graph = _full(layers(design, classes, channels))
    graph = canonical(graph)
    logits = logits_node(graph)
    values: dict[str, Quantization | None] = {INPUT: Quantization(1.0, 0)}
    for node in graph.nodes:  # all alike, but what comes after the logits
        source = values[node.inputs[0]]
        values[node.name] = None if node.name == logits else source
    rounded, biases = {}, {}
    for node in graph.nodes:
        if node.op in ("conv", "linear"):
            weight = torch.tensor(node.dense("weight")).flatten(1)
            step = torch.full((len(weight),), 2.0**-10, dtype=torch.float64)
            rounded[node.name] = Rounded(weight.to(torch.int64), step, 0.0, 0.0)
            biases[node.name] = torch.zeros(len(weight))
    small = int8_graph(graph, values, rounded, biases)
    data = dumps(Model(small, Preparation(design.size).to_dict()))
    return float(bench(Engine(data), seconds)["median_ms"]) / 1000


def _full(graph: Graph) -> Graph:
    """Fill hollow weights with whole numbers of a few bits."""
    rng = np.random.default_rng(0)

    def fill(node: Node) -> Node:
        if node.op not in ("conv", "linear"):
            return node
        shape = node.weights["weight"].shape
        weights = {
            "weight": rng.integers(-7, 8, shape).astype(np.float32),
            "bias": np.zeros(shape[0], np.float32),
        }
        return Node(node.name, node.op, node.inputs, dict(node.attributes), weights)

    return Graph(graph.input, tuple(fill(node) for node in graph.nodes), graph.output)
