"""Every network works on small pictures with stem="small", and on its own size as in the paper."""

from __future__ import annotations

import pytest
import torch

from squeezekit.models import create_model, list_models

# One of each family, where numbers are computed and not only shapes.
FAMILIES = ("squeezenet1_1", "alexnet", "mobilenet_v1", "mobilenet_v2", "efficientnet_b0", "vgg")


@pytest.mark.parametrize("name", list_models())
def test_shapes_with_the_small_stem(name: str) -> None:
    with torch.device("meta"):
        network = create_model(name, num_classes=7, stem="small").eval()
        for size in (28, 32, 64, 96):
            maps = network.features(torch.empty(2, 3, size, size))
            assert network.classifier(maps).shape == (2, 7)
            assert maps.shape[2] == maps.shape[3]
            assert size / 8 - 1.5 <= maps.shape[2] <= size / 8 + 1
    assert 28 <= network.input_size <= 96


@pytest.mark.parametrize(
    ("name", "documented"),
    [
        ("squeezenet1_0", [3, 4, 8, 12]),
        ("squeezenet1_1", [3, 4, 8, 12]),
        ("alexnet", [2, 3, 7, 11]),
        ("mobilenet_v1", [4, 4, 8, 12]),
        ("mobilenet_v2", [4, 4, 8, 12]),
        ("efficientnet_b0", [4, 4, 8, 12]),
        ("vgg", [3, 3, 7, 11]),
    ],
)
def test_feature_sizes_are_those_of_the_docs(name: str, documented: list[int]) -> None:
    with torch.device("meta"):
        features = create_model(name, stem="small").eval().features
        assert [features(torch.empty(1, 3, s, s)).shape[-1] for s in (28, 32, 64, 96)] == documented


@pytest.mark.parametrize("name", list_models())
def test_shapes_at_the_papers_size(name: str) -> None:
    with torch.device("meta"):
        network = create_model(name, num_classes=7, in_channels=1).eval()
        assert network(torch.empty(2, 1, network.input_size, network.input_size)).shape == (2, 7)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("size", [28, 96])
def test_forward_and_backward_with_the_small_stem(name: str, size: int) -> None:
    torch.manual_seed(0)
    network = create_model(name, num_classes=5, stem="small")
    logits = network(torch.randn(2, 3, size, size))
    assert torch.isfinite(logits).all()
    torch.nn.functional.cross_entropy(logits, torch.tensor([1, 4])).backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", FAMILIES)
def test_starts_with_about_equal_classes(name: str) -> None:
    """A fresh network must not be sure of anything: the loss starts near log(classes)."""
    torch.manual_seed(0)
    network = create_model(name, num_classes=10, stem="small")
    logits = network(torch.randn(8, 3, 32, 32))
    assert torch.nn.functional.cross_entropy(logits, torch.arange(8)).item() == pytest.approx(2.3, abs=0.7)
