"""How candidates are judged: by none of the pictures that chose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from squeezekit.compress.compress import compress
from squeezekit.compress.judging import Judges, drop
from squeezekit.data.preparation import Preparation
from squeezekit.graph.from_torch import from_torch
from squeezekit.train.classes import unnamed
from squeezekit.train.classifier import Classifier


@pytest.fixture
def classifier() -> Classifier:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 7)
    )
    return Classifier("small", network, Preparation(12), unnamed(7))


@pytest.fixture
def judges(classifier: Classifier) -> Judges:
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (20, 12, 12, 3), dtype=np.uint8)
    return Judges(classifier, pictures, random.integers(0, 7, 20))


def test_a_network_agrees_with_itself(judges: Judges) -> None:
    seen: list[tuple[int, int]] = []
    graph = from_torch(judges.original.network.cpu(), (3, 12, 12))
    figures = judges.figures(graph, lambda done, total: seen.append((done, total)))
    assert figures["agreement"] == 1
    assert figures["top1"] == figures["original_top1"] <= figures["top5"] == figures["original_top5"]
    assert drop(figures) == 0
    assert seen == [(16, 20), (20, 20)]
    assert drop({"agreement": 0.75}) == 25


def test_who_chooses_does_not_report(judges: Judges) -> None:
    choosing, reporting = judges.split()
    assert (len(choosing), len(reporting)) == (7, 13)
    together = np.concatenate([choosing.pictures, reporting.pictures])
    assert np.array_equal(np.unique(together, axis=0), np.unique(judges.pictures, axis=0))
    assert choosing.labels is not None
    assert np.array_equal(choosing.pictures[2], judges.pictures[6])
    assert choosing.labels[2] == judges.labels[6]  # type: ignore[index]


def test_no_pictures_no_figures(judges: Judges) -> None:
    nobody = Judges(judges.original, judges.pictures[:0], None)
    assert nobody.figures(from_torch(judges.original.network.cpu(), (3, 12, 12)), lambda *_: None) == {}


def test_the_network_that_is_given_stays_as_it_is(classifier: Classifier, tmp_path: Path) -> None:
    network = classifier.network
    before = {name: (tensor.data_ptr(), tensor.clone()) for name, tensor in network.state_dict().items()}
    compress(classifier, tmp_path / "a.sqz", effort="low")
    assert classifier.network is network
    for name, tensor in network.state_dict().items():
        assert tensor.data_ptr() == before[name][0]
        assert torch.equal(tensor, before[name][1])
