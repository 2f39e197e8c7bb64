"""Networks with random weights and statistics, alike on every machine."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn


@torch.no_grad()
def _randomise(network: nn.Module, seed: int = 0) -> nn.Module:
    random = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.weight.normal_(0, (2 / module.weight[0].numel()) ** 0.5, generator=random)
            if module.bias is not None:
                module.bias.normal_(0, 0.1, generator=random)
        elif isinstance(module, (nn.BatchNorm2d, nn.BatchNorm1d)):
            if module.affine:
                module.weight.uniform_(0.5, 1.5, generator=random)
                module.bias.normal_(0, 0.1, generator=random)
            module.running_mean.normal_(0, 0.1, generator=random)
            module.running_var.uniform_(0.5, 1.5, generator=random)
    return network.eval()


@pytest.fixture(scope="session")
def randomise() -> Callable[..., nn.Module]:
    """Give a function that fills a network with random weights."""
    return _randomise


@pytest.fixture(scope="session")
def pictures() -> Callable[..., np.ndarray]:
    """Give a function that draws a batch (2, ...)."""

    def draw(*shape: int, seed: int = 1) -> np.ndarray:
        return np.random.default_rng(seed).standard_normal((2, *shape)).astype(np.float32)

    return draw


@pytest.fixture(scope="session")
def assert_close() -> Callable[[np.ndarray, np.ndarray], None]:
    """Give a comparison up to rounding, measured by the spread of the values."""

    def compare(ours: np.ndarray, theirs: np.ndarray, tolerance: float = 1e-4) -> None:
        assert ours.shape == theirs.shape
        spread = theirs.std()
        assert 1e-3 < spread < 1e4, "values that vanish or explode would prove nothing"
        assert np.abs(ours - theirs).max() < tolerance * spread

    return compare
