"""What is free learns to answer as the teacher does; what is fixed stays."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from squeezekit.compress.layers import layers
from squeezekit.compress.tuning import tune, vary
from squeezekit.graph import Graph
from squeezekit.graph.to_torch import GraphModule, to_torch


def spoiled(graph: Graph) -> GraphModule:
    """The first half of the layers rounded to ± 3."""
    student = to_torch(graph).requires_grad_(False)
    for name in first_half(graph):
        weight = student.part(name).get_parameter("weight")
        step = weight.flatten(1).abs().amax(1).reshape(-1, *(1,) * (weight.ndim - 1)) / 3
        weight.data = (weight / step).round() * step
    return student


def first_half(graph: Graph) -> list[str]:
    names = [node.name for node in layers(graph)]
    return names[: len(names) // 2]


def divergence(student: GraphModule, teacher: GraphModule, photographs: np.ndarray) -> float:
    x = torch.from_numpy(photographs).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        ours, theirs = (module(x).flatten(1).log_softmax(1) for module in (student, teacher))
    return float(F.kl_div(ours, theirs, log_target=True, reduction="batchmean"))


@pytest.mark.parametrize("name", ["squeezenet", "efficientnet"])
def test_learns(name: str, networks: Mapping[str, Graph], photographs: np.ndarray) -> None:
    graph = networks[name]
    teacher, student = to_torch(graph).requires_grad_(False), spoiled(graph)
    fixed = set(first_half(graph))
    before = {key: value.clone() for key, value in student.state_dict().items()}
    start = divergence(student, teacher, photographs)
    counted: list[int] = []
    tune(graph, student, teacher, photographs, fixed, steps=30, rate=4e-3, advance=counted.append)
    assert divergence(student, teacher, photographs) < 0.5 * start
    assert counted == [16] * 30
    for node in layers(graph):
        for key in ("weight", "bias"):
            state = f"{student.paths[node.name]}.{key}"
            moved = not torch.equal(student.state_dict()[state], before[state])
            assert moved == (key == "bias" or node.name not in fixed), state
    assert not any(parameter.requires_grad for parameter in student.parameters())
    assert all(
        torch.equal(a, b) for a, b in zip(teacher.parameters(), to_torch(graph).parameters(), strict=True)
    )


def test_the_same_again(networks: Mapping[str, Graph], photographs: np.ndarray) -> None:
    graph = networks["medley"]
    teacher = to_torch(graph).requires_grad_(False)
    found = []
    for seed in (0, 0, 1):
        student = spoiled(graph)
        tune(graph, student, teacher, photographs, (), steps=3, rate=4e-3, advance=lambda n: None, seed=seed)
        found.append(torch.cat([parameter.flatten() for parameter in student.parameters()]))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_a_step_is_as_large_as_told(networks: Mapping[str, Graph], photographs: np.ndarray) -> None:
    """Whatever the scale of a layer's weights: the first steps move them by a share of it."""
    graph = networks["medley"]
    teacher, student = to_torch(graph).requires_grad_(False), spoiled(graph)
    before = {key: value.clone() for key, value in student.named_parameters()}
    tune(graph, student, teacher, photographs, (), steps=20, rate=1e-3, advance=lambda n: None)
    for node in layers(graph):
        key = f"{node.name}.weight"
        moved = (student.get_parameter(key) - before[key]).abs().max() / before[key].square().mean().sqrt()
        assert 1e-4 < moved < 20 * 1e-3


def test_no_steps(networks: Mapping[str, Graph], photographs: np.ndarray) -> None:
    graph = networks["medley"]
    student = spoiled(graph)
    before = [parameter.clone() for parameter in student.parameters()]
    tune(graph, student, to_torch(graph), photographs, (), steps=0, rate=1e-3, advance=lambda n: None)
    assert all(torch.equal(a, b) for a, b in zip(before, student.parameters(), strict=True))


def test_fewer_pictures_than_a_batch(networks: Mapping[str, Graph], photographs: np.ndarray) -> None:
    graph = networks["medley"]
    counted: list[int] = []
    student = spoiled(graph)
    tune(graph, student, to_torch(graph), photographs[:3], (), steps=2, rate=1e-3, advance=counted.append)
    assert counted == [3, 3]


def test_vary() -> None:
    """Parts of the pictures, of their size and colours, every other one mirrored."""
    ramp = torch.linspace(10, 200, 24).reshape(1, 1, 1, 24).expand(40, 3, 20, 24).contiguous()
    random = np.random.default_rng(0)
    found = [vary(ramp, random) for _ in range(20)]
    left = 0
    for each in found:
        assert each.shape == ramp.shape
        assert each.min() > 9
        assert each.max() < 201
        rising = each[:, 0, 0, -1] > each[:, 0, 0, 0]
        left += int(rising.sum())
        assert torch.allclose(each[rising][0], each[~rising][0].flip(2))
    assert 0.4 < left / 800 < 0.6
    assert len({round(float(each.max() - each.min())) for each in found}) > 5  # cut to many sizes
    one = vary(torch.rand(1, 3, 1, 1), random)
    assert one.shape == (1, 3, 1, 1)
