"""What a graph computes, in NumPy: the definition that every other way of running it is tested against.

A float32 graph is computed in float32, up to the order of sums. An int8 graph is computed exactly, to the
last bit:

- The sums of a convolution are whole numbers. They are formed by BLAS, in float64, where every one of them is
  exact; or in float32, where the layer's weights are small enough that no partial sum leaves 2^24.
- ``q = clamp(rint(float32(sum) * multiplier) + zero_point)``: the sum is rounded to float32, the product is
  rounded to float32, then to a whole number, each time to nearest, ties to even. There is no fused
  multiply-add: NumPy rounds each operation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from squeezekit.errors import UserError
from squeezekit.graph import operators
from squeezekit.graph.graph import INPUT, Array, Graph, Node, Quantization, Tensor

__all__ = ["run", "trace"]

_PORTION = 32 * 2**20  # bytes of unrolled windows at a time

Floats = NDArray[np.float32]


def run(graph: Graph, batch: Array) -> Floats:
    """Compute a graph on a batch.

    Parameters
    ----------
    graph
        float32 or int8.
    batch : ndarray
        float32 (N, C, H, W), or (N, C), for a float32 graph; uint8 (N, H, W, C), pictures as they are, for an
        int8 graph.

    Returns
    -------
    ndarray of float32, shape (N, ...)
        The output: logits (N, classes). Where an int8 graph ends in bytes, what they mean.

    Raises
    ------
    UserError
        The batch has another shape or type than the graph takes.

    Examples
    --------
    >>> graph = Graph(Tensor("input", (3, 8, 8)), (Node("pool", "global_avg_pool", ("input",)),), "pool")
    >>> run(graph, np.ones((2, 3, 8, 8), np.float32)).shape
    (2, 3, 1, 1)
    """
    result = _arrange(graph, batch)
    for name, value in trace(graph, batch):
        if name == graph.output:
            result = value
    quantization = graph.tensors[graph.output].quantization
    if quantization is not None:
        zero = np.int32(quantization.zero_point)
        return (result.astype(np.int32) - zero).astype(np.float32) * np.float32(quantization.scale)
    return np.ascontiguousarray(result, np.float32)


def trace(graph: Graph, batch: Array) -> Iterator[tuple[str, Array]]:
    """Compute a graph node by node.

    Parameters
    ----------
    graph, batch
        As for :func:`run`.

    Yields
    ------
    name : str
        Of a node, in the graph's order.
    value : ndarray
        What it computes: float32, or uint8, of shape (N, C, H, W) or (N, C).
    """
    values = {INPUT: _arrange(graph, batch)}
    last_use = {name: node.name for node in graph.nodes for name in node.inputs}
    for node in graph.nodes:
        inputs = [values[name] for name in node.inputs]
        if graph.is_int8:
            tensors = [graph.tensors[name] for name in node.inputs]
            value = _INT8[node.op](node, inputs, tensors)
        else:
            value = _FLOAT[node.op](node, inputs)
        values[node.name] = value
        yield node.name, value
        for name in dict.fromkeys(node.inputs):
            if last_use[name] == node.name:
                del values[name]


def _arrange(graph: Graph, batch: Array) -> Array:
    shape, rank = graph.input.shape, len(graph.input.shape)
    dtype = np.dtype(np.uint8 if graph.is_int8 else np.float32)
    expected = (*shape[1:], shape[0]) if graph.is_int8 else shape
    if batch.dtype != dtype or batch.shape[1:] != expected:
        raise UserError(
            f"a batch of {batch.dtype} {' × '.join(map(str, batch.shape))} "
            f"(the graph takes {dtype} N × {' × '.join(map(str, expected))})"
        )
    if graph.is_int8 and rank == 3:
        return np.ascontiguousarray(batch.transpose(0, 3, 1, 2))
    return batch


# --- windows -----------------------------------------------------------------------------------------------


def _padded(x: Array, padding: Sequence[int], fill: Any) -> Array:
    """Lay a border around maps, filled with one number or one a channel."""
    top, left, bottom, right = padding
    if not any(padding):
        return x
    n, channels, height, width = x.shape
    out = np.empty((n, channels, top + height + bottom, left + width + right), x.dtype)
    out[:] = np.reshape(np.broadcast_to(fill, (channels,)), (1, -1, 1, 1))
    out[:, :, top : top + height, left : left + width] = x
    return out


def _convolve(x: Array, weight: Array, a: Mapping[str, Any], fill: Any) -> Array:
    """Correlate maps (N, C, H, W) with filters (O, C / groups, kh, kw), in their common type."""
    x = _padded(x, a["padding"], fill)
    groups = a["groups"]
    if weight.shape[1] == 1 and groups > 1:
        return _depthwise(x, weight, a)
    (kh, kw), (sh, sw), (dh, dw) = a["kernel"], a["stride"], a["dilation"]
    n, channels = x.shape[:2]
    matrix = weight.reshape(groups, len(weight) // groups, -1)
    reach = (dh * (kh - 1) + 1, dw * (kw - 1) + 1)
    # (N, C, down, across, kh, kw), nothing copied yet
    windows = sliding_window_view(x, reach, axis=(2, 3))[:, :, ::sh, ::sw, ::dh, ::dw]
    down, across = windows.shape[2:4]
    out = np.empty((n, groups, matrix.shape[1], down, across), x.dtype)
    row_bytes = channels * kh * kw * across * x.itemsize
    rows = max(1, min(down, _PORTION // row_bytes))
    pictures = max(1, _PORTION // (row_bytes * rows)) if rows == down else 1
    for i in range(0, n, pictures):
        for j in range(0, down, rows):
            part = windows[i : i + pictures, :, j : j + rows]
            count, height = part.shape[0], part.shape[2]
            columns = part.transpose(0, 1, 4, 5, 2, 3).reshape(count, groups, -1, height * across)
            product = np.matmul(matrix, columns)
            out[i : i + pictures, :, :, j : j + rows] = product.reshape(count, groups, -1, height, across)
    return out.reshape(n, len(weight), down, across)


def _depthwise(x: Array, weight: Array, a: Mapping[str, Any]) -> Array:
    """One input channel a filter: a sum over the window's positions, each a whole map."""
    n, channels = x.shape[:2]
    filters = weight.reshape(channels, -1, *weight.shape[2:])
    out: Array | None = None
    for row, column, part in _positions(x, a["kernel"], a["stride"], a["dilation"]):
        term = part[:, :, None] * filters[None, :, :, row, column, None, None]
        out = term if out is None else np.add(out, term, out=out)
    assert out is not None
    return out.reshape(n, len(weight), *out.shape[3:])


def _positions(
    x: Array, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int] = (1, 1)
) -> Iterator[tuple[int, int, Array]]:
    """For each position of the window, what all windows see there."""
    counts = [
        (x.shape[axis + 2] - dilation[axis] * (kernel[axis] - 1) - 1) // stride[axis] + 1 for axis in (0, 1)
    ]
    for row in range(kernel[0]):
        for column in range(kernel[1]):
            top, left = row * dilation[0], column * dilation[1]
            down = slice(top, top + (counts[0] - 1) * stride[0] + 1, stride[0])
            across = slice(left, left + (counts[1] - 1) * stride[1] + 1, stride[1])
            yield row, column, x[:, :, down, across]


def _pool(x: Array, node: Node, fill: Any, combine: Callable[..., Array]) -> Array:
    """Combine what the windows see: ``np.maximum`` or ``np.add``."""
    a = node.attributes
    size = (x.shape[2], x.shape[3])
    counts = operators.windows(size, a["kernel"], a["stride"], a["padding"], ceil_mode=a["ceil_mode"])
    # Ceil mode's last windows may reach beyond the padding, and floor mode's may leave some of it out.
    padding = list(a["padding"])
    for axis in (0, 1):
        reach = (counts[axis] - 1) * a["stride"][axis] + a["kernel"][axis]
        padding[axis + 2] = max(0, reach - size[axis] - padding[axis])
    x = _padded(x, padding, fill)[:, :, :None, :None]
    out: Array | None = None
    for _, _, part in _positions(x, a["kernel"], a["stride"]):
        part = part[:, :, : counts[0], : counts[1]]
        out = part.copy() if out is None else combine(out, part, out=out)
    assert out is not None
    return out


def _shuffle(x: Array, groups: int) -> Array:
    n, channels, *size = x.shape
    return x.reshape(n, groups, channels // groups, *size).swapaxes(1, 2).reshape(x.shape)


def _concat(_node: Node, inputs: Sequence[Array], *_: Any) -> Array:
    return np.concatenate(inputs, axis=1)


def _slice(node: Node, inputs: Sequence[Array], *_: Any) -> Array:
    return inputs[0][:, node.attributes["start"] : node.attributes["end"]]


def _channel_shuffle(node: Node, inputs: Sequence[Array], *_: Any) -> Array:
    return _shuffle(inputs[0], node.attributes["groups"])


def _flatten(_node: Node, inputs: Sequence[Array], *_: Any) -> Array:
    return inputs[0].reshape(len(inputs[0]), -1)


def _identity(_node: Node, inputs: Sequence[Array], *_: Any) -> Array:
    return inputs[0]


_EITHER: dict[str, Callable[..., Array]] = {
    "concat": _concat,
    "slice": _slice,
    "channel_shuffle": _channel_shuffle,
    "flatten": _flatten,
    "dropout": _identity,
    "identity": _identity,
}


# --- float32 -----------------------------------------------------------------------------------------------


def _hard_sigmoid(x: Floats) -> Floats:
    limited: Floats = np.clip(x + np.float32(3), np.float32(0), np.float32(6))
    return limited / np.float32(6)


def _sigmoid(x: Floats) -> Floats:
    with np.errstate(over="ignore"):
        return np.float32(1) / (np.float32(1) + np.exp(-x))


_ACTIVATIONS: dict[str, Callable[[Floats], Floats]] = {
    "none": lambda x: x,
    "relu": lambda x: np.maximum(x, np.float32(0)),
    "relu6": lambda x: np.clip(x, np.float32(0), np.float32(6)),
    "silu": lambda x: x * _sigmoid(x),
    "sigmoid": _sigmoid,
    "hard_swish": lambda x: x * _hard_sigmoid(x),
    "hard_sigmoid": _hard_sigmoid,
}


def _spread(values: Array, x: Array) -> Array:
    """Lay one number a channel along the channels of `x`."""
    return values.reshape(-1, *(1,) * (x.ndim - 2))


def _float_conv(node: Node, inputs: Sequence[Floats]) -> Floats:
    fill = node.dense("pad_value") if "pad_value" in node.weights else 0
    y = _convolve(inputs[0], node.dense("weight"), node.attributes, fill)
    return _finish(node, y)


def _float_linear(node: Node, inputs: Sequence[Floats]) -> Floats:
    return _finish(node, inputs[0] @ node.dense("weight").T)


def _finish(node: Node, y: Floats) -> Floats:
    if "bias" in node.weights:
        y += _spread(node.dense("bias"), y)
    return _ACTIVATIONS[node.attributes["activation"]](y)


def _float_affine(node: Node, inputs: Sequence[Floats]) -> Floats:
    (x,) = inputs
    return x * _spread(node.dense("scale"), x) + _spread(node.dense("shift"), x)


def _float_batch_norm(node: Node, inputs: Sequence[Floats]) -> Floats:
    (x,) = inputs
    scale = node.dense("gamma") / np.sqrt(node.dense("var") + np.float32(node.attributes["eps"]))
    return (x - _spread(node.dense("mean"), x)) * _spread(scale, x) + _spread(node.dense("beta"), x)


def _float_response_norm(node: Node, inputs: Sequence[Floats]) -> Floats:
    (x,) = inputs
    a = node.attributes
    size, channels = a["size"], x.shape[1]
    squares = np.zeros((len(x), channels + size - 1, *x.shape[2:]), np.float32)
    squares[:, size // 2 : size // 2 + channels] = x * x
    total = sum(squares[:, i : i + channels] for i in range(size))
    power = (np.float32(a["k"]) + np.float32(a["alpha"] / size) * total) ** np.float32(a["beta"])
    normed: Floats = x / power
    return normed


def _float_add(node: Node, inputs: Sequence[Floats]) -> Floats:
    return _ACTIVATIONS[node.attributes["activation"]](inputs[0] + inputs[1])


def _float_mul(_node: Node, inputs: Sequence[Floats]) -> Floats:
    return inputs[0] * inputs[1]


def _float_max_pool(node: Node, inputs: Sequence[Floats]) -> Floats:
    return _pool(inputs[0], node, -np.inf, np.maximum)


def _float_avg_pool(node: Node, inputs: Sequence[Floats]) -> Floats:
    (x,) = inputs
    counts = operators.window_counts(node, x.shape[1:])
    means: Floats = _pool(x, node, 0, np.add) / counts.astype(np.float32)
    return means


def _float_global_avg_pool(_node: Node, inputs: Sequence[Floats]) -> Floats:
    means: Floats = inputs[0].mean(axis=(2, 3), keepdims=True, dtype=np.float64).astype(np.float32)
    return means


def _float_activation(node: Node, inputs: Sequence[Floats]) -> Floats:
    return _ACTIVATIONS[node.op](inputs[0])


_FLOAT: dict[str, Callable[[Node, Sequence[Array]], Array]] = {
    **_EITHER,
    "conv": _float_conv,
    "linear": _float_linear,
    "affine": _float_affine,
    "batch_norm": _float_batch_norm,
    "local_response_norm": _float_response_norm,
    "add": _float_add,
    "mul": _float_mul,
    "max_pool": _float_max_pool,
    "avg_pool": _float_avg_pool,
    "global_avg_pool": _float_global_avg_pool,
    **dict.fromkeys(operators.ACTIVATIONS, _float_activation),
}


# --- int8 --------------------------------------------------------------------------------------------------


def _quantization(of: Tensor | Node) -> Quantization:
    assert of.quantization is not None  # the graph has checked it
    return of.quantization


def _requantize(products: Floats, node: Node) -> Array:
    """Round float32 products to bytes: ``clamp(rint(products) + zero_point, low, high)``."""
    quantization = _quantization(node)
    zero = quantization.zero_point
    low, high = 0, 255
    activation = node.attributes.get("activation", "none")
    if activation in ("relu", "relu6"):
        low = zero
    if activation == "relu6":
        high = min(255, zero + int(np.rint(np.float32(6) / np.float32(quantization.scale))))
    rounded = np.rint(products)
    rounded += np.float32(zero)  # exact below 2^23; beyond it the clamp decides
    return np.clip(rounded, low, high).astype(np.uint8)


def _scaled(sums: Array, multiplier: Floats) -> Floats:
    """``float32(sum) * multiplier``: two roundings."""
    with np.errstate(over="ignore"):
        scaled: Floats = sums.astype(np.float32) * multiplier
    return scaled


def _sums_type(node: Node, zero: int) -> type[np.floating[Any]]:
    """Choose the type in which no partial sum of a layer is rounded: whole numbers up to 2^24, or to 2^53."""
    weight = node.dense("weight")
    reach = np.abs(weight.reshape(len(weight), -1).astype(np.int64)).sum(axis=1) * max(zero, 255 - zero)
    largest = int((reach + np.abs(node.dense("bias").astype(np.int64))).max())
    return np.float32 if largest <= 2**24 else np.float64


def _int8_conv(node: Node, inputs: Sequence[Array], tensors: Sequence[Tensor]) -> Array:
    zero = _quantization(tensors[0]).zero_point
    dtype = _sums_type(node, zero)
    x = inputs[0].astype(dtype) - dtype(zero)
    fill = node.dense("pad_value").astype(dtype) - zero if "pad_value" in node.weights else 0
    sums = _convolve(x, node.dense("weight").astype(dtype), node.attributes, fill)
    return _int8_finish(node, sums)


def _int8_linear(node: Node, inputs: Sequence[Array], tensors: Sequence[Tensor]) -> Array:
    zero = _quantization(tensors[0]).zero_point
    dtype = _sums_type(node, zero)
    return _int8_finish(node, (inputs[0].astype(dtype) - dtype(zero)) @ node.dense("weight").astype(dtype).T)


def _int8_finish(node: Node, sums: Array) -> Array:
    sums += _spread(node.dense("bias"), sums).astype(sums.dtype)
    products = _scaled(sums, _spread(node.dense("multiplier"), sums))
    return products if node.attributes["logits"] else _requantize(products, node)


def _int8_add(node: Node, inputs: Sequence[Array], tensors: Sequence[Tensor]) -> Array:
    a, b = (
        _scaled(x.astype(np.int32) - _quantization(tensor).zero_point, multiplier)
        for x, tensor, multiplier in zip(inputs, tensors, node.dense("multiplier"), strict=True)
    )
    return _requantize(a + b, node)


def _int8_mul(node: Node, inputs: Sequence[Array], tensors: Sequence[Tensor]) -> Array:
    a, b = (
        x.astype(np.int32) - _quantization(tensor).zero_point
        for x, tensor in zip(inputs, tensors, strict=True)
    )
    return _requantize(_scaled(a * b, node.dense("multiplier")), node)


def _int8_max_pool(node: Node, inputs: Sequence[Array], _tensors: Sequence[Tensor]) -> Array:
    return _pool(inputs[0], node, 0, np.maximum)  # every window sees the picture, and no byte is below 0


def _int8_avg_pool(node: Node, inputs: Sequence[Array], tensors: Sequence[Tensor]) -> Array:
    x = inputs[0].astype(np.int32) - _quantization(tensors[0]).zero_point
    multiplier = node.dense("multiplier")
    if len(multiplier) > 1:
        multiplier = multiplier[operators.window_counts(node, x.shape[1:]) - 1]
    return _requantize(_scaled(_pool(x, node, 0, np.add), multiplier), node)


def _int8_global_avg_pool(node: Node, inputs: Sequence[Array], tensors: Sequence[Tensor]) -> Array:
    x = inputs[0].astype(np.int32) - _quantization(tensors[0]).zero_point
    products = _scaled(x.sum(axis=(2, 3), keepdims=True), node.dense("multiplier"))
    return products if node.attributes["logits"] else _requantize(products, node)


def _int8_table(node: Node, inputs: Sequence[Array], _tensors: Sequence[Tensor]) -> Array:
    table: Array = node.dense("table")[inputs[0]]
    return table


_INT8: dict[str, Callable[[Node, Sequence[Array], Sequence[Tensor]], Array]] = {
    **_EITHER,
    "conv": _int8_conv,
    "linear": _int8_linear,
    "add": _int8_add,
    "mul": _int8_mul,
    "max_pool": _int8_max_pool,
    "avg_pool": _int8_avg_pool,
    "global_avg_pool": _int8_global_avg_pool,
    "table": _int8_table,
}
