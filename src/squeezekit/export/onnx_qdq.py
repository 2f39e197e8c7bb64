"""An int8 graph in ONNX's QDQ form.

Every value is a uint8 tensor of the graph's own name. Before an operator ``DequantizeLinear`` gives
``scale * (q - zero_point)``, behind it ``QuantizeLinear`` gives ``clamp(rint(x / scale) + zero_point)``.

A graph's arithmetic is said by multipliers, ONNX's by scales. They agree so:

- A layer has ``multiplier[c] = in_scale * weight_scale[c] / out_scale`` (``out_scale`` is 1 for logits), so
  the scale of its weights is ``weight_scale[c] = multiplier[c] * out_scale / in_scale``. Of the float32
  numbers next to that the one is taken from which an engine that forms ``(in_scale * weight_scale) /
  out_scale`` in float32 gets the multiplier back, to the bit, where there is one. A bias counts in units of
  ``in_scale * weight_scale[c]``.
- The multipliers of ``add`` are ``in_scale / out_scale``, that of ``mul`` is the product of the inputs'
  scales over the output's, that of a pool ``in_scale / (positions * out_scale)``. Where a graph has others,
  the value is read with the scale that they imply.
- A clamp that the byte's own range does (relu at zero point 0) is left to ``QuantizeLinear``.
- A table is written as the activation it holds, which is computed in float32; if it is none of them, as a
  ``Gather`` of its entries.

What differs in bits from :func:`squeezekit.graph.run.run`: sums that lie on a tie, or next to one, in
channels whose multiplier no scale gives back; and roundings of float32 where an engine adds, averages or
multiplies dequantized numbers. Every such byte is off by one; ``benchmarks/onnx_agreement.py`` counts them.
And on an x86 without VNNI (AVX2 alone) ONNX Runtime adds products of bytes in pairs of 16 bits, which
saturate, unless the session's configuration has ``session.x64quantprecision`` at 1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from squeezekit.errors import UserError
from squeezekit.export.onnx_float import activation
from squeezekit.export.onnx_writer import (
    Writer,
    average,
    conv_attributes,
    cut,
    flatten,
    maximum,
    shuffle,
)
from squeezekit.graph.graph import INPUT, Array, Graph, Node, Quantization, Tensor
from squeezekit.graph.operators import ACTIVATIONS, OPERATORS, window_counts
from squeezekit.graph.run import run

__all__ = ["layer_scales", "table_function", "write_qdq"]

Doubles = NDArray[np.float64]

#: Entries of a table that may be off by one, where another machine's exp() rounds otherwise.
_TIES = 3


def write_qdq(graph: Graph, writer: Writer) -> str:
    """Write the nodes of an int8 graph.

    Returns
    -------
    str
        The name of the value that is the result, in real numbers.

    Raises
    ------
    UserError
        ONNX has no word for something.
    """
    return _Qdq(graph, writer).write()


def layer_scales(multiplier: NDArray[np.float32], seen: float, out: float) -> NDArray[np.float32]:
    """Return the weights' scales that a layer's multipliers imply.

    Parameters
    ----------
    multiplier : ndarray of float32, shape (O,)
    seen, out
        The scales of the layer's input and output.

    Returns
    -------
    ndarray of float32, shape (O,)
        ``multiplier * out / seen``, and 1 where the multiplier is 0: such a channel is constant.
    """
    exact = multiplier.astype(np.float64) * out / seen
    with np.errstate(over="ignore", under="ignore"):
        nearest = exact.astype(np.float32)
        down, up = np.nextafter(nearest, np.float32(0)), np.nextafter(nearest, np.float32(np.inf))
        scales = nearest
        for candidate in (up, down, nearest):  # the last one that gives the multiplier back stays
            again = np.float32(seen) * candidate / np.float32(out)
            scales = np.where(again == multiplier, candidate, scales)
    return np.where(multiplier == 0, np.float32(1), scales)


def table_function(entries: Array, seen: Quantization, out: Quantization) -> str | None:
    """Return the activation that a table holds, or None.

    Parameters
    ----------
    entries : ndarray of uint8, shape (256,)
    seen, out
        What its input and its output mean.
    """
    real = ((np.arange(256) - seen.zero_point) * seen.scale).astype(np.float32)
    found = {}
    for op in ACTIVATIONS:
        alone = Graph(Tensor(INPUT, (256,)), (Node(op, op, (INPUT,)),), op)
        levels = np.rint(run(alone, real[None])[0].astype(np.float64) / out.scale) + out.zero_point
        off = np.abs(np.clip(levels, 0, 255) - entries)
        if off.max() <= 1 and off.sum() <= _TIES:
            found[op] = off.sum()
    return min(found, key=lambda op: found[op]) if found else None


class _Qdq:
    def __init__(self, graph: Graph, writer: Writer) -> None:
        self.graph, self.writer = graph, writer
        #: Where the bytes of a value are, or, of logits, the numbers.
        self.bytes: dict[str, str] = {}
        self._read: dict[tuple[str, float, int], str] = {}

    def write(self) -> str:
        graph = self.graph
        self.bytes[INPUT] = INPUT
        for node in graph.nodes:
            seen = graph.tensors[node.inputs[0]].quantization
            if OPERATORS[node.op].keeps and seen is None:  # logits, flattened
                source = self.bytes[node.inputs[0]]
                self.bytes[node.name] = (
                    flatten(self.writer, source, node.name) if node.op == "flatten" else source
                )
            elif node.op in _MOVES:
                _MOVES[node.op](self, node)
            else:
                self.finish(node, _WRITERS[node.op](self, node, self.label(node)))
        if graph.tensors[graph.output].quantization is None:
            return self.bytes[graph.output]
        return self.real(graph.output)

    def label(self, node: Node) -> str:
        """Name the operator's own result: the bytes behind it have the node's name."""
        return node.name if node.quantization is None else f"{node.name}/real"

    def quantization(self, name: str) -> Quantization:
        found = self.graph.tensors[name].quantization
        assert found is not None  # the graph has checked it
        return found

    def shape(self, name: str) -> tuple[int, ...]:
        return self.graph.tensors[name].shape

    def scalars(self, label: str, scale: float, zero: int) -> list[str]:
        return [
            self.writer.constant(f"{label}/scale", np.array(scale, np.float32)),
            self.writer.constant(f"{label}/zero_point", np.array(zero, np.uint8)),
        ]

    def real(self, name: str, scale: float | None = None, zero: int | None = None) -> str:
        """Dequantize a value, once for all that read it the same way.

        Where a `scale` is given that is its own but for rounding, its own is taken.
        """
        own = self.quantization(name)
        if scale is None or abs(scale / own.scale - 1) < 1e-6:
            scale = own.scale
        key = (self.bytes[name], float(np.float32(scale)), own.zero_point if zero is None else zero)
        if not np.finfo(np.float32).tiny <= key[1] < np.inf:
            raise UserError(f"{name}: read with a scale of {scale!r} (ONNX's are float32)")
        if key not in self._read:
            label = f"{name}/dequantized"
            inputs = [self.bytes[name], *self.scalars(label, *key[1:])]
            self._read[key] = self.writer.op("DequantizeLinear", inputs, label)
        return self._read[key]

    def finish(self, node: Node, real: str) -> None:
        """Quantize what a node computes, unless it is logits."""
        if node.quantization is None:
            self.bytes[node.name] = real
            return
        q, label = node.quantization, f"{node.name}/quantized"
        op = node.attributes.get("activation", "none")
        low, high = q.zero_point > 0, q.zero_point + np.rint(np.float32(6) / np.float32(q.scale)) < 255
        if (op == "relu" and low) or (op == "relu6" and (low or high)):
            real = activation(self.writer, op, real, f"{node.name}/{op}")
        out = self.writer.name(node.name)
        inputs = [real, *self.scalars(label, q.scale, q.zero_point)]
        self.bytes[node.name] = self.writer.op("QuantizeLinear", inputs, label, out)
        self.writer.shape(out, self.shape(node.name), is_uint8=True)

    # --- layers ---

    def layer(self, node: Node, source: str, seen: Quantization, taken: Array | int = 0) -> list[str]:
        """Return the inputs of a layer: what it sees, its weights and its bias, which `taken` adds to."""
        out = 1.0 if node.quantization is None else node.quantization.scale
        multiplier = node.dense("multiplier")
        scale = layer_scales(multiplier, seen.scale, out)
        with np.errstate(over="ignore", under="ignore"):
            unit = np.float32(seen.scale) * scale
        if not (np.isfinite(unit) & (unit >= np.finfo(np.float32).tiny)).all():
            raise UserError(
                f"{node.name} ({node.op}): its multipliers ask for scales that float32 cannot hold"
            )
        # A channel whose multiplier is 0 is constant, whatever its weights: they become 0.
        alive = multiplier > 0
        weight = node.dense("weight") * alive.reshape(-1, *(1,) * (node.dense("weight").ndim - 1))
        bias = (node.dense("bias").astype(np.int64) + taken) * alive
        return [
            source,
            self.constant(f"{node.name}/weight", weight.astype(np.int8), scale),
            self.constant(f"{node.name}/bias", bias.astype(np.int32), unit),
        ]

    def constant(self, label: str, whole: Array, scale: NDArray[np.float32]) -> str:
        writer = self.writer
        inputs = [
            writer.constant(f"{label}/bytes", whole),
            writer.constant(f"{label}/scale", scale),
            writer.constant(f"{label}/zero_point", np.zeros(len(scale), whole.dtype)),
        ]
        return writer.op("DequantizeLinear", inputs, label, axis=0)

    def conv(self, node: Node, label: str) -> str:
        seen = self.quantization(node.inputs[0])
        taken: Array | int = 0
        padded = False
        pad = (
            node.dense("pad_value") if "pad_value" in node.weights else np.array([seen.zero_point], np.uint8)
        )
        if not any(node.attributes["padding"]) or (pad == seen.zero_point).all():
            source = self.real(node.inputs[0])
        elif (pad == pad[0]).all():
            # One byte for all channels: with it as the zero point, zeros around the picture are that byte.
            # What the other zero point takes away is the same at every position, and goes to the bias.
            zero = int(pad[0])
            source = self.real(node.inputs[0], zero=zero)
            filters = node.dense("weight").reshape(len(node.dense("weight")), -1).astype(np.int64).sum(axis=1)
            taken = filters * (zero - seen.zero_point)
        else:
            source = self.bordered(node, pad, seen)
            padded = True
        inputs = self.layer(node, source, seen, taken)
        return self.writer.op("Conv", inputs, label, **conv_attributes(node, padded=padded))

    def bordered(self, node: Node, pad: Array, seen: Quantization) -> str:
        """Lay a border of one byte a channel around a value.

        ONNX pads all channels with one number. That is the least a byte can mean here; the maximum of it and
        of rows and columns that hold each channel's own number at the border then is the border.
        """
        writer, label = self.writer, f"{node.name}/border"
        channels, height, width = self.shape(node.inputs[0])
        top, left, bottom, right = node.attributes["padding"]
        least = np.float32(-seen.zero_point) * np.float32(seen.scale)
        wanted = ((pad.astype(np.float32) - np.float32(seen.zero_point)) * np.float32(seen.scale)).reshape(
            -1, 1
        )
        sides = []
        for key, before, inside, after in (("rows", top, height, bottom), ("columns", left, width, right)):
            line = np.full((channels, before + inside + after), least, np.float32)
            line[:, :before], line[:, before + inside :] = wanted, wanted
            shape = (1, channels, -1, 1) if key == "rows" else (1, channels, 1, line.shape[1])
            sides.append(writer.constant(f"{label}/{key}", line.reshape(shape)))
        around = writer.constant(f"{label}/pads", np.array([0, 0, top, left, 0, 0, bottom, right], np.int64))
        fill = writer.constant(f"{label}/least", np.array(least, np.float32))
        inner = writer.op("Pad", [self.real(node.inputs[0]), around, fill], f"{label}/padded")
        real = writer.op("Max", [inner, *sides], f"{label}/real")
        scalars = self.scalars(label, seen.scale, seen.zero_point)
        data = writer.op("QuantizeLinear", [real, *scalars], label)
        return writer.op("DequantizeLinear", [data, *scalars], f"{label}/dequantized")

    def linear(self, node: Node, label: str) -> str:
        seen = self.quantization(node.inputs[0])
        inputs = self.layer(node, self.real(node.inputs[0]), seen)
        return self.writer.op("Gemm", inputs, label, transB=1)

    # --- values with values ---

    def out(self, node: Node) -> float:
        return 1.0 if node.quantization is None else node.quantization.scale

    def add(self, node: Node, label: str) -> str:
        scales = node.dense("multiplier").astype(np.float64) * self.out(node)
        sources = [self.real(name, float(each)) for name, each in zip(node.inputs, scales, strict=True)]
        return self.writer.op("Add", sources, label)

    def mul(self, node: Node, label: str) -> str:
        first, second = node.inputs
        scale = float(node.dense("multiplier")[0]) * self.out(node) / self.quantization(first).scale
        return self.writer.op("Mul", [self.real(first), self.real(second, scale)], label)

    def concat(self, node: Node, label: str) -> str:
        return self.writer.op("Concat", [self.real(name) for name in node.inputs], label, axis=1)

    # --- pools ---

    def max_pool(self, node: Node, label: str) -> str:
        (name,) = node.inputs
        return maximum(self.writer, node, self.real(name), self.shape(name), label)

    def avg_pool(self, node: Node, label: str) -> str:
        (name,) = node.inputs
        counts = np.unique(window_counts(node, self.shape(name)))
        multiplier = node.dense("multiplier").astype(np.float64)
        scales: Doubles = (
            (multiplier[counts - 1] if len(multiplier) > 1 else multiplier) * counts * self.out(node)
        )
        if np.ptp(scales) > 1e-6 * scales.max():
            raise UserError(f"{node.name} ({node.op}): its multipliers are no average's (ONNX has no other)")
        return average(self.writer, node, self.real(name, float(scales[0])), self.shape(name), label)

    def global_avg_pool(self, node: Node, label: str) -> str:
        (name,) = node.inputs
        _, height, width = self.shape(name)
        scale = float(node.dense("multiplier")[0]) * height * width * self.out(node)
        return self.writer.op("GlobalAveragePool", [self.real(name, scale)], label)

    # --- bytes as they are ---

    def cut(self, node: Node, label: str) -> str:
        return cut(self.writer, node, self.real(node.inputs[0]), label)

    def flatten(self, node: Node, label: str) -> str:
        return flatten(self.writer, self.real(node.inputs[0]), label)

    def same(self, node: Node) -> None:
        self.bytes[node.name] = self.bytes[node.inputs[0]]

    def shuffle(self, node: Node) -> None:
        # Three operators in a row, which engines do not see through: they move the bytes themselves.
        (name,) = node.inputs
        out = self.writer.name(node.name)
        self.bytes[node.name] = shuffle(self.writer, node, self.bytes[name], self.shape(name), node.name, out)
        self.writer.shape(out, self.shape(node.name), is_uint8=True)

    def table(self, node: Node) -> None:
        (name,) = node.inputs
        entries = node.dense("table")
        assert node.quantization is not None
        op = table_function(entries, self.quantization(name), node.quantization)
        if op is not None:
            self.finish(node, activation(self.writer, op, self.real(name), f"{node.name}/real"))
            return
        out = self.writer.name(node.name)
        places = self.writer.op("Cast", [self.bytes[name]], f"{node.name}/places", to=6)  # INT32
        table = self.writer.constant(f"{node.name}/table", entries)
        self.bytes[node.name] = self.writer.op("Gather", [table, places], f"{node.name}/gathered", out)
        self.writer.shape(out, self.shape(node.name), is_uint8=True)


#: Operators between DequantizeLinear and QuantizeLinear.
_WRITERS: dict[str, Callable[[_Qdq, Node, str], str]] = {
    "conv": _Qdq.conv,
    "linear": _Qdq.linear,
    "add": _Qdq.add,
    "mul": _Qdq.mul,
    "concat": _Qdq.concat,
    "slice": _Qdq.cut,
    "max_pool": _Qdq.max_pool,
    "avg_pool": _Qdq.avg_pool,
    "global_avg_pool": _Qdq.global_avg_pool,
    "flatten": _Qdq.flatten,
}

#: Operators that put bytes in their place themselves.
_MOVES: dict[str, Callable[[_Qdq, Node], None]] = {
    "table": _Qdq.table,
    "channel_shuffle": _Qdq.shuffle,
    "dropout": _Qdq.same,
    "identity": _Qdq.same,
}
