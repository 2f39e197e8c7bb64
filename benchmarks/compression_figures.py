"""The pictures of docs/compression.md: what a price on bits does to a network's weights.

    squeezekit demo --out demo/
    python benchmarks/compression_figures.py [--run demo/run] [--data digits] [--out docs] [--layer NAME]

They are of the demo's network, so anybody can draw them again. Calibrated on the pictures that `squeezekit
compress` would take; changes of answers are measured on those it judges by.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from squeezekit.compress.best import Calibrated, _matrix, _rows, calibrate, price_of, quantize
from squeezekit.compress.canonical import canonical
from squeezekit.compress.compress import EFFORTS
from squeezekit.compress.layers import layers
from squeezekit.compress.material import gather
from squeezekit.compress.rates import Rates, classes
from squeezekit.compress.rounding import Rounded, round_weights
from squeezekit.data.source import open_pictures
from squeezekit.files import write_atomically
from squeezekit.graph import Graph, Node
from squeezekit.graph.from_torch import from_torch
from squeezekit.graph.passes import prepare
from squeezekit.graph.run import run
from squeezekit.report.style import LIGHT, matplotlib_settings
from squeezekit.train.classifier import load_classifier

BITS = (4.0, 2.0, 1.0)  #: bits a weight, of the whole network
CURVE = (6.0, 5.0, 4.0, 3.0, 2.5, 2.0, 1.5, 1.0, 0.7)


def ignore(_done: int, _total: int) -> None:
    """Nobody watches."""


def bits_of(q: Tensor) -> float:
    return float(Rates(q, classes(q)).bits(q, classes(q)).sum())


def histograms(calibrated: Calibrated, node: Node, prices: list[float]) -> Figure:
    """One layer's weights before and after."""
    before = node.dense("weight").ravel()
    reach = float(np.quantile(np.abs(before), 0.998)) * 1.05
    figure = Figure(figsize=(9, 5.2), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True).ravel()
    bins = np.linspace(-reach, reach, 122)
    axes[0].stairs(np.histogram(before, bins)[0], bins, fill=True, color=LIGHT.train)
    axes[0].set_title("before: float32, 32 bits a weight")
    for axis, price in zip(axes[1:], prices, strict=True):
        rounded = calibrated.round(node, price)
        after = (rounded.q * rounded.step.unsqueeze(1)).numpy().ravel()
        counts = np.histogram(after, bins)[0]
        axis.stairs(counts, bins, fill=True, baseline=0.5, color=LIGHT.validation)
        axis.set_ylim(bottom=0.5)
        axis.set_yscale("log")
        axis.minorticks_off()
        zero = float((rounded.q == 0).double().mean())
        axis.set_title(f"{rounded.bits / len(before):.1f} bits a weight, {zero:.0%} zeros")
    for axis in axes:
        axis.set_ylabel("weights" if axis is axes[0] else "weights (log)")
        axis.grid(False)
    for axis in axes[2:]:
        axis.set_xlabel("value")
    return figure


def by_layer(calibrated: Calibrated, prices: list[float]) -> Figure:
    """Where one price spends the bits."""
    found = layers(calibrated.graph)
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    axis = figure.subplots()
    colours = (LIGHT.average, LIGHT.validation, LIGHT.right)
    for price, colour, bits in zip(prices, colours, BITS, strict=True):
        spent = [calibrated.round(node, price).bits / node.weights["weight"].size for node in found]
        axis.plot(spent, "o-", color=colour, markersize=5, linewidth=1.2)
        axis.annotate(
            f"{bits:g} bits on average",
            (len(spent) - 1, spent[-1]),
            (8, 0),
            textcoords="offset points",
            color=colour,
            va="center",
        )
    names = [node.name.removeprefix("features.").removeprefix("classifier.") for node in found]
    axis.set_xticks(range(len(names)), names, rotation=60, ha="right")
    axis.set_xlim(-0.5, len(names) + 2.5)
    axis.set_ylim(bottom=0)
    axis.set_ylabel("bits a weight")
    axis.set_title("One price for a bit gives every layer its own number of them")
    return figure


def plain(node: Node, levels: float) -> Rounded:
    """Round to the nearest on a grid that reaches a filter's largest weight in so many levels."""
    weight = torch.from_numpy(node.dense("weight").astype(np.float64)).flatten(1)
    step = torch.exp2(torch.round(4 * torch.log2(weight.abs().amax(1).clamp(min=1e-12) / levels)) / 4)
    q = (weight / step.unsqueeze(1)).round().clamp(-127, 127)
    return Rounded(q.long(), step, bits_of(q), 0.0)


def uncompensated(calibrated: Calibrated, node: Node, price: float) -> Rounded:
    """Round with a price, but let no weight make good what another lost."""
    variances = torch.diag_embed(calibrated.moments[node.name].believed().diagonal(dim1=1, dim2=2))
    weight = _matrix(node.dense("weight"), node)
    return round_weights(weight, variances, _rows(calibrated.importance[node.name], node), price)


def change(calibrated: Calibrated, rounded: dict[str, Rounded], judges: NDArray[np.uint8]) -> float:
    """Nats by which the answers change when weights alone are rounded."""
    nodes = []
    for node in calibrated.graph.nodes:
        if node.name in rounded:
            weight = (rounded[node.name].q * rounded[node.name].step.unsqueeze(1)).numpy()
            arrays = {
                **node.weights,
                "weight": weight.reshape(node.weights["weight"].shape).astype(np.float32),
            }
            node = Node(node.name, node.op, node.inputs, node.attributes, arrays)
        nodes.append(node)
    x = np.ascontiguousarray(judges.transpose(0, 3, 1, 2), np.float32)
    graph = calibrated.graph
    return divergence(run(graph, x), run(Graph(graph.input, tuple(nodes), graph.output), x))


def divergence(before: NDArray[np.float32], after: NDArray[np.float32]) -> float:
    p, q = (torch.from_numpy(logits).flatten(1).double().log_softmax(1) for logits in (before, after))
    return float((p.exp() * (p - q)).sum(1).mean())


def trade(calibrated: Calibrated, judges: NDArray[np.uint8]) -> Figure:
    """Bits against the change of answers, for plain rounding and with each step of the method."""
    found = layers(calibrated.graph)
    count = sum(node.weights["weight"].size for node in found)
    curves: dict[str, list[tuple[float, float]]] = {}

    def add(name: str, rounded: dict[str, Rounded]) -> None:
        bits = sum(bits_of(each.q.double()) for each in rounded.values()) / count
        curves.setdefault(name, []).append((bits, change(calibrated, rounded, judges)))

    for levels in (60, 30, 16, 10, 7, 5, 4, 3, 2.5, 2):
        add("to the nearest", {node.name: plain(node, levels) for node in found})
    x = np.ascontiguousarray(judges.transpose(0, 3, 1, 2), np.float32)
    answers = run(calibrated.graph, x)
    for bits in CURVE:
        price = price_of(calibrated, bits * count, ignore)
        add("one price for a bit", {n.name: uncompensated(calibrated, n, price) for n in found})
        add("… and errors made good", {n.name: calibrated.round(n, price) for n in found})
        made = quantize(calibrated, price, EFFORTS["default"][0], ignore)
        curves.setdefault("… fitted stage by stage, int8 throughout", []).append(
            (made.bits / count, divergence(answers, run(made.graph(calibrated), judges)))
        )
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    axis = figure.subplots()
    colours = (LIGHT.train, LIGHT.average, LIGHT.rate, LIGHT.validation)
    for (name, points), colour in zip(curves.items(), colours, strict=True):
        x_values, y_values = zip(*sorted(points), strict=True)
        axis.plot(x_values, y_values, "o-", color=colour, markersize=4, label=name)
        print(name, *(f"{bits:.2f}:{nats:.4f}" for bits, nats in sorted(points)))
    axis.set_yscale("log")
    axis.minorticks_off()
    axis.set_xlabel("bits a weight")
    axis.set_ylabel("change of the answers, nats")
    axis.set_xlim(0, 7)
    axis.legend()
    axis.set_title("The same bits, spent better")
    return figure


def save(figure: Figure, path: Path) -> None:
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    text = "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"{path}: {len(text):,} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("demo/run"))
    parser.add_argument("--data", default="digits")
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--layer", default="features.fire6.expand3x3", help="whose weights are drawn")
    arguments = parser.parse_args()
    classifier = load_classifier(arguments.run)
    preparation = classifier.preparation
    material = gather(classifier, open_pictures(arguments.data), most=300, seed=0, advance=ignore)
    shape = (preparation.channels, preparation.size, preparation.size)
    graph = canonical(
        prepare(from_torch(classifier.network.cpu(), shape), preparation.mean, preparation.scale)
    )
    calibrated = calibrate(graph, material.calibration, ignore)
    weights = sum(node.weights["weight"].size for node in layers(graph))
    Console().print(
        f"{weights:,} weights, {len(material.calibration)} pictures, {len(material.judges)} judge"
    )
    prices = [price_of(calibrated, bits * weights, ignore) for bits in BITS]
    settings = {**matplotlib_settings(LIGHT), "svg.hashsalt": "squeezekit", "svg.fonttype": "path"}
    with matplotlib.rc_context(settings):
        save(
            histograms(calibrated, graph.node(arguments.layer), prices),
            arguments.out / "compression-weights.svg",
        )
        save(by_layer(calibrated, prices), arguments.out / "compression-layers.svg")
        save(trade(calibrated, material.judges), arguments.out / "compression-trade.svg")


if __name__ == "__main__":
    main()
