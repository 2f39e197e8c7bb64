"""docs/format.md is enough to read a file and to run it: all this was written from it alone."""

from __future__ import annotations

import math
import re
import struct
import zlib
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from squeezekit import engine
from squeezekit.data.preparation import CAFFE, Preparation
from squeezekit.format import Model, dumps
from squeezekit.format.labels import pack_labels
from squeezekit.format.pack import pack, tensor_head
from squeezekit.format.weights import Encoder, graph_tensors
from squeezekit.graph.graph import Codebook, Graph, Node, Quantization, Tensor

PAGE = (Path(__file__).parents[2] / "docs" / "format.md").read_text(encoding="utf-8")
NEIGHBOURS = [(0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0), (-2, -1), (-2, 1), (-1, -2), (-1, 2)]
NEIGHBOURS += [(-2, -2), (-2, 2)]


def down(a: int, b: int) -> int:
    return a // b


def cut(a: int, b: int) -> int:
    return abs(a) // b * (1 if a >= 0 else -1)


class Coder:
    """The range coder."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.range = data, 8, 2**64 - 1
        self.low = int.from_bytes(data[:8].ljust(8, b"\0"), "big")

    def settle(self) -> None:
        if self.range < 2**32:
            word = self.data[self.at : self.at + 4].ljust(4, b"\0")
            self.low = (self.low * 2**32 + int.from_bytes(word, "big")) % 2**64
            self.at += 4
            self.range *= 2**32

    def split(self, p: int) -> int:
        ones = self.range // 65536 * p
        bit = int(self.low < ones)
        if bit:
            self.range = ones
        else:
            self.low, self.range = self.low - ones, self.range - ones
        self.settle()
        return bit

    def bit(self, model: list[int], slowest: int = 30) -> int:
        bit = self.split(model[0] // 64)
        learn(model, bit, slowest)
        return bit

    def raw(self, bits: int) -> int:
        value = 0
        while bits:
            n = min(bits, 16)
            self.range //= 2**n
            part = min(self.low // self.range, 2**n - 1)
            self.low -= part * self.range
            self.settle()
            value, bits = value << n | part, bits - n
        return value

    def tree(self, models: Models, bits: int) -> int:
        node = 1
        for _ in range(bits):
            node = 2 * node + self.bit(models[node])
        return node - 2**bits


def learn(model: list[int], bit: int, slowest: int) -> None:
    rate = 131072 // (2 * min(model[1], slowest) + 3)
    model[0] += ((4192255 if bit else 2048) - model[0]) * rate // 65536
    model[1] = min(model[1] + 1, 1000)


class Models(dict[Any, list[int]]):
    """As many models as are asked for."""

    def __missing__(self, key: Any) -> list[int]:
        self[key] = [2**21, 0]
        return self[key]


class Numbers:
    """Numbers of one kind."""

    def __init__(self, coder: Coder) -> None:
        self.coder, self.previous, self.sign = coder, 33, [2**21, 0]
        self.lengths: dict[int, Models] = {}
        self.upper: dict[int, Models] = {}

    def number(self) -> int:
        length = min(32, self.coder.tree(self.lengths.setdefault(self.previous, Models()), 6))
        self.previous = length
        if length < 2:
            return length
        upper = min(2, length - 1)
        top = 2**upper + self.coder.tree(self.upper.setdefault(length, Models()), upper)
        rest = length - 1 - upper
        return top << rest | self.coder.raw(rest)

    def signed(self) -> int:
        size = self.number()
        return -size if size and self.coder.bit(self.sign) else size


# --- text --------------------------------------------------------------------------------------------------

SQUASH = [int(t) for t in re.findall(r"^1 2 3 6 .*\n.*$", PAGE, re.MULTILINE)[0].split()]


def squash(x: int) -> int:
    place, part = divmod(x + 2048, 128)
    return (SQUASH[place] * (128 - part) + SQUASH[place + 1] * part + 64) // 128


REACHED = [squash(x) for x in range(-2047, 2048)]
STRETCH = [next((x - 2047 for x, y in enumerate(REACHED) if y >= p), 2047) for p in range(4096)]


def mix(a: int, b: int) -> int:
    x = ((a ^ a >> 15) * 0x2C1B3C6D + b * 0x9E3779B1 + 0x7F4A7C15) % 2**32
    return x ^ x >> 13


def text(data: bytes) -> bytes:
    size, coder, out = int.from_bytes(data[:4], "little"), Coder(data[4:]), bytearray()
    models, weights = Models(), {}
    word = before = 0
    for _ in range(size):
        hashes = []
        for i, order in enumerate((0, 1, 2, 3, 4, 6)):
            last = bytes(out[-order:]).rjust(order, b"\0") if order else b""
            number = int.from_bytes(last.ljust(8, b"\0"), "big")
            hashes.append(mix(mix(number >> 32, number % 2**32), i))
        hashes += [mix(word, 6), mix(mix(word, before), 7)]
        node = 1
        for bits in range(8):
            used = [models[i, node if i == 0 else mix(h, node) % 65536] for i, h in enumerate(hashes)]
            inputs = []
            for chance, seen in used:
                p = chance // 1024
                inputs += [STRETCH[p], cut((p - 2048) * min(seen, 4), 8)] if seen else [0, 0]
            inputs.append(256)
            key = max(0, sum(model[1] > 0 for model in used) - 1), bits
            weight = weights.setdefault(key, [16000, 4000] * 8 + [0])
            x = sum(a * b for a, b in zip(weight, inputs, strict=True)) // 65536
            p = 16 * squash(max(-2047, min(2047, x)))
            bit = coder.split(p)
            error = (65535 * bit - p) // 8
            for i, value in enumerate(inputs):
                weight[i] = max(-(2**20), min(2**20, weight[i] + (value * error + 4096) // 8192))
            for model in used:
                learn(model, bit, 30)
            node = 2 * node + bit
        byte = node - 256
        out.append(byte)
        if chr(byte | 32) in "abcdefghijklmnopqrstuvwxyz" or chr(byte) in "0123456789" or byte >= 128:
            word = mix(word, byte | 32)
        elif word:
            before, word = word, 0
    return bytes(out)


# --- weights -----------------------------------------------------------------------------------------------


def float32(bits: int) -> float:
    return struct.unpack("<f", struct.pack("<I", bits))[0]


SIXTEENTH = [float32(int(bits, 16)) for bits in re.findall(r"\b3f[0-9a-f]{6}\b", PAGE)]


def grid(base: float, k: int) -> float:
    x = np.float32(base) * np.float32(SIXTEENTH[k % 16])
    for _ in range(min(256, abs(k // 16))):
        x = x * np.float32(2 if k > 0 else 0.5)
    return float(x)


class Weights:
    """A weights section."""

    def __init__(self, data: bytes) -> None:
        size = int.from_bytes(data[1:5], "little")
        self.numbers, self.coding, self.body = Coder(data[5 : 5 + size]), data[0], Coder(data[5 + size :])
        self.stream = "".join(f"{byte:08b}" for byte in data[5 + size :])
        self.head, self.shared, self.integers, self.grid = (Numbers(self.numbers) for _ in range(4))
        self.models, self.trees = (
            Models(),
            {name: Models() for name in ("exponent", "mantissa", "byte", "code")},
        )
        self.sign = [2**21, 0]

    def take(self, kind: str, shape: tuple[int, ...], multipliers: Any = None) -> Any:
        count = int(np.prod(shape))
        if kind == "float32":
            return np.array(self.floats(count), np.float32).reshape(shape)
        if kind == "int32":
            return np.array(self.whole(count, multipliers), np.int64).astype(np.int32).reshape(shape)
        if kind == "uint8":
            return np.cumsum([self.numbers.tree(self.trees["byte"], 8) for _ in range(count)]).astype(
                np.uint8
            )
        values, origin = [], 0
        if kind == "codebook":
            many, origin = self.numbers.raw(8) + 1, self.numbers.raw(8)
            key = self.numbers.raw(32)
            for i in range(many):
                key += self.shared.number() + 1 if i else 0
                values.append(float32(key & 0x7FFFFFFF if key >> 31 else key ^ 0xFFFFFFFF))
        whole = self.huffman(count) if self.coding else self.ranged(shape)
        if kind == "int8":
            return np.array(whole).astype(np.uint8).view(np.int8).reshape(shape)
        indices = np.array(whole) if self.coding else np.array(whole) + origin
        return np.array(values, np.float32)[indices].reshape(shape)

    def floats(self, count: int) -> list[float]:
        c = self.numbers
        if c.raw(1):
            base, lowest, step = float32(c.raw(32)), c.raw(13) - 4096, c.raw(13)
            return [grid(base, lowest + step * (self.grid.number() if step else 0)) for _ in range(count)]
        zeros, out = c.raw(5), []
        for _ in range(count):
            bits = c.bit(self.sign) << 31
            bits |= c.tree(self.trees["exponent"], 8) << 23
            bits |= c.tree(self.trees["mantissa"], 2) << 21
            out.append(float32(bits | c.raw(21 - zeros) << zeros))
        return out

    def whole(self, count: int, multipliers: Any) -> list[int]:
        by_multiplier, zeros, out = self.numbers.raw(1), self.numbers.raw(5), []
        for i in range(count):
            shift = zeros
            if by_multiplier:
                exponent = (int(multipliers[i].view(np.uint32)) >> 23) % 256 - 127
                shift += min(30, max(0, -3 - exponent))
            out.append(self.integers.signed() << min(shift, 31))
        return out

    def huffman(self, count: int) -> list[int]:
        lengths = [self.numbers.tree(self.trees["code"], 4) for _ in range(256)]
        codes, code, previous = {}, 0, 0
        for length, byte in sorted((length, byte) for byte, length in enumerate(lengths) if length):
            code <<= length - previous
            codes[f"{code:0{length}b}"] = byte
            code, previous = code + 1, length
        out, at = [], 0
        while len(out) < count:
            end = at + 1
            while self.stream[at:end] not in codes:
                end += 1
            out.append(codes[self.stream[at:end]])
            at = end
        self.stream = self.stream[at:]
        return out

    def ranged(self, shape: tuple[int, ...]) -> Any:
        four = (1, shape[0], 1, 1) if len(shape) == 1 else (*shape, 1, 1)[:4]
        filters, inputs, height, width = four
        out = np.zeros((filters, inputs, height * width), int)
        longest = self.head.number()
        if longest == 0:
            return out.reshape(shape)
        downwards, mean = self.numbers.raw(1), self.head.number()
        s = [self.head.signed() for _ in range(13)]
        m = [self.head.signed() for _ in range(17)]
        for model in self.models.values():
            model[1] = min(model[1], 24)
        average = np.full((height * width, inputs), mean).tolist()
        signed = np.zeros((height * width, inputs), int).tolist()
        slow = mean
        for f in range(filters):
            if self.body.bit(self.models["empty"], 1000):
                continue
            for k in range(height * width):
                fast = last = slow
                for i in range(inputs):
                    near = [self.near(out[f, i], k, offset, width) for offset in NEIGHBOURS]
                    expected = 256 * sum(a * b for a, b in zip(s, near, strict=False)) + s[12] * signed[k][i]
                    expected = cut(expected, 64)
                    predicted = 256 * sum(a * abs(b) for a, b in zip(m, near, strict=False))
                    predicted += m[12] * average[k][i] + m[13] * slow + m[14] * fast
                    predicted = down(predicted + m[15] * abs(expected) + 4 * m[16], 64)
                    fast += down(last - fast, 4)
                    slow += down(last - slow, 64)
                    out[f, i, k] = self.weight(expected, predicted, longest, downwards)
                    last = 256 * abs(int(out[f, i, k]))
                rate = 4096 // (f + 2) if f < 30 else 128
                for i in range(inputs):
                    x = int(out[f, i, k])
                    average[k][i] += down((256 * abs(x) - average[k][i]) * rate, 4096)
                    signed[k][i] += down((256 * x - signed[k][i]) * rate, 4096)
        return out.reshape(shape)

    def near(self, kernel: Any, k: int, offset: tuple[int, int], width: int) -> int:
        row, column = k // width + offset[0], k % width + offset[1]
        return int(kernel[row * width + column]) if row >= 0 and 0 <= column < width else 0

    def weight(self, expected: int, predicted: int, longest: int, downwards: int) -> int:
        at, bit = level(predicted), lambda *key: self.body.bit(self.models[key], 1000)
        if not bit("zero", at):
            return 0
        negative = int(bit("sign", level(abs(expected))) != (expected < 0))
        if downwards:
            k = longest
            while k > 1 and bit("down", k, at):
                k -= 1
        else:
            k = 1
            while k < longest and bit("up", k, at):
                k += 1
        value = 1
        for missing in range(k - 2, -1, -1):
            key = ("second", k, at) if value == 1 else ("rest", negative, (2 * value + 1) << missing)
            value = 2 * value + bit(*key)
        return -value if negative else value


def level(v: int) -> int:
    x = max(v, 0) + 16
    e = x.bit_length() - 1
    return min(47, 4 * (e - 4) + (x >> e - 2) % 4)


# --- the graph ---------------------------------------------------------------------------------------------

SIZES = {"kernel": 2, "stride": 2, "padding": 4, "dilation": 2}


def rows() -> list[list[str]]:
    """The page's table of operators."""
    lines = PAGE[PAGE.index("| no. | operator |") :].split("\n\n")[0].splitlines()[2:]
    table = []
    for _, names, attributes, weights in ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines):
        table += [[name, attributes, weights] for name in names.split(", ")]
    return table


class Bytes:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, kind: str) -> Any:
        self.at += struct.calcsize(kind)
        return struct.unpack_from("<" + kind, self.data, self.at - struct.calcsize(kind))[0]

    def number(self) -> int:
        byte = self.take("B")
        return byte % 128 + (128 * self.number() if byte > 127 else 0)


def counts(size: int, reach: int, stride: int, before: int, after: int, ceil_mode: int) -> int:
    room = size + before + after - reach
    n = (-(-room // stride) if ceil_mode else room // stride) + 1
    return n - 1 if ceil_mode and (n - 1) * stride >= size + before else n


def shape_of(node: dict[str, Any], shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
    op, (c, h, w) = node["op"], (*shapes[0], 1, 1)[:3]
    if op in ("conv", "max_pool", "avg_pool"):
        k, s, p, d = (node[key] for key in ("kernel", "stride", "padding", "dilation"))
        reach = [d[i] * (k[i] - 1) + 1 for i in (0, 1)]
        windows = [counts((h, w)[i], reach[i], s[i], p[i], p[i + 2], node["ceil_mode"]) for i in (0, 1)]
        return (node["filters"] if op == "conv" else c, *windows)
    return {
        "linear": (node["filters"],),
        "add": max(shapes),
        "mul": max(shapes),
        "concat": (sum(shape[0] for shape in shapes), *shapes[0][1:]),
        "slice": (node["end"] - node["start"], *shapes[0][1:]),
        "global_avg_pool": (c, 1, 1),
        "flatten": (c * h * w,),
    }.get(op, shapes[0])


def length_of(role: str, node: dict[str, Any], channels: int) -> tuple[int, ...]:
    if role == "weight" and node["op"] == "conv":
        return (node["filters"], channels // node["groups"], *node["kernel"])
    if role == "weight":
        return node["filters"], channels
    if role in ("multiplier", "bias") and node["op"] in ("conv", "linear"):
        return (node["filters"],)
    return ({"multiplier": 2 if node["op"] == "add" else 1, "table": 256}.get(role, channels),)


def graph_of(data: bytes) -> tuple[bool, list[Any], list[dict[str, Any]], int]:
    """Kind; shapes and quantizations; nodes; which is the result."""
    r = Bytes(data)
    is_int8 = bool(r.take("B"))
    shapes = [tuple(r.number() for _ in range(r.take("B")))]
    quantized = [(r.take("f"), r.take("B")) if is_int8 else None]
    nodes: list[dict[str, Any]] = []
    for _ in range(r.number()):
        node: dict[str, Any] = {"name": b"".join(r.take("c") for _ in range(r.number())).decode()}
        node["op"], attributes, weights = rows()[r.take("B")]
        node.update(dilation=[1, 1], filters=0, ceil_mode=0, activation=0, logits=0, end=0, start=0)
        inputs = r.number() if node["op"] == "concat" else 2 if node["op"] in ("add", "mul") else 1
        node["inputs"] = [len(nodes) + 1 - r.number() for _ in range(inputs)]
        for key in attributes.split(", ") if attributes else ():
            if key in ("eps", "alpha", "beta", "k"):
                node[key] = r.take("d")
            else:
                sizes = [r.number() for _ in range(SIZES.get(key, 1))]
                node[key] = sizes if key in SIZES else sizes[0]
        how = r.number() if is_int8 else 0
        first = quantized[node["inputs"][0]]
        quantized.append((r.take("f"), r.take("B")) if how == 2 else first if how == 1 else None)
        if node["op"] in ("conv", "linear"):
            node["filters"] = r.number()
        given = [shapes[i] for i in node["inputs"]]
        node["weights"] = {}
        for role in weights.split(", ") if weights else ():
            if not is_int8 and role in ("multiplier", "table"):
                continue
            if how := r.number():
                kind = "codebook" if how == 2 else "float32"
                if is_int8:
                    kind = {"weight": "int8", "bias": "int32", "multiplier": "float32"}.get(role, "uint8")
                length = (r.number(),) if node["op"] == "avg_pool" else length_of(role, node, given[0][0])
                node["weights"][role] = kind, length
        shapes.append(shape_of(node, given))
        nodes.append(node)
    result = r.number()
    assert r.at == len(data)
    return is_int8, list(zip(shapes, quantized, strict=True)), nodes, result


# --- running it --------------------------------------------------------------------------------------------

f = np.float32


def whole(x: Any) -> int:
    if not x > -65536:
        return -65536
    return 65536 if x >= 65536 else round(float(x))


def byte(x: Any, quantization: tuple[float, int], activation: int) -> int:
    scale, zero = quantization
    low = zero if activation else 0
    high = min(255, zero + whole(f(6) / f(scale))) if activation == 2 else 255
    return min(max(whole(x) + zero, low), high)


def run_int8(data: bytes, picture: Any) -> list[float]:
    """What a file's network says of bytes (C, H, W)."""
    parts = parts_of(data)
    _, values, nodes, result = graph_of(text(parts[0]))
    weights, computed = Weights(parts[2]), [np.asarray(picture, int)]
    for node, (shape, quantization) in zip(nodes, values[1:], strict=True):
        tensors: dict[str, Any] = {}
        for role, (kind, length) in node["weights"].items():
            tensors[role] = weights.take(kind, length, tensors.get("multiplier"))
        inputs = [computed[i] for i in node["inputs"]]
        zeros = [values[i][1][1] if values[i][1] else 0 for i in node["inputs"]]
        out = np.empty((*shape, 1, 1)[:3], object)
        for at in np.ndindex(out.shape):
            x = operate(node, tensors, [(*i.shape, 1, 1)[:3] for i in inputs], inputs, zeros, at)
            if node["op"] in ROUNDED and not node["logits"]:
                x = byte(x, quantization, node["activation"])
            out[at] = x
        computed.append(out.reshape(shape))
    last = computed[result].ravel()
    if values[result][1]:
        scale, zero = values[result][1]
        return [f(int(q) - zero) * f(scale) for q in last]
    return list(last)


ROUNDED = ("conv", "linear", "add", "mul", "avg_pool", "global_avg_pool")


def operate(node: Any, t: Any, shapes: Any, inputs: Any, zeros: list[int], at: tuple[int, int, int]) -> Any:
    op, x, (c, y, column), z = node["op"], inputs[0].reshape(shapes[0]), at, zeros[0]
    channels, *size = shapes[0]
    if op == "conv":
        each, total = channels // node["groups"], int(t["bias"][c])
        first = c // (node["filters"] // node["groups"]) * each
        for k, (i, j, place) in product(range(each), window(node, (y, column))):
            inside = all(0 <= place[axis] < size[axis] for axis in (0, 1))
            outside = int(t["pad_value"][first + k]) if "pad_value" in t else z
            seen = int(x[first + k, *place]) if inside else outside
            total += int(t["weight"][c, k, i, j]) * (seen - z)
        return f(total) * t["multiplier"][c]
    if op == "linear":
        row = zip(t["weight"][c], x.ravel(), strict=True)
        total = int(t["bias"][c]) + sum(int(w) * (int(q) - z) for w, q in row)
        return f(total) * t["multiplier"][c]
    if op in ("add", "mul"):
        a, b = (
            int(i.reshape(s)[at if s[1:] != (1, 1) else (c, 0, 0)]) - zero
            for i, s, zero in zip(inputs, shapes, zeros, strict=True)
        )
        if op == "mul":
            return f(a * b) * t["multiplier"][0]
        return f(a) * t["multiplier"][0] + f(b) * t["multiplier"][1]
    if op in ("max_pool", "avg_pool"):
        places = [place for _, _, place in window(node, (y, column))]
        inside = [p for p in places if all(0 <= p[i] < size[i] for i in (0, 1))]
        seen = [int(x[c, *place]) for place in inside]
        if op == "max_pool":
            return max(seen)
        ends = [size[i] + node["padding"][i + 2] for i in (0, 1)]
        padded = [p for p in places if all(p[i] < ends[i] for i in (0, 1))]
        n = len(padded if node["count_include_pad"] else inside)
        m = t["multiplier"]
        return f(sum(q - z for q in seen)) * (m[n - 1] if len(m) > 1 else m[0])
    if op == "global_avg_pool":
        return f(sum(int(q) - z for q in x[c].ravel())) * t["multiplier"][0]
    if op == "flatten":
        return x.ravel()[c]
    if op == "concat":
        return np.concatenate(inputs)[c, y, column]
    if op == "slice":
        return x[c + node["start"], y, column]
    if op == "channel_shuffle":
        return x[c % node["groups"] * (channels // node["groups"]) + c // node["groups"], y, column]
    return t["table"][x[at]] if op == "table" else x[at]


def window(node: Any, at: tuple[int, int]) -> list[tuple[int, int, tuple[int, int]]]:
    s, p, d = node["stride"], node["padding"], node["dilation"]
    return [
        (i, j, (at[0] * s[0] - p[0] + i * d[0], at[1] * s[1] - p[1] + j * d[1]))
        for i, j in np.ndindex(*node["kernel"])
    ]


# --- the preparation ---------------------------------------------------------------------------------------


def sinc(x: float) -> float:
    return math.sin(math.pi * x) / (math.pi * x) if x else 1.0


def filter_of(name: str, x: float) -> float:
    size = abs(x)
    if name == "box":
        return float(-0.5 < x <= 0.5)
    if name == "bilinear":
        return max(0.0, 1 - size)
    if name == "hamming":
        return sinc(x) * (0.54 + 0.46 * math.cos(math.pi * x)) if size < 1 else 0.0
    if name == "bicubic":
        if size < 1:
            return 1.5 * size**3 - 2.5 * size**2 + 1
        return -0.5 * size**3 + 2.5 * size**2 - 4 * size + 2 if size < 2 else 0.0
    return sinc(x) * sinc(x / 3) if size < 3 else 0.0


def resized(x: Any, m: int, name: str) -> Any:
    """Bytes (n, ...) along their first axis."""
    n, s, out = len(x), len(x) / m, []
    if n == m:
        return x
    if name == "nearest":
        places = np.add.accumulate([s / 2, *[s] * (m - 1)])
        return x[places.astype(int)]
    u = max(s, 1.0)
    radius = {"box": 0.5, "bilinear": 1, "hamming": 1, "bicubic": 2, "lanczos": 3}[name] * u
    for k in range(m):
        c = (k + 0.5) * s
        places = range(max(0, int(c - radius + 0.5)), min(n, int(c + radius + 0.5)))
        weights = [filter_of(name, (i - c + 0.5) / u) for i in places]
        fixed = [w / sum(weights) * 2**22 for w in weights]
        fixed = [int(w - 0.5 if w < 0 else w + 0.5) for w in fixed]
        total = 2**21 + sum(w * x[i].astype(int) for w, i in zip(fixed, places, strict=True))
        out.append(np.clip(total >> 22, 0, 255))
    return np.array(out, np.uint8)


def prepared(p: dict[str, Any], x: Any) -> Any:
    """From bytes (H, W, 3) to what an int8 network takes."""
    if p["channel_order"] == "L":
        x = ((x.astype(int) @ [19595, 38470, 7471] + 32768) >> 16)[..., None].astype(np.uint8)
    h, w = x.shape[:2]
    to = p["resize_to"] or p["size"]
    across, down_ = (to, to) if p["resize"] == "exact" else (max(to, to * w // h), max(to, to * h // w))
    x = resized(x.swapaxes(0, 1), across, p["interpolation"]).swapaxes(0, 1)
    x = resized(x, down_, p["interpolation"])
    left, top = round((across - p["size"]) / 2), round((down_ - p["size"]) / 2)
    return x[top : top + p["size"], left : left + p["size"]]


# --- the tests ---------------------------------------------------------------------------------------------


def parts_of(data: bytes) -> list[bytes]:
    assert data[:8] == b"SQZ\x1a\1\0\4\0"
    assert zlib.crc32(data[:40]) == int.from_bytes(data[40:44], "little")
    table = struct.unpack("<8I", data[8:40])
    ends = np.cumsum([44, *table[::2]]).tolist()
    parts = [data[a:b] for a, b in pairwise(ends)]
    assert [zlib.crc32(part) for part in parts] == list(table[1::2])
    assert ends[-1] == len(data)
    return parts


def kind_of(weight: Any) -> str:
    return "codebook" if isinstance(weight, Codebook) else str(weight.dtype)


@pytest.mark.parametrize("coding", ["range", "huffman"])
def test_a_decoder_written_from_the_page_reads_files(model: Model, coding: str) -> None:
    parts = parts_of(dumps(model, coding))  # type: ignore[arg-type]
    assert text(parts[0]) == pack(model.graph)
    assert text(parts[1]) == pack_labels(model.preparation, model.names, model.synsets)
    weights = Weights(parts[2])
    for name, role, weight in graph_tensors(model.graph):
        multipliers = model.graph.node(name).weights.get("multiplier")
        again = weights.take(kind_of(weight), weight.shape, multipliers)
        assert again.tobytes() == model.graph.node(name).dense(role).tobytes()


def test_it_reads_tensors_of_every_size_and_spread() -> None:
    rng = np.random.default_rng(0)
    tensors: list[Any] = [np.zeros((3, 4), np.int8)]
    for shape in ((40, 3, 3, 3), (4, 2, 7, 5), (5, 30), (70,), (33, 1, 1, 5)):
        for spread in (0.3, 2, 50):
            whole = np.clip(np.round(rng.laplace(size=shape) * spread), -128, 127).astype(np.int8)
            whole[::3] = 0
            tensors.append(whole)
        values = np.sort(rng.normal(size=250).astype(np.float32))
        tensors.append(Codebook(values, rng.integers(0, 250, shape).astype(np.uint8)))
        tensors.append(rng.normal(size=shape).astype(np.float16).astype(np.float32))
    heads = [tensor_head("weight", tensor) for tensor in tensors]
    encoder = Encoder("range", heads)
    for head, tensor in zip(heads, tensors, strict=True):
        encoder.add(head, tensor)
    weights = Weights(encoder.finish())
    for tensor in tensors:
        dense = tensor.dense() if isinstance(tensor, Codebook) else tensor
        assert weights.take(kind_of(tensor), tensor.shape).tobytes() == dense.tobytes()


def test_the_page_names_the_operators_in_their_order() -> None:
    from squeezekit.format.library import names

    assert [row[0] for row in rows()] == list(names("operator"))


def test_it_reads_graphs(model: Model) -> None:
    is_int8, values, nodes, result = graph_of(text(parts_of(dumps(model))[0]))
    graph = model.graph
    names = ["input", *(node.name for node in graph.nodes)]
    assert is_int8 == graph.is_int8
    assert names[1:] == [node["name"] for node in nodes]
    assert names[result] == graph.output
    for name, (shape, quantization) in zip(names, values, strict=True):
        q = graph.tensors[name].quantization
        assert shape == graph.tensors[name].shape
        assert quantization == (q and (q.scale, q.zero_point))
    for node, found in zip(graph.nodes, nodes, strict=True):
        assert [names[i] for i in found["inputs"]] == list(node.inputs)
        for key, value in node.attributes.items():
            if key != "activation":
                assert found[key] == (list(value) if isinstance(value, tuple) else value)
        assert {role: length for role, (_, length) in found["weights"].items()} == {
            role: weight.shape for role, weight in node.weights.items()
        }


def windowed_graph() -> Graph:
    """Padding, ceil mode, groups, strides, dilation, one number a channel: an int8 network of all of them."""
    rng = np.random.default_rng(3)
    byte_, q = Quantization(1.0, 0), Quantization(0.25, 40)

    def conv(name: str, source: str, channels: int, filters: int, **a: Any) -> Node:
        weights: dict[str, Any] = {
            "weight": rng.integers(-20, 20, (filters, channels // a["groups"], *a["kernel"])).astype(np.int8),
            "bias": rng.integers(-9000, 9000, filters).astype(np.int32),
            "multiplier": (rng.random(filters) * 0.004 + 0.0005).astype(np.float32),
        }
        if name == "first":
            weights["pad_value"] = np.array([104, 117, 123], np.uint8)
        return Node(name, "conv", (source,), a, weights, q)

    def multipliers(*values: float) -> dict[str, Any]:
        return {"multiplier": np.array(values, np.float32)}

    means = multipliers(*1 / np.arange(1, 7))
    pool = {"kernel": (3, 2), "stride": (2, 2), "padding": (1, 0, 1, 1), "ceil_mode": 1}
    wide: Any = {"stride": (2, 1), "padding": (1, 0, 2, 3), "dilation": (1, 2)}
    plain: Any = {"kernel": (3, 3), "stride": (1, 1), "padding": (1, 1, 1, 1), "dilation": (1, 1)}
    nodes = (
        conv("first", "input", 3, 8, kernel=(3, 2), groups=1, activation="relu", **wide),
        conv("groups", "first", 8, 12, groups=4, activation="relu6", **plain),
        conv("depthwise", "groups", 12, 12, groups=12, activation="none", **plain),
        Node("added", "add", ("groups", "depthwise"), {"activation": "relu"}, multipliers(0.61, 0.37), q),
        Node("most", "max_pool", ("added",), pool, {}, q),
        Node("mean", "avg_pool", ("most",), {**pool, "count_include_pad": 0}, means, q),
        Node("padded", "avg_pool", ("most",), {**pool, "count_include_pad": 1}, means, q),
        Node("gate", "global_avg_pool", ("padded",), {}, multipliers(0.07), q),
        Node("scaled", "mul", ("gate", "mean"), {}, multipliers(0.031), Quantization(0.5, 7)),
        Node("plus", "add", ("padded", "gate"), {}, multipliers(1.1, -0.0), Quantization(0.5, 7)),
        Node("both", "concat", ("scaled", "plus"), {}, {}, Quantization(0.5, 7)),
        Node("flat", "flatten", ("both",), {}, {}, Quantization(0.5, 7)),
    )
    return Graph(Tensor("input", (3, 11, 9), byte_), nodes, "flat")


@pytest.mark.parametrize("isa", ["scalar", None])
def test_networks_run_from_the_page_to_the_same_bits(model: Model, isa: str | None) -> None:
    graph = model.graph if model.graph.is_int8 else windowed_graph()
    data = dumps(Model(graph, {}))
    channels, height, width = graph.input.shape
    picture = np.random.default_rng(5).integers(0, 256, (height, width, channels)).astype(np.uint8)
    expected = engine.load(data, isa=isa).run(picture)
    computed = np.array(run_int8(data, picture.transpose(2, 0, 1)), np.float32)
    assert len(np.unique(expected)) > 2
    assert computed.tobytes() == expected.tobytes()


@pytest.mark.parametrize("interpolation", ["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"])
@pytest.mark.parametrize("order", ["BGR", "L"])
def test_pictures_are_prepared_from_the_page(interpolation: Any, order: Any) -> None:
    rng = np.random.default_rng(4)
    mean = [100.0] * (1 if order == "L" else 3)
    for height, width in ((61, 83), (40, 31), (19, 20), (24, 24)):
        picture = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
        for resize in ("short-side", "exact"):
            if height > width and resize == "exact":
                continue  # Pillow 13 has another order there
            p = {"size": 21, "resize": resize, "resize_to": 24, "interpolation": interpolation}
            p |= {"mean": mean, "scale": mean, "channel_order": order}
            assert p.keys() == CAFFE.to_dict().keys()
            expected = Preparation.from_dict(p).geometry(Image.fromarray(picture))
            assert (prepared(p, picture) == expected).all()


def test_the_page_names_the_fields_of_the_preparation() -> None:
    section = PAGE[PAGE.index("### The preparation") : PAGE.index("From an upright picture")]
    first = "".join(re.findall(r"^\|[^|]*", section, re.MULTILINE))
    assert {*re.findall(r"`(\w+)`", first)} == {*CAFFE.to_dict()}
