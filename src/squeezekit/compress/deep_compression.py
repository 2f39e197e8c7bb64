"""Deep Compression: pruning, shared weights and Huffman coding, one after the other.

"Deep Compression: Compressing Deep Neural Networks with Pruning, Trained Quantization and Huffman Coding"
(Han, Mao and Dally, arXiv:1510.00149). :func:`deep_compress` runs all stages of figure 1; :func:`count_bytes`
counts what a network takes after each of them, as tables 4 and 5 of the paper do.

A layer is coded as

1. one byte: the bits that a gap takes;
2. ``uint32``, little-endian: how many entries are stored, bridges among them;
3. one byte: how many shared values there are, less 1; then these as float32, little-endian;
4. the index of each entry's value, and the gap before each: two Huffman streams
   (:mod:`squeezekit.compress.huffman_bytes`).

Biases, and all else that is no layer's weight, are float32.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezekit.compress import gap_coding, huffman_bytes
from squeezekit.compress.layers import layers, rest_bytes, with_weights
from squeezekit.compress.pruning import Scope, layer_bytes, prune, prune_and_retrain
from squeezekit.compress.retraining import Pictures, retrain
from squeezekit.compress.shared_weights import BITS, Initialisation, exact, share_weights
from squeezekit.errors import UserError
from squeezekit.graph.graph import Codebook, Graph

__all__ = [
    "Compressed",
    "LayerBytes",
    "count_bytes",
    "decode_layer",
    "deep_compress",
    "encode_layer",
]

_HEAD = struct.Struct("<BIB")

#: Bits of a gap that are tried for each layer: the paper's, section 5.
INDEX_BITS = (4, 5)


@dataclass(frozen=True)
class LayerBytes:
    """What one layer takes: a row of the paper's tables 4 and 5.

    Attributes
    ----------
    name : str
    weights : int
        How many there are.
    kept : int
        How many are not zero.
    entries : int
        How many are stored: those, and the zeros that bridge long gaps.
    weight_bits, index_bits : int
        Of an entry before Huffman coding: the index of its shared value, and the gap before it.
    huffman_weight_bits, huffman_index_bits : float
        The same after Huffman coding, on average over the entries, with the streams' tables of lengths.
    dense, pruned, shared, coded : int
        Bytes of the weights as float32; sparse, as float32 and gaps; as packed indices, gaps and shared
        values; and with Huffman coding. Heads are counted, and the bias is not.
    """

    name: str
    weights: int
    kept: int
    entries: int
    weight_bits: int
    index_bits: int
    huffman_weight_bits: float
    huffman_index_bits: float
    dense: int
    pruned: int
    shared: int
    coded: int


@dataclass(frozen=True, eq=False)
class Compressed:
    """A network after Deep Compression, and its bytes.

    Attributes
    ----------
    graph : Graph
        float32; the weights of its layers are of type `Codebook`.
    layers : tuple of LayerBytes
    rest : int
        Bytes of biases and of all else that is no layer's weight, the same in every stage.
    """

    graph: Graph = field(repr=False)
    layers: tuple[LayerBytes, ...]
    rest: int

    @property
    def stages(self) -> dict[str, int]:
        """Bytes of all parameters after each stage: original, pruning, shared weights, Huffman coding."""
        return {
            "original": self.rest + sum(layer.dense for layer in self.layers),
            "pruning": self.rest + sum(layer.pruned for layer in self.layers),
            "shared weights": self.rest + sum(layer.shared for layer in self.layers),
            "Huffman coding": self.rest + sum(layer.coded for layer in self.layers),
        }

    @property
    def nbytes(self) -> int:
        """Bytes of all parameters in the end."""
        return self.stages["Huffman coding"]

    def __str__(self) -> str:
        """Draw the paper's table, with the bytes of every stage below it."""
        head = ["layer", "weights", "kept", "weight bits", "+ Huffman", "index bits", "+ Huffman"]
        rows = [[*head, "rate", "+ Huffman"]]
        rows += [_row(layer) for layer in self.layers]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = [
            "  ".join(
                [
                    row[0].ljust(widths[0]),
                    *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True)),
                ]
            )
            for row in rows
        ]
        original = self.stages["original"]
        lines += [
            f"{name:<{widths[0]}}  {size:>11,} bytes  {size / original:7.2%}"
            for name, size in self.stages.items()
        ]
        return "\n".join(lines)


def _row(layer: LayerBytes) -> list[str]:
    return [
        layer.name,
        f"{layer.weights:,}",
        f"{layer.kept / layer.weights:.0%}",
        f"{layer.weight_bits}",
        f"{layer.huffman_weight_bits:.1f}",
        f"{layer.index_bits}",
        f"{layer.huffman_index_bits:.1f}",
        f"{layer.shared / layer.dense:.1%}",
        f"{layer.coded / layer.dense:.1%}",
    ]


def encode_layer(weight: Codebook, index_bits: int) -> bytes:
    """Code the weights of one layer, as the head of this module describes.

    Parameters
    ----------
    weight : Codebook
    index_bits : int
        That a gap takes, 1 to 8.

    Returns
    -------
    bytes
    """
    return b"".join(_streams(weight, index_bits))


def _streams(weight: Codebook, index_bits: int) -> tuple[bytes, bytes, bytes]:
    """Return head and shared values, the stream of indices, and that of gaps."""
    indices, gaps = _entries(weight, index_bits)
    head = _HEAD.pack(index_bits, len(indices), len(weight.values) - 1)
    return (
        head + weight.values.astype("<f4").tobytes(),
        huffman_bytes.encode(indices, len(weight.values)),
        huffman_bytes.encode(gaps, 2**index_bits),
    )


def _entries(weight: Codebook, index_bits: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the index of each entry's shared value, and the gap before it."""
    coded = gap_coding.encode(weight.dense(), index_bits)
    # The values rise and are all different, so a search finds each; a bridge needs a zero among them, and
    # where there are gaps there is one.
    return np.searchsorted(weight.values, coded.entries).astype(np.uint8), coded.gaps


def decode_layer(data: bytes, shape: tuple[int, ...]) -> tuple[Codebook, int]:
    """Undo :func:`encode_layer`.

    Parameters
    ----------
    data : bytes
        The layer's, and anything after it.
    shape : tuple of int
        Of the weight.

    Returns
    -------
    weight : Codebook
        Equal to the one that was encoded.
    size : int
        Bytes that the layer takes.

    Raises
    ------
    UserError
        Damaged or cut short.
    """
    if len(data) < _HEAD.size:
        raise UserError("deep compression: ends within the head of a layer")
    index_bits, entries, last = _HEAD.unpack_from(data)
    size = _HEAD.size + 4 * (last + 1)
    count = math.prod(shape)
    if not 1 <= index_bits <= 8 or entries > count or len(data) < size:
        raise UserError(
            f"deep compression: {index_bits} bits a gap, {entries:,} entries, {last + 1} values cannot be"
        )
    values = np.frombuffer(data, "<f4", last + 1, _HEAD.size).astype(np.float32)
    indices, taken = huffman_bytes.decode(data[size:], entries, len(values))
    size += taken
    gaps, taken = huffman_bytes.decode(data[size:], entries, 2**index_bits)
    coded = gap_coding.GapCoded(values[indices], gaps, count, index_bits)
    weight = gap_coding.decode(coded).reshape(shape)
    if not np.isin(weight, values).all():
        raise UserError("deep compression: a weight is zero, and zero is not among the shared values")
    return Codebook(values, np.searchsorted(values, weight).astype(np.uint8)), size + taken


def count_bytes(graph: Graph, index_bits: int | Iterable[int] = INDEX_BITS) -> Compressed:
    """Count the bytes of a network that is pruned and shares its weights already.

    Parameters
    ----------
    graph : Graph
        float32. A layer whose weights are no `Codebook` must have at most 256 distinct ones.
    index_bits : int or several
        1 to 8 that a gap takes; of several, each layer takes what makes it smallest.

    Returns
    -------
    Compressed
        With all weights as `Codebook`; their values are untouched.
    """
    choices = (index_bits,) if isinstance(index_bits, int) else tuple(index_bits)
    shared = {}
    for node in layers(graph):
        weight = node.weights["weight"]
        shared[node.name] = weight if isinstance(weight, Codebook) else exact(weight)
    rows = tuple(_count(name, weight, choices) for name, weight in shared.items())
    coded = with_weights(graph, {name: {"weight": weight} for name, weight in shared.items()})
    return Compressed(coded, rows, rest_bytes(graph))


def _count(name: str, weight: Codebook, choices: tuple[int, ...]) -> LayerBytes:
    if not choices:
        raise UserError("index_bits: none given (1 to 8; the paper's are 4 and 5)")
    streams = {bits: _streams(weight, bits) for bits in choices}
    index_bits = min(streams, key=lambda bits: sum(map(len, streams[bits])))
    head, indices, gaps = streams[index_bits]
    dense = weight.dense()
    entries = gap_coding.count_entries(dense, index_bits)
    weight_bits = (len(weight.values) - 1).bit_length()
    return LayerBytes(
        name=name,
        weights=weight.size,
        kept=int(np.count_nonzero(dense)),
        entries=entries,
        weight_bits=weight_bits,
        index_bits=index_bits,
        huffman_weight_bits=8 * len(indices) / max(1, entries),
        huffman_index_bits=8 * len(gaps) / max(1, entries),
        dense=4 * weight.size,
        pruned=layer_bytes(dense, index_bits),
        shared=len(head) + (weight_bits * entries + 7) // 8 + (index_bits * entries + 7) // 8,
        coded=len(head) + len(indices) + len(gaps),
    )


def deep_compress(
    graph: Graph,
    sparsity: float | Mapping[str, float] | None = None,
    pictures: Pictures | None = None,
    labels: NDArray[np.integer[Any]] | None = None,
    *,
    scope: Scope = "deviation",
    bits: int | Mapping[str, int] = BITS,
    initialisation: Initialisation = "linear",
    index_bits: int | Iterable[int] = INDEX_BITS,
    rounds: int = 3,
    steps: int = 400,
    rate: float = 2e-3,
    centroid_rate: float = 5e-3,
    teacher: Graph | None = None,
    seed: int = 0,
    advance: Callable[[int, int], None] | None = None,
    **training: Any,
) -> Compressed:
    """Prune, share weights, train after each of the two, and code.

    Parameters
    ----------
    graph : Graph
        float32. Fold its batch norm first, since what is no layer's weight stays as it is.
    sparsity : float or mapping of str to float, optional
        The share of weights that shall be zero (:func:`squeezekit.compress.pruning.masks`). None prunes
        nothing more: for a network that is pruned already.
    pictures : ndarray or Batches, optional
        What to train on (:func:`squeezekit.compress.retraining.retrain`). Without any, nothing is trained.
    labels : ndarray of int, shape (N,), optional
        Of an array of pictures.
    scope : {"layer", "global", "deviation"}
        Where magnitudes are compared.
    bits : int or mapping of str to int
        Of the shared values of a layer, by its name or else its kind: at most ``2 ** bits`` values, zero
        among them.
    initialisation : {"linear", "density", "random"}
        Where k-means begins.
    index_bits : int or several
        1 to 8 that a gap takes; of several, each layer takes what makes it smallest.
    rounds : int
        Of pruning and training in turns.
    steps : int
        Batches to train on, half of them after pruning and half after sharing; all of them after sharing if
        nothing is pruned.
    rate, centroid_rate : float
        Of training after pruning, and of the shared values: these are few, and each has the gradients of many
        weights, so they bear more.
    teacher : Graph, optional
        Whose answers to learn; `graph` itself where an array of pictures comes without labels.
    seed : int
    advance : callable, optional
        Called with (steps done, steps in all); a layer's k-means counts as one step.
    training
        Further parameters of `retrain`: batch_size, temperature, mirror.

    Returns
    -------
    Compressed
        ``result.graph``, and ``print(result)`` shows the paper's table.

    Examples
    --------
    >>> print(deep_compress(graph, sparsity=0.67, pictures=pictures))  # doctest: +SKIP
    """
    if teacher is None and labels is None and isinstance(pictures, np.ndarray):
        teacher = graph
    steps = 0 if pictures is None else steps
    pruning = 0 if sparsity is None else steps // 2
    clustering = len(layers(graph))

    def from_(before: int) -> Callable[[int, int], None] | None:
        if advance is None:
            return None
        return lambda done, _: advance(before + done, steps + clustering)

    learn: dict[str, Any] = {"teacher": teacher, "seed": seed, **training}
    small = graph
    if sparsity is not None and pictures is None:
        small = prune(graph, sparsity, scope)
    elif sparsity is not None and pictures is not None:
        small = prune_and_retrain(
            graph,
            sparsity,
            pictures,
            labels,
            scope=scope,
            rounds=rounds,
            steps=pruning,
            rate=rate,
            advance=from_(0),
            **learn,
        )
    small = share_weights(small, bits, initialisation, seed=seed, advance=from_(pruning))
    if pictures is not None:
        small = retrain(
            small,
            pictures,
            labels,
            steps=steps - pruning,
            rate=centroid_rate,
            advance=from_(pruning + clustering),
            **learn,
        )
    return count_bytes(small, index_bits)
