"""The network as data: values that flow between nodes, checked when it is made and never changed after.

A graph is either ``float32`` (pictures (C, H, W), prepared) or ``int8`` (the picture's own bytes; uint8
values, int8 weights). Which operators there are, and what each needs, is the table in
:mod:`squeezekit.graph.operators`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezekit.errors import UserError, suggest
from squeezekit.graph import operators

__all__ = ["INPUT", "Array", "Codebook", "Graph", "Node", "Quantization", "Tensor", "dense", "frozen", "same"]

#: The name of the value that a graph is given.
INPUT = "input"

Array = NDArray[Any]


def frozen(array: Array) -> Array:
    """Mark an array that nobody else holds as read-only: a node then takes it without a copy."""
    array.flags.writeable = False
    return array


@dataclass(frozen=True)
class Quantization:
    """What the bytes of a uint8 value mean: ``real = scale * (q - zero_point)``.

    Attributes
    ----------
    scale : float
        Positive, and exactly a float32.
    zero_point : int
        0 to 255.
    """

    scale: float
    zero_point: int

    def __post_init__(self) -> None:
        scale: Any = self.scale
        if not isinstance(scale, float) or not math.isfinite(scale) or scale <= 0:
            raise UserError(f"scale is {scale!r} (a positive number)")
        if scale != _as_float32(scale):
            raise UserError(f"scale is {scale!r} (a number that float32 holds exactly)")
        if type(self.zero_point) is not int or not 0 <= self.zero_point <= 255:
            raise UserError(f"zero_point is {self.zero_point!r} (a whole number from 0 to 255)")


def _as_float32(value: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.float32(value))


@dataclass(frozen=True)
class Tensor:
    """A value that flows. The batch is never part of a shape.

    Attributes
    ----------
    name : str
    shape : tuple of int
        (C, H, W) or (C,).
    quantization : Quantization or None
        None: float32. Otherwise uint8.
    """

    name: str
    shape: tuple[int, ...]
    quantization: Quantization | None = None

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class Codebook:
    """Weights that share at most 256 values (Deep Compression, arXiv:1510.00149, section 3).

    Attributes
    ----------
    values : ndarray of float32, shape (K,)
        Rising, all different; 0.0 is among them where any weight is zero.
    indices : ndarray of uint8
        In the weight's shape: which value each weight has.
    """

    values: NDArray[np.float32]
    indices: NDArray[np.uint8]

    def __post_init__(self) -> None:
        values, indices = np.asarray(self.values), np.asarray(self.indices)
        if values.dtype != np.float32 or values.ndim != 1 or not 1 <= values.size <= 256:
            raise UserError("a codebook holds 1 to 256 float32 values")
        if not (np.isfinite(values).all() and (np.diff(values) > 0).all()):
            raise UserError("the values of a codebook are finite, all different and in rising order")
        if indices.dtype != np.uint8 or (indices.size and int(indices.max()) >= values.size):
            raise UserError(f"the indices of a codebook are uint8 below {values.size}")
        object.__setattr__(self, "values", _read_only(values))
        object.__setattr__(self, "indices", _read_only(indices))

    @property
    def shape(self) -> tuple[int, ...]:
        """The weight's shape."""
        return self.indices.shape

    @property
    def size(self) -> int:
        """How many weights there are."""
        return self.indices.size

    def dense(self) -> NDArray[np.float32]:
        """Return the weights themselves."""
        weights: NDArray[np.float32] = self.values[self.indices]
        return weights


def dense(weight: Array | Codebook) -> Array:
    """Return a weight as an array, whichever way it is stored."""
    return weight.dense() if isinstance(weight, Codebook) else weight


def _read_only(array: Array) -> Array:
    """Return an array that its maker cannot change any more: itself, or a copy where it still could."""
    return frozen(array.copy()) if array.flags.writeable else array


@dataclass(frozen=True, eq=False)
class Node:
    """One operation. Its name is also the name of the one value it computes.

    Attributes
    ----------
    name : str
        Unique in the graph.
    op : str
        A key of :data:`squeezekit.graph.operators.OPERATORS`.
    inputs : tuple of str
        Names of nodes, or ``"input"``.
    attributes : mapping
        Numbers, words and tuples of whole numbers. Those with a default are filled in.
    weights : mapping of str to ndarray or Codebook
        Read-only. A writable array is copied (see :func:`frozen`).
    quantization : Quantization or None
        Of what it computes; None in a float graph, and for logits.

    Raises
    ------
    UserError
        The operator is unknown, an attribute is missing or out of range, or a weight is not finite.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Array | Codebook] = field(default_factory=dict)
    quantization: Quantization | None = None

    def __post_init__(self) -> None:
        name: Any = self.name
        if not isinstance(name, str) or not name or name == INPUT:
            raise UserError(f"{name!r} is no name for a node")
        if self.op not in operators.OPERATORS:
            hint = suggest(self.op, operators.OPERATORS)
            raise UserError(f"{self.name}: there is no operator {self.op!r}{hint}")
        operator = operators.OPERATORS[self.op]
        attributes = {**operator.defaults, **self.attributes}
        weights = {}
        try:
            operators.check_attributes(operator, attributes)
            for key, weight in self.weights.items():
                weights[key] = weight if isinstance(weight, Codebook) else _checked(key, np.asarray(weight))
        except UserError as error:
            raise UserError(f"{self.name} ({self.op}): {error}") from None
        object.__setattr__(self, "inputs", tuple(self.inputs))
        object.__setattr__(self, "attributes", MappingProxyType(attributes))
        object.__setattr__(self, "weights", MappingProxyType(weights))

    def __reduce__(self) -> tuple[Any, ...]:  # read-only mappings do not pickle by themselves
        state = (
            self.name,
            self.op,
            self.inputs,
            dict(self.attributes),
            dict(self.weights),
            self.quantization,
        )
        return Node, state

    def dense(self, key: str) -> Array:
        """Return one of the weights as an array."""
        return dense(self.weights[key])

    @property
    def parameters(self) -> int:
        """How many numbers its weights hold."""
        return sum(weight.size for weight in self.weights.values())


def _checked(key: str, array: Array) -> Array:
    if array.dtype.kind not in "iuf" or not array.dtype.isnative:
        raise UserError(f"{key} is of type {array.dtype}")
    # One number stands for all where a network was built from shapes alone (see from_torch).
    sample = array if any(array.strides) else array.flat[:1]
    if array.dtype.kind == "f" and not np.isfinite(sample).all():
        raise UserError(f"{key} holds values that are not finite (NaN or infinity)")
    return _read_only(array)


@dataclass(frozen=True, eq=False)
class Graph:
    """A network: nodes in an order in which they can be computed.

    Attributes
    ----------
    input : Tensor
        Named ``"input"``. With a quantization the graph is int8, without it float32.
    nodes : tuple of Node
    output : str
        The node (or ``"input"``) whose value is the result.
    tensors : dict of str to Tensor
        Every value by name, the input's among them: shapes are inferred.

    Raises
    ------
    UserError
        A name is missing or taken twice, shapes or weights do not fit, or an input is too small.

    Examples
    --------
    >>> relu = Node("relu", "relu", ("input",))
    >>> print(Graph(Tensor("input", (3, 8, 8)), (relu,), "relu"))
    float32 graph: 1 node, 0 parameters
      input          3 × 8 × 8
      relu    relu   3 × 8 × 8   input
    """

    input: Tensor
    nodes: tuple[Node, ...]
    output: str
    tensors: Mapping[str, Tensor] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.input.name != INPUT:
            raise UserError(f"a graph's input is named {INPUT!r}, not {self.input.name!r}")
        shape = self.input.shape
        if len(shape) not in (1, 3) or not all(type(n) is int and n >= 1 for n in shape):
            raise UserError(f"input: the shape is {shape!r} (channels, height and width, or channels alone)")
        object.__setattr__(self, "nodes", tuple(self.nodes))
        tensors = {INPUT: self.input}
        for node in self.nodes:
            if node.name in tensors:
                raise UserError(f"{node.name}: the name is taken twice")
            for name in node.inputs:
                if name not in tensors:
                    raise UserError(f"{node.name} ({node.op}): its input {name!r} is not computed before it")
            inputs = [tensors[name] for name in node.inputs]
            try:
                inferred = operators.infer(node, inputs, self.is_int8)
            except UserError as error:
                raise UserError(f"{node.name} ({node.op}): {error}") from None
            tensors[node.name] = Tensor(node.name, inferred, node.quantization)
        if self.output not in tensors:
            raise UserError(f"the output {self.output!r} is none of the graph's values")
        for node in self.nodes:
            if node.attributes.get("logits") and any(
                each.op not in ("flatten", "identity", "dropout")
                for each in self.nodes
                if node.name in each.inputs
            ):
                raise UserError(f"{node.name} ({node.op}): logits may only be flattened")
        object.__setattr__(self, "tensors", MappingProxyType(tensors))

    def __reduce__(self) -> tuple[Any, ...]:
        return Graph, (self.input, self.nodes, self.output)

    @property
    def is_int8(self) -> bool:
        """Whether its values are uint8 (int8 weights), or else float32."""
        return self.input.quantization is not None

    @property
    def parameters(self) -> int:
        """How many numbers the weights of all nodes hold."""
        return sum(node.parameters for node in self.nodes)

    def node(self, name: str) -> Node:
        """Return a node by its name.

        Raises
        ------
        KeyError
            There is none of this name.
        """
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    def users(self) -> dict[str, tuple[str, ...]]:
        """For every value, the nodes that read it, in order. The output's own reader is not among them."""
        found: dict[str, list[str]] = {name: [] for name in self.tensors}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                found[name].append(node.name)
        return {name: tuple(users) for name, users in found.items()}

    def __str__(self) -> str:
        kind = "int8" if self.is_int8 else "float32"
        count = len(self.nodes)
        rows = [(INPUT, "", shape_text(self.input.shape), "", "")]
        for node in self.nodes:
            shown = [_attribute(key, value) for key, value in _notable(node)]
            weights = [f"{key} {shape_text(weight.shape)}" for key, weight in node.weights.items()]
            where = shape_text(self.tensors[node.name].shape)
            rows.append((node.name, node.op, where, ", ".join(node.inputs), "; ".join(shown + weights)))
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = [f"{kind} graph: {count} node{'s' * (count != 1)}, {self.parameters:,} parameters"]
        lines += [
            "  "
            + "   ".join(
                [*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]
            ).rstrip()
            for row in rows
        ]
        return "\n".join(lines)


def shape_text(shape: Iterable[int]) -> str:
    """Write a shape for people: ``64 × 55 × 55``."""
    return " × ".join(map(str, shape))


def _notable(node: Node) -> list[tuple[str, Any]]:
    """Attributes that say more than the usual."""
    usual = {
        **operators.OPERATORS[node.op].defaults,
        "stride": (1, 1),
        "padding": (0, 0, 0, 0),
        "dilation": (1, 1),
        "groups": 1,
        "ceil_mode": 0,
        "count_include_pad": 1,
    }
    return [(key, value) for key, value in node.attributes.items() if usual.get(key) != value]


def _attribute(key: str, value: Any) -> str:
    if isinstance(value, tuple):
        return f"{key} {value[0] if len(set(value)) == 1 else shape_text(value)}"
    return f"{key} {value}"


def same(a: Graph, b: Graph) -> bool:
    """Tell whether two graphs have equal structure and bit-identical weights.

    A codebook and the dense weights it stands for are not the same.
    """
    if (a.input, a.output, len(a.nodes)) != (b.input, b.output, len(b.nodes)):
        return False
    return all(_same_node(x, y) for x, y in zip(a.nodes, b.nodes, strict=True))


def _same_node(a: Node, b: Node) -> bool:
    if (a.name, a.op, a.inputs, a.quantization) != (b.name, b.op, b.inputs, b.quantization):
        return False
    if a.attributes != b.attributes or a.weights.keys() != b.weights.keys():
        return False
    return all(_same_weight(a.weights[key], b.weights[key]) for key in a.weights)


def _same_weight(a: Array | Codebook, b: Array | Codebook) -> bool:
    if isinstance(a, Codebook) and isinstance(b, Codebook):
        return _same_weight(a.values, b.values) and _same_weight(a.indices, b.indices)
    if isinstance(a, Codebook) or isinstance(b, Codebook):
        return False
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
