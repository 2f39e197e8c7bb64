"""Orthogonal steps: what they are, whom they concern, and that they do no harm to the others."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from squeezekit.data.augment import Augmentation
from squeezekit.data.preparation import Preparation
from squeezekit.models import create_model
from squeezekit.train.module import ClassifierModule
from squeezekit.train.muon import Muon, orthogonal
from squeezekit.train.recipes import recipe


@pytest.mark.parametrize("shape", [(16, 144), (40, 9), (24, 24), (1, 27)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_all_directions_become_alike_and_keep_their_place(shape, dtype):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, before, v = torch.linalg.svd(matrix, full_matrices=False)
    after = u.T @ orthogonal(matrix, dtype).float() @ v.T
    assert before.max() / before.min() > 1.2 or min(shape) == 1
    assert after.diagonal().min() > 0.6
    assert after.diagonal().max() < 1.3
    assert (after - after.diagonal().diag()).abs().max() < 0.1


def test_zeros_stay_zeros():
    assert torch.equal(orthogonal(torch.zeros(4, 9)), torch.zeros(4, 9))


def test_a_step_turns_filters_and_keeps_their_size():
    torch.manual_seed(0)
    filters, other = nn.Parameter(torch.randn(8, 3, 3, 3)), nn.Parameter(torch.ones(5))
    groups = [
        {"params": [filters], "orthogonal": 0.6, "lr": 0.1},
        {"params": [other], "lr": 0.1, "weight_decay": 0.0},
    ]
    optimizer = Muon(groups, lr=0.1, momentum=0.9, nesterov=True)
    twin = nn.Parameter(torch.ones(5))
    plain = torch.optim.SGD([twin], lr=0.1, momentum=0.9, nesterov=True)
    for _ in range(3):
        before = filters.detach() * 8**0.5 / filters.detach().norm()
        filters.grad, other.grad, twin.grad = torch.randn(8, 3, 3, 3), torch.ones(5), torch.ones(5)
        optimizer.step()
        plain.step()
        moved = (filters.detach() - before).flatten(1)
        assert torch.linalg.svdvals(moved).min() > 0.6 * 0.1
        assert torch.linalg.svdvals(moved).max() < 1.3 * 0.1
    torch.testing.assert_close(other, twin)  # SGD as it was


def test_its_state_goes_on_where_it_was():
    def run(steps, resume_at):
        torch.manual_seed(0)
        filters = nn.Parameter(torch.randn(4, 2, 3, 3))
        make = lambda: Muon([{"params": [filters], "orthogonal": 0.6}], lr=0.1, momentum=0.9)  # noqa: E731
        optimizer = make()
        for step in range(steps):
            if step == resume_at:
                state = optimizer.state_dict()
                optimizer = make()
                optimizer.load_state_dict(state)
            filters.grad = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(step))
            optimizer.step()
        return filters.detach()

    assert torch.equal(run(6, resume_at=None), run(6, resume_at=3))


@pytest.mark.parametrize(
    ("name", "turned"), [("vgg", 6), ("mobilenet_v2", 52), ("efficientnet_b0", 49), ("squeezenet1_1", 25)]
)
def test_only_filters_that_a_normalisation_follows_are_turned(name, turned):
    options = {"norm": True} if name.startswith("squeezenet") else {}
    network = create_model(name, 10, stem="small", **options)
    chosen = recipe("quick")
    module = ClassifierModule(
        network, Preparation(32), Augmentation("none", 32, 10), chosen, lr=0.1, steps=10, epochs=1, seed=0
    )
    optimizer = module.configure_optimizers()["optimizer"]
    ours = [p for g in optimizer.param_groups if "orthogonal" in g for p in g["params"]]
    everything = [p for g in optimizer.param_groups for p in g["params"]]
    assert len(ours) == turned
    assert all(p.ndim == 4 for p in ours)
    assert len({id(p) for p in everything}) == len(everything)
    assert {id(p) for p in network.parameters() if p.requires_grad} <= {id(p) for p in everything}
