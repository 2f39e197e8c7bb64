"""The operators: what each is given, the shape it computes, and how many multiplications that takes.

Adding an operator is one entry of :data:`OPERATORS`, its arithmetic in ``run.py`` and its module in
``to_torch.py``. Shapes are (C, H, W) or (C,); padding is (top, left, bottom, right).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from squeezekit.errors import UserError, suggest

if TYPE_CHECKING:
    from squeezekit.graph.graph import Node, Tensor

__all__ = [
    "ACTIVATIONS",
    "OPERATORS",
    "Operator",
    "Weight",
    "check_attributes",
    "infer",
    "macs",
    "window_counts",
    "windows",
]

Shape = tuple[int, ...]

#: Activations that a convolution or a linear layer can carry, each also an operator of its own.
ACTIVATIONS = ("relu", "relu6", "silu", "sigmoid", "hard_swish", "hard_sigmoid")

_LARGEST = 2**24  # of any size in an attribute: beyond every picture, and safe to multiply


@dataclass(frozen=True)
class Weight:
    """What a weight must be."""

    shape: Shape
    dtype: type[np.generic] = np.float32
    optional: bool = False


@dataclass(frozen=True)
class Operator:
    """One row of the table.

    Attributes
    ----------
    shape
        ``(node, shapes of its inputs) -> shape``; raises UserError where they do not fit.
    weights
        ``(node, shapes, is_int8) -> {name: Weight}``.
    attributes
        Name and kind (a key of ``_KINDS``) of each.
    defaults
        Of the attributes that may be left out.
    fewest, most
        Inputs; `most` None for any number.
    macs
        ``(node, input shapes, output shape) ->`` multiplications with a weight, for one picture.
    in_int8
        Whether an int8 graph may use it; in a float graph all but ``table`` may be.
    keeps
        In an int8 graph the output has the quantization of its inputs.
    """

    shape: Callable[[Node, Sequence[Shape]], Shape]
    weights: Callable[[Node, Sequence[Shape], bool], dict[str, Weight]] = lambda *_: {}
    attributes: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    fewest: int = 1
    most: int | None = 1
    macs: Callable[[Node, Sequence[Shape], Shape], int] = lambda *_: 0
    in_int8: bool = False
    keeps: bool = False


# --- attributes --------------------------------------------------------------------------------------------


def _whole(value: Any, low: int) -> bool:
    return type(value) is int and low <= value <= _LARGEST


def _wholes(value: Any, count: int, low: int) -> bool:
    return isinstance(value, tuple) and len(value) == count and all(_whole(each, low) for each in value)


def _real(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value)


_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "pair": (lambda value: _wholes(value, 2, 1), "two whole numbers from 1"),
    "padding": (lambda value: _wholes(value, 4, 0), "four whole numbers from 0: top, left, bottom, right"),
    "count": (lambda value: _whole(value, 1), "a whole number from 1"),
    "index": (lambda value: _whole(value, 0), "a whole number from 0"),
    "flag": (lambda value: type(value) is int and value in (0, 1), "0 or 1"),
    "real": (_real, "a number"),
    "positive": (lambda value: _real(value) and value > 0, "a positive number"),
    "activation": (lambda value: value in ("none", *ACTIVATIONS), f"none, {', '.join(ACTIVATIONS)}"),
    "relu": (lambda value: value in ("none", "relu"), "none or relu"),
}


def check_attributes(operator: Operator, attributes: Mapping[str, Any]) -> None:
    """Check a node's attributes, defaults filled in.

    Raises
    ------
    UserError
        One is missing, unknown or out of range.
    """
    for key, value in attributes.items():
        if key not in operator.attributes:
            raise UserError(f"no attribute {key!r}{suggest(str(key), operator.attributes)}")
        holds, expected = _KINDS[operator.attributes[key]]
        if not holds(value):
            raise UserError(f"{key} is {value!r} ({expected})")
    for key in operator.attributes:
        if key not in attributes:
            raise UserError(f"the attribute {key!r} is missing")


# --- shapes ------------------------------------------------------------------------------------------------


def _picture(shape: Shape) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise UserError(f"its input is {_text(shape)} (expected channels, height and width)")
    return shape[0], shape[1], shape[2]


def _text(shape: Shape) -> str:
    return " × ".join(map(str, shape))


def windows(
    size: tuple[int, int],
    kernel: Shape,
    stride: Shape,
    padding: Shape,
    dilation: Shape = (1, 1),
    ceil_mode: int = 0,
) -> tuple[int, int]:
    """Count the windows down and across.

    With `ceil_mode` incomplete windows count, if they start inside the input or the padding before it: the
    rule of Caffe and torch.
    """
    counts = []
    for axis in (0, 1):
        reach = dilation[axis] * (kernel[axis] - 1) + 1
        before, after = padding[axis], padding[axis + 2]
        room = size[axis] + before + after - reach
        if room < 0:
            raise UserError(
                f"its input of {size[0]} × {size[1]} is too small for a window of {kernel[0]} × {kernel[1]} "
                "(a larger picture would fit)"
            )
        count = (-(-room // stride[axis]) if ceil_mode else room // stride[axis]) + 1
        if ceil_mode and (count - 1) * stride[axis] >= size[axis] + before:
            count -= 1
        counts.append(count)
    return counts[0], counts[1]


def _conv_shape(node: Node, shapes: Sequence[Shape]) -> Shape:
    channels, height, width = _picture(shapes[0])
    a = node.attributes
    weight = _weight(node, 4)
    if channels % a["groups"] or weight[0] % a["groups"]:
        raise UserError(f"{channels} channels to {weight[0]} do not divide into {a['groups']} groups")
    positions = windows((height, width), a["kernel"], a["stride"], a["padding"], a["dilation"])
    return weight[0], *positions


def _weight(node: Node, dimensions: int) -> Shape:
    if "weight" not in node.weights:
        raise UserError("the weight is missing")
    shape = node.weights["weight"].shape
    if len(shape) != dimensions or 0 in shape:
        raise UserError(f"its weight is {_text(shape)} ({dimensions} dimensions are expected)")
    return shape


def _linear_shape(node: Node, shapes: Sequence[Shape]) -> Shape:
    if len(shapes[0]) != 1:
        raise UserError(f"its input is {_text(shapes[0])} (expected one dimension)")
    return (_weight(node, 2)[0],)


def _pool_shape(node: Node, shapes: Sequence[Shape]) -> Shape:
    channels, *size = _picture(shapes[0])
    a = node.attributes
    kernel, padding = a["kernel"], a["padding"]
    if any(padding[i] >= kernel[i % 2] for i in range(4)):
        raise UserError("its padding is as wide as its window")
    return channels, *windows((size[0], size[1]), kernel, a["stride"], padding, (1, 1), a["ceil_mode"])


def _pair_shape(_node: Node, shapes: Sequence[Shape]) -> Shape:
    """Of add and mul: equal shapes, or one a number a channel."""
    a, b = shapes
    if a == b or (len(a) == 3 and b == (a[0], 1, 1)):
        return a
    if len(b) == 3 and a == (b[0], 1, 1):
        return b
    raise UserError(f"its inputs {_text(a)} and {_text(b)} do not fit")


def _concat_shape(_node: Node, shapes: Sequence[Shape]) -> Shape:
    if len({shape[1:] for shape in shapes}) != 1:
        raise UserError(f"its inputs {' and '.join(map(_text, shapes))} do not fit side by side")
    return sum(shape[0] for shape in shapes), *shapes[0][1:]


def _slice_shape(node: Node, shapes: Sequence[Shape]) -> Shape:
    start, end = node.attributes["start"], node.attributes["end"]
    if not start < end <= shapes[0][0]:
        raise UserError(f"channels {start} to {end} of {shapes[0][0]}")
    return end - start, *shapes[0][1:]


def _shuffle_shape(node: Node, shapes: Sequence[Shape]) -> Shape:
    if shapes[0][0] % node.attributes["groups"]:
        raise UserError(f"{shapes[0][0]} channels do not divide into {node.attributes['groups']} groups")
    return shapes[0]


def _same_shape(_node: Node, shapes: Sequence[Shape]) -> Shape:
    return shapes[0]


def _same_picture(_node: Node, shapes: Sequence[Shape]) -> Shape:
    return _picture(shapes[0])


def window_counts(node: Node, shape: Shape) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Count the positions that each window of an ``avg_pool`` divides by.

    Parameters
    ----------
    node
        The pool.
    shape
        Of its input.

    Returns
    -------
    ndarray of int64, shape (windows down, windows across)
        With ``count_include_pad`` the padding counts, but never what lies beyond it (ceil mode).
    """
    a = node.attributes
    _, *positions = _pool_shape(node, [shape])
    lengths = []
    for axis in (0, 1):
        start = np.arange(positions[axis]) * a["stride"][axis] - a["padding"][axis]
        end = np.minimum(start + a["kernel"][axis], shape[axis + 1] + a["padding"][axis + 2])
        if not a["count_include_pad"]:
            start, end = np.maximum(start, 0), np.minimum(end, shape[axis + 1])
        lengths.append(end - start)
    counts: np.ndarray[Any, np.dtype[np.int64]] = np.multiply.outer(lengths[0], lengths[1])
    return counts


# --- weights -----------------------------------------------------------------------------------------------


def _conv_weights(node: Node, shapes: Sequence[Shape], is_int8: bool) -> dict[str, Weight]:
    channels, a = shapes[0][0], node.attributes
    out = node.weights["weight"].shape[0]
    return {
        **_matrix((out, channels // a["groups"], *a["kernel"]), is_int8),
        "pad_value": Weight((channels,), np.uint8 if is_int8 else np.float32, optional=True),
    }


def _linear_weights(node: Node, shapes: Sequence[Shape], is_int8: bool) -> dict[str, Weight]:
    return _matrix((node.weights["weight"].shape[0], shapes[0][0]), is_int8)


def _matrix(shape: Shape, is_int8: bool) -> dict[str, Weight]:
    out = shape[:1]
    if is_int8:
        return {"weight": Weight(shape, np.int8), "bias": Weight(out, np.int32), "multiplier": Weight(out)}
    return {"weight": Weight(shape), "bias": Weight(out, optional=True)}


def _per_channel(*names: str) -> Callable[[Node, Sequence[Shape], bool], dict[str, Weight]]:
    return lambda _node, shapes, _is_int8: {name: Weight(shapes[0][:1]) for name in names}


def _multipliers(count: int) -> Callable[[Node, Sequence[Shape], bool], dict[str, Weight]]:
    return lambda _node, _shapes, is_int8: {"multiplier": Weight((count,))} if is_int8 else {}


def _pool_multipliers(node: Node, shapes: Sequence[Shape], is_int8: bool) -> dict[str, Weight]:
    if not is_int8:
        return {}
    alike = len(np.unique(window_counts(node, shapes[0]))) == 1
    return {"multiplier": Weight((1 if alike else math.prod(node.attributes["kernel"]),))}


def _table(_node: Node, _shapes: Sequence[Shape], _is_int8: bool) -> dict[str, Weight]:
    return {"table": Weight((256,), np.uint8)}


# --- multiplications ---------------------------------------------------------------------------------------


def _conv_macs(node: Node, _shapes: Sequence[Shape], out: Shape) -> int:
    return math.prod(node.weights["weight"].shape) * out[1] * out[2]


def _linear_macs(node: Node, _shapes: Sequence[Shape], _out: Shape) -> int:
    return math.prod(node.weights["weight"].shape)


def macs(node: Node, shapes: Sequence[Shape], out: Shape) -> int:
    """Count the multiply-accumulates of one picture: those of convolutions and linear layers, biases apart.

    What else multiplies (batch norm, affine, pools, the product of a squeeze-and-excitation) is work of the
    order of its output, and not counted, as in the papers.
    """
    return OPERATORS[node.op].macs(node, shapes, out)


# --- the table ---------------------------------------------------------------------------------------------

_ELEMENTWISE = Operator(_same_shape)
_WINDOW = {"kernel": "pair", "stride": "pair", "padding": "padding"}
_POOL = {**_WINDOW, "ceil_mode": "flag"}

OPERATORS: dict[str, Operator] = {
    "conv": Operator(
        _conv_shape,
        _conv_weights,
        {**_WINDOW, "dilation": "pair", "groups": "count", "activation": "activation", "logits": "flag"},
        {"activation": "none", "logits": 0},
        macs=_conv_macs,
        in_int8=True,
    ),
    "linear": Operator(
        _linear_shape,
        _linear_weights,
        {"activation": "activation", "logits": "flag"},
        {"activation": "none", "logits": 0},
        macs=_linear_macs,
        in_int8=True,
    ),
    "affine": Operator(_same_shape, _per_channel("scale", "shift")),
    "batch_norm": Operator(_same_shape, _per_channel("gamma", "beta", "mean", "var"), {"eps": "positive"}),
    # AlexNet's, section 3.3: x / (k + alpha / size * sum of squares over `size` channels) ** beta.
    "local_response_norm": Operator(
        _same_picture, attributes={"size": "count", "alpha": "real", "beta": "real", "k": "real"}
    ),
    **dict.fromkeys(ACTIVATIONS, _ELEMENTWISE),
    "add": Operator(
        _pair_shape,
        _multipliers(2),
        {"activation": "relu"},
        {"activation": "none"},
        fewest=2,
        most=2,
        in_int8=True,
    ),
    "mul": Operator(_pair_shape, _multipliers(1), fewest=2, most=2, in_int8=True),
    "concat": Operator(_concat_shape, fewest=2, most=None, in_int8=True, keeps=True),
    "slice": Operator(_slice_shape, attributes={"start": "index", "end": "count"}, in_int8=True, keeps=True),
    "channel_shuffle": Operator(_shuffle_shape, attributes={"groups": "count"}, in_int8=True, keeps=True),
    "max_pool": Operator(_pool_shape, attributes=_POOL, in_int8=True, keeps=True),
    "avg_pool": Operator(
        _pool_shape, _pool_multipliers, {**_POOL, "count_include_pad": "flag"}, in_int8=True
    ),
    "global_avg_pool": Operator(
        lambda _node, shapes: (_picture(shapes[0])[0], 1, 1),
        _multipliers(1),
        {"logits": "flag"},
        {"logits": 0},
        in_int8=True,
    ),
    "flatten": Operator(lambda _node, shapes: (math.prod(shapes[0]),), in_int8=True, keeps=True),
    "dropout": Operator(_same_shape, in_int8=True, keeps=True),
    "identity": Operator(_same_shape, in_int8=True, keeps=True),
    # Any function of one byte: what SiLU, sigmoid and hard-swish become in an int8 graph.
    "table": Operator(_same_shape, _table, in_int8=True),
}


def infer(node: Node, inputs: Sequence[Tensor], is_int8: bool) -> Shape:
    """Check a node against its inputs and give the shape of what it computes.

    Raises
    ------
    UserError
        Shapes, weights or quantizations do not fit.
    """
    operator = OPERATORS[node.op]
    if len(inputs) < operator.fewest or (operator.most is not None and len(inputs) > operator.most):
        raise UserError(
            f"{len(inputs)} inputs (it takes {operator.fewest}{'' if operator.most else ' or more'})"
        )
    if not operator.in_int8 and is_int8:
        raise UserError("an int8 graph has no such operator")
    if node.op == "table" and not is_int8:
        raise UserError("a float32 graph has no such operator")
    shapes = [tensor.shape for tensor in inputs]
    shape = operator.shape(node, shapes)
    if math.prod(shape) > 2**31 - 1:
        raise UserError(f"its output of {_text(shape)} is too large")
    _check_weights(node, operator.weights(node, shapes, is_int8))
    if node.op == "batch_norm" and (_array(node, "var") + node.attributes["eps"] <= 0).any():
        raise UserError("its var is negative")
    if is_int8:
        _check_int8(node, operator, inputs)
    elif node.quantization is not None or node.attributes.get("logits"):
        raise UserError("a float32 graph has no quantized values")
    return shape


def _check_weights(node: Node, expected: Mapping[str, Weight]) -> None:
    from squeezekit.graph.graph import Codebook

    for key in node.weights:
        if key not in expected:
            raise UserError(f"no weight {key!r}{suggest(key, expected)}")
    for key, weight in expected.items():
        if key not in node.weights:
            if weight.optional:
                continue
            raise UserError(f"the weight {key!r} is missing")
        given = node.weights[key]
        if given.shape != weight.shape:
            raise UserError(f"its {key} is {_text(given.shape)} (expected {_text(weight.shape)})")
        dtype = np.dtype(np.float32) if isinstance(given, Codebook) else given.dtype
        if dtype != weight.dtype:
            raise UserError(f"its {key} is of type {dtype} (expected {np.dtype(weight.dtype)})")


def _check_int8(node: Node, operator: Operator, inputs: Sequence[Tensor]) -> None:
    if node.attributes.get("logits"):
        if node.quantization is not None or node.attributes.get("activation", "none") != "none":
            raise UserError("logits are float32 and have neither a quantization nor an activation")
    elif operator.keeps:
        if any(tensor.quantization != node.quantization for tensor in inputs):
            raise UserError("its output and its inputs share one quantization")
    elif node.quantization is None:
        raise UserError("its output has no quantization")
    if not operator.keeps and any(tensor.quantization is None for tensor in inputs):
        raise UserError("its input has no quantization")
    if node.attributes.get("activation", "none") not in ("none", "relu", "relu6"):
        raise UserError(f"{node.attributes['activation']} is a table of its own in an int8 graph")
    if "multiplier" in node.weights and (_array(node, "multiplier") < 0).any():
        raise UserError("its multiplier is negative")
    if node.op in ("conv", "linear"):
        _check_accumulator(node, inputs[0])


def _check_accumulator(node: Node, tensor: Tensor) -> None:
    """No input may carry the sum beyond int32."""
    assert tensor.quantization is not None
    zero = tensor.quantization.zero_point
    weight = _array(node, "weight")
    reach = np.abs(weight.reshape(len(weight), -1).astype(np.int16)).sum(axis=1, dtype=np.int64)
    if (reach * max(zero, 255 - zero) + np.abs(_array(node, "bias").astype(np.int64)) > 2**31 - 1).any():
        raise UserError("its sums can leave the range of int32")


def _array(node: Node, key: str) -> np.ndarray[Any, np.dtype[Any]]:
    """Return a weight, dense."""
    weight = node.weights[key]
    return weight if isinstance(weight, np.ndarray) else weight.dense()
