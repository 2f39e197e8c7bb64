"""A float32 graph in ONNX's words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from squeezekit.errors import UserError
from squeezekit.export.onnx_writer import (
    Writer,
    average,
    conv_attributes,
    cut,
    flatten,
    maximum,
    shuffle,
)
from squeezekit.graph.graph import INPUT, Array, Graph, Node

__all__ = ["activation", "write_float"]

Shapes = Sequence[Sequence[int]]


def write_float(graph: Graph, writer: Writer) -> str:
    """Write the nodes of a float32 graph.

    Returns
    -------
    str
        The name of the value that is the result.

    Raises
    ------
    UserError
        ONNX has no word for something.
    """
    names = {INPUT: INPUT}
    for node in graph.nodes:
        sources = [names[name] for name in node.inputs]
        shapes = [graph.tensors[name].shape for name in node.inputs]
        names[node.name] = _WRITERS[node.op](writer, node, sources, shapes)
    return names[graph.output]


def activation(writer: Writer, op: str, source: str, label: str) -> str:
    """Write an activation: one of :data:`squeezekit.graph.operators.ACTIVATIONS`, or none."""
    if op == "none":
        return source
    if op == "relu6":
        limits = [
            writer.constant(f"{label}/{key}", np.array(value, np.float32))
            for key, value in (("low", 0), ("high", 6))
        ]
        return writer.op("Clip", [source, *limits], label)
    if op == "silu":  # younger than most engines as an operator; all of them know the product
        gate = writer.op("Sigmoid", [source], f"{label}/sigmoid")
        return writer.op("Mul", [source, gate], label)
    if op == "hard_sigmoid":
        return writer.op("HardSigmoid", [source], label, alpha=1 / 6, beta=0.5)
    return writer.op({"relu": "Relu", "sigmoid": "Sigmoid", "hard_swish": "HardSwish"}[op], [source], label)


def _finish(writer: Writer, node: Node, kind: str, inputs: list[str], **attributes: Any) -> str:
    """Write an operator and the activation that it carries."""
    op = node.attributes["activation"]
    label = node.name if op == "none" else f"{node.name}/sums"
    return activation(writer, op, writer.op(kind, inputs, label, **attributes), node.name)


def _conv(writer: Writer, node: Node, sources: Sequence[str], _shapes: Shapes) -> str:
    weight, (source,) = node.dense("weight"), sources
    bias = node.dense("bias") if "bias" in node.weights else None
    if "pad_value" in node.weights and any(node.attributes["padding"]):
        # ONNX pads with one number, all channels alike. Around x - pad_value that number is 0, and what was
        # taken away is the same at every position: the filter's sum over it goes to the bias.
        pad = node.dense("pad_value")
        source = writer.op(
            "Add", [source, _per_channel(writer, f"{node.name}/pad", -pad)], f"{node.name}/less"
        )
        groups = node.attributes["groups"]
        filters = weight.astype(np.float64).sum(axis=(2, 3)).reshape(groups, -1, weight.shape[1])
        taken = np.einsum("gof,gf->go", filters, pad.reshape(groups, -1).astype(np.float64)).reshape(-1)
        bias = (taken + (0 if bias is None else bias)).astype(np.float32)
    inputs = [source, writer.constant(f"{node.name}/weight", weight)]
    if bias is not None:
        inputs.append(writer.constant(f"{node.name}/bias", bias))
    return _finish(writer, node, "Conv", inputs, **conv_attributes(node))


def _linear(writer: Writer, node: Node, sources: Sequence[str], _shapes: Shapes) -> str:
    inputs = [sources[0], writer.constant(f"{node.name}/weight", node.dense("weight"))]
    if "bias" in node.weights:
        inputs.append(writer.constant(f"{node.name}/bias", node.dense("bias")))
    return _finish(writer, node, "Gemm", inputs, transB=1)


def _per_channel(writer: Writer, label: str, numbers: Array, rank: int = 3) -> str:
    return writer.constant(label, numbers.reshape(-1, *(1,) * (rank - 1)))


def _affine(writer: Writer, node: Node, sources: Sequence[str], shapes: Shapes) -> str:
    scale, shift = (
        _per_channel(writer, f"{node.name}/{key}", node.dense(key), len(shapes[0]))
        for key in ("scale", "shift")
    )
    return writer.op("Add", [writer.op("Mul", [sources[0], scale], f"{node.name}/scaled"), shift], node.name)


def _batch_norm(writer: Writer, node: Node, sources: Sequence[str], _shapes: Shapes) -> str:
    keys = ("gamma", "beta", "mean", "var")
    weights = [writer.constant(f"{node.name}/{key}", node.dense(key)) for key in keys]
    epsilon = node.attributes["eps"]
    return writer.op("BatchNormalization", [*sources, *weights], node.name, epsilon=epsilon)


def _response_norm(writer: Writer, node: Node, sources: Sequence[str], _shapes: Shapes) -> str:
    a = node.attributes
    if a["size"] % 2 == 0:
        raise UserError(
            f"{node.name} ({node.op}): of an even number of channels; an even window leans to the other side "
            "in ONNX (an odd size can be exported)"
        )
    keys = {"size": a["size"], "alpha": a["alpha"], "beta": a["beta"], "bias": a["k"]}
    return writer.op("LRN", sources, node.name, **keys)


def _pair(kind: str) -> Callable[[Writer, Node, Sequence[str], Shapes], str]:
    def write(writer: Writer, node: Node, sources: Sequence[str], _shapes: Shapes) -> str:
        op = node.attributes.get("activation", "none")
        label = node.name if op == "none" else f"{node.name}/sum"
        return activation(writer, op, writer.op(kind, sources, label), node.name)

    return write


def _same(_writer: Writer, _node: Node, sources: Sequence[str], _shapes: Shapes) -> str:
    return sources[0]


def _activation(writer: Writer, node: Node, sources: Sequence[str], _shapes: Shapes) -> str:
    return activation(writer, node.op, sources[0], node.name)


_WRITERS: dict[str, Callable[[Writer, Node, Sequence[str], Shapes], str]] = {
    "conv": _conv,
    "linear": _linear,
    "affine": _affine,
    "batch_norm": _batch_norm,
    "local_response_norm": _response_norm,
    "add": _pair("Add"),
    "mul": _pair("Mul"),
    "concat": lambda w, node, sources, _: w.op("Concat", sources, node.name, axis=1),
    "slice": lambda w, node, sources, _: cut(w, node, sources[0], node.name),
    "channel_shuffle": lambda w, node, sources, shapes: shuffle(
        w, node, sources[0], shapes[0], node.name, w.name(node.name)
    ),
    "max_pool": lambda w, node, sources, shapes: maximum(w, node, sources[0], shapes[0], node.name),
    "avg_pool": lambda w, node, sources, shapes: average(w, node, sources[0], shapes[0], node.name),
    "global_avg_pool": lambda w, node, sources, _: w.op("GlobalAveragePool", sources, node.name),
    "flatten": lambda w, node, sources, _: flatten(w, sources[0], node.name),
    "dropout": _same,
    "identity": _same,
    **dict.fromkeys(("relu", "relu6", "silu", "sigmoid", "hard_swish", "hard_sigmoid"), _activation),
}
