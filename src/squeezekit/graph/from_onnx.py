"""An ONNX file into a graph, whichever framework wrote it.

Values keep the graph's order of dimensions, channels first, whatever the file's: where a framework that has
channels last (Keras, TensorFlow) turns them around for its convolutions, the turns cancel, and a layer behind
a flattened map gets its columns reordered. A softmax at the very end is left out: a graph gives logits.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from squeezekit.errors import UserError
from squeezekit.graph.build import Builder, Unsupported, arithmetic, per_channel, same_padding
from squeezekit.graph.graph import INPUT, Array, Graph

__all__ = ["from_onnx", "read_onnx"]

_ANY = -1  # the batch, in shapes as ONNX sees them


def from_onnx(path: str | os.PathLike[str], input_size: int | None = None) -> Graph:
    """Read an ONNX file as a graph.

    Parameters
    ----------
    path
        The file. One input of pictures, channels first or last; the first output counts.
    input_size
        Side of the pictures in pixels, where the file leaves it open.

    Returns
    -------
    Graph
        float32. Nodes carry the file's names, or those of what they compute.

    Raises
    ------
    UserError
        The file cannot be read, an operator is not supported (it is named, with its place, before weights are
        read), shapes do not fit, or weights are not finite.

    Examples
    --------
    >>> from_onnx("resnet18.onnx").tensors["output"].shape  # doctest: +SKIP
    (1000,)
    """
    return read_onnx(path, input_size)[0]


def read_onnx(
    path: str | os.PathLike[str], input_size: int | None = None, open_size: int | None = None
) -> tuple[Graph, dict[str, str]]:
    """Read an ONNX file as a graph, and what it says beside it.

    Parameters
    ----------
    path, input_size
        As for :func:`from_onnx`.
    open_size
        Side of the pictures where neither the file nor `input_size` tells it.

    Returns
    -------
    graph : Graph
    metadata : dict of str to str
        Empty where the file was not written by squeezekit: with others the same words may mean other things.

    Raises
    ------
    UserError
        As :func:`from_onnx`.
    """
    import onnx

    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf's, ONNX's and the system's, of many classes
        reason = (str(error) or type(error).__name__).strip().splitlines()[0][:200]
        raise UserError(f"{path}: not a readable ONNX file ({reason})") from error
    if not model.graph.node or not model.graph.output:
        raise UserError(f"{path}: not an ONNX file (it holds no network)")
    own = model.producer_name == "squeezekit"
    metadata = {each.key: each.value for each in model.metadata_props} if own else {}
    try:
        return _Reader(model, input_size, open_size).read(), metadata
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except Exception as error:  # a file may leave out anything that a node needs
        raise UserError(f"{path}: damaged, or not ONNX as it is defined ({_reason(model, error)})") from error


def _reason(model: Any, error: Exception) -> str:
    """Let ONNX's own checker say what is wrong: late, as it also refuses files that can be read."""
    import onnx

    try:
        onnx.checker.check_model(model)
    except Exception as found:  # of classes that are not ONNX's alone
        error = found
    return (str(error) or type(error).__name__).strip().splitlines()[0][:200]


@dataclass(frozen=True)
class _Value:
    """What an ONNX value stands for.

    Attributes
    ----------
    name
        The graph's value that holds the numbers.
    shape
        As ONNX sees it: the batch is -1.
    last
        ONNX has the channels last; the graph always has them first.
    padding
        Zeros around it that the next window shall add: top, left, bottom, right.
    flat
        Height, width, channels: it was flattened with the channels last, in which order the graph has it not.
    groups
        Of (N, groups, channels / groups, H, W), the first step of a channel shuffle; negative once swapped.
    softmax
        A softmax was left out.
    """

    name: str
    shape: tuple[int, ...]
    last: bool = False
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    flat: tuple[int, int, int] | None = None
    groups: int = 0
    softmax: bool = False


class _Reader:
    def __init__(self, model: Any, input_size: int | None, open_size: int | None) -> None:
        from onnx import numpy_helper

        self._to_array = numpy_helper.to_array
        self.onnx = model.graph
        self.versions = {each.domain: each.version for each in model.opset_import}
        self.initializers = {each.name: each for each in self.onnx.initializer}
        self.constants: dict[str, Array] = {}
        self.values: dict[str, _Value] = {}
        self.input_size, self.open_size = input_size, open_size
        self.label = ""
        self.builder = Builder((1,))  # the real one is made once the input is known

    @property
    def version(self) -> int:
        """Version of ONNX's own operators."""
        return int(self.versions.get("", self.versions.get("ai.onnx", 1)))

    def read(self) -> Graph:
        self._check()
        self._input()
        for index, node in enumerate(self.onnx.node):
            self.label = _label(node, index)
            attributes = {each.name: _attribute(each) for each in node.attribute}
            try:
                self._node(node, attributes)
            except Unsupported as error:
                raise UserError(f"{self.label} ({node.op_type}): {error} is not supported") from None
        output = self.values.get(self.onnx.output[0].name)
        if output is None:
            raise UserError("its output does not depend on its input")
        try:
            return self.builder.graph(self.name(replace(output, softmax=False)))
        except Unsupported as error:
            raise UserError(f"its output: {error} is not supported") from None

    # --- before ---

    def _check(self) -> None:
        unknown: dict[str, str] = {}
        for index, node in enumerate(self.onnx.node):
            known = node.domain in ("", "ai.onnx") and (node.op_type in _HANDLERS or node.op_type in _FOLDED)
            if not known:
                unknown.setdefault(node.op_type, _label(node, index))
        if unknown:
            (op, label), *rest = unknown.items()
            more = f"; nor {', '.join(f'{o} ({where})' for o, where in rest)}" if rest else ""
            raise UserError(f"{label}: the operator {op} is not supported{more}")

    def _input(self) -> None:
        inputs = [each for each in self.onnx.input if each.name not in self.initializers]
        if len(inputs) != 1:
            raise UserError(f"it takes {len(inputs)} inputs (one is expected)")
        (given,) = inputs
        dims = [each.dim_value or None for each in given.type.tensor_type.shape.dim]
        if len(dims) not in (2, 4):
            raise UserError(f"its input {given.name} has {len(dims)} dimensions (pictures have 4)")
        last = len(dims) == 4 and self._channels_last(given.name, dims)
        sides = (1, 2) if last else (2, 3)
        for axis in sides if len(dims) == 4 else ():
            dims[axis] = self.input_size or dims[axis] or self.open_size
        if None in dims[1:]:
            raise UserError(
                f"its input {given.name} leaves the picture's size open (cost: --input SIZE; other commands: "
                "--preparation imagenet, caffe or a FILE)"
            )
        known = [int(each or 0) for each in dims[1:]]
        shape = (known[2], known[0], known[1]) if last else tuple(known)
        self.builder = Builder(shape)
        self.values[given.name] = _Value(INPUT, (_ANY, *known), last=last)

    def _channels_last(self, name: str, dims: Sequence[int | None]) -> bool:
        """Follow the input to the first operator that tells which dimension holds the channels."""
        names = {name}
        for node in self.onnx.node:
            if not names.intersection(node.input):
                continue
            if node.op_type == "Transpose":
                return any(list(each.ints) == [0, 3, 1, 2] for each in node.attribute)
            if node.op_type in ("Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "BatchNormalization"):
                return False
            names.update(node.output)
        return dims[3] in (1, 3) and dims[1] not in (1, 3)

    # --- pieces for the handlers ---

    def _node(self, node: Any, attributes: dict[str, Any]) -> None:
        constants = [self.constant(name) for name in node.input if name]
        if node.op_type in _FOLDED and all(each is not None for each in constants):
            results = _FOLDED[node.op_type](self, attributes, *constants)
            self.constants[node.output[0]] = np.asarray(results)
            return
        if node.op_type == "Shape":
            shape = self.value(node.input[0]).shape
            self.constants[node.output[0]] = np.array(
                shape[attributes.get("start", 0) : attributes.get("end")]
            )
            return
        if node.op_type not in _HANDLERS:
            raise Unsupported(f"{node.op_type} of a value")
        found = _HANDLERS[node.op_type](self, attributes, *node.input)
        outputs = found if isinstance(found, list) else [found]
        for name, value in zip(node.output, outputs, strict=False):
            self.values[name] = value

    def value(self, name: str) -> _Value:
        if name not in self.values:
            raise Unsupported("a constant in the place of a value")
        value = self.values[name]
        if value.softmax:
            raise Unsupported("a softmax that is not the end")
        return value

    def constant(self, name: str) -> Array | None:
        """Return a constant; None for a value, or where nothing is given."""
        if name in self.initializers and name not in self.constants:
            self.constants[name] = self._to_array(self.initializers[name])
        return self.constants.get(name)

    def weight(self, name: str) -> Array:
        """Return a constant that must be one, as float32."""
        found = self.constant(name)
        if found is None:
            raise Unsupported("a weight that the network computes itself")
        return np.asarray(found, np.float32)

    def wholes(
        self, attributes: Mapping[str, Any], key: str, inputs: Sequence[str], place: int
    ) -> list[int] | None:
        """Return whole numbers that older operators have as an attribute and newer ones as an input."""
        if key in attributes:
            return [int(each) for each in np.atleast_1d(attributes[key])]
        if len(inputs) > place and inputs[place]:
            found = self.constant(inputs[place])
            if found is None:
                raise Unsupported(f"{key} that the network computes itself")
            return [int(each) for each in found.reshape(-1)]
        return None

    def name(self, value: _Value, *, padded: bool = False) -> str:
        """Return the graph's value, in the shape in which ONNX sees it."""
        if any(value.padding) and not padded:
            raise Unsupported("padding that no convolution or average pool follows")
        if value.flat is not None or value.groups:
            raise Unsupported("a permutation of dimensions")
        own = self.builder.shape(value.name)
        seen = value.shape[1:]
        if value.last and len(seen) == 3:
            seen = (seen[2], seen[0], seen[1])
        if seen == own:
            return value.name
        if seen == (int(np.prod(own)),):
            return self.builder.add(f"{self.label}.flatten", "flatten", value.name)
        raise Unsupported(f"reshaping {' × '.join(map(str, own))} to {' × '.join(map(str, value.shape[1:]))}")

    def emit(
        self,
        op: str,
        *inputs: _Value,
        padded: bool = False,
        weights: Mapping[str, Array | None] | None = None,
        **attributes: Any,
    ) -> _Value:
        last = inputs[0].last
        names = [self.name(each, padded=padded) for each in inputs]
        name = self.builder.add(self.label, op, *names, weights=weights, **attributes)
        shape = self.builder.shape(name)
        if last and len(shape) == 3:
            shape = (shape[1], shape[2], shape[0])
        return _Value(name, (_ANY, *shape), last=last and len(shape) == 3)

    def channels(self, value: _Value, axis: int) -> bool:
        """Whether an axis of a value, as ONNX counts, holds the channels."""
        return axis % len(value.shape) == (len(value.shape) - 1 if value.last else 1)


def _label(node: Any, index: int) -> str:
    """Name a node by its name, by what it computes, or by its number.

    torch writes the way to a layer, ``/features/conv1/Conv``, which becomes the layer's name.
    """
    name = str(node.name or (node.output[0] if node.output else ""))
    if name.startswith("/"):
        *path, last = name.strip("/").split("/")
        name = ".".join(path if path and last.partition("_")[0] == node.op_type else [*path, last])
    return ".".join(part for part in name.split(".") if part) or f"{node.op_type}_{index}"


def _attribute(attribute: Any) -> Any:
    from onnx import helper

    found = helper.get_attribute_value(attribute)
    return found.decode() if isinstance(found, bytes) else found


# --- operators on constants --------------------------------------------------------------------------------


def _slice_constant(_r: _Reader, a: Mapping[str, Any], x: Array, *more: Array) -> Array:
    starts, ends = (more[0], more[1]) if more else (a["starts"], a["ends"])
    axes = more[2] if len(more) > 2 else a.get("axes", range(len(starts)))
    steps = more[3] if len(more) > 3 else [1] * len(starts)
    where = [slice(None)] * x.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        where[int(axis)] = slice(int(start), int(end), int(step))
    return x[tuple(where)]


def _cast(_r: _Reader, a: Mapping[str, Any], x: Array) -> Array:
    from onnx import helper

    return x.astype(helper.tensor_dtype_to_np_dtype(a["to"]))


def _constant(reader: _Reader, a: Mapping[str, Any]) -> Array:
    if "value" in a:
        return np.asarray(reader._to_array(a["value"]))
    found = next(
        (a[key] for key in ("value_float", "value_int", "value_floats", "value_ints") if key in a), None
    )
    if found is None:
        raise Unsupported("a constant that is no number")
    return np.asarray(found, np.float32 if "float" in next(iter(a)) else np.int64)


def _reshape_constant(_r: _Reader, _a: Mapping[str, Any], x: Array, shape: Array) -> Array:
    return x.reshape([x.shape[i] if n == 0 else int(n) for i, n in enumerate(shape)])


def _unsqueeze_constant(_r: _Reader, a: Mapping[str, Any], x: Array, *axes: Array) -> Array:
    where = a["axes"] if "axes" in a else axes[0].reshape(-1)
    return np.expand_dims(x, tuple(int(each) for each in where))


def _squeeze_constant(_r: _Reader, a: Mapping[str, Any], x: Array, *axes: Array) -> Array:
    where = a["axes"] if "axes" in a else axes[0].reshape(-1) if axes else None
    return np.squeeze(x, None if where is None else tuple(int(each) for each in where))


#: What is computed here where all inputs are constants: shapes, mostly.
_FOLDED: dict[str, Callable[..., Array]] = {
    "Add": lambda _r, _a, x, y: x + y,
    "Sub": lambda _r, _a, x, y: x - y,
    "Mul": lambda _r, _a, x, y: x * y,
    "Div": lambda _r, _a, x, y: x // y if x.dtype.kind in "iu" else x / y,
    "Cast": _cast,
    "Concat": lambda _r, a, *parts: np.concatenate(parts, axis=a["axis"]),
    "Constant": _constant,
    "Gather": lambda _r, a, x, indices: np.take(x, indices, axis=a.get("axis", 0)),
    "Identity": lambda _r, _a, x: x,
    "Reshape": _reshape_constant,
    "Shape": lambda _r, _a, x: np.array(x.shape),
    "Slice": _slice_constant,
    "Squeeze": _squeeze_constant,
    "Transpose": lambda _r, a, x: np.transpose(x, a.get("perm")),
    "Unsqueeze": _unsqueeze_constant,
}

# --- operators on values -----------------------------------------------------------------------------------

_HANDLERS: dict[str, Callable[..., Any]] = {}


def _handles(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def remember(handler: Callable[..., Any]) -> Callable[..., Any]:
        _HANDLERS.update(dict.fromkeys(names, handler))
        return handler

    return remember


def _window(
    a: Mapping[str, Any], value: _Value, kernel: Sequence[int]
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int], tuple[int, int, int, int]]:
    """Return kernel, stride, dilation and padding."""
    if len(kernel) != 2:
        raise Unsupported(f"a window of {len(kernel)} dimensions")
    if value.last:
        raise Unsupported("a window over channels")
    window = (int(kernel[0]), int(kernel[1]))
    down, across = a.get("strides", (1, 1))
    dilation = (int(a.get("dilations", (1, 1))[0]), int(a.get("dilations", (1, 1))[1]))
    auto = a.get("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        size = [value.shape[2 + i] + value.padding[i] + value.padding[i + 2] for i in (0, 1)]
        padding = same_padding(size, window, (down, across), dilation, lower=auto == "SAME_LOWER")
    else:
        top, left, bottom, right = a.get("pads", (0, 0, 0, 0)) if auto == "NOTSET" else (0, 0, 0, 0)
        padding = (int(top), int(left), int(bottom), int(right))
    return window, (int(down), int(across)), dilation, padding


def _plus(a: Sequence[int], b: Sequence[int]) -> tuple[int, int, int, int]:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]


@_handles("Conv")
def _conv(reader: _Reader, a: Mapping[str, Any], x: str, w: str, b: str = "") -> _Value:
    value, weight = reader.value(x), reader.weight(w)
    kernel, stride, dilation, padding = _window(a, value, weight.shape[2:])
    return reader.emit(
        "conv",
        value,
        padded=True,
        kernel=kernel,
        stride=stride,
        padding=_plus(padding, value.padding),
        dilation=dilation,
        groups=int(a.get("group", 1)),
        weights={"weight": weight, "bias": reader.weight(b) if b else None},
    )


def _columns(value: _Value, weight: Array) -> tuple[_Value, Array]:
    """Reorder the columns of a layer that reads a map flattened with its channels last."""
    if value.flat is None:
        return value, weight
    height, width, channels = value.flat
    by_position = weight.reshape(-1, height, width, channels)
    return replace(value, flat=None), np.ascontiguousarray(
        by_position.transpose(0, 3, 1, 2).reshape(len(weight), -1)
    )


@_handles("Gemm")
def _gemm(reader: _Reader, a: Mapping[str, Any], x: str, w: str, b: str = "") -> _Value:
    if a.get("transA", 0):
        raise Unsupported("a transposed input")
    weight = reader.weight(w)
    value, weight = _columns(reader.value(x), weight if a.get("transB", 0) else weight.T)
    weights: dict[str, Array | None] = {"weight": weight * np.float32(a.get("alpha", 1.0))}
    if b:
        bias = reader.weight(b) * np.float32(a.get("beta", 1.0))
        weights["bias"] = np.broadcast_to(bias.reshape(-1), (len(weight),))
    return reader.emit("linear", value, weights=weights)


@_handles("MatMul")
def _matmul(reader: _Reader, _a: Mapping[str, Any], x: str, w: str) -> _Value:
    value, weight = _columns(reader.value(x), reader.weight(w).T)
    return reader.emit("linear", value, weights={"weight": weight})


@_handles("BatchNormalization")
def _batch_norm(
    reader: _Reader, a: Mapping[str, Any], x: str, gamma: str, beta: str, mean: str, var: str
) -> _Value:
    if a.get("training_mode", 0):
        raise Unsupported("batch normalisation by the batch's own statistics")
    value = reader.value(x)
    if value.last:
        raise Unsupported("batch normalisation of a dimension that holds no channels")
    keys = {"gamma": gamma, "beta": beta, "mean": mean, "var": var}
    weights = {key: reader.weight(name) for key, name in keys.items()}
    return reader.emit("batch_norm", value, eps=float(a.get("epsilon", 1e-5)), weights=weights)


@_handles("LRN")
def _response_norm(reader: _Reader, a: Mapping[str, Any], x: str) -> _Value:
    value, size = reader.value(x), int(a["size"])
    if value.last or size % 2 == 0:  # ONNX and torch disagree on which side an even window leans to
        raise Unsupported("local response normalisation over an even number of channels")
    alpha, beta, k = a.get("alpha", 1e-4), a.get("beta", 0.75), a.get("bias", 1.0)
    return reader.emit(
        "local_response_norm", value, size=size, alpha=float(alpha), beta=float(beta), k=float(k)
    )


def _activation(onnx_name: str, op: str) -> None:
    @_handles(onnx_name)
    def handle(reader: _Reader, _a: Mapping[str, Any], x: str) -> _Value:
        return reader.emit(op, reader.value(x))


_activation("Relu", "relu")
_activation("Sigmoid", "sigmoid")
_activation("HardSwish", "hard_swish")


@_handles("HardSigmoid")
def _hard_sigmoid(reader: _Reader, a: Mapping[str, Any], x: str) -> _Value:
    if abs(a.get("alpha", 0.2) - 1 / 6) > 1e-6 or abs(a.get("beta", 0.5) - 0.5) > 1e-6:
        raise Unsupported("a hard sigmoid of another slope than 1/6")
    return reader.emit("hard_sigmoid", reader.value(x))


@_handles("Swish")
def _swish(reader: _Reader, a: Mapping[str, Any], x: str) -> _Value:
    if a.get("alpha", 1.0) != 1.0:
        raise Unsupported(f"a swish with alpha {a['alpha']}")
    return reader.emit("silu", reader.value(x))


@_handles("Clip")
def _clip(reader: _Reader, a: Mapping[str, Any], x: str, low: str = "", high: str = "") -> _Value:
    limits = [
        a.get(key, reader.weight(name).item() if name else None)
        for key, name in (("min", low), ("max", high))
    ]
    if limits == [0, 6]:
        return reader.emit("relu6", reader.value(x))
    if limits[0] == 0 and (limits[1] is None or limits[1] >= np.finfo(np.float32).max):
        return reader.emit("relu", reader.value(x))
    raise Unsupported(f"limiting values to {limits[0]} … {limits[1]} (0 … 6 is)")


def _arithmetic(kind: str) -> Callable[..., _Value]:
    def handle(reader: _Reader, _a: Mapping[str, Any], x: str, y: str) -> _Value:
        left, right = reader.constant(x), reader.constant(y)
        if left is None and right is None:
            if kind not in ("add", "mul"):
                raise Unsupported(f"{kind} of two values")
            return _of_two(reader, kind, reader.value(x), reader.value(y))
        value = reader.value(y if right is None else x)
        constant = right if left is None else left
        assert constant is not None
        if value.last and constant.ndim:  # the channels' dimension comes first here
            constant = constant.reshape((1,) * (4 - constant.ndim) + constant.shape).transpose(0, 3, 1, 2)
        numbers = per_channel(constant, reader.builder.shape(value.name)[0], len(value.shape))
        return reader.emit("affine", value, weights=arithmetic(kind, numbers, first=right is None))

    return handle


def _of_two(reader: _Reader, kind: str, left: _Value, right: _Value) -> _Value:
    if left.last != right.last and len(left.shape) == len(right.shape) == 4:
        raise Unsupported("values whose dimensions are in different orders")
    if kind == "mul":  # x * sigmoid(x), as frameworks without the operator write SiLU
        for value, gate in ((left, right), (right, left)):
            made = reader.builder.made(gate.name)
            if made is not None and made.op == "sigmoid" and made.inputs == (reader.name(value),):
                return reader.emit("silu", value)
    return reader.emit(kind, left, right)


for _name, _kind in (("Add", "add"), ("Sub", "sub"), ("Mul", "mul"), ("Div", "div")):
    _handles(_name)(_arithmetic(_kind))


@_handles("Sum")
def _sum(reader: _Reader, a: Mapping[str, Any], *inputs: str) -> _Value:
    if len(inputs) != 2:
        raise Unsupported(f"a sum of {len(inputs)} values")
    found: _Value = _HANDLERS["Add"](reader, a, *inputs)
    return found


@_handles("Concat")
def _concat(reader: _Reader, a: Mapping[str, Any], *inputs: str) -> _Value:
    values = [reader.value(each) for each in inputs]
    if len({value.last for value in values}) != 1 or not reader.channels(values[0], a["axis"]):
        raise Unsupported(f"concatenation along dimension {a['axis']} (channels are)")
    return values[0] if len(values) == 1 else reader.emit("concat", *values)


@_handles("Split")
def _split(reader: _Reader, a: Mapping[str, Any], *inputs: str) -> list[_Value]:
    value, axis = reader.value(inputs[0]), a.get("axis", 0)
    if not reader.channels(value, axis):
        raise Unsupported("splitting along another dimension than channels")
    length = value.shape[axis]
    sizes = reader.wholes(a, "split", inputs, 1)
    if sizes is None:
        count = a.get("num_outputs")
        if count is None:
            raise Unsupported("a split without sizes")
        part = -(-length // count)
        sizes = [min(part, length - start) for start in range(0, length, part)]
    ends = np.cumsum(sizes).tolist()
    return [
        reader.emit("slice", value, start=end - size, end=end) for size, end in zip(sizes, ends, strict=True)
    ]


@_handles("Slice")
def _slice(reader: _Reader, a: Mapping[str, Any], *inputs: str) -> _Value:
    value = reader.value(inputs[0])
    starts, ends = reader.wholes(a, "starts", inputs, 1), reader.wholes(a, "ends", inputs, 2)
    assert starts is not None
    assert ends is not None
    axes = reader.wholes(a, "axes", inputs, 3) or list(range(len(starts)))
    steps = reader.wholes(a, "steps", inputs, 4) or [1] * len(starts)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        length = value.shape[axis]
        first, last, _ = slice(start, end).indices(length)
        if step == 1 and (first, last) == (0, length):
            continue
        if step != 1 or not reader.channels(value, axis):
            raise Unsupported("a slice along another dimension than channels")
        value = reader.emit("slice", value, start=first, end=last)
    return value


@_handles("MaxPool")
def _max_pool(reader: _Reader, a: Mapping[str, Any], x: str) -> _Value:
    value = reader.value(x)
    kernel, stride, dilation, padding = _window(a, value, a["kernel_shape"])
    if dilation != (1, 1):
        raise Unsupported("a dilated max pool")
    return reader.emit(
        "max_pool",
        value,
        kernel=kernel,
        stride=stride,
        padding=padding,
        ceil_mode=int(a.get("ceil_mode", 0)),
    )


@_handles("AveragePool")
def _avg_pool(reader: _Reader, a: Mapping[str, Any], x: str) -> _Value:
    value = reader.value(x)
    kernel, stride, dilation, padding = _window(a, value, a["kernel_shape"])
    include = bool(a.get("count_include_pad", 0))
    if dilation != (1, 1):
        raise Unsupported("a dilated average pool")
    if any(value.padding) and any(padding) and not include:
        raise Unsupported("an average pool over two kinds of padding")
    return reader.emit(
        "avg_pool",
        value,
        padded=True,
        kernel=kernel,
        stride=stride,
        padding=_plus(padding, value.padding),
        ceil_mode=int(a.get("ceil_mode", 0)),
        count_include_pad=int(include or any(value.padding)),
    )


@_handles("GlobalAveragePool")
def _global_avg_pool(reader: _Reader, _a: Mapping[str, Any], x: str) -> _Value:
    value = reader.value(x)
    if value.last:
        raise Unsupported("a pool over channels")
    return reader.emit("global_avg_pool", value)


@_handles("ReduceMean")
def _reduce_mean(reader: _Reader, a: Mapping[str, Any], *inputs: str) -> _Value:
    value = reader.value(inputs[0])
    axes = reader.wholes(a, "axes", inputs, 1)
    sides = [1, 2] if value.last else [2, 3]
    if len(value.shape) != 4 or axes is None or sorted(each % 4 for each in axes) != sides:
        raise Unsupported("a mean over other dimensions than height and width")
    pooled = reader.emit("global_avg_pool", value)
    channels = reader.builder.shape(pooled.name)[0]
    return pooled if a.get("keepdims", 1) else replace(pooled, shape=(_ANY, channels), last=False)


@_handles("Flatten")
def _flatten(reader: _Reader, a: Mapping[str, Any], x: str) -> _Value:
    if a.get("axis", 1) != 1:
        raise Unsupported(f"flattening from dimension {a['axis']}")
    value = reader.value(x)
    return _reshaped(reader, value, (_ANY, int(np.prod(value.shape[1:]))))


@_handles("Reshape")
def _reshape(reader: _Reader, a: Mapping[str, Any], x: str, shape: str = "") -> _Value:
    value = reader.value(x)
    wanted = reader.wholes(a, "shape", [x, shape], 1)
    assert wanted is not None
    new = [value.shape[i] if n == 0 and not a.get("allowzero", 0) else n for i, n in enumerate(wanted)]
    total = int(np.prod(value.shape[1:]))
    if int(np.prod(new[1:])) == total and new[0] in (_ANY, 1):  # a batch of one was written down
        new[0] = _ANY
    elif new.count(-1) == 1 and new.index(-1) > 0 and new[0] == 1:
        rest = int(np.prod([n for n in new[1:] if n != -1]))
        new[new.index(-1)] = total // rest
        new[0] = _ANY
    elif new.count(-1) == 2 and new[0] == _ANY:  # (batch, -1)
        rest = int(np.prod([n for n in new[1:] if n != -1]))
        new[1 + new[1:].index(-1)] = total // rest
    if new[0] != _ANY or min(new[1:], default=0) < 1 or int(np.prod(new[1:])) != total:
        raise Unsupported("reshaping across the pictures of a batch")
    return _reshaped(reader, value, tuple(new))


@_handles("Squeeze", "Unsqueeze")
def _squeeze(*_: Any) -> _Value:
    raise Unsupported("changing the number of dimensions")


def _reshaped(reader: _Reader, value: _Value, shape: tuple[int, ...]) -> _Value:
    if any(value.padding):
        raise Unsupported("padding that no convolution or average pool follows")
    own = reader.builder.shape(value.name)
    if value.groups < 0:  # a channel shuffle: (N, channels / groups, groups, H, W), back in one row
        if shape[1:] != own:
            raise Unsupported("a permutation of dimensions")
        plain = replace(value, shape=(_ANY, *own), groups=0)
        return reader.emit("channel_shuffle", plain, groups=-value.groups)
    if len(shape) == 5 and len(own) == 3 and not value.last and shape[3:] == own[1:]:
        return replace(value, shape=shape, groups=shape[1])
    if shape == value.shape:
        return value
    if len(shape) != 2:
        raise Unsupported(f"reshaping to {' × '.join(map(str, shape[1:]))}")
    if len(own) == 1:
        return replace(value, shape=shape)
    flat = None
    if value.last and own[1] * own[2] > 1 and own[0] > 1:
        flat = (own[1], own[2], own[0])
    return replace(reader.emit("flatten", value), last=False, flat=flat)


@_handles("Transpose")
def _transpose(reader: _Reader, a: Mapping[str, Any], x: str) -> _Value:
    value = reader.value(x)
    order = list(a.get("perm", range(len(value.shape))[::-1]))
    shape = tuple(value.shape[i] for i in order)
    if order == sorted(order):
        return value
    if order == [0, 3, 1, 2] and value.last:
        return replace(value, shape=shape, last=False)
    if order == [0, 2, 3, 1] and not value.last and not any(value.padding):
        return replace(value, shape=shape, last=True)
    if order == [0, 2, 1, 3, 4] and value.groups > 0:
        return replace(value, shape=shape, groups=-value.groups)
    raise Unsupported("a permutation of dimensions")


@_handles("Dropout")
def _dropout(reader: _Reader, _a: Mapping[str, Any], x: str, *_: str) -> _Value:
    return reader.emit("dropout", reader.value(x))


@_handles("Identity")
def _identity(reader: _Reader, _a: Mapping[str, Any], x: str) -> _Value:
    return reader.value(x)


@_handles("Cast")
def _cast_value(reader: _Reader, a: Mapping[str, Any], x: str) -> _Value:
    if a["to"] != 1:  # FLOAT
        raise Unsupported("values of another type than float32")
    return reader.value(x)


@_handles("Softmax")
def _softmax(reader: _Reader, a: Mapping[str, Any], x: str) -> _Value:
    value = reader.value(x)
    default = -1 if reader.version >= 13 else 1
    if len(value.shape) != 2 and int(np.prod(value.shape[2:])) != 1:
        raise Unsupported("a softmax over several positions")
    if a.get("axis", default) % len(value.shape) != 1:
        raise Unsupported("a softmax over another dimension than classes")
    return replace(value, softmax=True)


@_handles("Pad")
def _pad(reader: _Reader, a: Mapping[str, Any], *inputs: str) -> _Value:
    value = reader.value(inputs[0])
    pads = reader.wholes(a, "pads" if "pads" in a else "paddings", inputs, 1)
    fill = reader.constant(inputs[2]) if len(inputs) > 2 and inputs[2] else None
    number = float(fill) if fill is not None else a.get("value", 0.0)
    if pads is None or a.get("mode", "constant") != "constant" or number or any(inputs[3:]):
        raise Unsupported("padding with something else than zeros around a picture")
    if not any(pads):
        return value
    sides = (1, 2) if value.last else (2, 3)
    if len(value.shape) != 4 or min(pads) < 0 or any(pads[i] for i in range(8) if i % 4 not in sides):
        raise Unsupported("padding of other dimensions than height and width")
    around = (pads[sides[0]], pads[sides[1]], pads[4 + sides[0]], pads[4 + sides[1]])
    # The value stays without its border: the window that comes next takes it into its own padding.
    reader.name(replace(value, padding=(0, 0, 0, 0)))
    return replace(value, padding=_plus(value.padding, around))


@_handles("Shape")
def _shape(*_: Any) -> None:
    raise AssertionError("answered before")
