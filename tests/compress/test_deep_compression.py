"""Deep Compression from end to end: every byte is really there, and the paper's figures come out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from squeezekit.compress.deep_compression import (
    count_bytes,
    decode_layer,
    deep_compress,
    encode_layer,
)
from squeezekit.compress.layers import dense_bytes, rest_bytes, weights
from squeezekit.compress.pruning import sparse_bytes, sparsity_of
from squeezekit.compress.shared_weights import exact
from squeezekit.errors import UserError
from squeezekit.graph import Codebook, Graph, same

few = st.sampled_from(np.float32([0, 0, 0, 0.5, -0.25, 3]).tolist())
shapes = st.tuples(st.integers(1, 5), st.integers(1, 6), st.just(3), st.just(3))


@given(arrays.arrays(np.float32, shapes, elements=few, fill=few), st.integers(1, 8))
def test_every_layer_comes_back(weight: np.ndarray, bits: int) -> None:
    book = exact(weight)
    data = encode_layer(book, bits)
    back, size = decode_layer(data + b"more", weight.shape)
    assert size == len(data)
    assert np.array_equal(back.values, book.values)
    assert np.array_equal(back.indices, book.indices)


@settings(max_examples=200)
@given(st.data())
def test_damage_is_told_or_harmless(data: st.DataObject) -> None:
    weight = np.zeros((4, 5, 3, 3), np.float32)
    weight[::2, 1:, 1] = 0.5
    weight[1, :, 2, 2] = -1
    content = bytearray(encode_layer(exact(weight), 4))
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        back, size = decode_layer(cut, weight.shape)
    except UserError:
        return
    assert back.shape == weight.shape
    assert size <= len(cut)


def test_all_bytes_are_counted(network: Graph) -> None:
    small = deep_compress(network, 0.8, bits=3)
    assert sparsity_of(small.graph) == pytest.approx(0.8, abs=2e-3)
    books = {n.name: n.weights["weight"] for n in small.graph.nodes if "weight" in n.weights}
    coded = 0
    for row in small.layers:
        book = books[row.name]
        assert isinstance(book, Codebook)
        assert len(book.values) <= 8
        data = encode_layer(book, row.index_bits)
        assert row.coded == len(data) == min(len(encode_layer(book, bits)) for bits in (4, 5))
        assert row.kept == np.count_nonzero(book.dense()) <= row.entries <= row.weights == book.size
        coded += len(data)
    assert small.rest == rest_bytes(network) == 4 * (16 + 16 + 24 + 10)
    assert small.nbytes == coded + small.rest
    stages = list(small.stages.values())
    assert stages[0] == dense_bytes(network)
    assert stages[1:] < stages[:1]
    packed = [6 + 4 * len(books[row.name].values) for row in small.layers]
    packed += [
        (bits * row.entries + 7) // 8 for row in small.layers for bits in (row.weight_bits, row.index_bits)
    ]
    assert stages[2] == sum(packed) + small.rest
    by_fours = count_bytes(small.graph, 4)
    assert by_fours.stages["pruning"] == sparse_bytes(small.graph, 4)
    text = str(small)
    assert all(row.name in text for row in small.layers)
    assert f"{small.nbytes:,} bytes" in text


def test_a_layer_of_zeros_and_one_without_any(network: Graph) -> None:
    from squeezekit.compress.layers import with_weights

    found = weights(network)
    flat = with_weights(
        network,
        {
            "conv2": {"weight": np.zeros_like(found["conv2"])},
            "fc": {"weight": np.full_like(found["fc"], 0.5)},
        },
    )
    small = deep_compress(flat, bits=8)
    rows = {row.name: row for row in small.layers}
    assert rows["conv2"].coded == 6 + 4
    assert rows["conv2"].entries == 0
    assert rows["fc"].coded == 6 + 4 + 2 + 2
    for name in ("conv2", "fc"):
        assert np.array_equal(small.graph.node(name).dense("weight"), flat.node(name).dense("weight"))
    assert "conv2" in str(small)


def test_training_helps_and_is_repeatable(network: Graph, pictures: np.ndarray) -> None:
    torch = pytest.importorskip("torch")
    from squeezekit.graph.to_torch import to_torch

    def answers(graph: Graph) -> np.ndarray:
        with torch.no_grad():
            return to_torch(graph).eval()(torch.from_numpy(pictures[48:])).numpy()

    def lost(graph: Graph) -> float:
        return float(np.square(answers(graph) - answers(network)).mean())

    seen: list[tuple[int, int]] = []
    options = {"bits": 3, "rounds": 2, "steps": 80, "rate": 1e-2, "centroid_rate": 1e-2}
    trained = deep_compress(
        network, 0.6, pictures[:48], **options, advance=lambda done, total: seen.append((done, total))
    )
    assert lost(trained.graph) < 0.5 * lost(deep_compress(network, 0.6, bits=3).graph)
    assert sparsity_of(trained.graph) == pytest.approx(0.6, abs=2e-3)
    assert seen == [(i + 1, 84) for i in range(84)]  # 80 steps, and k-means of 4 layers
    assert same(trained.graph, deep_compress(network, 0.6, pictures[:48], **options).graph)


def test_interrupted_at_any_stage(network: Graph, pictures: np.ndarray) -> None:
    for moment in (2, 6, 9):

        def stop(done: int, total: int, moment: int = moment) -> None:
            if done == moment:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            deep_compress(network, 0.5, pictures, bits=2, rounds=1, steps=8, advance=stop)


def test_the_published_file_is_reproduced_to_the_byte(published: Graph) -> None:
    """Its 675,763 bytes hold 4 bytes of head a layer; our heads take 6, and all else is equal."""
    small = deep_compress(published, index_bits=4)
    assert sum(row.weights for row in small.layers) == 1_244_448
    assert small.stages["original"] == 4 * 1_248_424
    assert small.stages["shared weights"] == 675_763 + 26 * 2
    assert {row.weight_bits for row in small.layers} == {8}
    for name, weight in weights(published).items():
        assert np.array_equal(small.graph.node(name).dense("weight"), weight)
    # Huffman coding takes at least the entropy of the two streams, and hardly more.
    assert 0.80 < small.nbytes / small.stages["shared weights"] < 0.84


def test_the_papers_figure_for_six_bits(published: Graph) -> None:
    """SqueezeNet, table 2: 0.47 MB with 6 bits. Ours are on both sides of it: before Huffman and after."""
    stages = deep_compress(published, bits=6).stages
    assert stages["Huffman coding"] < 470_000 < stages["shared weights"] < 600_000


def test_what_is_wrong_is_told(network: Graph) -> None:
    with pytest.raises(UserError, match="distinct values"):
        count_bytes(network)
    with pytest.raises(UserError, match="index_bits: none given"):
        deep_compress(network, bits=2, index_bits=())
    with pytest.raises(UserError, match="9 bits a gap"):
        deep_compress(network, bits=2, index_bits=9)
