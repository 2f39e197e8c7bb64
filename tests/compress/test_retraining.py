"""Training keeps to what was decided: zeros stay zero, shared weights stay shared."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from squeezekit.compress.layers import with_weights  # noqa: E402
from squeezekit.compress.pruning import prune  # noqa: E402
from squeezekit.compress.retraining import array_batches, retrain  # noqa: E402
from squeezekit.compress.shared_weights import share_weights  # noqa: E402
from squeezekit.errors import UserError  # noqa: E402
from squeezekit.graph import Codebook, Graph, same  # noqa: E402
from squeezekit.graph.to_torch import to_torch  # noqa: E402


def answers(graph: Graph, pictures: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return to_torch(graph).eval()(torch.from_numpy(pictures)).log_softmax(1).numpy()


def test_labels_are_learned_and_zeros_stay(network: Graph, pictures: np.ndarray) -> None:
    labels = (pictures.mean(axis=(1, 2, 3)) > 0).astype(np.int64)
    pruned = prune(network, 0.5)
    before = (answers(pruned, pictures).argmax(1) == labels).mean()
    trained = retrain(pruned, pictures, labels, steps=150, rate=3e-2)
    assert (answers(trained, pictures).argmax(1) == labels).mean() > max(0.9, before)
    for node in pruned.nodes:
        if "weight" in node.weights:
            assert np.array_equal(node.dense("weight") == 0, trained.node(node.name).dense("weight") == 0)
            assert not np.array_equal(node.dense("bias"), trained.node(node.name).dense("bias"))


def test_the_teacher_is_followed_and_shared_weights_stay_shared(network: Graph, pictures: np.ndarray) -> None:
    shared = share_weights(prune(network, 0.3), 2)
    trained = retrain(shared, pictures[:48], teacher=network, steps=100, rate=2e-2)
    held_out = pictures[48:]

    def lost(graph: Graph) -> float:
        return float(np.square(answers(graph, held_out) - answers(network, held_out)).mean())

    assert lost(trained) < 0.6 * lost(shared)
    for node in shared.nodes:
        if "weight" not in node.weights:
            continue
        old, new = node.weights["weight"], trained.node(node.name).weights["weight"]
        assert isinstance(old, Codebook)
        assert isinstance(new, Codebook)
        # Whatever shared a value before shares one now, and the zero is the old zero.
        for k in range(len(old.values)):
            assert len(np.unique(new.indices[old.indices == k])) == 1
        assert np.array_equal(old.dense() == 0, new.dense() == 0)


def test_equation_3(network: Graph, pictures: np.ndarray) -> None:
    """One step moves each shared value against the sum of its weights' gradients, and no two the same way."""
    shared = share_weights(network, 3)
    labels = np.arange(len(pictures)) % 10
    module = to_torch(shared).eval()
    weight = dict(module.named_parameters())["conv2.weight"].requires_grad_()
    logits = module(torch.from_numpy(pictures))
    (gradient,) = torch.autograd.grad(
        torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels)), weight
    )
    book = shared.node("conv2").weights["weight"]
    assert isinstance(book, Codebook)
    summed = np.bincount(book.indices.ravel(), gradient.numpy().ravel(), len(book.values))
    rate = 1e-4
    trained = retrain(shared, pictures, labels, steps=1, rate=rate, batch_size=64)
    after = trained.node("conv2").weights["weight"]
    assert isinstance(after, Codebook)
    size = np.sqrt(np.square(book.dense().astype(np.float64)).mean())
    # Adam's first step has the size of its rate, and the gradient's sign.
    assert np.allclose(after.values - book.values, -rate * size * np.sign(summed), rtol=2e-2)


def test_the_same_seed_gives_the_same_weights(network: Graph, pictures: np.ndarray) -> None:
    def trained(seed: int) -> Graph:
        return retrain(network, pictures, teacher=prune(network, 0.2), steps=5, seed=seed, mirror=True)

    assert same(trained(1), trained(1))
    assert not same(trained(1), trained(2))


def test_batches_of_any_kind(network: Graph, pictures: np.ndarray) -> None:
    """Bytes in pairs with labels; each pass asks anew."""
    passes = []

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        passes.append(len(passes))
        for start in (0, 8):
            bytes_ = torch.from_numpy(pictures[start : start + 8]).mul(50).add(128).clamp(0, 255).byte()
            yield bytes_, torch.zeros(8, dtype=torch.int64)

    assert not same(retrain(network, batches, steps=5), network)
    assert passes == [0, 1, 2]


def test_an_array_is_shown_whole_in_every_pass_in_another_order(pictures: np.ndarray) -> None:
    numbered = np.arange(10, dtype=np.float32).reshape(10, 1, 1, 1)
    batches = array_batches(numbered, np.arange(10), batch_size=4)
    orders = []
    for _ in range(2):
        seen = list(batches())
        assert [len(x) for x, _ in seen] == [4, 4, 2]
        assert all(torch.equal(x.flatten().long(), labels) for x, labels in seen)
        orders.append(torch.cat([labels for _, labels in seen]).tolist())
        assert sorted(orders[-1]) == list(range(10))
    assert orders[0] != orders[1]
    (batch,) = array_batches(pictures, batch_size=64, mirror=True)()
    shown = sorted(x.tobytes() for x in batch.numpy())
    both = {x.tobytes() for x in pictures} | {np.ascontiguousarray(x[..., ::-1]).tobytes() for x in pictures}
    assert both.issuperset(shown)
    assert shown != sorted(x.tobytes() for x in pictures)


def test_interrupted_it_leaves_the_graph_as_it_was(network: Graph, pictures: np.ndarray) -> None:
    before = with_weights(network, {})

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        retrain(network, pictures, np.zeros(64, np.int64), steps=9, advance=stop)
    assert same(network, before)


def test_no_steps_change_nothing(network: Graph, pictures: np.ndarray) -> None:
    assert same(retrain(network, pictures, teacher=network, steps=0), network)


def test_what_is_wrong_is_told(network: Graph, pictures: np.ndarray) -> None:
    with pytest.raises(UserError, match="neither labels nor a teacher"):
        retrain(network, pictures)
    with pytest.raises(UserError, match="no picture to train on"):
        retrain(network, pictures[:0], teacher=network)
    with pytest.raises(UserError, match="no picture to train on"):
        retrain(network, lambda: iter(()), teacher=network)
    with pytest.raises(UserError, match="64 pictures but 3 labels"):
        retrain(network, pictures, np.zeros(3, np.int64))
    with pytest.raises(UserError, match=r"diverged in step \d+ of 50 \(try a lower rate than 1e\+30\)"):
        retrain(network, pictures, np.zeros(64, np.int64), steps=50, rate=1e30)
