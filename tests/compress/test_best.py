"""The whole way from a network and pictures to an int8 graph at a price."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from squeezekit import format as sqz
from squeezekit.compress import best
from squeezekit.compress.best import Calibrated, calibrate, price_for
from squeezekit.compress.calibration import moments
from squeezekit.compress.canonical import canonical
from squeezekit.compress.layers import layers
from squeezekit.graph import Graph, Node, Tensor, same
from squeezekit.graph.run import run
from squeezekit.graph.to_torch import to_torch

PREPARATION = {"size": 32, "mean": [0, 0, 0], "scale": [1, 1, 1]}
HALF = 32  # the first pictures calibrate, the others judge
ONE, STAGES = 1, 4


def ignore(_done: int, _total: int) -> None:
    """Nobody watches."""


def quantize(calibrated: Calibrated, price: float, stages: int) -> tuple[Graph, float]:
    """Quantize, and give the graph and its bits."""
    made = best.quantize(calibrated, price, stages, ignore)
    return made.graph(calibrated), made.bits


class Watch:
    """Progress that only grows, and ends where it said."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def __call__(self, done: int, total: int) -> None:
        self.seen.append((done, total))

    def check(self) -> None:
        done = [each for each, _ in self.seen]
        assert done == sorted(done)
        assert len({total for _, total in self.seen}) == 1
        assert self.seen[-1][0] == self.seen[-1][1]


@pytest.fixture(scope="module")
def known(networks: Mapping[str, Graph], photographs: np.ndarray) -> Callable[[str], Calibrated]:
    """Calibrate a network once."""
    found: dict[str, Calibrated] = {}

    def get(name: str) -> Calibrated:
        if name not in found:
            found[name] = calibrate(networks[name], photographs[:HALF], ignore)
        return found[name]

    return get


@pytest.fixture(params=["squeezenet", "mobilenet_v2", "efficientnet", "medley"])
def calibrated(request: pytest.FixtureRequest, known: Callable[[str], Calibrated]) -> Calibrated:
    return known(request.param)


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x.reshape(len(x), -1).astype(np.float64)
    x = x - x.max(axis=1, keepdims=True)
    shifted: np.ndarray = x - np.log(np.exp(x).sum(axis=1, keepdims=True))
    return shifted


def judge(graph: Graph, quantized: Graph, pictures: np.ndarray) -> tuple[float, float]:
    """Nats that the answers change, and share of pictures with the same first answer."""
    x = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2), np.float32)
    before, after = log_softmax(run(graph, x)), log_softmax(run(quantized, pictures))
    change = (np.exp(before) * (before - after)).sum(axis=1).mean()
    return float(change), float((before.argmax(1) == after.argmax(1)).mean())


def count(graph: Graph) -> int:
    return sum(node.weights["weight"].size for node in layers(graph))


def test_price_against_loss(calibrated: Calibrated, photographs: np.ndarray) -> None:
    """On pictures that were not used: the dearer a bit, the fewer bits and the more changes."""
    graph = calibrated.graph
    bits, changes, shares = [], [], []
    for wanted in (6, 3.5, 1.5, 0.1):
        ours, spent = quantize(calibrated, price_for(calibrated, wanted), STAGES)
        assert ours.is_int8
        change, share = judge(graph, ours, photographs[HALF:])
        bits.append(spent / count(graph))
        changes.append(change)
        shares.append(share)
    assert all(b < a for a, b in itertools.pairwise(bits))
    assert bits == pytest.approx([6, 3.5, 1.5, 0.1], rel=0.5, abs=0.1)
    assert all(b > a for a, b in itertools.pairwise(changes[1:]))
    assert changes[0] < 0.02
    assert shares[0] > 0.95
    assert shares[1] > 0.9
    assert changes[-1] > 10 * changes[1]


def test_the_file_is_as_small_as_told(calibrated: Calibrated, tmp_path: Path) -> None:
    for price in (1e-7, 1e-5):
        ours, spent = quantize(calibrated, price, ONE)
        path = tmp_path / "model.sqz"
        sqz.write(path, sqz.Model(ours, PREPARATION))
        assert same(sqz.read(path).graph, ours)
        coded = sum(each.bits for each in sqz.sizes(path).tensors if each.role == "weight")
        learning = 300 * len(layers(calibrated.graph))  # bits: the coder knows nothing at first
        assert 0.9 * spent < coded < 1.1 * spent + learning


@pytest.mark.parametrize("name", ["squeezenet", "efficientnet"])
def test_better_than_rounding_to_the_nearest(
    name: str, known: Callable[[str], Calibrated], photographs: np.ndarray
) -> None:
    """For as many bits as the nearest numbers of one grid a filter take."""
    from squeezekit.compress.integers import int8_graph
    from squeezekit.compress.rates import Rates, classes
    from squeezekit.compress.rounding import Rounded

    calibrated = known(name)
    graph = calibrated.graph
    rounded, spent = {}, 0.0
    for node in layers(graph):
        weight = torch.from_numpy(node.dense("weight").astype(np.float64)).flatten(1)
        step = torch.exp2(torch.round(4 * torch.log2(weight.abs().amax(1) / 4)) / 4)
        q = (weight / step.unsqueeze(1)).round()
        rounded[node.name] = Rounded(q.long(), step, 0, 0)
        spent += float(Rates(q, classes(q)).bits(q, classes(q)).sum())
    biases = {node.name: torch.from_numpy(node.dense("bias").copy()) for node in layers(graph)}
    plain, _ = judge(graph, int8_graph(graph, calibrated.values, rounded, biases), photographs[HALF:])
    low, high = -24.0, -8.0
    for _ in range(7):  # the price that buys as much
        middle = (low + high) / 2
        ours, bits = quantize(calibrated, 2.0**middle, ONE)
        low, high = (middle, high) if bits > spent else (low, middle)
    ours, bits = quantize(calibrated, 2.0**high, STAGES)
    assert bits < 1.03 * spent
    change, _ = judge(graph, ours, photographs[HALF:])
    assert change < 0.7 * plain


def test_the_same_bytes_again(known: Callable[[str], Calibrated], photographs: np.ndarray) -> None:
    calibrated = known("mobilenet_v2")
    again = calibrate(calibrated.graph, photographs[:HALF], ignore)
    files = []
    for each in (calibrated, again):
        ours, _ = quantize(each, price_for(each, 2), STAGES)
        files.append(sqz.dumps(sqz.Model(ours, PREPARATION)))
    assert files[0] == files[1]


def test_few_pictures_are_not_believed(known: Callable[[str], Calibrated], photographs: np.ndarray) -> None:
    """A layer with more inputs than there are pictures keeps what they do not show."""
    calibrated = known("medley")
    wide = calibrated.graph.node("wide")
    seen = calibrated.moments["wide"]
    assert seen.count == HALF < wide.weights["weight"].shape[1] / 10
    assert torch.linalg.matrix_rank(seen.centred()[0], rtol=1e-5)[0] < HALF
    ours, bits = quantize(calibrated, price_for(calibrated, 2.5), STAGES)
    assert bits < 3 * count(calibrated.graph)
    change, share = judge(calibrated.graph, ours, photographs[HALF:])
    assert change < 0.01
    assert share > 0.95


def test_progress(networks: Mapping[str, Graph], photographs: np.ndarray) -> None:
    for graph, pictures in (
        (networks["medley"], photographs[:5]),
        (networks["squeezenet"], photographs[:33]),
    ):
        watch = Watch()
        calibrated = calibrate(graph, pictures, watch)
        watch.check()
        for stages in (ONE, STAGES):
            watch = Watch()
            best.quantize(calibrated, 1e-4, stages, watch)
            watch.check()


def test_what_a_layer_costs_is_measured(known: Callable[[str], Calibrated], photographs: np.ndarray) -> None:
    """The predicted loss of one layer rounded alone is what the answers change by."""
    calibrated = known("squeezenet")
    graph, x = calibrated.graph, np.ascontiguousarray(photographs[:HALF].transpose(0, 3, 1, 2), np.float32)
    before = log_softmax(run(graph, x))
    price, predicted, measured = price_for(calibrated, 2), 0.0, 0.0
    for node in layers(graph):
        rounded = calibrated.round(node, price)
        weight = (rounded.q * rounded.step.unsqueeze(1)).numpy().reshape(node.weights["weight"].shape)
        _, _, mean, _ = calibrated.moments[node.name].centred()
        shift = ((node.dense("weight") - weight).reshape(len(weight), -1) @ mean[0].numpy()).astype(
            np.float32
        )
        arrays = {**node.weights, "weight": weight.astype(np.float32), "bias": node.dense("bias") + shift}
        nodes = tuple(replace(n, weights=arrays) if n.name == node.name else n for n in graph.nodes)
        after = log_softmax(run(replace(graph, nodes=nodes), x))
        change = (np.exp(before) * (before - after)).sum(axis=1).mean()
        assert change / 5 < rounded.loss < 5 * change, node.name
        predicted, measured = predicted + rounded.loss, measured + change
    assert predicted == pytest.approx(measured, rel=0.5)


def test_bias_correction(known: Callable[[str], Calibrated], photographs: np.ndarray) -> None:
    """However coarse the weights, the mean of a layer's sums is the original's."""
    calibrated = known("mobilenet_v2")
    graph = calibrated.graph
    teacher, student = (to_torch(graph).requires_grad_(False) for _ in range(2))
    node = layers(graph)[2]
    means = {}

    def note(key: str) -> Callable[..., None]:
        return lambda _m, _x, y: means.__setitem__(key, y.mean((0, 2, 3)))

    for key, module in (("before", teacher), ("after", student)):
        module.part(node.name)._activation = "none"
        module.part(node.name).register_forward_hook(note(key))
    pictures = photographs[:8]
    seen = moments(student, teacher, [node], pictures, lambda n: None)[node.name]
    rounded = best._fit(node, student, teacher, seen, calibrated.importance[node.name], 1e-2)
    assert (rounded.q == 0).double().mean() > 0.3
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float()
    teacher(x), student(x)
    spread = means["before"].std()
    assert (means["after"] - means["before"]).abs().max() < 1e-3 * spread


def test_aims(known: Callable[[str], Calibrated]) -> None:
    calibrated = known("squeezenet")
    bits = [
        sum(calibrated.nearest(node, price) for node in layers(calibrated.graph)) for price in (1e-9, 1e-5)
    ]
    assert bits[0] > bits[1]
    for wanted in (1.0, 3.0):  # bits a weight
        price = price_for(calibrated, wanted)
        spent = sum(calibrated.nearest(node, price) for node in layers(calibrated.graph))
        assert spent / count(calibrated.graph) == pytest.approx(wanted, rel=0.05)
        price = best.price_of(calibrated, wanted * count(calibrated.graph), ignore)
        spent = sum(calibrated.round(node, price).bits for node in layers(calibrated.graph))
        assert spent / count(calibrated.graph) == pytest.approx(wanted, rel=0.03)
    for wanted in (0.01, 0.3):
        price = best.predicted_loss(calibrated, wanted, ignore)
        loss = sum(calibrated.round(node, price).loss for node in layers(calibrated.graph))
        assert loss == pytest.approx(wanted, rel=0.25)


def test_stages(known: Callable[[str], Calibrated]) -> None:
    found = layers(known("mobilenet_v2").graph)
    for stages in (1, 2, 5, 100):
        cut = best._stages(found, stages)
        assert [node.name for stage in cut for node in stage] == [node.name for node in found]
        assert all(cut)
        assert len(cut) <= min(stages + 1, len(found))
    assert len(best._stages(found, 1)) == 1
    assert [node.name for node in best._stages(found, 5)[-1]] == [found[-1].name]


def test_names_that_torch_has_for_itself(photographs: np.ndarray) -> None:
    """Nodes may be called as they like: an ONNX file's are."""
    random = np.random.default_rng(0)
    attributes = {"kernel": (1, 1), "stride": (1, 1), "padding": (0,) * 4, "dilation": (1, 1), "groups": 1}

    def layer(name: str, source: str, channels: tuple[int, int]) -> Node:
        weight = random.normal(0, 0.3, (*channels[::-1], 1, 1)).astype(np.float32)
        return Node(name, "conv", (source,), {**attributes, "activation": "silu"}, {"weight": weight / 10})

    nodes = (
        layer("forward", "input", (3, 8)),
        layer("type", "forward", (8, 8)),
        layer("a", "type", (8, 8)),
        layer("a.b", "a", (8, 8)),
        layer("/a/b.weight", "a.b", (8, 8)),
        Node("train", "global_avg_pool", ("/a/b.weight",)),
    )
    graph = canonical(Graph(Tensor("input", (3, 32, 32)), nodes, "train"))
    calibrated = calibrate(graph, photographs[:HALF], ignore)
    ours, _ = quantize(calibrated, 1e-12, 2)
    assert judge(graph, ours, photographs[HALF:])[1] > 0.9


@pytest.mark.parametrize("kind", ["black", "one"])
def test_pictures_that_tell_nothing(
    kind: str, networks: Mapping[str, Graph], photographs: np.ndarray
) -> None:
    """Calibrated on what does not vary, a network is worse, but still one."""
    pictures = {
        "black": np.zeros_like(photographs[:4]),
        "one": photographs[:1],
    }[kind]
    calibrated = calibrate(networks["mobilenet_v2" if kind == "one" else "medley"], pictures, ignore)
    ours, bits = quantize(calibrated, price_for(calibrated, 3), 2)
    assert np.isfinite(run(ours, photographs[:4])).all()
    assert np.isfinite(bits)


def test_layers_that_are_dead(networks: Mapping[str, Graph], photographs: np.ndarray) -> None:
    """Filters of zeros, and channels that never light up: as training leaves them."""
    graph = networks["mobilenet_v2"]
    nodes = []
    for index, node in enumerate(graph.nodes):
        if node.op == "conv" and index in (0, 1, 2):
            weight, bias = node.dense("weight").copy(), node.dense("bias").copy()
            weight[:3] = 0
            weight[3] *= 1e-12
            bias[:2], bias[2:4] = -5, 1.5
            node = replace(node, weights={**node.weights, "weight": weight, "bias": bias})
        nodes.append(node)
    damaged = replace(graph, nodes=tuple(nodes))
    calibrated = calibrate(damaged, photographs[:HALF], ignore)
    ours, _ = quantize(calibrated, price_for(calibrated, 5), STAGES)
    change, _ = judge(damaged, ours, photographs[HALF:])
    assert change < 0.05
    assert same(sqz.loads(sqz.dumps(sqz.Model(ours, PREPARATION))).graph, ours)
