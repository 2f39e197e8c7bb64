"""One layer becomes two thinner ones that compute nearly the same."""

from __future__ import annotations

import numpy as np
import pytest

from squeezekit.compress.layers import dense_bytes, weights
from squeezekit.compress.svd import decompose, decompose_to_bytes, ranks_by_energy, with_ranks
from squeezekit.errors import UserError
from squeezekit.graph import Graph, Node, Tensor, same

CONV = {"kernel": (3, 3), "stride": (2, 1), "padding": (1, 0, 2, 1), "dilation": (1, 2), "groups": 1}


def run(graph: Graph, x: np.ndarray) -> np.ndarray:
    torch = pytest.importorskip("torch")
    from squeezekit.graph.to_torch import to_torch

    with torch.no_grad():
        return to_torch(graph).eval()(torch.from_numpy(x)).numpy()


@pytest.fixture
def odd() -> Graph:
    """A convolution with every attribute out of the ordinary, and a linear layer."""
    random = np.random.default_rng(5)
    w = random.normal(size=(20, 6, 3, 3)).astype(np.float32)
    arrays = {"weight": w, "bias": w[:, 0, 0, 0], "pad_value": np.arange(6, dtype=np.float32)}
    matrix = random.normal(size=(7, 20)).astype(np.float32)
    nodes = (
        Node("conv", "conv", ("input",), {**CONV, "activation": "relu"}, arrays),
        Node("pool", "global_avg_pool", ("conv",)),
        Node("flatten", "flatten", ("pool",)),
        Node("fc", "linear", ("flatten",), {"activation": "sigmoid"}, {"weight": matrix}),
    )
    return Graph(Tensor("input", (6, 9, 11)), nodes, "fc")


def test_full_rank_computes_the_same(odd: Graph) -> None:
    x = np.random.default_rng(1).normal(size=(4, 6, 9, 11)).astype(np.float32)
    cut = with_ranks(odd, {"conv": 20, "fc": 7})
    assert [node.name for node in cut.nodes] == ["conv.basis", "conv", "pool", "flatten", "fc.basis", "fc"]
    assert cut.tensors["conv"].shape == odd.tensors["conv"].shape
    assert np.allclose(run(cut, x), run(odd, x), atol=1e-5)


def test_the_best_of_its_rank(odd: Graph) -> None:
    """Eckart and Young (1936): what is lost are the singular values that were cut."""
    cut = weights(with_ranks(odd, {"conv": 5}))
    before = weights(odd)["conv"].reshape(20, -1)
    product = cut["conv"].reshape(20, 5) @ cut["conv.basis"].reshape(5, -1)
    lost = np.linalg.svd(before, compute_uv=False)[5:]
    assert np.square(before - product).sum() == pytest.approx(np.square(lost).sum(), rel=1e-4)


def test_energy(network: Graph) -> None:
    ranks = ranks_by_energy(network, 0.7)
    assert set(ranks) <= {"block.conv1", "conv2", "fc"}  # no grouped convolution
    assert ranks
    cut = decompose(network, 0.7)
    for name, rank in ranks.items():
        matrix = weights(network)[name]
        s = np.square(np.linalg.svd(matrix.reshape(len(matrix), -1).astype(np.float64), compute_uv=False))
        assert s[:rank].sum() >= 0.7 * s.sum() > s[: rank - 1].sum()
        assert weights(cut)[f"{name}.basis"].shape[0] == rank
    assert dense_bytes(cut) < dense_bytes(network)
    assert same(decompose(network, 1.0), network)


def test_low_rank_weights_lose_nothing(network: Graph, pictures: np.ndarray) -> None:
    thin = decompose(network, 0.5)
    again = decompose(thin, 1.0)
    assert np.allclose(run(again, pictures), run(thin, pictures), atol=1e-5)
    twice = with_ranks(with_ranks(network, {"conv2": 16}), {"conv2": 16, "conv2.basis": 16})
    assert np.allclose(run(twice, pictures), run(network, pictures), atol=1e-5)


def test_bytes(network: Graph) -> None:
    before = dense_bytes(network)
    sizes = []
    for target in (before, before * 3 // 4, before // 2):
        cut = decompose_to_bytes(network, target)
        sizes.append(dense_bytes(cut))
        assert sizes[-1] <= target
    assert sizes[0] == before
    assert sizes[0] > sizes[1] > sizes[2] > before // 3
    with pytest.raises(UserError, match=r"svd: 100 bytes cannot be reached: .* takes [\d,]+") as caught:
        decompose_to_bytes(network, 100)
    least = int(str(caught.value).rsplit(" ", 1)[1].replace(",", ""))
    assert dense_bytes(decompose_to_bytes(network, least)) == least


def test_what_is_wrong_is_told(network: Graph) -> None:
    for wrong in (0, 1.01, float("nan")):
        with pytest.raises(UserError, match="no share of energy"):
            decompose(network, wrong)
    with pytest.raises(UserError, match=r"no layer that can be cut is called 'block\.depthwise'"):
        with_ranks(network, {"block.depthwise": 1})
    with pytest.raises(UserError, match=r"conv2 cannot have rank 17 \(1 to 16\)"):
        with_ranks(network, {"conv2": 17})
