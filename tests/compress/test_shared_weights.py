"""k-means finds the values that a layer's weights share."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from squeezekit.compress.layers import weights
from squeezekit.compress.shared_weights import (
    Initialisation,
    exact,
    initial_centroids,
    share,
    share_weights,
)
from squeezekit.errors import UserError
from squeezekit.graph import Codebook, Graph, same

KINDS = get_args(Initialisation)
bell = np.random.default_rng(0).normal(0, 0.1, 4000).astype(np.float32)
finite = st.floats(-1e3, 1e3, width=32)


def test_linear_covers_the_range_density_the_crowd_random_the_weights() -> None:
    linear, density, random = (initial_centroids(bell, 16, kind) for kind in KINDS)
    assert np.allclose(linear, np.linspace(bell.min(), bell.max(), 16), atol=1e-6)
    # Between two neighbours of the density's lie equally many weights.
    assert np.abs(np.diff(np.searchsorted(np.sort(bell), density)) - 250).max() <= 1
    assert np.isin(random, bell).all()
    assert len(np.unique(random)) == 16
    assert np.abs(linear).max() > np.abs(density).max()
    assert not np.array_equal(random, initial_centroids(bell, 16, "random", seed=1))


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_takes_the_nearest_value_and_a_value_is_the_mean_of_its_weights(
    kind: Initialisation,
) -> None:
    """Equation 2 at its minimum: neither step of Lloyd's can lower it by much."""
    book = share(bell, 4, kind)
    assert len(book.values) == 16
    dense = book.dense()
    nearest = np.abs(bell[:, None] - book.values).min(axis=1)
    assert np.allclose(np.abs(bell - dense), nearest, atol=1e-3)
    means = [bell[book.indices == k].mean() for k in range(16)]
    assert np.allclose(means, book.values, atol=1e-3)
    # A bell in 16 cells, each with its best value: Max (1960) gives 0.009497 of the variance.
    assert np.square(bell - dense).mean() == pytest.approx(0.0095 * bell.var(), rel=0.25)


@pytest.mark.parametrize("kind", KINDS)
def test_pruned_weights_stay_zero_and_zero_takes_a_value(kind: Initialisation) -> None:
    weight = bell.reshape(40, 100).copy()
    weight[np.abs(weight) < 0.1] = 0
    book = share(weight, 3, kind)
    assert len(book.values) == 8
    assert np.array_equal(book.dense() == 0, weight == 0)
    assert book.shape == weight.shape


def test_a_large_layer_is_clustered_as_well_as_weight_by_weight() -> None:
    from sklearn.cluster import KMeans

    large = np.random.default_rng(1).laplace(0, 0.02, 100_000).astype(np.float32)
    start = initial_centroids(large, 32, "linear")[:, None]
    plain = KMeans(32, init=start, n_init=1, max_iter=100, tol=1e-6).fit(large[:, None])
    ours = np.square(large - share(large, 5).dense(), dtype=np.float64).sum()
    assert ours == pytest.approx(plain.inertia_, rel=0.02)


def test_outliers_do_not_hide_the_others() -> None:
    weight = np.append(np.random.default_rng(2).normal(0, 1e-6, 20_000), [1e3, -1e3]).astype(np.float32)
    book = share(weight, 4)
    assert len(book.values) == 16
    assert np.array_equal(book.dense()[-2:], weight[-2:])
    assert len(np.unique(book.indices[:-2])) > 8


@settings(max_examples=40)
@given(arrays.arrays(np.float32, st.integers(1, 40), elements=finite), st.integers(1, 8))
def test_never_more_values_than_bits_allow_and_zeros_are_kept(weight: np.ndarray, bits: int) -> None:
    book = share(weight, bits)
    assert len(book.values) <= 2**bits
    assert not book.dense()[weight == 0].any()
    if len(np.unique(weight)) <= 2**bits:
        assert np.array_equal(book.dense(), weight)


def test_few_values_come_back_bit_by_bit() -> None:
    weight = np.array([[0.5, -0.0, 0.1], [0.1, 0.0, -3]], np.float32)
    book = exact(weight)
    assert book.values.tolist() == pytest.approx([-3, 0, 0.1, 0.5])
    assert np.array_equal(book.dense(), weight)
    with pytest.raises(UserError, match="4,000 distinct values"):
        exact(bell)


def test_a_network(network: Graph) -> None:
    seen = []
    shared = share_weights(
        network, {"conv": 4, "fc": 2}, seed=1, advance=lambda done, total: seen.append((done, total))
    )
    books = {node.name: node.weights["weight"] for node in shared.nodes if "weight" in node.weights}
    assert all(isinstance(book, Codebook) for book in books.values())
    assert {name: len(book.values) for name, book in books.items()} == {
        "block.conv1": 16,
        "block.depthwise": 16,
        "conv2": 16,
        "fc": 4,
    }
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert same(shared, share_weights(network, {"conv": 4, "fc": 2}, seed=1))
    # Sharing what is shared already changes nothing.
    assert same(shared, share_weights(shared, 8))


def test_the_published_network_shares_already(published: Graph) -> None:
    shared = share_weights(published, 8)
    for name, weight in weights(published).items():
        assert np.array_equal(shared.node(name).dense("weight"), weight)


def test_what_is_wrong_is_told(network: Graph) -> None:
    with pytest.raises(UserError, match="9 bits"):
        share_weights(network, 9)
    with pytest.raises(UserError, match=r"no layer is called 'conv3'; did you mean 'conv2'\?"):
        share_weights(network, {"conv": 4, "linear": 4, "conv3": 2})
    with pytest.raises(UserError, match="none given for fc"):
        share_weights(network, {"conv": 4})
    with pytest.raises(UserError, match=r"initialisation: 'lineal'; did you mean 'linear'\?"):
        share_weights(network, 2, "lineal")  # type: ignore[arg-type]
