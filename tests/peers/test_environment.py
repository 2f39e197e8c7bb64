"""The peers' environment is what it claims: torchvision's networks run beside ours, on one torch."""

from __future__ import annotations

from types import ModuleType

import torch


def test_torchvision_builds_and_runs_a_network(torchvision: ModuleType) -> None:
    network = torchvision.models.squeezenet1_1(num_classes=7).eval()
    assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 7)


def test_torchvision_is_the_release_for_this_torch(torchvision: ModuleType) -> None:
    # torchvision 0.N goes with torch 2.(N - 15).
    minor = int(torchvision.__version__.split(".")[1])
    assert torch.__version__.startswith(f"2.{minor - 15}.")


def test_squeezekit_is_this_checkout() -> None:
    from pathlib import Path

    import squeezekit

    assert Path(squeezekit.__file__).is_relative_to(Path(__file__).parents[2] / "src")
