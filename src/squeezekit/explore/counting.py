"""What a design costs, in milliseconds and without a network: no weight is allocated, nothing is exported.

Each family's layers are written down once more, as the graph that would run: batch norm folded, activations
fused, weights hollow. What sums over layers is counted while they are written; only the memory needs the
graph itself, which :mod:`squeezekit.graph.cost` plans like any other. Tests hold both against the exported
networks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from squeezekit.errors import UserError
from squeezekit.explore.design import Design
from squeezekit.graph.cost import plan
from squeezekit.graph.graph import INPUT, Array, Graph, Node, Tensor
from squeezekit.graph.operators import windows
from squeezekit.models.blocks import round_channels, scaled_repeats
from squeezekit.models.efficientnet import BODY as EFFICIENTNET
from squeezekit.models.efficientnet import compound_scaling
from squeezekit.models.mobilenet_v1 import BODY as MOBILENET_V1
from squeezekit.models.mobilenet_v2 import BODY as MOBILENET_V2
from squeezekit.models.registry import model_spec
from squeezekit.models.squeezenet import stretched

__all__ = ["BITS_A_WEIGHT", "FAMILIES", "Count", "built", "count", "layers", "sums"]

#: Bits that a weight takes in a file: what `compress` reaches where no size is asked of it, as small as it
#: gets before answers change. Measured: 2.4 for SqueezeNet v1.0 on ImageNet (docs/benchmarks.md, 372,235
#: bytes), 1.8 for a SqueezeNet of 89,000 weights on digits. Networks of less to spare need more.
BITS_A_WEIGHT = 2.5
#: Bits of an output channel: 4 of its multiplier, 10 of its bias (the same file of digits).
BITS_A_CHANNEL = 14.5
#: Bytes of a node in the graph's section, as coded; and of all that is there once: head, preparation,
#: metadata.
BYTES_A_NODE, BYTES_A_FILE = 10, 370


@dataclass(frozen=True)
class Count:
    """What a design costs, for one picture.

    Attributes
    ----------
    bytes : int
        Of its ``.sqz``, an estimate: so many bits for each weight, and all that is not a weight.
    parameters : int
        Trained numbers.
    macs : int
        Multiply-accumulates of convolutions and linear layers.
    ram : int
        Peak bytes of all values in int8, each in its place in one arena.
    """

    bytes: int
    parameters: int
    macs: int
    ram: int

    def to_dict(self) -> dict[str, int]:
        """Plain values."""
        return asdict(self)


def count(design: Design, classes: Iterable[str], channels: int, bits: float = BITS_A_WEIGHT) -> Count:
    """Count a design.

    Parameters
    ----------
    design
        Of a model in :data:`FAMILIES`.
    classes
        Their names, which are in the file too.
    channels
        Of the pictures.
    bits
        That a weight will take in the file.

    Raises
    ------
    UserError
        The pictures are too small for the network, or its family is not one of these.
    """
    names = tuple(classes)
    made = _layers(design, len(names), channels)
    return Count(**made.sums(names, bits), ram=plan(made.graph(), "int8").size)


def sums(
    design: Design, classes: Iterable[str], channels: int, bits: float = BITS_A_WEIGHT
) -> dict[str, int]:
    """Count of a design what sums over its layers, all but ``ram``: several times as quick as :func:`count`.

    Raises
    ------
    UserError
        As :func:`count`.
    """
    names = tuple(classes)
    return _layers(design, len(names), channels).sums(names, bits)


@lru_cache(maxsize=10_000)
def built(design: Design) -> Hashable:
    """Return what is built of a design, equal where all layers are; None where it cannot be built.

    Batch norm and dropout are not in it: a search leaves them alone.

    Examples
    --------
    >>> one, other, wider = (Design.of("mobilenet_v1", 32, width_mult=width) for width in (0.12, 0.1201, 0.5))
    >>> built(one) == built(other), built(one) == built(wider)
    (True, False)
    """
    try:
        made = _layers(design, classes=2, channels=3)  # the data's, and so the same for all
    except UserError:
        return None
    return design.model, design.size, made.key()


def layers(design: Design, classes: int, channels: int) -> Graph:
    """Return the graph that would run, its weights hollow.

    Raises
    ------
    UserError
        As :func:`count`.
    """
    return _layers(design, classes, channels).graph()


class _Layers:
    """Gathers layers; each method adds one and returns the name of what it computes."""

    def __init__(self, channels: int, size: int) -> None:
        self._input = Tensor(INPUT, (channels, size, size))
        self._nodes: list[tuple[str, str, tuple[str, ...], dict[str, Any], tuple[int, ...]]] = []
        self._channels = {INPUT: channels}
        self._sides = {INPUT: size}
        self._weights = self._outputs = self._parameters = self._macs = 0

    def graph(self) -> Graph:
        nodes = (
            Node(
                name,
                op,
                inputs,
                attributes,
                {"weight": _hollow(weight), "bias": _hollow(weight[:1])} if weight else {},
            )
            for name, op, inputs, attributes, weight in self._nodes
        )
        return Graph(self._input, tuple(nodes), self._nodes[-1][0])

    def key(self) -> Hashable:
        nodes = self._nodes
        return tuple((n, op, x, tuple(sorted(a.items())), w, self._channels[n]) for n, op, x, a, w in nodes)

    def sums(self, classes: tuple[str, ...], bits: float) -> dict[str, int]:
        bits = self._weights * bits + self._outputs * BITS_A_CHANNEL
        names = sum(len(name.encode("utf-8", "surrogateescape")) + 1 for name in classes)
        size = math.ceil(bits / 8) + names + BYTES_A_NODE * len(self._nodes) + BYTES_A_FILE
        return {"bytes": size, "parameters": self._parameters, "macs": self._macs}

    def add(
        self,
        name: str,
        op: str,
        *inputs: str,
        channels: int | None = None,
        side: int | None = None,
        weight: tuple[int, ...] = (),
        **attributes: Any,
    ) -> str:
        """Any layer; its output is as its first input is, unless given."""
        self._nodes.append((name, op, inputs, attributes, weight))
        self._channels[name] = channels or self._channels[inputs[0]]
        self._sides[name] = side or self._sides[inputs[0]]
        return name

    def conv(
        self,
        name: str,
        x: str,
        out: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        padding: int | None = None,
        depthwise: bool = False,
        norm: bool = True,
        activation: str = "none",
    ) -> str:
        """Convolution, with the batch norm that is folded into it; padding keeps the size unless given."""
        weight = (out, 1 if depthwise else self._channels[x], kernel, kernel)
        window: dict[str, Any] = {
            "kernel": (kernel, kernel),
            "stride": (stride, stride),
            "padding": (kernel // 2 if padding is None else padding,) * 4,
        }
        side = self._windows(name, x, **window)
        self._count(weight, side, norm)
        groups = out if depthwise else 1
        more: dict[str, Any] = {"dilation": (1, 1), "groups": groups, "activation": activation}
        return self.add(name, "conv", x, channels=out, side=side, weight=weight, **window, **more)

    def linear(self, name: str, x: str, out: int) -> str:
        weight = (out, self._channels[x])
        self._count(weight, 1, norm=False)
        return self.add(name, "linear", x, channels=out, weight=weight)

    def _windows(self, name: str, x: str, **window: Any) -> int:
        try:
            return windows((self._sides[x], self._sides[x]), **window)[0]
        except UserError as error:
            raise UserError(f"{name}: {error}") from None

    def _count(self, weight: tuple[int, ...], side: int, norm: bool) -> None:
        weights = math.prod(weight)
        self._weights += weights
        self._outputs += weight[0]
        self._parameters += weights + weight[0] * (2 if norm else 1)  # gamma and beta, or a bias
        self._macs += weights * side * side

    def pool(self, name: str, x: str) -> str:
        window: dict[str, Any] = {"kernel": (3, 3), "stride": (2, 2), "padding": (0, 0, 0, 0), "ceil_mode": 1}
        return self.add(name, "max_pool", x, side=self._windows(name, x, **window), **window)

    def average(self, name: str, x: str) -> str:
        return self.add(name, "global_avg_pool", x, side=1)

    def classify(self, x: str, classes: int) -> None:
        x = self.add("classifier.flatten", "flatten", self.average("classifier.pool", x))
        self.linear("classifier.linear", x, classes)

    def mbconv(
        self,
        name: str,
        x: str,
        out: int,
        kernel: int,
        stride: int,
        expand_ratio: int,
        se_ratio: float,
        activation: str,
    ) -> str:
        """MBConv of :mod:`squeezekit.models.mbconv`."""
        channels = self._channels[x]
        middle = channels * expand_ratio
        y = x
        if expand_ratio != 1:
            y = self.conv(f"{name}.expand.conv", y, middle, activation=activation)
        y = self.conv(
            f"{name}.depthwise.conv", y, middle, kernel, stride=stride, depthwise=True, activation=activation
        )
        if se_ratio:
            part = f"{name}.squeeze_excitation"
            z = self.average(f"{part}.pool", y)
            squeezed = max(1, int(channels * se_ratio))
            z = self.conv(f"{part}.reduce", z, squeezed, norm=False, activation=activation)
            z = self.conv(f"{part}.expand", z, middle, norm=False, activation="sigmoid")
            y = self.add(f"{part}.mul", "mul", y, z)
        y = self.conv(f"{name}.project.conv", y, out)
        return self.add(f"{name}.add", "add", x, y) if stride == 1 and channels == out else y


#: One number, looked at from as many sides as there are weights.
_ZERO = np.zeros((), np.float32)
_ZERO.flags.writeable = False


def _hollow(shape: tuple[int, ...]) -> Array:
    return np.broadcast_to(_ZERO, shape)


def _layers(design: Design, classes: int, channels: int) -> _Layers:
    if design.model not in FAMILIES:
        raise UserError(f"{design.model}: cannot be explored (known: {', '.join(FAMILIES)})")
    made = _Layers(channels, design.size)
    meta = {**model_spec(design.model).metaparameters, **dict(design.metaparameters)}
    FAMILIES[design.model](made, meta, classes)
    return made


def _squeezenet(to: _Layers, meta: dict[str, Any], classes: int) -> None:
    norm, width = meta["norm"], meta["width_coefficient"]
    places, pools = stretched(meta["fires"], tuple(meta["pools"]), meta["depth_coefficient"])
    channels = max(1, round(width * meta["conv1_channels"]))
    small = meta["stem"] == "small"
    kernel = 3 if small else meta["conv1_kernel"]
    x = to.conv(
        "features.conv1",
        INPUT,
        channels,
        kernel,
        stride=1 if small else 2,
        padding=1 if small else 0,
        norm=norm,
        activation="relu",
    )
    if 1 in pools:
        x = to.pool("features.pool1", x)
    for layer, i in enumerate(places, start=2):
        name = f"features.fire{layer}"
        expand = max(2, round(width * (meta["base_e"] + meta["incr_e"] * (i // meta["freq"]))))
        e3x3 = min(max(round(meta["pct_3x3"] * expand), 1), expand - 1)
        s1x1 = max(round(meta["squeeze_ratio"] * expand), 1)
        squeezed = to.conv(f"{name}.squeeze1x1", x, s1x1, norm=norm, activation="relu")
        halves = (
            to.conv(f"{name}.expand1x1", squeezed, expand - e3x3, norm=norm, activation="relu"),
            to.conv(f"{name}.expand3x3", squeezed, e3x3, 3, norm=norm, activation="relu"),
        )
        y = to.add(f"{name}.concat", "concat", *halves, channels=expand)
        if meta["bypass"] != "none" and channels == expand:
            y = to.add(f"{name}.add", "add", y, x)
        elif meta["bypass"] == "complex":
            y = to.add(f"{name}.add", "add", y, to.conv(f"{name}.bypass", x, expand, norm=norm))
        x, channels = y, expand
        if layer in pools:
            x = to.pool(f"features.pool{layer}", x)
    x = to.conv("classifier.conv10", x, classes, norm=False, activation="none" if norm else "relu")
    to.add("classifier.flatten", "flatten", to.average("classifier.pool10", x))


def _mobilenet_v1(to: _Layers, meta: dict[str, Any], classes: int) -> None:
    small = meta["stem"] == "small"

    def width(channels: int) -> int:
        return max(8, int(channels * meta["width_mult"]))

    channels = width(32)
    x = to.conv("features.conv1.conv", INPUT, channels, 3, stride=1 if small else 2, activation="relu")
    number = 1
    repeats = scaled_repeats([repetitions for _, repetitions, _ in MOBILENET_V1], meta["depth_coefficient"])
    for (out, _, first_stride), repetitions in zip(MOBILENET_V1, repeats, strict=True):
        for repetition in range(repetitions):
            number += 1
            stride = 1 if repetition or (small and out == 128) else first_stride
            name = f"features.block{number}"
            x = to.conv(
                f"{name}.depthwise.conv", x, channels, 3, stride=stride, depthwise=True, activation="relu"
            )
            channels = width(out)
            x = to.conv(f"{name}.pointwise.conv", x, channels, activation="relu")
    to.classify(x, classes)


def _mobilenet_v2(to: _Layers, meta: dict[str, Any], classes: int) -> None:
    width_mult, small = meta["width_mult"], meta["stem"] == "small"
    first = round_channels(32 * width_mult)
    x = to.conv("features.conv1.conv", INPUT, first, 3, stride=1 if small else 2, activation="relu6")
    number = 0
    repeats = scaled_repeats(
        [repetitions for _, _, repetitions, _ in MOBILENET_V2], meta["depth_coefficient"]
    )
    for (expand_ratio, width, _, first_stride), repetitions in zip(MOBILENET_V2, repeats, strict=True):
        for repetition in range(repetitions):
            number += 1
            stride = 1 if repetition or (small and width == 24) else first_stride
            out = round_channels(width * width_mult)
            x = to.mbconv(f"features.bottleneck{number}", x, out, 3, stride, expand_ratio, 0.0, "relu6")
    x = to.conv("features.conv2.conv", x, round_channels(1280 * max(1.0, width_mult)), activation="relu6")
    to.classify(x, classes)


def _efficientnet(to: _Layers, meta: dict[str, Any], classes: int) -> None:
    width, depth = meta["width_coefficient"], meta["depth_coefficient"]
    if meta["phi"] is not None:
        bases = {key: meta[key] for key in ("alpha", "beta", "gamma")}
        width, depth, _ = compound_scaling(meta["phi"], **bases)
    small = meta["stem"] == "small"
    x = to.conv(
        "features.stage1.conv",
        INPUT,
        round_channels(32 * width),
        3,
        stride=1 if small else 2,
        activation="silu",
    )
    repeats = [each[-1] for each in EFFICIENTNET]
    up = meta["depth_rounding"] == "up"
    depths = [math.ceil(depth * each) for each in repeats] if up else scaled_repeats(repeats, depth)
    stages = zip(EFFICIENTNET, depths, strict=True)
    out = 0
    for stage, ((expand_ratio, kernel, first_stride, channels, _), layers) in enumerate(stages, 2):
        out = round_channels(channels * width)
        for layer in range(layers):
            stride = 1 if layer or (small and stage == 3) else first_stride
            name = f"features.stage{stage}.{layer}"
            x = to.mbconv(name, x, out, kernel, stride, expand_ratio, meta["se_ratio"], "silu")
    x = to.conv("features.stage9.conv", x, 4 * out, activation="silu")
    to.classify(x, classes)


#: The families that can be counted, and so be searched.
FAMILIES: dict[str, Callable[[_Layers, dict[str, Any], int], None]] = {
    "squeezenet": _squeezenet,
    "mobilenet_v1": _mobilenet_v1,
    "mobilenet_v2": _mobilenet_v2,
    "efficientnet": _efficientnet,
}
