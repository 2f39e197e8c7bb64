"""Small int8 networks that together use every operator, and the answers that every build must give.

Run as a script, this writes ``golden/NAME.sqz``, ``NAME.input`` (two pictures of bytes, height × width ×
channels each: noise, and the extremes) and ``NAME.logits`` (their logits, float32, little-endian), as
``squeezekit.graph.run`` defines them. Only a change of the arithmetic or the format may change these files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from squeezekit.format import Model, dumps
from squeezekit.graph.graph import INPUT, Graph, Node, Quantization, Tensor
from squeezekit.graph.run import run

FOLDER = Path(__file__).with_name("golden")


class Build:
    """A network under construction. Methods add a node and return its name; the last one's is the output."""

    def __init__(self, shape: tuple[int, int, int], seed: int, zero: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.input = Tensor(INPUT, shape, Quantization(1.0, zero))
        self.nodes: list[Node] = []

    def graph(self) -> Graph:
        return Graph(self.input, tuple(self.nodes), self.nodes[-1].name)

    def add(self, op: str, inputs: Sequence[str], zero: int | None, scale: float = 0.05, **rest: Any) -> str:
        name = f"{op}{len(self.nodes)}"
        weights = rest.pop("weights", {})
        if zero is None:
            quantization = None
        elif zero < 0:  # as its input
            quantization = self.tensor(inputs[0]).quantization
        else:
            quantization = Quantization(float(np.float32(scale)), zero)
        self.nodes.append(Node(name, op, tuple(inputs), rest, weights, quantization))
        return name

    def tensor(self, name: str) -> Tensor:
        return self.graph().tensors[name] if name != INPUT else self.input

    def matrix(self, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
        """Weights of all sizes, and multipliers that spread the sums over the bytes."""
        out, reach = shape[0], int(np.prod(shape[1:]))
        spread = self.random.uniform(0.5, 2.0, out) * 60 / (74 * 73 * reach**0.5)
        return {
            "weight": self.random.integers(-127, 128, shape).astype(np.int8),
            "bias": self.random.integers(-9000, 9000, out).astype(np.int32),
            "multiplier": spread.astype(np.float32),
        }

    def conv(
        self, source: str, out: int, kernel: int | tuple[int, ...], zero: int | None, **rest: Any
    ) -> str:
        size = (kernel, kernel) if isinstance(kernel, int) else kernel
        groups, channels = rest.get("groups", 1), self.tensor(source).shape[0]
        weights = self.matrix((out, channels // groups, *size))
        if rest.pop("pad_value", False):
            weights["pad_value"] = self.random.integers(0, 256, channels).astype(np.uint8)
        plain = {"stride": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1), "groups": 1}
        return self.add("conv", [source], zero, weights=weights, **{**plain, "kernel": size, **rest})

    def depthwise(self, source: str, kernel: int, zero: int, **rest: Any) -> str:
        channels, half = self.tensor(source).shape[0], kernel // 2
        rest = {"padding": (half,) * 4, "groups": channels, **rest}
        return self.conv(source, channels, kernel, zero, **rest)

    def linear(self, source: str, out: int, zero: int | None, **rest: Any) -> str:
        return self.add(
            "linear", [source], zero, weights=self.matrix((out, *self.tensor(source).shape)), **rest
        )

    def table(self, source: str, zero: int = 7) -> str:
        numbers = self.random.integers(0, 256, 256).astype(np.uint8)
        return self.add("table", [source], zero, weights={"table": numbers})

    def scaled(
        self, op: str, inputs: Sequence[str], zero: int | None, *multipliers: float, **rest: Any
    ) -> str:
        return self.add(op, inputs, zero, weights={"multiplier": np.array(multipliers, np.float32)}, **rest)

    def max_pool(self, source: str, kernel: int, stride: int, padding: int = 0, ceil_mode: int = 0) -> str:
        window = {"kernel": (kernel,) * 2, "stride": (stride,) * 2, "padding": (padding,) * 4}
        return self.add("max_pool", [source], -1, ceil_mode=ceil_mode, **window)


def convolutions() -> Graph:
    """Of every kind: large, strided, padded with colours, uneven, dilated, in groups, depthwise."""
    b = Build((3, 23, 21), 1)
    x = b.conv(INPUT, 18, 7, 0, stride=(2, 2), padding=(3, 3, 2, 1), pad_value=True, activation="relu")
    x = b.conv(x, 33, 1, 11, activation="relu6")
    x = b.conv(x, 24, (3, 2), 130, padding=(1, 0, 2, 1), dilation=(2, 1))
    x = b.conv(x, 36, 3, 0, padding=(1, 1, 1, 1), groups=4, activation="relu")
    x = b.conv(x, 72, 3, 255, padding=(1, 1, 1, 1), groups=36)
    b.conv(x, 10, b.tensor(x).shape[1:], None, logits=1)
    return b.graph()


def separable() -> Graph:
    """Inverted residuals with squeeze and excitation, as MobileNet and EfficientNet have them."""
    b = Build((3, 20, 20), 2, zero=128)
    x = b.conv(INPUT, 16, 3, 3, stride=(2, 2), padding=(0, 0, 1, 1), activation="relu6")
    wide = b.table(b.conv(x, 40, 1, 100))
    wide = b.table(b.depthwise(wide, 5, 90))
    gate = b.scaled("global_avg_pool", [wide], 40, 0.012)
    gate = b.table(b.conv(gate, 4, 1, 77))
    gate = b.table(b.conv(gate, 40, 1, 128), zero=0)
    wide = b.scaled("mul", [wide, gate], 60, 0.004)
    y = b.conv(wide, 16, 1, 121)
    x = b.scaled("add", [x, y], 64, 0.7, 0.6)
    wide = b.depthwise(b.conv(x, 24, 1, 0, activation="relu"), 3, 5, stride=(2, 2), activation="relu6")
    x = b.conv(wide, 35, 1, 99)
    x = b.scaled("global_avg_pool", [x], 99, 0.04)
    b.linear(b.add("flatten", [x], -1), 11, None, logits=1)
    return b.graph()


def fire() -> Graph:
    """SqueezeNet's modules with a bypass, pools in ceil mode, and global pooling at the end."""
    b = Build((3, 27, 27), 3)
    x = b.conv(INPUT, 16, 3, 0, stride=(2, 2), activation="relu")
    x = b.max_pool(x, 3, 2, ceil_mode=1)
    for out in (16, 16, 24):
        squeezed = b.conv(x, 9, 1, 0, activation="relu")
        left = b.conv(squeezed, out, 1, 0, activation="relu")
        right = b.conv(squeezed, out, 3, 0, padding=(1, 1, 1, 1), activation="relu")
        joined = b.add("concat", [left, right], -1)
        same = b.tensor(x).shape == b.tensor(joined).shape
        x = b.scaled("add", [x, joined], 0, 0.5, 0.9, activation="relu") if same else joined
    x = b.add("dropout", [b.max_pool(x, 3, 2, ceil_mode=1)], -1)
    x = b.conv(x, 17, 1, 0, activation="relu")
    b.scaled("global_avg_pool", [x], None, 0.013, logits=1)
    return b.graph()


def branches() -> Graph:
    """Slices, shuffles, joins of joins, products, average pools that count their padding or do not."""
    b = Build((1, 17, 19), 4, zero=5)
    x = b.conv(INPUT, 24, 3, 50, padding=(1, 1, 1, 1))
    left = b.add("slice", [x], -1, start=0, end=12)
    right = b.add("slice", [x], -1, start=12, end=24)
    right = b.conv(b.depthwise(b.conv(right, 12, 1, 30), 3, 20), 12, 1, 50)
    x = b.add("channel_shuffle", [b.add("concat", [left, right], -1)], -1, groups=2)
    x = b.add("identity", [b.add("concat", [x, left, x], -1)], -1)
    x = b.scaled("mul", [x, b.table(x, 50)], 33, 0.01)
    window = {"kernel": (3, 3), "stride": (2, 2), "ceil_mode": 1}
    counts = [1.7 / n for n in range(1, 10)]
    x = b.scaled("avg_pool", [x], 44, *counts, padding=(1, 1, 1, 1), count_include_pad=0, **window)
    y = b.max_pool(x, 3, 1, padding=1)
    x = b.scaled("add", [y, x], 90, 0.4, 1.3)
    window = {"kernel": (2, 3), "stride": (1, 1), "ceil_mode": 0, "padding": (0, 0, 0, 0)}
    x = b.scaled("avg_pool", [x], 100, 0.2, count_include_pad=1, **window)
    x = b.conv(x, 12, 1, 17, groups=3)
    b.linear(b.linear(b.add("flatten", [x], -1), 21, 13, activation="relu"), 7, None, logits=1)
    return b.graph()


def bytes_out() -> Graph:
    """A network whose answer is bytes, and which begins with something other than a convolution."""
    b = Build((3, 9, 9), 5, zero=9)
    x = b.max_pool(b.table(INPUT, 40), 2, 1)
    x = b.conv(x, 6, 3, 60, stride=(3, 3))
    b.add("flatten", [x], -1)
    return b.graph()


NETWORKS: dict[str, Callable[[], Graph]] = {
    network.__name__: network for network in (convolutions, separable, fire, branches, bytes_out)
}


def pictures(graph: Graph, seed: int = 0) -> np.ndarray:
    """Two pictures: noise, and nothing but the extremes."""
    channels, height, width = graph.input.shape
    random = np.random.default_rng(seed)
    both = random.integers(0, 256, (2, height, width, channels))
    both[1] = np.where(both[1] < 128, 0, 255)
    return both.astype(np.uint8)


def preparation(graph: Graph) -> dict[str, Any]:
    """Only square pictures have one."""
    channels, height, width = graph.input.shape
    if height != width:
        return {}
    order, ones = ("RGB", 3) if channels == 3 else ("L", 1)
    common = {"size": height, "resize": "short-side", "resize_to": height + 4, "interpolation": "bilinear"}
    return {**common, "mean": [0.0] * ones, "scale": [1.0] * ones, "channel_order": order}


def shipped(graph: Graph) -> bytes:
    count = graph.tensors[graph.output].size
    return dumps(Model(graph, preparation(graph), tuple(f"class {i} of {count}" for i in range(count))))


if __name__ == "__main__":
    for name, network in NETWORKS.items():
        graph = network()
        given = pictures(graph)
        (FOLDER / f"{name}.sqz").write_bytes(shipped(graph))
        (FOLDER / f"{name}.input").write_bytes(given.tobytes())
        (FOLDER / f"{name}.logits").write_bytes(run(graph, given).reshape(2, -1).astype("<f4").tobytes())
