"""What the readers of foreign networks share: giving names, gathering nodes, leaving out what nobody uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezekit.errors import UserError
from squeezekit.graph.graph import INPUT, Array, Graph, Node, Tensor

__all__ = ["Builder", "Unsupported", "adaptive_pool", "arithmetic", "per_channel", "same_padding"]


class Unsupported(Exception):  # noqa: N818 (the reader turns it into a UserError with the place)
    """A use of an operator that the graph has no word for; the text says which."""


class Builder:
    """Gathers nodes in the order in which they are computed.

    Parameters
    ----------
    shape
        Of the input: (C, H, W) or (C,).
    """

    def __init__(self, shape: Sequence[int]) -> None:
        self._input = Tensor(INPUT, tuple(shape))
        self._nodes: list[Node] = []
        self._names = {INPUT}
        self._shapes = {INPUT: self._input.shape}

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a value, without the batch."""
        return self._shapes[name]

    def made(self, name: str) -> Node | None:
        """Return the node that computes a value; None for the input."""
        return next((node for node in reversed(self._nodes) if node.name == name), None)

    def add(
        self,
        name: str,
        op: str,
        *inputs: str,
        weights: Mapping[str, Array | None] | None = None,
        **attributes: Any,
    ) -> str:
        """Add a node, under `name` or the next free name like it; weights that are None are left out.

        Returns
        -------
        str
            The name it got.
        """
        free, count = name, 0
        while free in self._names:
            count += 1
            free = f"{name}_{count}"
        given = {key: weight for key, weight in (weights or {}).items() if weight is not None}
        node = Node(free, op, inputs, attributes, given)
        # A graph of the one node: its shapes are checked where the trouble is, not at the end.
        shapes = [Tensor(each, self._shapes[each]) for each in inputs]
        self._shapes[free] = _infer(node, shapes)
        self._names.add(free)
        self._nodes.append(node)
        return free

    def graph(self, output: str) -> Graph:
        """Return the graph that computes `output`, without nodes that do not help to."""
        needed = {output}
        for node in reversed(self._nodes):
            if node.name in needed:
                needed.update(node.inputs)
        return Graph(self._input, tuple(node for node in self._nodes if node.name in needed), output)


def _infer(node: Node, inputs: Sequence[Tensor]) -> tuple[int, ...]:
    from squeezekit.graph import operators

    try:
        return operators.infer(node, inputs, is_int8=False)
    except UserError as error:
        raise UserError(f"{node.name} ({node.op}): {error}") from None


def same_padding(
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    lower: bool = False,
) -> tuple[int, int, int, int]:
    """Pad so that there are ceil(size / stride) positions; the odd zero goes behind, or before if `lower`."""
    before, after = [], []
    for length, window, step, spread in zip(size, kernel, stride, dilation, strict=True):
        total = max(0, (-(-length // step) - 1) * step + spread * (window - 1) + 1 - length)
        half = total - total // 2 if lower else total // 2
        before.append(half)
        after.append(total - half)
    return before[0], before[1], after[0], after[1]


def adaptive_pool(shape: Sequence[int], to: Sequence[int | None]) -> dict[str, Any] | None:
    """Return the attributes of the average pool that gives `to` positions, or None where it does nothing.

    Those of a max pool are the same without ``count_include_pad``.

    Raises
    ------
    Unsupported
        The windows would differ in size.
    """
    size = list(shape[1:])
    wanted = [each if each is not None else length for each, length in zip(to, size, strict=True)]
    if wanted == size:
        return None
    if any(length % count for length, count in zip(size, wanted, strict=True)):
        raise Unsupported(
            f"adaptive pooling of {size[0]} × {size[1]} to {wanted[0]} × {wanted[1]} (windows of "
            "different sizes)"
        )
    window = tuple(length // count for length, count in zip(size, wanted, strict=True))
    return {
        "kernel": window,
        "stride": window,
        "padding": (0, 0, 0, 0),
        "ceil_mode": 0,
        "count_include_pad": 1,
    }


def arithmetic(kind: str, numbers: NDArray[np.float32], *, first: bool) -> dict[str, Array | None]:
    """Return the weights of an ``affine`` that adds, subtracts, multiplies or divides by a number a channel.

    Parameters
    ----------
    kind : {"add", "sub", "mul", "div"}
    numbers : ndarray of float32, shape (C,)
    first : bool
        The numbers stand before the value: ``numbers - value``.

    Raises
    ------
    Unsupported
        Numbers divided by a value.
    """
    one, zero = np.ones_like(numbers), np.zeros_like(numbers)
    if kind == "add":
        return {"scale": one, "shift": numbers}
    if kind == "sub":
        return {"scale": -one, "shift": numbers} if first else {"scale": one, "shift": -numbers}
    if kind == "mul":
        return {"scale": numbers, "shift": zero}
    if first:
        raise Unsupported("division by a value")
    return {"scale": one / numbers, "shift": zero}


def per_channel(constant: Array, channels: int, rank: int) -> NDArray[np.float32]:
    """Spread a constant, combined with a value of `rank` dimensions, batch included, over its channels.

    Raises
    ------
    Unsupported
        It is not one number a channel.
    """
    shape = (1,) * (rank - constant.ndim) + constant.shape
    one_a_channel = shape[:1] == (1,) and shape[1] in (1, channels) and all(n == 1 for n in shape[2:])
    if constant.ndim > rank or not one_a_channel:
        raise Unsupported(f"a constant of {' × '.join(map(str, constant.shape))} (one number a channel is)")
    return np.broadcast_to(np.asarray(constant, np.float32).reshape(shape[1]), (channels,)).copy()
