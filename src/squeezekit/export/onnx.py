"""A graph as an ONNX file: float32 as it is, int8 in the QDQ form that engines fuse to integer kernels.

In QDQ form a value's bytes pass through ``DequantizeLinear`` before an operator and ``QuantizeLinear`` after
it; ONNX Runtime and OpenVINO recognise the three and run them as one operator on integers.
:mod:`squeezekit.export.onnx_qdq` tells how the graph's multipliers become scales, and what is not exact.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from squeezekit import __version__
from squeezekit.errors import UserError
from squeezekit.export.onnx_float import write_float
from squeezekit.export.onnx_qdq import write_qdq
from squeezekit.export.onnx_writer import IR_VERSION, OPSET, Writer
from squeezekit.files import write_bytes
from squeezekit.format import Model, read
from squeezekit.graph.graph import INPUT, Graph

if TYPE_CHECKING:
    import onnx

__all__ = ["OUTPUT", "export_onnx", "to_onnx"]

#: The name of an ONNX file's output; its input is called as the graph's.
OUTPUT = "logits"


def export_onnx(graph: Graph | Model | str | os.PathLike[str], out: str | os.PathLike[str]) -> int:
    """Write a network as an ONNX file.

    Parameters
    ----------
    graph
        float32 or int8; or a model, whose classes and preparation the file then carries as metadata; or the
        path of a ``.sqz``.
    out
        The file, which appears whole or not at all.

    Returns
    -------
    int
        The file's bytes.

    Raises
    ------
    UserError
        The ``.sqz`` cannot be read, ONNX has no word for something in the graph (it is named), or the file
        cannot be written.

    Examples
    --------
    >>> export_onnx("model.sqz", "model.onnx")  # doctest: +SKIP
    401213
    """
    if isinstance(graph, (str, os.PathLike)):
        graph = read(graph)
    data = to_onnx(graph).SerializeToString()
    if len(data) >= 2**31:
        raise UserError(f"{out}: an ONNX file holds less than 2 GiB ({len(data):,} bytes are needed)")
    write_bytes(out, data)
    return len(data)


def to_onnx(graph: Graph | Model) -> onnx.ModelProto:
    """Return a network in ONNX's words.

    The input of an int8 graph is ``input``, uint8 (N, C, H, W): the picture's own bytes, so that there is no
    scale to get wrong, with the channels first, because engines turn them to their liking faster than a
    Transpose in the file does. That of a float32 graph is ``input``, float32 (N, C, H, W), prepared. The
    output is ``logits``, float32 (N, classes).

    Parameters
    ----------
    graph
        A graph, or a model.

    Returns
    -------
    onnx.ModelProto
        Opset 14, any batch.

    Raises
    ------
    UserError
        As :func:`export_onnx`.
    """
    from onnx import TensorProto, helper

    model = graph if isinstance(graph, Model) else None
    network = graph.graph if isinstance(graph, Model) else graph
    writer = Writer((INPUT, OUTPUT))
    result = (write_qdq if network.is_int8 else write_float)(network, writer)
    writer.give(result, OUTPUT)
    shape = network.input.shape
    kind = TensorProto.UINT8 if network.is_int8 else TensorProto.FLOAT
    inputs = [helper.make_tensor_value_info(INPUT, kind, ["N", *shape])]
    output = network.tensors[network.output].shape
    outputs = [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["N", *output])]
    written = helper.make_graph(
        writer.nodes, "squeezekit", inputs, outputs, writer.initializers, value_info=writer.values
    )
    found = helper.make_model(
        written,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="squeezekit",
        producer_version=__version__,
        doc_string=_DOCUMENTATION[network.is_int8],
    )
    if model is not None:
        helper.set_model_props(found, _metadata(model))
    return found


_DOCUMENTATION = {
    True: "input: the bytes of pictures (N, C, H, W), red first; their preparation is part of the network.",
    False: "input: prepared pictures (N, C, H, W), float32.",
}


def _metadata(model: Model) -> dict[str, str]:
    def text(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    found = {**model.metadata, "preparation": text(dict(model.preparation))}
    if model.names:
        found["names"] = text(model.names)
    if model.synsets is not None:
        found["synsets"] = text(model.synsets)
    return found
