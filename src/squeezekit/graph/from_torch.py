"""A module of torch, through ``torch.export``, into a graph.

Whatever a module does in Python, what arrives here is a list of ATen operators with the parameters they use,
in evaluation mode, for pictures of one size. A softmax at the very end is left out: a graph gives logits. A
module on the meta device gives a graph of the right shapes whose weights are all zero and take no memory:
enough to count.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from squeezekit.errors import UserError
from squeezekit.graph.build import (
    Builder,
    Unsupported,
    adaptive_pool,
    arithmetic,
    per_channel,
    same_padding,
)
from squeezekit.graph.graph import INPUT, Array, Graph

if TYPE_CHECKING:
    from torch import fx, nn

__all__ = ["from_torch"]

_LAYERS = ("torch.nn.modules.", "squeezekit.graph.to_torch._")
_BATCH = 2  # not 1, which any other dimension might be


def from_torch(module: nn.Module, input_shape: Sequence[int]) -> Graph:
    """Read a module as a graph.

    Parameters
    ----------
    module
        Takes one batch of pictures (N, C, H, W), or of vectors (N, C), and returns one tensor. Left as it
        was.
    input_shape
        (C, H, W) or (C,).

    Returns
    -------
    Graph
        float32. Nodes are named after the module's parts: ``features.fire2.squeeze1x1``.

    Raises
    ------
    UserError
        An operator is not supported (it is named, with its place in the network, before weights are read),
        the picture's size does not fit, or weights are not finite.

    Examples
    --------
    >>> from squeezekit.models import create_model
    >>> graph = from_torch(create_model("squeezenet1_1"), (3, 224, 224))
    >>> graph.tensors[graph.output].shape
    (1000,)
    """
    from squeezekit.graph.to_torch import GraphModule, graph_of

    shape = tuple(int(n) for n in input_shape)
    if isinstance(module, GraphModule) and (known := graph_of(module)).input.shape == shape:
        return known  # traced, it would come back in torch's words, which are fewer
    return _Reader(_export(module, shape), shape).read()


def _export(module: nn.Module, shape: tuple[int, ...]) -> Any:
    import torch

    first = next(iter(module.parameters()), None)
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        example = torch.zeros(
            _BATCH,
            *shape,
            device=first.device if first is not None else None,
            dtype=first.dtype if first is not None else None,
        )
        with torch.no_grad():
            return torch.export.export(module, (example,), strict=False)
    except UserError:
        raise
    except Exception as error:  # whatever the module's own code may raise, and whatever export refuses
        reason = (str(error) or type(error).__name__).strip().splitlines()[0][:200]
        size = " × ".join(map(str, shape))
        text = f"the network does not take an input of {size}, or cannot be exported ({reason})"
        raise UserError(text) from error
    finally:
        for part, training in modes:
            part.training = training


@dataclass(frozen=True)
class _Value:
    """What a node of the exported program stands for.

    Attributes
    ----------
    name
        The graph's value that holds the numbers.
    shape
        How torch sees it now, batch included: reshaping alone makes no node until it matters.
    padding
        Zeros around it that the next window shall add: top, left, bottom, right.
    swapped
        Its two halves of the channels, (groups, channels / groups), have changed places.
    softmax
        A softmax was left out.
    """

    name: str
    shape: tuple[int, ...]
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    swapped: bool = False
    softmax: bool = False


class _Reader:
    def __init__(self, program: Any, shape: tuple[int, ...]) -> None:
        self.program = program
        self.builder = Builder(shape)
        self.values: dict[fx.Node, Any] = {}
        self.nodes = list(program.graph.nodes)
        self.order = {node: index for index, node in enumerate(self.nodes)}
        self.storage: dict[fx.Node, fx.Node] = {}
        self.flowing: set[fx.Node] = set()  # what depends on the picture
        self.place = ""
        self.label = ""

    def read(self) -> Graph:
        self._follow()
        norms = {node: found for node in self.nodes if (found := _response_norm(node))}
        skipped = {each for found in norms.values() for each in found["nodes"]}
        self._check(skipped)
        self._inputs()
        for node in self.nodes:
            if node.op != "call_function" or node in skipped:
                continue
            if node not in self.flowing:
                self._compute(node)
                continue
            self.place, self.label = _place(node)
            try:
                if node in norms:
                    found = norms[node]
                    attributes = {key: value for key, value in found.items() if key not in ("nodes", "x")}
                    self.values[node] = self._emit(
                        node, "local_response_norm", self._value(found["x"]), **attributes
                    )
                else:
                    self.values[node] = _HANDLERS[_operator(node)](self, node, *node.args, **node.kwargs)
                    self._written(node)
            except Unsupported as error:
                raise UserError(f"{self.place or 'the network'}: {error} is not supported") from None
        return self._output()

    # --- before ---

    def _follow(self) -> None:
        given = set(self.program.graph_signature.user_inputs)
        for node in self.nodes:
            own = node.op == "placeholder" and node.name in given
            if own or any(each in self.flowing for each in node.all_input_nodes):
                self.flowing.add(node)

    def _compute(self, node: fx.Node) -> None:
        """Compute what depends on parameters alone, such as a normalised weight."""
        import torch
        from torch.utils._pytree import tree_map

        def known(argument: Any) -> Any:
            return self.values[argument] if isinstance(argument, type(node)) else argument

        function: Any = node.target
        with torch.no_grad():
            self.values[node] = function(*tree_map(known, node.args), **tree_map(known, node.kwargs))

    def _check(self, skipped: set[fx.Node]) -> None:
        unknown: dict[str, str] = {}
        for node in self.nodes:
            if node in skipped or node not in self.flowing or node.op != "call_function":
                continue
            if _operator(node) not in _HANDLERS:
                unknown.setdefault(_operator(node), _place(node)[0])
        if unknown:
            (name, place), *rest = unknown.items()
            more = f"; nor {', '.join(f'{n} ({p})' for n, p in rest)}" if rest else ""
            raise UserError(f"{place or 'the network'}: the operator {name} is not supported{more}")

    def _inputs(self) -> None:
        signature = self.program.graph_signature
        parameters = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        constants = signature.inputs_to_lifted_tensor_constants
        given = False
        for node in self.nodes:
            if node.op != "placeholder":
                continue
            if node.name in parameters:
                key = parameters[node.name]
                tensors = self.program.state_dict
                self.values[node] = tensors[key] if key in tensors else self.program.constants[key]
            elif node.name in constants:
                self.values[node] = self.program.constants[constants[node.name]]
            elif given:
                raise UserError("the network takes more than one input")
            else:
                given = True
                self.values[node] = _Value(INPUT, (_BATCH, *self.builder.shape(INPUT)))

    def _output(self) -> Graph:
        (output,) = (node for node in self.nodes if node.op == "output")
        results = output.args[0]
        if len(results) != 1 or not isinstance(self.values.get(results[0]), _Value):
            raise UserError(f"the network returns {len(results)} values (one tensor is expected)")
        self.place, self.label = "output", "output"
        try:
            return self.builder.graph(self._name(replace(self.values[results[0]], softmax=False)))
        except Unsupported as error:
            raise UserError(f"the output: {error} is not supported") from None

    # --- in-place operators ---

    def _written(self, node: fx.Node) -> None:
        """After an operator that overwrote its input, whoever reads the input later reads the result."""
        given = [a for a in node.args if isinstance(a, type(node)) and isinstance(self.values.get(a), _Value)]
        if not given:
            return
        source = given[0]
        root = self.storage.get(source, source)
        name = _operator(node)
        if name in _SHARING:
            self.storage[node] = root
        if not name.endswith("_"):
            return
        self.storage[node] = root
        for other in [root, *(each for each, whose in self.storage.items() if whose is root)]:
            if other is node or not any(self.order[user] > self.order[node] for user in other.users):
                continue
            mine, result = self.values[other], self.values[node]
            if not isinstance(mine, _Value) or mine.shape != result.shape:
                raise Unsupported(f"{name} on a part of a value that is used again")
            self.values[other] = result

    # --- pieces for the handlers ---

    def _value(self, node: Any) -> _Value:
        value = self.values.get(node) if hasattr(node, "op") else None
        if not isinstance(value, _Value):
            raise Unsupported("an operation on something else than a value of the network")
        return value

    def _name(self, value: _Value, *, padded: bool = False) -> str:
        """Return the graph's value, in the shape in which torch sees it."""
        if value.softmax:
            raise Unsupported("a softmax that is not the end")
        if value.swapped:
            raise Unsupported("a permutation of dimensions")
        if any(value.padding) and not padded:
            raise Unsupported("padding that no convolution or average pool follows")
        shape = self.builder.shape(value.name)
        if value.shape == (_BATCH, *shape):
            return value.name
        if value.shape == (_BATCH, int(np.prod(shape))):
            return self.builder.add(f"{self.label}.flatten", "flatten", value.name)
        raise Unsupported(
            f"reshaping {' × '.join(map(str, shape))} to {' × '.join(map(str, value.shape[1:]))}"
        )

    def _emit(
        self, node: fx.Node, op: str, *inputs: _Value, padded: bool = False, **attributes: Any
    ) -> _Value:
        weights = attributes.pop("weights", None)
        names = [self._name(value, padded=padded) for value in inputs]
        name = self.builder.add(
            self.place if _is_leaf(node) else f"{self.place}.{op}".lstrip("."),
            op,
            *names,
            weights=weights,
            **attributes,
        )
        return _Value(name, (_BATCH, *self.builder.shape(name)))

    def _array(self, node: Any) -> Array | None:
        """Return a parameter or constant as float32; None for None."""
        if node is None:
            return None
        tensor = self.values.get(node) if hasattr(node, "op") else None
        if tensor is None or isinstance(tensor, (_Value, tuple)):
            raise Unsupported("a weight that the network computes itself")
        if tensor.is_meta:
            return np.broadcast_to(np.float32(0), tuple(tensor.shape))
        array: Array = tensor.detach().cpu().float().contiguous().numpy()
        return array

    def _constant(self, argument: Any) -> Array | None:
        """Return a number or constant tensor as an array; None for a value of the network."""
        if isinstance(argument, (int, float)):
            return np.asarray(argument, np.float32)
        return None if isinstance(self.values.get(argument), _Value) else self._array(argument)


def _operator(node: fx.Node) -> str:
    """Name an operator: ``conv2d``, ``relu_``, ``getitem``."""
    packet = getattr(node.target, "overloadpacket", None)
    if packet is None:
        return str(getattr(node.target, "__name__", node.target))
    name = str(packet)  # "aten.conv2d"
    return name.removeprefix("aten.")


def _modules(node: fx.Node) -> list[tuple[str, Any]]:
    return list((node.meta.get("nn_module_stack") or {}).values())


def _is_leaf(node: fx.Node) -> bool:
    """Whether the part of the network that calls an operator is a layer, of torch's or ``to_torch``'s."""
    modules = _modules(node)
    if not modules or not modules[-1][0]:
        return False
    kind = str(modules[-1][1])
    return kind.startswith(_LAYERS) and ".container." not in kind


def _place(node: fx.Node) -> tuple[str, str]:
    """Say where in the network an operator stands, and how a node for it may be called."""
    modules = _modules(node)
    path = str(modules[-1][0]).partition("@")[0] if modules else ""
    return path, path or "network"


# --- what each operator becomes ----------------------------------------------------------------------------

_Handler = Callable[..., Any]
_HANDLERS: dict[str, _Handler] = {}

#: Operators whose result may share its memory with their input.
_SHARING = {
    "alias", "chunk", "contiguous", "detach", "dropout", "flatten", "getitem", "identity", "permute",
    "reshape", "slice", "split", "split_with_sizes", "squeeze", "to", "transpose", "unflatten",
    "unsqueeze", "view",
}  # fmt: skip


def _handles(*names: str) -> Callable[[_Handler], _Handler]:
    def remember(handler: _Handler) -> _Handler:
        for name in names:
            _HANDLERS[name] = _HANDLERS[f"{name}_"] = handler
        return handler

    return remember


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    return (int(value[0]), int(value[-1]))


def _sides(padding: Any) -> tuple[int, int, int, int]:
    vertical, horizontal = _pair(padding)
    return vertical, horizontal, vertical, horizontal


def _plus(a: Sequence[int], b: Sequence[int]) -> tuple[int, int, int, int]:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]


@_handles("conv2d")
def _conv2d(
    reader: _Reader,
    node: fx.Node,
    x: fx.Node,
    weight: fx.Node,
    bias: fx.Node | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> _Value:
    value, kernel = reader._value(x), reader._array(weight)
    assert kernel is not None
    window = _pair(kernel.shape[2:])
    if padding == "same":  # torch allows it for stride 1 alone
        sides = same_padding(value.shape[2:], window, (1, 1), _pair(dilation))
    else:
        sides = _sides(0 if padding == "valid" else padding)
    return reader._emit(
        node,
        "conv",
        value,
        padded=True,
        kernel=window,
        stride=_pair(stride),
        padding=_plus(sides, value.padding),
        dilation=_pair(dilation),
        groups=groups,
        weights={"weight": kernel, "bias": reader._array(bias)},
    )


@_handles("linear")
def _linear(
    reader: _Reader, node: fx.Node, x: fx.Node, weight: fx.Node, bias: fx.Node | None = None
) -> _Value:
    weights = {"weight": reader._array(weight), "bias": reader._array(bias)}
    return reader._emit(node, "linear", reader._value(x), weights=weights)


@_handles("batch_norm")
def _batch_norm(
    reader: _Reader,
    node: fx.Node,
    x: fx.Node,
    weight: fx.Node | None,
    bias: fx.Node | None,
    mean: fx.Node | None,
    var: fx.Node | None,
    training: bool,
    _momentum: float,
    eps: float,
    *_: Any,
) -> _Value:
    if training or mean is None:
        raise Unsupported("batch normalisation by the batch's own statistics")
    value = reader._value(x)
    channels = value.shape[1]
    gamma, beta = reader._array(weight), reader._array(bias)
    weights = {
        "gamma": np.ones(channels, np.float32) if gamma is None else gamma,
        "beta": np.zeros(channels, np.float32) if beta is None else beta,
        "mean": reader._array(mean),
        "var": reader._array(var),
    }
    return reader._emit(node, "batch_norm", value, weights=weights, eps=float(eps))


def _activation(aten: str, op: str) -> None:
    @_handles(aten)
    def handle(reader: _Reader, node: fx.Node, x: fx.Node) -> _Value:
        return reader._emit(node, op, reader._value(x))


for _aten, _op in (
    ("relu", "relu"),
    ("relu6", "relu6"),
    ("silu", "silu"),
    ("sigmoid", "sigmoid"),
    ("hardswish", "hard_swish"),
    ("hardsigmoid", "hard_sigmoid"),
):
    _activation(_aten, _op)


@_handles("hardtanh", "clamp", "clamp_min")
def _clamp(
    reader: _Reader, node: fx.Node, x: fx.Node, low: Any = None, high: Any = None, **named: Any
) -> _Value:
    low, high = named.get("min", low), named.get("max", high)
    if low == 0 and high is None:
        return reader._emit(node, "relu", reader._value(x))
    if low == 0 and high == 6:
        return reader._emit(node, "relu6", reader._value(x))
    raise Unsupported(f"limiting values to {low} … {high} (0 … 6 is)")


@_handles("add", "sub", "rsub", "mul", "div")
def _arithmetic(reader: _Reader, node: fx.Node, a: Any, b: Any, alpha: Any = 1) -> _Value:
    kind = _operator(node).rstrip("_")
    if alpha != 1:
        raise Unsupported(f"{kind} with alpha={alpha}")
    if kind == "rsub":  # b - a: a number minus a value
        kind, a, b = "sub", b, a
    left, right = reader._constant(a), reader._constant(b)
    if left is None and right is None:
        if kind not in ("add", "mul"):
            raise Unsupported(f"{kind} of two values")
        return reader._emit(node, kind, reader._value(a), reader._value(b))
    if left is not None and right is not None:
        raise Unsupported("arithmetic on constants")
    value = reader._value(b if right is None else a)
    constant = per_channel(right if left is None else left, value.shape[1], len(value.shape))  # type: ignore[arg-type]
    return reader._emit(node, "affine", value, weights=arithmetic(kind, constant, first=right is None))


@_handles("cat", "concat")
def _cat(reader: _Reader, node: fx.Node, parts: Sequence[fx.Node], dim: int = 0) -> _Value:
    values = [reader._value(part) for part in parts]
    if dim % len(values[0].shape) != 1:
        raise Unsupported(f"concatenation along dimension {dim} (channels are)")
    return values[0] if len(values) == 1 else reader._emit(node, "concat", *values)


@_handles("max_pool2d")
def _max_pool2d(
    reader: _Reader,
    node: fx.Node,
    x: fx.Node,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> _Value:
    if _pair(dilation) != (1, 1):
        raise Unsupported("a dilated max pool")
    return reader._emit(
        node,
        "max_pool",
        reader._value(x),
        kernel=_pair(kernel),
        stride=_pair(stride or kernel),
        padding=_sides(padding),
        ceil_mode=int(ceil_mode),
    )


@_handles("avg_pool2d")
def _avg_pool2d(
    reader: _Reader,
    node: fx.Node,
    x: fx.Node,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor: int | None = None,
) -> _Value:
    if divisor is not None:
        raise Unsupported("an average pool with a divisor of its own")
    value = reader._value(x)
    sides = _sides(padding)
    # Zeros laid around before count; the pool's own padding may not.
    if any(value.padding) and not (count_include_pad or not any(sides)):
        raise Unsupported("an average pool over two kinds of padding")
    return reader._emit(
        node,
        "avg_pool",
        value,
        padded=True,
        kernel=_pair(kernel),
        stride=_pair(stride or kernel),
        padding=_plus(sides, value.padding),
        ceil_mode=int(ceil_mode),
        count_include_pad=int(count_include_pad or any(value.padding)),
    )


@_handles("adaptive_avg_pool2d")
def _adaptive_avg_pool2d(reader: _Reader, node: fx.Node, x: fx.Node, to: Sequence[int]) -> _Value:
    value = reader._value(x)
    if tuple(to) == (1, 1):
        return reader._emit(node, "global_avg_pool", value)
    attributes = adaptive_pool(value.shape[1:], to)
    if attributes is None:
        return reader._emit(node, "identity", value)
    return reader._emit(node, "avg_pool", value, **attributes)


@_handles("adaptive_max_pool2d")
def _adaptive_max_pool2d(
    reader: _Reader, node: fx.Node, x: fx.Node, to: Sequence[int]
) -> tuple[_Value, None]:
    value = reader._value(x)
    attributes = adaptive_pool(value.shape[1:], to)
    if attributes is None:
        return reader._emit(node, "identity", value), None
    del attributes["count_include_pad"]
    return reader._emit(node, "max_pool", value, **attributes), None


@_handles("mean")
def _mean(
    reader: _Reader, node: fx.Node, x: fx.Node, dims: Any = None, keepdim: bool = False, **_: Any
) -> _Value:
    value = reader._value(x)
    if len(value.shape) != 4 or dims is None or sorted(d % 4 for d in dims) != [2, 3]:
        raise Unsupported("a mean over other dimensions than height and width")
    pooled = reader._emit(node, "global_avg_pool", value)
    return pooled if keepdim else replace(pooled, shape=pooled.shape[:2])


@_handles("view", "reshape", "flatten", "squeeze", "unsqueeze", "unflatten", "_unsafe_view")
def _reshape(reader: _Reader, node: fx.Node, x: fx.Node, *_: Any) -> _Value:
    value, shape = reader._value(x), tuple(node.meta["val"].shape)
    if shape[0] != _BATCH:
        raise Unsupported("reshaping across the pictures of a batch")
    if any(value.padding):
        raise Unsupported("padding that no convolution or average pool follows")
    if value.swapped:  # (N, channels / groups, groups, H, W): back in one row, the channels are shuffled
        per_group, groups, *size = value.shape[1:]
        if shape != (_BATCH, per_group * groups, *size):
            raise Unsupported("a permutation of dimensions")
        return reader._emit(
            node, "channel_shuffle", replace(value, shape=shape, swapped=False), groups=groups
        )
    own = reader.builder.shape(value.name)
    if shape == (_BATCH, int(np.prod(own))) and len(own) == 3:  # a flatten of its own, under its own name
        return reader._emit(node, "flatten", replace(value, shape=(_BATCH, *own)))
    return replace(value, shape=shape)


@_handles("transpose")
def _transpose(reader: _Reader, _node: fx.Node, x: fx.Node, a: int, b: int) -> _Value:
    value = reader._value(x)
    if len(value.shape) != 5 or sorted((a % 5, b % 5)) != [1, 2]:
        raise Unsupported("a permutation of dimensions")
    return _swapped(value)


@_handles("permute")
def _permute(reader: _Reader, _node: fx.Node, x: fx.Node, order: Sequence[int]) -> _Value:
    value = reader._value(x)
    if tuple(order) != (0, 2, 1, 3, 4):
        raise Unsupported("a permutation of dimensions")
    return _swapped(value)


def _swapped(value: _Value) -> _Value:
    n, groups, per_group, *size = value.shape
    return replace(value, shape=(n, per_group, groups, *size), swapped=not value.swapped)


@_handles("channel_shuffle", "native_channel_shuffle")
def _channel_shuffle(reader: _Reader, node: fx.Node, x: fx.Node, groups: int) -> _Value:
    return reader._emit(node, "channel_shuffle", reader._value(x), groups=groups)


@_handles("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
def _dropout(reader: _Reader, node: fx.Node, x: fx.Node, p: float, train: bool) -> _Value:
    if train and p:
        raise Unsupported("dropout that stays on in evaluation mode")
    return reader._emit(node, "dropout", reader._value(x))


@_handles("softmax", "log_softmax")
def _softmax(reader: _Reader, _node: fx.Node, x: fx.Node, dim: int, *_: Any, **__: Any) -> _Value:
    value = reader._value(x)
    if len(value.shape) != 2 or dim % 2 != 1:
        raise Unsupported("a softmax over another dimension than classes")
    return replace(value, softmax=True)


@_handles("contiguous", "clone", "alias", "detach", "to", "identity", "lift_fresh_copy")
def _alias(reader: _Reader, node: fx.Node, x: fx.Node, *_: Any, **__: Any) -> Any:
    val = node.meta.get("val")
    if val is not None and not val.dtype.is_floating_point:
        raise Unsupported("whole numbers as values")
    return reader.values[x]


@_handles("pad", "constant_pad_nd")
def _pad(
    reader: _Reader, _node: fx.Node, x: fx.Node, pads: Sequence[int], mode: Any = "constant", fill: Any = None
) -> _Value:
    value = reader._value(x)
    if not isinstance(mode, str):  # constant_pad_nd has no mode
        mode, fill = "constant", mode
    left, right, top, bottom, *more = (*pads, 0, 0, 0, 0)[: max(4, len(pads))]
    zeros = mode == "constant" and not fill
    if not zeros or any(more) or min(left, right, top, bottom) < 0 or len(value.shape) != 4:
        raise Unsupported("padding with something else than zeros around a picture")
    # The graph's value stays without its border: the window that comes next takes it into its own padding.
    reader._name(replace(value, padding=(0, 0, 0, 0)), padded=True)
    return replace(value, padding=_plus(value.padding, (top, left, bottom, right)))


@_handles("chunk", "split", "split_with_sizes")
def _split(reader: _Reader, node: fx.Node, x: fx.Node, *_: Any, **__: Any) -> tuple[Any, ...]:
    sizes = [tuple(each.shape) for each in node.meta["val"]]
    whole = reader._value(x).shape
    parts: list[Any] = []
    start = 0
    for shape in sizes:
        if shape[:1] + shape[2:] != whole[:1] + whole[2:]:
            raise Unsupported("splitting along another dimension than channels")
        parts.append((x, start, start + shape[1]))
        start += shape[1]
    return tuple(parts)


@_handles("getitem")
def _getitem(reader: _Reader, node: fx.Node, x: fx.Node, index: int) -> _Value | None:
    part = reader.values[x][index]
    if part is None and node.users:
        raise Unsupported("the places of a pool's largest values")
    if part is None or isinstance(part, _Value):
        return part
    source, start, end = part
    return reader._emit(node, "slice", reader._value(source), start=start, end=end)


@_handles("slice")
def _slice(
    reader: _Reader,
    node: fx.Node,
    x: fx.Node,
    dim: int = 0,
    start: Any = None,
    end: Any = None,
    step: int = 1,
) -> _Value:
    value = reader._value(x)
    length = value.shape[dim]
    first, last, _ = slice(start, end).indices(length)
    if step == 1 and (first, last) == (0, length):
        return value
    if dim % len(value.shape) != 1 or step != 1:
        raise Unsupported("a slice along another dimension than channels")
    return reader._emit(node, "slice", value, start=first, end=last)


# --- local response normalisation: torch spells it out -----------------------------------------------------


def _response_norm(node: Any) -> dict[str, Any] | None:
    """Recognise ``x / (k + alpha * average of x * x over channels) ** beta``, as torch writes it."""
    if node.op != "call_function" or _operator(node) != "div" or not hasattr(node.args[1], "op"):
        return None
    x, inner = node.args
    chain: list[Any] = []
    for name in ("pow", "add", "mul", "view", "squeeze", "avg_pool3d", "pad", "view", "mul"):
        if getattr(inner, "op", "") != "call_function" or _operator(inner) != name or len(inner.users) != 1:
            return None
        chain.append(inner)
        inner = inner.args[0]
    power, plus, times, _, _, pool, pad, _, square = chain
    window, stride = list(pool.args[1]), pool.args[2]
    size = int(window[0])
    numbers = (power.args[1], plus.args[1], times.args[1])
    if (
        inner is not x
        or square.args[1] is not x
        or window[1:] != [1, 1]
        or stride not in (1, [1, 1, 1])
        or list(pad.args[1]) != [0, 0, 0, 0, size // 2, (size - 1) // 2]
        or not all(isinstance(number, (int, float)) for number in numbers)
    ):
        return None
    beta, k, alpha = map(float, numbers)
    return {"x": x, "nodes": chain, "size": size, "alpha": alpha, "beta": beta, "k": k}


assert operator.getitem.__name__ in _HANDLERS  # the one function in a program that is no ATen operator
