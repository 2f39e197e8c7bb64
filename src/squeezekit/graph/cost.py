"""What a network costs: parameters, multiplications, bytes, and the memory it needs while it runs.

A float graph is counted as it would run: batch norm folded, activations fused, dropout gone; its parameters
are the trained ones, batch norm's gamma and beta among them, as papers count.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from squeezekit.errors import UserError
from squeezekit.graph import operators
from squeezekit.graph.graph import INPUT, Graph, Node, Tensor, shape_text
from squeezekit.graph.passes import at_rest

__all__ = [
    "Buffer",
    "Cost",
    "Fit",
    "LayerCost",
    "Plan",
    "Precision",
    "cost",
    "fits",
    "parse_memory",
    "parse_size",
    "plan",
]

Precision = Literal["float32", "int8"]


@dataclass(frozen=True)
class LayerCost:
    """What one node costs, for one picture.

    Attributes
    ----------
    name, op : str
    text : str
        The operation for people: ``conv 7 × 7 / 2, relu``.
    shape : tuple of int
        Of its output.
    parameters : int
        Trained ones.
    macs : int
        Multiply-accumulates of convolutions and linear layers.
    weight_bytes, input_bytes, output_bytes : int
        What it reads and writes: nothing where it only regroups (a flatten; a concatenation whose inputs were
        written into their places).
    live_bytes : int
        All values that must be in memory while it runs.
    """

    name: str
    op: str
    text: str
    shape: tuple[int, ...]
    parameters: int
    macs: int
    weight_bytes: int
    input_bytes: int
    output_bytes: int
    live_bytes: int

    @property
    def intensity(self) -> float:
        """Multiply-accumulates a byte that is read or written (Williams et al.'s roofline, in MACs)."""
        return self.macs / max(1, self.weight_bytes + self.input_bytes + self.output_bytes)


@dataclass(frozen=True)
class Buffer:
    """Where a value lies in the arena, and from which step to which it is needed."""

    name: str
    offset: int
    size: int
    first: int
    last: int


@dataclass(frozen=True)
class Plan:
    """One arena for all values.

    Attributes
    ----------
    size : int
        Bytes of the arena.
    at_least : int
        No plan for this order of nodes can do with less: the most that is alive at once.
    buffers : tuple of Buffer
    places : dict of str to int
        Where each value begins: several may share a buffer, such as a concatenation and its parts (channels
        first; where they are last, a part begins at its channels' share of the first pixel).
    """

    size: int
    at_least: int
    buffers: tuple[Buffer, ...]
    places: Mapping[str, int]


@dataclass(frozen=True)
class Cost:
    """What a network costs, for one picture.

    Attributes
    ----------
    precision : {"float32", "int8"}
        Of the bytes: float32 throughout; or uint8 values, int8 weights, and 8 bytes an output channel for
        bias and multiplier.
    input : tuple of int
        (C, H, W).
    layers : tuple of LayerCost
    peak_bytes : int
        The arena that holds all values, by :func:`plan`.
    """

    precision: Precision
    input: tuple[int, ...]
    layers: tuple[LayerCost, ...]
    peak_bytes: int

    @property
    def parameters(self) -> int:
        """All trained numbers."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one picture."""
        return sum(layer.macs for layer in self.layers)

    @property
    def weight_bytes(self) -> int:
        """All weights, uncompressed."""
        return sum(layer.weight_bytes for layer in self.layers)

    @property
    def activation_bytes(self) -> int:
        """All values that are computed, as if each had a place of its own."""
        return sum(layer.output_bytes for layer in self.layers)

    @property
    def intensity(self) -> float:
        """Multiply-accumulates a byte, over the whole network."""
        moved = sum(layer.weight_bytes + layer.input_bytes + layer.output_bytes for layer in self.layers)
        return self.macs / max(1, moved)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        totals = ("parameters", "macs", "weight_bytes", "activation_bytes", "peak_bytes", "intensity")
        keys = ("parameters", "macs", "weight_bytes", "output_bytes", "live_bytes", "intensity")
        return {
            "precision": self.precision,
            "input": list(self.input),
            **{key: getattr(self, key) for key in totals},
            "layers": [
                {
                    "name": layer.name,
                    "operation": layer.text,
                    "shape": list(layer.shape),
                    **{key: getattr(layer, key) for key in keys},
                }
                for layer in self.layers
            ],
        }


def cost(graph: Graph, precision: Precision | None = None) -> Cost:
    """Count what a network costs.

    Parameters
    ----------
    graph
        float32 or int8. Hollow weights (see ``from_torch``) do.
    precision
        Of the bytes. By default the graph's own; a float graph may be counted as the int8 one it would
        become.

    Examples
    --------
    >>> from squeezekit.graph.graph import Node
    >>> cost(Graph(Tensor("input", (3, 8, 8)), (Node("pool", "global_avg_pool", ("input",)),), "pool")).macs
    0
    """
    chosen: Precision = precision or ("int8" if graph.is_int8 else "float32")
    if graph.is_int8 and chosen != "int8":
        raise UserError("an int8 graph has no float32 form")
    trained = graph
    if not graph.is_int8:
        graph = at_rest(graph)
    parameters = _trained_parameters(trained, graph)
    sizes = {name: _bytes(graph, tensor, chosen) for name, tensor in graph.tensors.items()}
    live = _live(graph, sizes)
    home = _homes(graph, sizes)[0]
    regroups = {
        node.name
        for node in graph.nodes
        if node.op in _ALIAS
        or (node.op == "concat" and all(home[name] == home[node.name] for name in node.inputs))
    }
    layers = tuple(
        LayerCost(
            name=node.name,
            op=node.op,
            text=_text(node),
            shape=graph.tensors[node.name].shape,
            parameters=parameters[node.name],
            macs=operators.macs(
                node, [graph.tensors[name].shape for name in node.inputs], graph.tensors[node.name].shape
            ),
            weight_bytes=_weight_bytes(node, chosen),
            input_bytes=0 if node.name in regroups else sum(sizes[name] for name in node.inputs),
            output_bytes=0 if node.name in regroups else sizes[node.name],
            live_bytes=live[step],
        )
        for step, node in enumerate(graph.nodes)
    )
    return Cost(chosen, graph.input.shape, layers, plan(graph, chosen).size)


def _trained_parameters(trained: Graph, graph: Graph) -> dict[str, int]:
    """Count each node's parameters; those of a node that is gone go to the one which took over its work."""
    counts = {node.name: 0 for node in graph.nodes}
    home = {INPUT: INPUT}
    for node in trained.nodes:
        home[node.name] = node.name if node.name in counts else home[node.inputs[0]]
        skipped = {
            "batch_norm": ("mean", "var"),
            "affine": ("scale", "shift"),
        }.get(node.op, ("multiplier", "table", "pad_value"))
        count = sum(weight.size for key, weight in node.weights.items() if key not in skipped)
        if home[node.name] in counts:
            counts[home[node.name]] += count
    return counts


def _bytes(graph: Graph, tensor: Tensor, precision: Precision) -> int:
    """Bytes of a value; logits stay float32 in an int8 network."""
    if graph.is_int8:
        return tensor.size * (1 if tensor.quantization else 4)
    return tensor.size * (4 if precision == "float32" or tensor.name == graph.output else 1)


def _weight_bytes(node: Node, precision: Precision) -> int:
    if precision == "float32" or node.op == "table":
        return sum(4 * weight.size if node.op != "table" else weight.size for weight in node.weights.values())
    if "weight" not in node.weights:
        return 0
    weight = node.weights["weight"]
    return weight.size + 8 * weight.shape[0]


def _text(node: Node) -> str:
    """Write an operation as the papers do: ``conv 3 × 3 / 2, depthwise, relu6``."""
    a = node.attributes
    words = [node.op.replace("_", " ")]
    if "kernel" in a:
        words[0] += f" {shape_text(a['kernel'])}"
        if a["stride"] != (1, 1):
            down, across = a["stride"]
            words[0] += f" / {down}" if down == across else f" / {down} × {across}"
    if a.get("groups", 1) > 1:
        deep = node.op == "conv" and node.weights["weight"].shape[1] == 1
        words.append("depthwise" if deep else f"{a['groups']} groups")
    if a.get("activation", "none") != "none":
        words.append(a["activation"].replace("_", " "))
    return ", ".join(words)


# --- memory ------------------------------------------------------------------------------------------------

#: Operators that may write over an input of the same size which nobody needs any more.
_IN_PLACE = (*operators.ACTIVATIONS, "affine", "batch_norm", "add", "mul", "table")

#: Operators whose output is their input, under another shape at most.
_ALIAS = ("flatten", "dropout", "identity")


def _homes(graph: Graph, sizes: Mapping[str, int]) -> tuple[dict[str, str], dict[str, int]]:
    """For each value, whose memory it lies in, and how far from its beginning.

    A concatenation's inputs are written straight into their parts of it; what only reshapes, or computes
    value by value, stays where its input was.
    """
    last_use = _last_use(graph)
    home: dict[str, str] = {INPUT: INPUT}
    members: dict[str, list[str]] = {INPUT: [INPUT]}
    inner: dict[str, int] = dict.fromkeys(graph.tensors, 0)

    def join(name: str, group: str, offset: int) -> None:
        for member in members.pop(name):
            home[member] = group
            inner[member] += offset
            members[group].append(member)

    for step, node in enumerate(graph.nodes):
        name = node.name
        home[name], members[name] = name, [name]
        if node.op in _ALIAS:
            join(name, home[node.inputs[0]], inner[node.inputs[0]])
        elif node.op in _IN_PLACE:
            for each in node.inputs:
                group = home[each]
                alike = sizes[each] == sizes[name] == sizes[group]
                free = all(last_use[member] <= step for member in members[group])
                if alike and free:
                    join(name, group, 0)
                    break
        elif node.op == "concat" and len(set(node.inputs)) == len(node.inputs):
            offset = 0
            for each in node.inputs:
                # The picture lies where the caller put it; a part of another concatenation stays there.
                if home[each] == each and each != INPUT and graph.node(each).op != "concat":
                    join(each, name, offset)
                offset += sizes[each]
    return home, inner


def _last_use(graph: Graph) -> dict[str, int]:
    last = dict.fromkeys(graph.tensors, -1)
    for step, node in enumerate(graph.nodes):
        last[node.name] = step
        for name in node.inputs:
            last[name] = step
    last[graph.output] = len(graph.nodes)
    return last


def _lives(graph: Graph, sizes: Mapping[str, int]) -> list[Buffer]:
    """The pieces of memory that are needed, each from step to step; not yet placed."""
    home, last = _homes(graph, sizes)[0], _last_use(graph)
    first = {INPUT: -1, **{node.name: step for step, node in enumerate(graph.nodes)}}
    ends: dict[str, tuple[int, int]] = {}
    for name, group in home.items():
        begin, end = ends.get(group, (first[name], last[name]))
        ends[group] = min(begin, first[name]), max(end, last[name])
    return [Buffer(name, 0, sizes[name], *span) for name, span in ends.items()]


def _live(graph: Graph, sizes: Mapping[str, int]) -> list[int]:
    lives = _lives(graph, sizes)
    return [
        sum(each.size for each in lives if each.first <= step <= each.last)
        for step in range(len(graph.nodes))
    ]


def plan(graph: Graph, precision: Precision | None = None) -> Plan:
    """Find each value a place in one arena, so that no two that are needed at once overlap.

    Placed greedily, each at the lowest offset that is free for as long as it is needed; in several orders
    (largest first, as TensorFlow Lite Micro does; longest first; by time), of which the best is kept.

    Parameters
    ----------
    graph
        As it shall run: nodes in this order.
    precision
        As for :func:`cost`.
    """
    chosen: Precision = precision or ("int8" if graph.is_int8 else "float32")
    sizes = {name: _bytes(graph, tensor, chosen) for name, tensor in graph.tensors.items()}
    lives = _lives(graph, sizes)
    at_least = max(
        (
            sum(each.size for each in lives if each.first <= step <= each.last)
            for step in range(len(graph.nodes))
        ),
        default=sizes[INPUT],
    )
    orders = (
        lambda each: (-each.size, each.first),
        lambda each: (-(each.last - each.first), -each.size),
        lambda each: (each.first, -each.size),
        lambda each: (-each.last, -each.size),
    )
    best: tuple[Buffer, ...] | None = None
    size = 0
    for order in orders:
        placed = _placed(sorted(lives, key=order))
        needed = max(each.offset + each.size for each in placed)
        if best is None or needed < size:
            best, size = placed, needed
        if size == at_least:
            break
    assert best is not None
    buffers = tuple(sorted(best, key=lambda each: (each.first, each.offset)))
    begins = {each.name: each.offset for each in buffers}
    home, inner = _homes(graph, sizes)
    return Plan(size, at_least, buffers, {name: begins[home[name]] + inner[name] for name in home})


def _placed(lives: Iterable[Buffer]) -> tuple[Buffer, ...]:
    placed: list[Buffer] = []
    for each in lives:
        offset = 0
        beside = (p for p in placed if p.first <= each.last and each.first <= p.last)
        for other in sorted(beside, key=lambda p: p.offset):
            if offset + each.size <= other.offset:
                break
            offset = max(offset, other.offset + other.size)
        placed.append(Buffer(each.name, offset, each.size, each.first, each.last))
    return tuple(placed)


# --- does it fit? ------------------------------------------------------------------------------------------

_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "ki": 2**10, "mi": 2**20, "gi": 2**30}


@dataclass(frozen=True)
class Fit:
    """Whether something fits a memory.

    Attributes
    ----------
    what : str
        ``"weights"``, ``"activations"`` or ``"weights + activations"``.
    memory : str
        Its name: ``"memory"``, ``"flash"``, ``"ram"``.
    needed, available : int
        Bytes.
    """

    what: str
    memory: str
    needed: int
    available: int

    @property
    def holds(self) -> bool:
        """Whether it fits."""
        return self.needed <= self.available


def parse_memory(text: str) -> dict[str, int]:
    """Read what ``--fits`` takes.

    Parameters
    ----------
    text
        ``"10MB"``: one memory for all. ``"flash=1MB,ram=512KB"``: weights in the one, values in the other.
        kB and MB are powers of 1000, KiB and MiB powers of 1024.

    Raises
    ------
    UserError
        It says neither.

    Examples
    --------
    >>> parse_memory("flash=1MB,ram=512KiB")
    {'flash': 1000000, 'ram': 524288}
    """
    expected = "(expected a size such as 10MB, or flash=1MB,ram=512KB)"
    sizes: dict[str, int] = {}
    for part in text.split(","):
        name, equals, size = part.strip().rpartition("=")
        name = name.strip().lower() if equals else "memory"
        if name in sizes or name not in ("memory", "flash", "ram"):
            raise UserError(f"--fits {text}: {name!r} is no memory, or named twice {expected}")
        sizes[name] = parse_size(size, f"--fits {text}", expected)
    if "memory" in sizes and len(sizes) > 1:
        raise UserError(f"--fits {text}: one memory for all, or flash and ram {expected}")
    return sizes


def parse_size(text: str, where: str, expected: str) -> int:
    """Read a number of bytes: ``"96000"``, ``"400k"``, ``"0.5MB"``, ``"512KiB"``.

    Parameters
    ----------
    text
    where, expected
        What an error begins and ends with.

    Raises
    ------
    UserError
        It is no size, or less than a byte.
    """
    number = text.strip().lower().removesuffix("b")
    unit = number.lstrip("0123456789.").strip()
    try:
        value = float(number.removesuffix(unit).strip() if unit else number)
        count = value * _UNITS[unit]
    except (ValueError, KeyError):
        raise UserError(f"{where}: {text!r} is no size {expected}") from None
    if not math.isfinite(count) or not 1 <= count < 2**63:
        raise UserError(f"{where}: {text!r} is no size {expected}")
    return round(count)


def fits(counted: Cost, memory: Mapping[str, int]) -> list[Fit]:
    """Say whether a network fits the memory of a device.

    Parameters
    ----------
    counted
        See :func:`cost`.
    memory
        See :func:`parse_memory`.
    """
    weights, values = counted.weight_bytes, counted.peak_bytes
    found = []
    if "memory" in memory:
        found.append(Fit("weights", "memory", weights, memory["memory"]))
        found.append(Fit("weights + activations", "memory", weights + values, memory["memory"]))
    if "flash" in memory:
        found.append(Fit("weights", "flash", weights, memory["flash"]))
    if "ram" in memory:
        found.append(Fit("activations", "ram", values, memory["ram"]))
    return found
