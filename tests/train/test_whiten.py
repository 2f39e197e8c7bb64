"""The first layer that whitens."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from squeezekit.data.check import check_pictures
from squeezekit.data.loader import make_loader
from squeezekit.data.preparation import Preparation
from squeezekit.data.source import open_pictures
from squeezekit.models import create_model
from squeezekit.train.module import Normalise
from squeezekit.train.plan import Options, make_plan
from squeezekit.train.sample import sample
from squeezekit.train.whiten import EPSILON, whiten, whitening_filters


def test_filters_make_channels_alike_and_independent() -> None:
    torch.manual_seed(0)
    patches = torch.randn(10_000, 6, dtype=torch.float64) @ torch.randn(6, 6, dtype=torch.float64) * 10
    covariance = patches.T @ patches / len(patches)
    white = patches @ whitening_filters(covariance).T
    assert torch.allclose(white.T @ white / len(white), torch.eye(6, dtype=torch.float64), atol=0.01)
    # The strongest component comes first, and the sign does not depend on the library.
    filters = whitening_filters(covariance)
    assert (filters.norm(dim=1).diff() > 0).all()
    assert (filters.gather(1, filters.abs().argmax(1, keepdim=True)) > 0).all()


def test_what_hardly_varies_is_not_blown_up() -> None:
    covariance = torch.diag(torch.tensor([1.0, 1e-9], dtype=torch.float64))
    filters = whitening_filters(covariance)
    assert filters[1].norm() <= EPSILON**-0.5


def test_a_networks_layer_is_set_from_the_pictures_that_train() -> None:
    pictures = open_pictures("digits")
    plan = make_plan(Options(model="vgg"), pictures, check_pictures(pictures))
    network = create_model("vgg", len(plan.classes), 3, **plan.metaparameters)
    seen: list[tuple[int, int]] = []

    def shown() -> Iterator[Tensor]:
        return (x for x, _ in sample(plan, pictures, 5000, lambda done, total: seen.append((done, total))))

    whiten(network, plan.prepared, shown())
    assert seen[-1][0] == seen[-1][1] == plan.pictures["train"]
    rows = plan.splits(pictures)["train"]
    batch = next(iter(make_loader(pictures, rows, plan.prepared, train=False, batch_size=256, workers=0)))
    white = network.features.whiten(Normalise(plan.prepared)(batch["pictures"].permute(0, 3, 1, 2)))
    half = white.shape[1] // 2
    assert torch.allclose(white[:, :half], -white[:, half:], atol=1e-5)
    channels = white[:, :half].transpose(0, 1).flatten(1)
    spread = (channels @ channels.T / channels.shape[1]).diagonal()
    assert 0.8 < spread[0] < 1.2  # the first component of other pictures of the same kind
    assert (spread < 1.5).all()
    again = create_model("vgg", len(plan.classes), 3, **plan.metaparameters)
    whiten(again, plan.prepared, shown())
    assert torch.equal(again.features.whiten.weight, network.features.whiten.weight)
    assert F.relu(white).shape[-1] == plan.prepared.size - 1


def test_other_networks_are_left_alone() -> None:
    network = create_model("squeezenet", 2, stem="small")
    before = {key: value.clone() for key, value in network.state_dict().items()}
    whiten(network, Preparation(32), iter([torch.zeros(1, 32, 32, 3, dtype=torch.uint8)]))
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
