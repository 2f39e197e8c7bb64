"""Collects what an ONNX graph is made of, and the operators that float and int8 graphs write alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from squeezekit.graph.graph import Array, Node
from squeezekit.graph.operators import windows

__all__ = [
    "IR_VERSION",
    "OPSET",
    "Writer",
    "average",
    "conv_attributes",
    "cut",
    "flatten",
    "maximum",
    "shuffle",
]

#: The first with all operators that are needed (HardSwish is the youngest), so that older engines open it.
OPSET = 14
#: What came with it.
IR_VERSION = 7


class Writer:
    """Nodes, constants and shapes of an ONNX graph under way.

    Attributes
    ----------
    nodes, initializers, values : list
        Of ONNX's NodeProto, TensorProto and ValueInfoProto.
    """

    def __init__(self, reserved: Iterable[str]) -> None:
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.values: list[Any] = []
        self._names = set(reserved)
        self._labels: set[str] = set()

    def name(self, wish: str) -> str:
        """Return a free name for a value: the one wished for, or one like it."""
        return _free(wish, self._names)

    def op(
        self, kind: str, inputs: Sequence[str], label: str, out: str | None = None, **attributes: Any
    ) -> str:
        """Add a node.

        Parameters
        ----------
        kind
            ONNX's name of the operator.
        inputs
            Names of values.
        label
            The node's name; also its value's, where `out` is not given.
        out
            A name from :meth:`name`.
        **attributes
            As ONNX has them.

        Returns
        -------
        str
            The name of the value it computes.
        """
        from onnx import helper

        result = out or self.name(label)
        self.nodes.append(
            helper.make_node(kind, list(inputs), [result], _free(label, self._labels), **attributes)
        )
        return result

    def constant(self, label: str, array: Any) -> str:
        """Add a constant and return its name."""
        from onnx import numpy_helper

        name = self.name(label)
        self.initializers.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def shape(self, name: str, shape: Sequence[int], *, is_uint8: bool) -> None:
        """Note the shape of a value, without the batch: for viewers, and for cutting the file to pieces."""
        from onnx import TensorProto, helper

        kind = TensorProto.UINT8 if is_uint8 else TensorProto.FLOAT
        self.values.append(helper.make_tensor_value_info(name, kind, ["N", *shape]))

    def give(self, name: str, output: str) -> None:
        """Let a value be the output, under that name."""
        if not any(name in node.output for node in self.nodes):  # the input itself
            self.op("Identity", [name], output, output)
            return
        self.values = [value for value in self.values if value.name != name]
        for node in self.nodes:
            for names in (node.input, node.output):
                for place, each in enumerate(names):
                    if each == name:
                        names[place] = output


def _free(wish: str, taken: set[str]) -> str:
    while wish in taken:
        wish += "_"
    taken.add(wish)
    return wish


# --- operators ---------------------------------------------------------------------------------------------


def conv_attributes(node: Node, *, padded: bool = False) -> dict[str, Any]:
    """Return a convolution's attributes; without padding where that has been done."""
    a = node.attributes
    return {
        "kernel_shape": a["kernel"],
        "strides": a["stride"],
        "pads": (0, 0, 0, 0) if padded else a["padding"],
        "dilations": a["dilation"],
        "group": a["groups"],
    }


def _reach(a: Mapping[str, Any], shape: Sequence[int]) -> tuple[int, int, int, int]:
    """Return padding with which all windows are complete.

    Ceil mode is told by padding: engines and versions of ONNX do not agree on which windows it has.
    """
    counts = windows((shape[1], shape[2]), a["kernel"], a["stride"], a["padding"], ceil_mode=a["ceil_mode"])
    end = [(counts[i] - 1) * a["stride"][i] + a["kernel"][i] - shape[i + 1] - a["padding"][i] for i in (0, 1)]
    top, left, bottom, right = a["padding"]
    if a["ceil_mode"]:
        bottom, right = max(0, end[0]), max(0, end[1])
    return top, left, bottom, right


def maximum(writer: Writer, node: Node, source: str, shape: Sequence[int], label: str) -> str:
    """Write a ``max_pool``; `shape` is its input's."""
    a = node.attributes
    pads = _reach(a, shape)
    return writer.op("MaxPool", [source], label, kernel_shape=a["kernel"], strides=a["stride"], pads=pads)


def average(writer: Writer, node: Node, source: str, shape: Sequence[int], label: str) -> str:
    """Write an ``avg_pool``; `shape` is its input's."""
    a = node.attributes
    pads = _reach(a, shape)
    include = bool(a["count_include_pad"] and any(a["padding"]))
    if include and pads != a["padding"]:
        # What ceil mode adds never counts: the padding that does is laid around the maps first.
        top, left, bottom, right = a["padding"]
        around = writer.constant(f"{label}/pads", np.array([0, 0, top, left, 0, 0, bottom, right], np.int64))
        source = writer.op("Pad", [source, around], f"{label}/pad")
        pads = (0, 0, max(0, pads[2] - bottom), max(0, pads[3] - right))
        include = False
    return writer.op(
        "AveragePool",
        [source],
        label,
        kernel_shape=a["kernel"],
        strides=a["stride"],
        pads=pads,
        count_include_pad=int(include),
    )


def cut(writer: Writer, node: Node, source: str, label: str) -> str:
    """Write a ``slice``."""
    limits = [
        writer.constant(f"{label}/{key}", np.array([value], np.int64))
        for key, value in (("start", node.attributes["start"]), ("end", node.attributes["end"]), ("axis", 1))
    ]
    return writer.op("Slice", [source, *limits], label)


def flatten(writer: Writer, source: str, label: str) -> str:
    """Write a ``flatten``."""
    return writer.op("Flatten", [source], label, axis=1)


def shuffle(writer: Writer, node: Node, source: str, shape: Sequence[int], label: str, out: str) -> str:
    """Write a ``channel_shuffle``; 0 in a new shape is ONNX's word for as before."""
    groups = node.attributes["groups"]
    apart: Array = np.array([0, groups, shape[0] // groups, *shape[1:]], np.int64)
    parted = writer.op("Reshape", [source, writer.constant(f"{label}/apart", apart)], f"{label}/parted")
    order = [0, 2, 1, *range(3, 2 + len(shape))]
    turned = writer.op("Transpose", [parted], f"{label}/turned", perm=order)
    back = writer.constant(f"{label}/back", np.array([0, *shape], np.int64))
    return writer.op("Reshape", [turned, back], label, out)
