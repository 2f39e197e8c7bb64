"""The networks against torchvision's own, with random weights and statistics: the same logits, both ways.

Runs in .venv-peers (``make peers-unit``): squeezekit itself never needs torchvision.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

torchvision = pytest.importorskip("torchvision")
from torchvision.models import get_model, get_model_weights  # noqa: E402

from squeezekit.models import create_model, from_torchvision, load_weights, to_torchvision  # noqa: E402
from squeezekit.models.interchange import TORCHVISION_NAMES  # noqa: E402
from squeezekit.models.published import BASE, IMAGENET  # noqa: E402

SIZE = 64  # the logits of B7 at its own 600 pixels would take minutes, and prove no more


@torch.no_grad()
def randomise(network: nn.Module, seed: int) -> nn.Module:
    """Make every parameter random, and every statistic that of a random batch."""
    random = torch.Generator().manual_seed(seed)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.weight.normal_(0, (2 / module.weight[0].numel()) ** 0.5, generator=random)
            if module.bias is not None:
                module.bias.normal_(0, 0.1, generator=random)
        elif isinstance(module, nn.BatchNorm2d):
            module.weight.uniform_(0.2, 1.0, generator=random)
            module.bias.normal_(0, 0.1, generator=random)
            module.momentum = 1.0
    network.eval()
    for norm in norms:
        norm.train()
    logits(
        network, pictures=16
    )  # the statistics are now those of this batch, without dropout or stochastic depth
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return network.eval()


@torch.no_grad()
def logits(network: nn.Module, pictures: int = 2) -> torch.Tensor:
    return network(torch.randn(pictures, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1)))


def assert_same(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert 0.1 < theirs.std() < 100, "logits that vanish or explode would prove nothing"
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", TORCHVISION_NAMES)
def test_logits_agree_both_ways(name: str) -> None:
    theirs = randomise(get_model(name), seed=0)
    expected = logits(theirs)

    ours = create_model(name).eval()
    ours.load_state_dict(from_torchvision(name, theirs.state_dict()))
    assert_same(logits(ours), expected)

    del theirs, expected
    ours = randomise(ours, seed=2)
    theirs = get_model(name).eval()
    theirs.load_state_dict(to_torchvision(ours))
    assert_same(logits(ours), logits(theirs))


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v2", "efficientnet_b0"])
def test_a_state_dict_of_torchvision_loads_from_its_file(name: str, tmp_path: Path) -> None:
    theirs = get_model(name, num_classes=7)
    file = tmp_path / "weights.pth"
    torch.save(theirs.state_dict(), file)
    assert load_weights(create_model(name, 7), file) == []
    head = "classifier.conv10" if name.startswith("squeezenet") else "classifier.linear"
    assert load_weights(create_model(name, 5), file) == [f"{head}.weight", f"{head}.bias"]


@pytest.mark.parametrize("name", TORCHVISION_NAMES)
def test_training_settings_agree(name: str) -> None:
    """Dropout, stochastic depth and the momentum of batch normalisation do not show in a state dict."""

    def settings(network: nn.Module) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {}
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                found.setdefault("norm", []).extend((module.eps, module.momentum))
            elif isinstance(module, nn.Dropout) or type(module).__name__ == "StochasticDepth":
                found.setdefault(type(module).__name__, []).append(round(module.p, 9))
        return found

    with torch.device("meta"):
        ours, theirs = settings(create_model(name)), settings(get_model(name))
    if name.startswith("efficientnet"):
        assert ours == theirs
    else:  # MobileNetV2's blocks have no stochastic depth there; here its probability is 0
        ours.pop("StochasticDepth", None)
        assert ours == theirs


@pytest.mark.parametrize("name", TORCHVISION_NAMES)
def test_published_files_are_torchvisions(name: str) -> None:
    assert BASE + IMAGENET[name] == get_model_weights(name).IMAGENET1K_V1.url
