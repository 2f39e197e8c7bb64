"""Training in the integers that ship."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor

from squeezekit import format as sqz
from squeezekit.compress import learning
from squeezekit.compress.best import Calibrated, Quantized, calibrate, price_for, quantize
from squeezekit.compress.calibration import JUDGES
from squeezekit.compress.canonical import canonical
from squeezekit.compress.layers import layers
from squeezekit.compress.learning import learn
from squeezekit.data.picture import decode
from squeezekit.data.preparation import Preparation
from squeezekit.data.source import open_pictures
from squeezekit.graph.from_torch import from_torch
from squeezekit.graph.passes import prepare
from squeezekit.graph.run import run
from squeezekit.train.classifier import load_classifier
from squeezekit.train.fit import train

PREPARATION = {"size": 32, "mean": [0, 0, 0], "scale": [1, 1, 1]}
HALF = 1000
QUIET = Console(quiet=True)


def ignore(_done: int, _total: int) -> None:
    """Nobody watches."""


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """Handwritten digits, 32 pixels a side."""
    found = open_pictures("digits")
    geometry = Preparation(32).geometry
    rows = np.random.default_rng(0).permutation(len(found))[:1200]
    return np.stack([geometry(decode(found.read(int(i)), "digit")) for i in rows])


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory, pictures: np.ndarray) -> Calibrated:
    """A network that has learned something."""
    out = tmp_path_factory.mktemp("learned") / "run"
    shape = {"widths": (12, 24)}
    train(
        "digits", out, model="vgg", recipe="quick", metaparameters=shape, epochs=5, workers=0, console=QUIET
    )
    classifier = load_classifier(out)
    found = classifier.preparation
    graph = prepare(from_torch(classifier.network, (3, 32, 32)), found.mean, found.scale)
    return calibrate(canonical(graph), pictures[:JUDGES], ignore)


def batches(pictures: np.ndarray, size: int = 64) -> Iterator[Tensor]:
    """Deal pictures without end."""
    random = np.random.default_rng(0)
    while True:
        rows = random.integers(len(pictures), size=size)
        yield torch.from_numpy(pictures[rows]).permute(0, 3, 1, 2).float()


def change(calibrated: Calibrated, made: Quantized, judges: np.ndarray) -> float:
    """Measure the KL divergence of the int8 graph's answers from the original's."""
    x = np.ascontiguousarray(judges.transpose(0, 3, 1, 2), np.float32)
    ours = torch.from_numpy(run(made.graph(calibrated), judges)).flatten(1).log_softmax(1)
    theirs = torch.from_numpy(run(calibrated.graph, x)).flatten(1).log_softmax(1)
    return float((theirs.exp() * (theirs - ours)).sum(1).mean())


def share_of(most: int, calibrated: Calibrated, made: Quantized) -> float:
    """Give the file's bytes over those that are asked for."""
    return len(sqz.dumps(sqz.Model(made.graph(calibrated), PREPARATION))) / most


def test_learning_wins_back_what_was_lost(calibrated: Calibrated, pictures: np.ndarray) -> None:
    """Of a network in which every tenth weight was lost, and the biases are off."""
    price = price_for(calibrated, 2.0)
    start = quantize(calibrated, price, 4, ignore)
    random = torch.Generator().manual_seed(0)
    ruined = {}
    for name, each in start.rounded.items():
        assert each.value is not None
        kept = torch.rand(each.q.shape, generator=random) > 0.1
        ruined[name] = replace(each, q=each.q * kept, value=each.value * kept)
    biases = {name: each + 0.3 * each.std() for name, each in start.biases.items()}
    worse = Quantized(ruined, biases)
    learned = learn(calibrated, worse, price, batches(pictures[:HALF]), 200, ignore)
    before, after = (change(calibrated, each, pictures[HALF:]) for each in (worse, learned))
    assert after < 0.5 * before
    assert learned.bits <= worse.bits


def test_what_learning_made_worse_is_not_taken(
    calibrated: Calibrated, pictures: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = quantize(calibrated, price_for(calibrated, 2.0), 4, ignore)
    monkeypatch.setattr(learning, "RATE", 3.0)
    assert learn(calibrated, start, 1e-4, batches(pictures[:HALF]), 10, ignore) is start


def test_the_size_that_is_asked_for(calibrated: Calibrated, pictures: np.ndarray) -> None:
    price = price_for(calibrated, 2.0)
    start = quantize(calibrated, price, 1, ignore)
    most = int(0.8 * share_of(1, calibrated, start))
    made = learn(
        calibrated,
        start,
        price,
        batches(pictures[:HALF]),
        120,
        ignore,
        size=lambda candidate: share_of(most, calibrated, candidate),
    )
    assert 0.8 < share_of(most, calibrated, made) <= 1


def test_a_size_that_no_rounding_reaches_comes_to_an_end(
    calibrated: Calibrated, pictures: np.ndarray
) -> None:
    start = quantize(calibrated, 1e-4, 1, ignore)
    made = learn(
        calibrated,
        start,
        1e-4,
        batches(pictures[:HALF]),
        2,
        ignore,
        size=lambda candidate: share_of(400, calibrated, candidate),
    )
    assert 1 < share_of(400, calibrated, made) < share_of(400, calibrated, start)


def test_whole_numbers_on_the_same_steps(calibrated: Calibrated, pictures: np.ndarray) -> None:
    start = quantize(calibrated, 1e-4, 1, ignore)
    made = learn(calibrated, start, 1e-4, batches(pictures[:HALF]), 5, ignore)
    for node in layers(calibrated.graph):
        ours, theirs = made.rounded[node.name], start.rounded[node.name]
        assert ours.q.dtype == torch.int64
        assert int(ours.q.abs().max()) <= 127
        assert torch.equal(ours.step, theirs.step)


def test_the_same_weights_again(calibrated: Calibrated, pictures: np.ndarray) -> None:
    start = quantize(calibrated, 1e-4, 1, ignore)
    made = [learn(calibrated, start, 1e-4, batches(pictures[:HALF]), 10, ignore) for _ in range(2)]
    for name, one in made[0].rounded.items():
        assert torch.equal(one.q, made[1].rounded[name].q)
        assert torch.equal(made[0].biases[name], made[1].biases[name])


def test_it_asks_for_as_many_batches_as_it_says(calibrated: Calibrated, pictures: np.ndarray) -> None:
    start = quantize(calibrated, 1e-4, 1, ignore)
    seen: list[tuple[int, int]] = []
    few = itertools.islice(batches(pictures[:HALF]), 7)
    learn(calibrated, start, 1e-4, few, 7, lambda done, total: seen.append((done, total)))
    assert seen == [(i + 1, 7) for i in range(7)]
    assert next(few, None) is None


def test_bfloat16_means_the_same(calibrated: Calibrated, pictures: np.ndarray) -> None:
    """What was learned in bfloat16 holds in the integers, which are exact."""
    price = price_for(calibrated, 1.5)
    start = quantize(calibrated, price, 4, ignore)
    exact, fast = (
        learn(calibrated, start, price, batches(pictures[:HALF]), 60, ignore, bfloat16=half)
        for half in (False, True)
    )
    one, other = (change(calibrated, each, pictures[HALF:]) for each in (exact, fast))
    assert other < 1.3 * one
