"""What a design costs, in milliseconds and without a network: no weight is allocated, nothing is exported.

Each family's layers are written down once more, as the graph that would run: batch norm folded, activations
fused, weights hollow. :mod:`squeezekit.graph.cost` counts it like any other. Tests hold these graphs against
the exported ones, layer by layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from squeezekit.errors import UserError
from squeezekit.explore.design import Design
from squeezekit.graph.cost import plan
from squeezekit.graph.graph import INPUT, Array, Graph, Node, Tensor
from squeezekit.graph.operators import macs
from squeezekit.models.blocks import round_channels, scaled_repeats
from squeezekit.models.efficientnet import BODY as EFFICIENTNET
from squeezekit.models.efficientnet import compound_scaling
from squeezekit.models.mobilenet_v1 import BODY as MOBILENET_V1
from squeezekit.models.mobilenet_v2 import BODY as MOBILENET_V2
from squeezekit.models.registry import model_spec
from squeezekit.models.squeezenet import stretched

__all__ = ["BITS_A_WEIGHT", "FAMILIES", "Count", "count", "layers"]

#: Bits that a weight takes in a file: what `compress` reaches where no size is asked of it, as small as it
#: gets before answers change. Measured: 2.4 for SqueezeNet v1.0 on ImageNet (docs/benchmarks.md, 370,516
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
    graph = made.graph()
    shapes = {name: tensor.shape for name, tensor in graph.tensors.items()}
    work = sum(macs(n, [shapes[i] for i in n.inputs], shapes[n.name]) for n in graph.nodes)
    return Count(made.file_bytes(names, bits), made.parameters, work, plan(graph, "int8").size)


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
        self._nodes: list[Node] = []
        self._channels = {INPUT: channels}
        self.parameters = 0
        self._weights = self._outputs = 0

    def graph(self) -> Graph:
        return Graph(self._input, tuple(self._nodes), self._nodes[-1].name)

    def file_bytes(self, classes: tuple[str, ...], bits: float) -> int:
        bits = self._weights * bits + self._outputs * BITS_A_CHANNEL
        names = sum(len(name.encode("utf-8", "surrogateescape")) + 1 for name in classes)
        return math.ceil(bits / 8) + names + BYTES_A_NODE * len(self._nodes) + BYTES_A_FILE

    def add(self, name: str, op: str, *inputs: str, channels: int | None = None, **attributes: Any) -> str:
        self._nodes.append(Node(name, op, inputs, attributes))
        self._channels[name] = channels or self._channels[inputs[0]]
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
        fan_in = 1 if depthwise else self._channels[x]
        weight = (out, fan_in, kernel, kernel)
        self._nodes.append(
            Node(
                name,
                "conv",
                (x,),
                {
                    "kernel": (kernel, kernel),
                    "stride": (stride, stride),
                    "padding": (kernel // 2 if padding is None else padding,) * 4,
                    "dilation": (1, 1),
                    "groups": out if depthwise else 1,
                    "activation": activation,
                },
                {"weight": _hollow(weight), "bias": _hollow((out,))},
            )
        )
        self._channels[name] = out
        self._count(math.prod(weight), out, norm)
        return name

    def linear(self, name: str, x: str, out: int) -> str:
        weight = (out, self._channels[x])
        self._nodes.append(
            Node(name, "linear", (x,), {}, {"weight": _hollow(weight), "bias": _hollow((out,))})
        )
        self._channels[name] = out
        self._count(math.prod(weight), out, norm=False)
        return name

    def _count(self, weights: int, outputs: int, norm: bool) -> None:
        self._weights += weights
        self._outputs += outputs
        self.parameters += weights + outputs * (2 if norm else 1)  # gamma and beta, or a bias

    def pool(self, name: str, x: str) -> str:
        return self.add(name, "max_pool", x, kernel=(3, 3), stride=(2, 2), padding=(0, 0, 0, 0), ceil_mode=1)

    def classify(self, x: str, classes: int) -> None:
        x = self.add("classifier.flatten", "flatten", self.add("classifier.pool", "global_avg_pool", x))
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
            z = self.add(f"{part}.pool", "global_avg_pool", y)
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
    to.add("classifier.flatten", "flatten", to.add("classifier.pool10", "global_avg_pool", x))


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
