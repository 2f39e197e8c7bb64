"""A float graph as a module of torch: to train on, to measure, to export again."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from squeezekit.errors import UserError
from squeezekit.graph.graph import INPUT, Array, Graph, Node

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["GraphModule", "graph_of", "take_weights", "to_torch"]


class GraphModule(nn.Module):
    """Computes a graph, node by node.

    The parts are named as the nodes, a dot in a name being a part within a part; so a convolution's
    parameters are ``NODE.weight`` and ``NODE.bias``, and a network that was read by ``from_torch`` keeps its
    names. Where torch has a name for itself (``forward``, ``type``), the part's ends in ``_``.

    Attributes
    ----------
    paths : dict of str to str
        For each node, the name of its part.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        if graph.is_int8:
            raise UserError("an int8 graph does not run in torch (squeezekit.graph.run computes it)")
        self._graph = graph
        self.paths: dict[str, str] = {}
        last_use = {name: index for index, node in enumerate(graph.nodes) for name in node.inputs}
        self._steps = []
        for index, node in enumerate(graph.nodes):
            self.paths[node.name] = _place(
                self, node.name, _MODULES[node.op](node, graph), self.paths.values()
            )
            done = [n for n in dict.fromkeys(node.inputs) if last_use[n] == index and n != graph.output]
            self._steps.append((node.name, self.paths[node.name], node.inputs, done))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to the output's (N, …)."""
        values = {INPUT: pictures}
        for name, path, inputs, done in self._steps:
            values[name] = self.get_submodule(path)(*(values[each] for each in inputs))
            for each in done:
                del values[each]
        return values[self._graph.output]

    def part(self, name: str) -> nn.Module:
        """Return what computes a node."""
        return self.get_submodule(self.paths[name])

    def extra_repr(self) -> str:
        """Say how many nodes there are."""
        return f"{len(self._graph.nodes)} nodes"


def to_torch(graph: Graph) -> GraphModule:
    """Make a module that computes a float graph.

    Parameters
    ----------
    graph
        float32. Weights in a codebook become dense ones.

    Returns
    -------
    GraphModule
        In evaluation mode, on the CPU. Weights and biases (and a batch norm's gamma and beta) are parameters.

    Raises
    ------
    UserError
        The graph is int8.
    """
    return GraphModule(graph).eval()


def take_weights(graph: Graph, module: GraphModule) -> Graph:
    """Return the graph with the weights that a module made of it has now, as after training.

    Parameters
    ----------
    graph
        The one that :func:`to_torch` was given.
    module
        What it returned.

    Raises
    ------
    UserError
        A weight is no longer finite.
    """
    state = module.state_dict()
    nodes = []
    for node in graph.nodes:
        weights = dict(node.weights)
        for key in weights:
            name = f"{module.paths[node.name]}.{_STATE_NAMES.get((node.op, key), key)}"
            if name in state:
                weights[key] = state[name].detach().cpu().float().numpy()
        nodes.append(replace(node, weights=weights))
    return replace(graph, nodes=tuple(nodes))


def graph_of(module: GraphModule) -> Graph:
    """Return the graph that a module computes, with the weights that it has now.

    Raises
    ------
    UserError
        A weight is no longer finite.
    """
    return take_weights(module._graph, module)


_STATE_NAMES = {
    ("batch_norm", "gamma"): "weight",
    ("batch_norm", "beta"): "bias",
    ("batch_norm", "mean"): "running_mean",
    ("batch_norm", "var"): "running_var",
}


def _place(root: nn.Module, name: str, module: nn.Module, taken: Collection[str]) -> str:
    """Make `module` a part of `root` under a dotted name, beside parts that may already be on the way."""
    path: list[str] = []
    parts = name.split(".")
    for depth, part in enumerate(parts):
        last = depth == len(parts) - 1
        free = part or "_"
        # What is there already, and no part: an attribute of torch's modules, or a weight.
        while (hasattr(root, free) and free not in root._modules) or (
            last and ".".join([*path, free]) in taken
        ):
            free += "_"
        path.append(free)
        if last:
            here = root._modules.get(free)
            if here is not None:  # the node is named like the folder of others: it takes them along
                for key, child in here.named_children():
                    module.add_module(key, child)
            root._modules[free] = module
        else:
            if free not in root._modules:
                root.add_module(free, nn.Module())
            root = root.get_submodule(free)
    return ".".join(path)


def _tensor(array: Array) -> torch.Tensor:
    return torch.from_numpy(np.array(array, np.float32))


_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "none": lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "hard_swish": F.hardswish,
    "hard_sigmoid": F.hardsigmoid,
}


class _Conv(nn.Conv2d):
    """A convolution whose padding may differ by side or hold another value than zero, and its activation."""

    pad_value: torch.Tensor | None

    def __init__(self, node: Node, _graph: Graph) -> None:
        a = node.attributes
        top, left, bottom, right = a["padding"]
        weight = node.dense("weight")
        pad_value = node.weights.get("pad_value")
        self._even = (top, left) == (bottom, right) and pad_value is None
        super().__init__(
            weight.shape[1] * a["groups"],
            weight.shape[0],
            a["kernel"],
            a["stride"],
            (top, left) if self._even else 0,
            a["dilation"],
            a["groups"],
            bias="bias" in node.weights,
        )
        self._around = (left, right, top, bottom)
        self._activation = a["activation"]
        self.register_buffer("pad_value", None if pad_value is None else _tensor(node.dense("pad_value")))
        _fill(self, node)

    def padded(self, x: torch.Tensor) -> torch.Tensor:
        """Return the input with its padding around it, as the windows see it."""
        padded = F.pad(x, self._around)
        if self.pad_value is not None:
            outside = 1 - F.pad(torch.ones_like(x[:1, :1]), self._around)
            padded = padded + self.pad_value.reshape(1, -1, 1, 1) * outside
        return padded

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _ACTIVATIONS[self._activation](super().forward(x if self._even else self.padded(x)))


class _Linear(nn.Linear):
    def __init__(self, node: Node, _graph: Graph) -> None:
        rows, columns = node.weights["weight"].shape
        super().__init__(columns, rows, bias="bias" in node.weights)
        self._activation = node.attributes["activation"]
        _fill(self, node)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _ACTIVATIONS[self._activation](super().forward(x))


def _fill(module: nn.Conv2d | nn.Linear, node: Node) -> None:
    module.weight = nn.Parameter(_tensor(node.dense("weight")))
    if module.bias is not None:
        module.bias = nn.Parameter(_tensor(node.dense("bias")))


def _batch_norm(node: Node, graph: Graph) -> nn.Module:
    kind = nn.BatchNorm2d if len(graph.tensors[node.name].shape) == 3 else nn.BatchNorm1d
    norm = kind(len(node.dense("gamma")), eps=node.attributes["eps"])
    norm.weight = nn.Parameter(_tensor(node.dense("gamma")))
    norm.bias = nn.Parameter(_tensor(node.dense("beta")))
    norm.running_mean = _tensor(node.dense("mean"))
    norm.running_var = _tensor(node.dense("var"))
    return norm


class _Affine(nn.Module):
    """``x * scale + shift`` a channel; neither is trained: it is the picture's preparation."""

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, node: Node, graph: Graph) -> None:
        super().__init__()
        self._shape = (1, -1) + (1,) * (len(graph.tensors[node.name].shape) - 1)
        for key in ("scale", "shift"):
            self.register_buffer(key, _tensor(node.dense(key)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale.reshape(self._shape) + self.shift.reshape(self._shape)


class _Function(nn.Module):
    """An operator without weights."""

    def __init__(self, function: Callable[..., torch.Tensor], text: str) -> None:
        super().__init__()
        self._function = function
        self._text = text

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self._function(*inputs)

    def extra_repr(self) -> str:
        return self._text


def _pool(a: Mapping[str, Any], x: torch.Tensor, largest: bool) -> torch.Tensor:
    top, left, bottom, right = padding = a["padding"]
    kernel, stride = a["kernel"], a["stride"]
    symmetric = (top, left) == (bottom, right) and all(2 * padding[i] <= kernel[i] for i in (0, 1))
    if symmetric and largest:
        return F.max_pool2d(x, kernel, stride, (top, left), ceil_mode=bool(a["ceil_mode"]))
    if symmetric:
        return F.avg_pool2d(
            x, kernel, stride, (top, left), bool(a["ceil_mode"]), bool(a["count_include_pad"])
        )
    around = (left, right, top, bottom)
    # torch's own padding is the same on both sides. Windows that only ceil mode makes need more behind.
    extra = _missing(x, a) if a["ceil_mode"] else (0, 0)
    beyond = (0, extra[1], 0, extra[0])
    if largest:
        return F.max_pool2d(
            F.pad(F.pad(x, around, value=-torch.inf), beyond, value=-torch.inf), kernel, stride
        )
    counted = torch.ones_like(x[:1, :1])
    counted = F.pad(F.pad(counted, around, value=float(a["count_include_pad"])), beyond)
    mean = F.avg_pool2d(F.pad(F.pad(x, around), beyond), kernel, stride)
    return mean / F.avg_pool2d(counted, kernel, stride)


def _missing(x: torch.Tensor, a: Mapping[str, Any]) -> tuple[int, int]:
    """Rows and columns that the last window of ceil mode reaches beyond the padding."""
    from squeezekit.graph.operators import windows

    size = (x.shape[2], x.shape[3])
    counts = windows(size, a["kernel"], a["stride"], a["padding"], ceil_mode=1)
    down, across = (
        max(
            0,
            (counts[i] - 1) * a["stride"][i]
            + a["kernel"][i]
            - size[i]
            - a["padding"][i]
            - a["padding"][i + 2],
        )
        for i in (0, 1)
    )
    return down, across


def _concat(*parts: torch.Tensor) -> torch.Tensor:
    return torch.cat(parts, dim=1)


def _response_norm(a: Mapping[str, Any], x: torch.Tensor) -> torch.Tensor:
    return F.local_response_norm(x, a["size"], a["alpha"], a["beta"], a["k"])


def _function(
    build: Callable[[Mapping[str, Any]], Callable[..., torch.Tensor]],
) -> Callable[[Node, Graph], nn.Module]:
    # A dict, which can be copied and pickled, as modules are; a graph's own attributes cannot.
    return lambda node, _graph: _Function(build(dict(node.attributes)), node.op)


def _activation(name: str) -> Callable[[Node, Graph], nn.Module]:
    return lambda node, _graph: _Function(_ACTIVATIONS[name], node.op)


_MODULES: dict[str, Callable[[Node, Graph], nn.Module]] = {
    "conv": _Conv,
    "linear": _Linear,
    "affine": _Affine,
    "batch_norm": _batch_norm,
    "local_response_norm": _function(lambda a: functools.partial(_response_norm, a)),
    **{name: _activation(name) for name, activation in _ACTIVATIONS.items() if name != "none"},
    "add": _function(lambda a: lambda x, y: _ACTIVATIONS[a["activation"]](x + y)),
    "mul": _function(lambda _: torch.mul),
    "concat": _function(lambda _: _concat),
    "slice": _function(lambda a: lambda x: x[:, a["start"] : a["end"]]),
    "channel_shuffle": _function(lambda a: lambda x: F.channel_shuffle(x, a["groups"])),
    "max_pool": _function(lambda a: functools.partial(_pool, a, largest=True)),
    "avg_pool": _function(lambda a: functools.partial(_pool, a, largest=False)),
    "global_avg_pool": _function(lambda _: lambda x: F.adaptive_avg_pool2d(x, 1)),
    "flatten": _function(lambda _: lambda x: x.flatten(1)),
    "dropout": _function(lambda _: lambda x: x),
    "identity": _function(lambda _: lambda x: x),
}
