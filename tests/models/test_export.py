"""Networks leave torch through torch.export, which the graph room reads."""

from __future__ import annotations

import pytest
import torch

from squeezekit.models import create_model


@pytest.mark.parametrize(
    ("name", "metaparameters"),
    [
        ("squeezenet1_0_complex_bypass", {"norm": True}),
        ("squeezenet1_1", {}),
        ("alexnet", {}),
        ("mobilenet_v1", {"width_mult": 0.25}),
        ("mobilenet_v2", {"width_mult": 0.25}),
        ("efficientnet_b0", {}),
    ],
)
@torch.no_grad()
def test_exported_networks_give_the_same_logits(name: str, metaparameters: dict[str, object]) -> None:
    torch.manual_seed(0)
    network = create_model(name, 5, stem="small", **metaparameters).eval()
    exported = torch.export.export(
        network, (torch.randn(2, 3, 32, 32),), dynamic_shapes=({0: torch.export.Dim("pictures")},)
    ).module()
    x = torch.randn(3, 3, 32, 32)
    torch.testing.assert_close(exported(x), network(x))
