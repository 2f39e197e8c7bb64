"""Small weights go, the others learn, and the bytes are counted to the last."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from squeezekit.compress.gap_coding import encode
from squeezekit.compress.layers import dense_bytes, weights
from squeezekit.compress.pruning import (
    layer_bytes,
    masks,
    prune,
    prune_and_retrain,
    sparse_bytes,
    sparsity_of,
)
from squeezekit.errors import UserError
from squeezekit.graph import Graph, same


def test_each_layer_alike(network: Graph) -> None:
    pruned = prune(network, 0.75, "layer")
    for name, weight in weights(pruned).items():
        before = weights(network)[name]
        assert (weight == 0).sum() == round(0.75 * weight.size)
        kept = weight != 0
        assert np.array_equal(weight[kept], before[kept])
        assert np.abs(before[~kept]).max() <= np.abs(before[kept]).min()


@pytest.mark.parametrize("scope", ["global", "deviation"])
def test_one_threshold_for_all(network: Graph, scope: str) -> None:
    pruned = prune(network, 0.6, scope)  # type: ignore[arg-type]
    assert sparsity_of(pruned) == pytest.approx(0.6, abs=1e-3)
    unit = {name: w.std() if scope == "deviation" else 1 for name, w in weights(network).items()}
    least = min(np.abs(w[w != 0]).min() / unit[name] for name, w in weights(pruned).items())
    most = max(
        np.abs(weights(network)[name][w == 0]).max() / unit[name] for name, w in weights(pruned).items()
    )
    assert most <= least * (1 + 1e-6)


def test_layers_by_name_and_the_others_as_they_were(network: Graph) -> None:
    pruned = weights(prune(network, {"conv2": 0.5, "fc": 0.9}))
    assert {name: round(float((w == 0).mean()), 2) for name, w in pruned.items()} == {
        "block.conv1": 0,
        "block.depthwise": 0,
        "conv2": 0.5,
        "fc": 0.9,
    }


def test_what_is_pruned_stays_pruned(network: Graph) -> None:
    once = prune(network, 0.5)
    assert same(prune(once, 0.5), once)
    twice = masks(once, 0.8)
    assert all(not (twice[name] & (w == 0)).any() for name, w in weights(once).items())


def distance(a: Graph, b: Graph, pictures: np.ndarray) -> float:
    torch = pytest.importorskip("torch")
    from squeezekit.graph.to_torch import to_torch

    x = torch.from_numpy(pictures)
    with torch.no_grad():
        return float((to_torch(a).eval()(x) - to_torch(b).eval()(x)).square().mean())


@pytest.mark.parametrize("rounds", [1, 3])
def test_retraining_wins_back_what_pruning_lost(network: Graph, pictures: np.ndarray, rounds: int) -> None:
    seen: list[tuple[int, int]] = []
    small = prune_and_retrain(
        network,
        0.6,
        pictures[:48],
        rounds=rounds,
        steps=60,
        rate=1e-2,
        advance=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(i + 1, 60) for i in range(60)]
    assert sparsity_of(small) == pytest.approx(0.6, abs=2e-3)
    held_out = pictures[48:]
    assert distance(small, network, held_out) < 0.5 * distance(prune(network, 0.6), network, held_out)


@settings(max_examples=40)
@given(arrays.arrays(np.float32, st.integers(1, 300), elements=st.just(1), fill=st.just(0), unique=False))
def test_bytes_of_a_layer(weight: np.ndarray) -> None:
    weight[::7] = 0
    sizes = [5 + 4 * weight.size] + [5 + encode(weight, bits).nbytes for bits in range(1, 9)]
    assert [layer_bytes(weight, bits) for bits in range(9)] == sizes
    assert layer_bytes(weight) == min(sizes)


def test_bytes_of_a_network(network: Graph) -> None:
    biases = 4 * (16 + 16 + 24 + 10)
    assert dense_bytes(network) == 4 * (432 + 144 + 384 + 240) + biases
    # Nothing to leave out: four heads of five bytes are all that comes on top.
    assert sparse_bytes(network) == dense_bytes(network) + 4 * 5
    pruned = prune(network, 0.9, "layer")
    assert sparse_bytes(pruned) < 0.25 * dense_bytes(network) + biases
    assert sparse_bytes(pruned) <= sparse_bytes(pruned, 4)


def test_what_is_wrong_is_told(network: Graph, pictures: np.ndarray) -> None:
    for wrong in (-0.1, 1, float("nan")):
        with pytest.raises(UserError, match="a share from 0 to less than 1"):
            prune(network, wrong)
    with pytest.raises(UserError, match=r"no layer is called 'conv3'; did you mean 'conv2'\?"):
        prune(network, {"conv3": 0.5})
    with pytest.raises(UserError, match=r"scope: 'layers'; did you mean 'layer'\?"):
        prune(network, 0.5, "layers")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="rounds: 0"):
        prune_and_retrain(network, 0.5, pictures, rounds=0)
