"""What calibration pictures tell of a network: ranges of values, moments of inputs, what errors cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from squeezekit.compress.ranges import Seen, together, wider
from squeezekit.graph.graph import INPUT, Graph, Node, Quantization
from squeezekit.graph.operators import OPERATORS
from squeezekit.graph.to_torch import GraphModule, to_torch

__all__ = [
    "Answers",
    "Moments",
    "Progress",
    "batches",
    "few",
    "importance",
    "moments",
    "observe",
    "quantized_values",
    "refined",
]

Pictures = NDArray[np.uint8]
Progress = Callable[[int], None]

#: Pictures at a time.
BATCH = 10
#: Positions of a map that are looked at for one picture, at most.
POSITIONS = 1024
#: Inputs of an output channel whose second moments are kept together; wider layers are cut into blocks.
WIDEST = 2304
#: What an error counts where the activation cuts the value off: it may lift the value over the edge.
CUT_OFF = 0.25
#: Pictures on which answers are compared, at most.
JUDGES = 64


def few(pictures: Pictures) -> Pictures:
    """Choose the pictures on which answers are compared: of all classes, since they lie class by class."""
    return pictures[:: -(-len(pictures) // JUDGES)]


def batches(pictures: Pictures, size: int = BATCH) -> Iterator[Tensor]:
    """Give pictures (N, H, W, C) as float batches (N, C, H, W), 0 … 255."""
    for start in range(0, len(pictures), size):
        yield as_input(pictures[start : start + size])


def as_input(pictures: Pictures) -> Tensor:
    """Turn pictures (N, H, W, C) into what the network takes."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float()


class Answers:
    """What a network answers to some pictures, and how far from that other answers are."""

    def __init__(self, module: GraphModule, pictures: Pictures) -> None:
        self.pictures = list(batches(pictures))
        self.given = [_answer(module, x) for x in self.pictures]

    def change(self, module: GraphModule) -> float:
        """Return by how much a module answers otherwise: nats of KL divergence, all pictures together."""
        return sum(
            float(F.kl_div(_answer(module, x), y, log_target=True, reduction="sum"))
            for x, y in zip(self.pictures, self.given, strict=True)
        )


def _answer(module: GraphModule, x: Tensor) -> Tensor:
    logarithms: Tensor = module(x).flatten(1).log_softmax(1)
    return logarithms


class _Rounded(torch.autograd.Function):
    """Round to what bytes can mean; the gradient passes where nothing was cut off (straight through)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float, zero: int) -> Tensor:
        levels = torch.round(x / scale)
        ctx.save_for_backward((levels >= -zero) & (levels <= 255 - zero))
        return levels.clamp_(-zero, 255 - zero).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None, None


def quantized_values(module: GraphModule, graph: Graph, values: Mapping[str, Quantization | None]) -> None:
    """Let a module's nodes give what their bytes will mean, from now on.

    Values that are None, or that are set to None later, stay as they are.
    """

    def hook(name: str) -> Callable[..., Tensor]:
        def rounded(_module: nn.Module, _inputs: Any, y: Tensor) -> Tensor:
            q = values[name]
            if q is None:
                return y
            levels: Tensor = _Rounded.apply(y, q.scale, q.zero_point)  # type: ignore[no-untyped-call]
            return levels

        return rounded

    for node in graph.nodes:
        if not OPERATORS[node.op].keeps:  # these only pass on what is rounded already
            module.part(node.name).register_forward_hook(hook(node.name))


#: How much wider or narrower than the first choice a range may become.
_FACTORS = (0.75, 1.35, 1.8)


@torch.no_grad()
def refined(
    graph: Graph, values: Mapping[str, Quantization | None], pictures: Pictures, advance: Progress
) -> dict[str, Quantization | None]:
    """Try wider and narrower ranges for every value by itself, and keep what changes the answers least."""
    module = to_torch(graph)
    now: dict[str, Quantization | None] = dict.fromkeys(values)
    quantized_values(module, graph, now)
    answers = Answers(module, few(pictures))
    found = dict(values)
    groups = [m for m in together(graph) if values[m[0]] is not None and INPUT not in m]
    for members in groups:
        first = values[members[0]]
        assert first is not None
        best, least = first, math.inf
        for choice in (first, *(wider(first, factor) for factor in _FACTORS)):
            now.update(dict.fromkeys(members, choice))
            change = answers.change(module)
            if change < least:
                best, least = choice, change
        now.update(dict.fromkeys(members))
        found.update(dict.fromkeys(members, best))
        advance(1)
    return found


@torch.no_grad()
def observe(graph: Graph, pictures: Pictures, advance: Progress) -> dict[str, Seen]:
    """Run pictures through a float graph and note what every value has been."""
    module = to_torch(graph)
    seen: dict[str, list[Any]] = {node.name: [np.inf, -np.inf, []] for node in graph.nodes}
    count = max(1, -(-len(pictures) // BATCH))

    def note(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, y: Tensor) -> None:
            flat = y.flatten()
            row = seen[name]
            row[0], row[1] = min(row[0], float(flat.min())), max(row[1], float(flat.max()))
            each = max(1, 2**17 // count)
            row[2].append(flat[:: max(1, len(flat) // each)].numpy().copy())

        return hook

    for node in graph.nodes:
        module.part(node.name).register_forward_hook(note(node.name))
    for batch in batches(pictures):
        module(batch)
        advance(len(batch))
    found = {name: Seen(low, high, np.concatenate(parts)) for name, (low, high, parts) in seen.items()}
    found[INPUT] = Seen(0.0, 255.0, np.arange(256, dtype=np.float32))
    return found


def importance(
    graph: Graph,
    layers: Sequence[Node],
    last: Collection[str],
    pictures: Pictures,
    advance: Progress,
    *,
    seed: int = 0,
    draws: int = 2,
) -> dict[str, NDArray[np.float64]]:
    """Measure how much an error in each output channel of each layer changes the network's answer.

    The answer's distribution changes, in nats (KL divergence), by half of ``Σ G δ²`` for small errors δ: G is
    the Fisher information, the mean square of the gradient of ``-log p(y)`` for answers y drawn from the
    network's own distribution. Labels are not needed.

    Returns
    -------
    dict of str to ndarray, shape (O,)
        Σ over positions of G, mean over pictures. Where an activation cuts the value off, the gradient behind
        it counts with :data:`CUT_OFF`.
    """
    module = to_torch(graph).requires_grad_(False)
    sums = {node.name: torch.zeros(node.weights["weight"].shape[0], dtype=torch.float64) for node in layers}

    def note(node: Node) -> Callable[..., None]:
        cuts = node.attributes["activation"] != "none"
        edge = 1.0 if node.name in last else CUT_OFF

        def hook(_module: nn.Module, _inputs: Any, y: Tensor) -> None:
            counts = torch.where(y > 0, 1.0, edge) if cuts else None

            def collect(gradient: Tensor) -> None:
                square = gradient.square() if counts is None else gradient.square() * counts
                sums[node.name] += square.transpose(0, 1).flatten(1).sum(1).double()

            y.requires_grad_(True) if y.is_leaf else None
            y.register_hook(collect)  # type: ignore[no-untyped-call]

        return hook

    for node in layers:
        module.part(node.name).register_forward_hook(note(node))
    generator = torch.Generator().manual_seed(seed)
    for batch in batches(pictures):
        for _ in range(draws):
            logits = module(batch.requires_grad_(True)).flatten(1)
            drawn = torch.multinomial(logits.detach().softmax(1), 1, generator=generator)[:, 0]
            F.cross_entropy(logits, drawn, reduction="sum").backward()  # type: ignore[no-untyped-call]
        advance(len(batch))
    return {name: (total / (len(pictures) * draws)).numpy() for name, total in sums.items()}


@dataclass
class Moments:
    """Second moments of what a layer's filters see, in blocks: one a group, or parts of a wide filter.

    Attributes
    ----------
    count : float
        Positions seen.
    origin : Tensor, shape (B, n, 1)
        What is taken from all inputs first, about their mean: squares of large numbers would leave nothing
        of a small variance.
    xx, yx : Tensor, shape (B, n, n)
        Σ x xᵀ of the inputs x of the quantized network, and Σ y xᵀ with the original's inputs y.
    x, y : Tensor, shape (B, n)
        Sums.
    """

    count: float = 0.0
    origin: Any = None
    xx: Any = 0.0
    yx: Any = 0.0
    x: Any = 0.0
    y: Any = 0.0

    def add(self, x: Tensor, y: Tensor | None) -> None:
        """Take in windows (B, n, positions) of both networks; None: of one that is both."""
        if self.origin is None:
            self.origin = x.mean(2, keepdim=True)
        x, y = x - self.origin, None if y is None else y - self.origin
        self.count += x.shape[2]
        product = (x @ x.transpose(1, 2)).double()
        self.xx = self.xx + product
        self.yx = self.yx + (product if y is None else (y @ x.transpose(1, 2)).double())
        self.x = self.x + x.sum(2).double()
        self.y = self.y + (x if y is None else y).sum(2).double()

    def centred(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return covariances (of x, of y with x), shape (B, n, n), and means (of x, of y), shape (B, n)."""
        x, y = self.x / self.count, self.y / self.count
        xx = self.xx / self.count - x.unsqueeze(2) * x.unsqueeze(1)
        yx = self.yx / self.count - y.unsqueeze(2) * x.unsqueeze(1)
        origin = self.origin[:, :, 0]
        return xx, yx, x + origin, y + origin

    def variance(self) -> Tensor:
        """Return the variances of x, shape (B, n): the diagonal of what :meth:`believed` returns."""
        mean = self.x / self.count
        spread: Tensor = self.xx.diagonal(dim1=1, dim2=2) / self.count - mean.square()
        return spread

    def believed(self) -> Tensor:
        """Return the covariance of x, shape (B, n, n), as far as so few positions tell.

        From fewer positions than inputs most directions would seem never to occur, and weights that matter
        there would be worth nothing. So inputs are taken to hang together less than they were seen to, by the
        share of n in n and the positions (shrinkage, Ledoit and Wolf, J. Multivar. Anal. 88, 2004).
        """
        return self.shrunk(self.centred()[0])

    def shrunk(self, xx: Tensor) -> Tensor:
        """Return what :meth:`believed` returns, from the covariance that :meth:`centred` gave."""
        alone = torch.diag_embed(xx.diagonal(dim1=1, dim2=2))
        share = xx.shape[1] / (xx.shape[1] + self.count)
        return (1 - share) * xx + share * alone


@dataclass
class _Inputs:
    """Catches what arrives at some parts of a module."""

    caught: dict[str, Tensor] = field(default_factory=dict)

    def listen(self, module: GraphModule, layers: Sequence[Node]) -> list[Any]:
        return [
            module.part(node.name).register_forward_pre_hook(
                lambda _m, inputs, name=node.name: self.caught.__setitem__(name, inputs[0])
            )
            for node in layers
        ]


@torch.no_grad()
def moments(
    student: GraphModule,
    teacher: GraphModule | None,
    layers: Sequence[Node],
    pictures: Pictures,
    advance: Progress,
) -> dict[str, Moments]:
    """Gather the moments of some layers' inputs.

    Parameters
    ----------
    student, teacher
        The network as it is quantized so far, and as it was; None: the student is both.
    """
    found = {node.name: Moments() for node in layers}
    ours, theirs = _Inputs(), _Inputs()
    hooks = ours.listen(student, layers)
    if teacher is not None:
        hooks += theirs.listen(teacher, layers)
    for batch in batches(pictures):
        student(batch)
        if teacher is not None:
            teacher(batch)
        for node in layers:
            part = student.part(node.name)
            x = windows(part, node, ours.caught[node.name])
            y = None if teacher is None else windows(part, node, theirs.caught[node.name])
            found[node.name].add(x, y)
        advance(len(batch))
    for hook in hooks:
        hook.remove()
    return found


def blocks(node: Node) -> tuple[int, int]:
    """Return into how many blocks a layer's filters are cut: by groups, and by width."""
    weight = node.weights["weight"]
    width = int(np.prod(weight.shape[1:]))
    groups, parts = int(node.attributes.get("groups", 1)), 1
    while groups == 1 and (width // parts > WIDEST or width % parts):
        parts += 1
    return groups, parts


def windows(part: nn.Module, node: Node, x: Tensor) -> Tensor:
    """Return what a layer's filters see: (blocks, n, positions), all pictures' positions in a row."""
    groups, parts = blocks(node)
    if node.op == "linear":
        seen = x.unsqueeze(2)
    else:
        a = node.attributes
        padded = part.padded(x)  # type: ignore[operator]
        # Of many positions every second one, or third, in both directions.
        sides = [
            (padded.shape[2 + i] - a["dilation"][i] * (a["kernel"][i] - 1) - 1) // a["stride"][i] + 1
            for i in (0, 1)
        ]
        leap = math.ceil(math.sqrt(sides[0] * sides[1] / POSITIONS))
        stride = (a["stride"][0] * leap, a["stride"][1] * leap)
        seen = F.unfold(padded, a["kernel"], dilation=a["dilation"], stride=stride)
    pictures, wide, positions = seen.shape
    blocked = seen.reshape(pictures, groups * parts, wide // (groups * parts), positions)
    return blocked.permute(1, 2, 0, 3).flatten(2)
