"""docs/format.md is enough to read a file: this decoder was written from it, not from the library."""

from __future__ import annotations

import struct
import zlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from squeezekit.format import Model, dumps
from squeezekit.format.labels import pack_labels
from squeezekit.format.pack import pack, tensor_head
from squeezekit.format.weights import Encoder, graph_tensors
from squeezekit.graph.graph import Codebook

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
            self.low = self.low * 2**32 + int.from_bytes(
                self.data[self.at : self.at + 4].ljust(4, b"\0"), "big"
            )
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

SQUASH = [1, 2, 3, 6, 10, 16, 27, 45, 73, 120, 194, 310, 488, 747, 1101, 1546, 2047, 2549, 2994, 3348, 3607]
SQUASH += [3785, 3901, 3975, 4022, 4050, 4068, 4079, 4085, 4089, 4092, 4093, 4094]


def squash(x: int) -> int:
    if abs(x) > 2047:
        return 4095 if x > 0 else 1
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
            sixteenth = [np.float32(2 ** (j / 16)) for j in range(16)]
            ks = [lowest + step * (self.grid.number() if step else 0) for _ in range(count)]
            return [float(np.float32(base) * sixteenth[k % 16]) * 2.0 ** (k // 16) for k in ks]
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
            exponent = int(np.frexp(multipliers[i])[1]) - 1 if by_multiplier else 0
            out.append(
                self.integers.signed() << zeros + (min(30, max(0, -3 - exponent)) if by_multiplier else 0)
            )
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


def test_the_page_names_the_operators_in_their_order(request: pytest.FixtureRequest) -> None:
    from squeezekit.format.library import names

    page = (Path(request.config.rootpath) / "docs" / "format.md").read_text()
    rows = [line.split("|")[1:3] for line in page.splitlines() if line.startswith("| ")]
    listed = [
        name.strip() for number, names_ in rows if number.strip()[:1].isdigit() for name in names_.split(",")
    ]
    operators = [name for name in listed if name in names("operator")]
    assert operators == list(names("operator"))
