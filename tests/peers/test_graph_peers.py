"""torchvision's resnet18, vgg16 and others through the graph and back; ONNX files against onnxruntime.

Runs in .venv-peers. Weights are random and seeded: nothing is downloaded.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from squeezekit.graph import Graph
from squeezekit.graph.cost import cost
from squeezekit.graph.from_torch import from_torch
from squeezekit.graph.passes import drop_noops, equalize, fold_batch_norm, fuse_activations
from squeezekit.graph.run import run
from squeezekit.graph.to_torch import to_torch

# Parameters and multiply-accumulates at 224 pixels, as torchvision lists them for its weights.
NETWORKS = [
    ("resnet18", 64, 11_689_512, 1.814),
    ("vgg16", 224, 138_357_544, 15.470),
    ("shufflenet_v2_x0_5", 64, 1_366_792, 0.040),
    ("mobilenet_v3_small", 64, 2_542_856, 0.057),
]


@torch.no_grad()
def build(torchvision: ModuleType, name: str) -> nn.Module:
    """Build a network with random weights whose logits neither vanish nor explode."""
    torch.manual_seed(0)
    network: nn.Module = torchvision.models.get_model(name, weights=None).eval()
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.weight.normal_(0, (2 / module.weight[0].numel()) ** 0.5)
            if module.bias is not None:
                module.bias.normal_(0, 0.1)
        elif isinstance(module, nn.BatchNorm2d):
            module.weight.uniform_(0.5, 1.0)
            module.bias.normal_(0, 0.1)
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.8, 1.2)
    return network


def draw(size: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((1, 3, size, size)).astype(np.float32)


def assert_close(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.shape == theirs.shape
    assert 1e-3 < theirs.std() < 1e4
    assert np.abs(ours - theirs).max() < 1e-4 * theirs.std()


@pytest.mark.parametrize(("name", "size", "parameters", "gigamacs"), NETWORKS)
def test_networks_cross_and_come_back(
    name: str, size: int, parameters: int, gigamacs: float, torchvision: ModuleType
) -> None:
    network = build(torchvision, name)
    graph = from_torch(network, (3, size, size))
    x = draw(size)
    with torch.no_grad():
        expected = network(torch.from_numpy(x)).numpy()
        np.testing.assert_array_equal(to_torch(graph)(torch.from_numpy(x)).numpy(), expected)
    small = fuse_activations(drop_noops(fold_batch_norm(graph)))
    assert not {"batch_norm", "dropout"} & {node.op for node in small.nodes}
    assert_close(run(small, x), expected)
    if parameters < 100_000_000:  # of vgg16 it takes half a minute
        with torch.no_grad():
            assert_close(to_torch(equalize(small))(torch.from_numpy(x)).numpy(), expected)


@pytest.mark.parametrize(("name", "size", "parameters", "gigamacs"), NETWORKS)
def test_counts(name: str, size: int, parameters: int, gigamacs: float, torchvision: ModuleType) -> None:
    with torch.device("meta"):
        network = torchvision.models.get_model(name, weights=None)
    found = cost(from_torch(network, (3, 224, 224)))
    assert found.parameters == parameters
    assert round(found.macs / 1e9, 3) == pytest.approx(gigamacs, abs=0.001)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "squeezenet1_0", "efficientnet_b0"])
def test_onnx_files_of_torch(name: str, tmp_path: Path, torchvision: ModuleType) -> None:
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    from squeezekit.graph.from_onnx import from_onnx

    network, x, file = build(torchvision, name), draw(64), tmp_path / "network.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch recommends its other exporter, which needs a package more
        torch.onnx.export(network, (torch.from_numpy(x),), file, dynamo=False, input_names=["x"])
    graph = from_onnx(file)
    session: Any = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": x})
    assert_close(run(graph, x), expected)
    with torch.no_grad():
        assert_close(network(torch.from_numpy(x)).numpy(), expected)
        assert_close(to_torch(graph)(torch.from_numpy(x)).numpy(), expected)


def test_the_file_of_flax_means_the_same_to_onnxruntime() -> None:
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    from squeezekit.graph.from_onnx import from_onnx

    data = Path(__file__).parents[1] / "graph" / "data"
    stored = np.load(data / "flax_cnn.npz")
    session: Any = onnxruntime.InferenceSession(data / "flax_cnn.onnx", providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {session.get_inputs()[0].name: stored["pictures"]})
    assert_close(expected, stored["logits"])
    graph: Graph = from_onnx(data / "flax_cnn.onnx")
    assert_close(run(graph, np.ascontiguousarray(stored["pictures"].transpose(0, 3, 1, 2))), expected)
