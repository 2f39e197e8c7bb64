"""What weights will cost, near enough: against entropies, and against the coder itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from squeezekit.compress.rates import LARGEST, Rates, classes
from squeezekit.format.weights import encode_weights
from squeezekit.graph import Graph, Node, Quantization, Tensor


def layer(shape: tuple[int, int], spread: float, seed: int = 0) -> torch.Tensor:
    """Whole numbers whose size depends on filter and input, as in networks."""
    random = np.random.default_rng(seed)
    rows, columns = random.lognormal(0, 0.5, (shape[0], 1)), random.lognormal(0, 0.5, (1, shape[1]))
    return torch.from_numpy(np.clip(np.rint(random.laplace(0, spread, shape) * rows * columns), -127, 127))


@pytest.mark.parametrize("spread", [0.3, 1.0, 5.0])
def test_as_the_coder_charges(spread: float) -> None:
    q = layer((64, 400), spread)
    node = Node(
        "fc",
        "linear",
        ("input",),
        {"logits": 1},
        {
            "weight": q.numpy().astype(np.int8),
            "bias": np.zeros(64, np.int32),
            "multiplier": np.ones(64, np.float32),
        },
    )
    coded = 8 * len(encode_weights(Graph(Tensor("input", (400,), Quantization(1.0, 0)), (node,), "fc")))
    kinds = classes(q)
    assert float(Rates(q, kinds).bits(q, kinds).sum()) == pytest.approx(coded, rel=0.12)


def test_one_class_costs_its_entropy() -> None:
    q = torch.from_numpy(np.random.default_rng(0).integers(-2, 3, (40, 500)).astype(np.float64))
    kinds = torch.full(q.shape, 5)
    _, counts = np.unique(q.numpy(), return_counts=True)
    entropy = -(counts * np.log2(counts / q.numel())).sum()
    assert float(Rates(q, kinds).bits(q, kinds).sum()) == pytest.approx(entropy, rel=0.01)


def test_rare_is_dear_and_nothing_is_free() -> None:
    q = layer((64, 400), 1.0)
    kinds = classes(q)
    rates = Rates(q, kinds)
    assert torch.isfinite(rates.table).all()
    assert (rates.table > 0).all()
    typical = rates.table[int(kinds.float().median())]
    assert typical[0] < typical[1] < typical[4] < typical[30]
    beyond = torch.full((1, 1), 1000.0)
    assert rates.bits(beyond, kinds[:1, :1]) == rates.table[kinds[0, 0], LARGEST]


def test_classes() -> None:
    """Larger filters and larger inputs are of higher classes, whatever their signs."""
    q = torch.zeros(3, 40)
    q[1, 0::5], q[2, 0:20:2], q[2, 20::10] = 1, 2, 1
    kinds = classes(q)
    assert kinds.shape == q.shape
    assert kinds[0, 0] < kinds[1, 0] < kinds[2, 0]
    assert kinds[2, 31] < kinds[2, 20] < kinds[2, 0]
    assert torch.equal(classes(-q), kinds)
    assert (classes(torch.zeros(4, 4)) == classes(torch.zeros(4, 4))[0, 0]).all()
    full = classes(torch.full((4, 4), 127.0))
    assert 0 <= full.min() <= full.max() < len(Rates(q, kinds).table)
