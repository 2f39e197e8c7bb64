"""Retraining: the weights that a method has left learn again, and keep to what it has decided.

Zeros stay zero: that is training under the mask of pruning (Han et al., arXiv:1506.02626, section 3). Weights
that share a value go on sharing it, and the gradient of a value is the sum of theirs ("Deep Compression",
arXiv:1510.00149, section 3.3, equation 3). Without labels, the network learns the answers of the original:
distillation (Hinton, Vinyals and Dean, arXiv:1503.02531, section 2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np
from numpy.typing import NDArray

from squeezekit.compress.layers import layers, with_weights
from squeezekit.compress.shared_weights import exact
from squeezekit.errors import UserError
from squeezekit.graph.graph import Codebook, Graph, Node

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Batches", "Pictures", "array_batches", "retrain"]

#: Gives the batches of one pass: pictures as the graph's input takes them, float32 or uint8, of shape
#: (N, C, H, W), or pairs of these and labels, int64 of shape (N,). Called anew for each pass.
Batches: TypeAlias = Callable[[], Iterator[Union["Tensor", tuple["Tensor", "Tensor"]]]]

#: What to train on: all pictures in one array, prepared, of shape (N, C, H, W), or batches of them.
Pictures: TypeAlias = NDArray[Any] | Batches


def array_batches(
    pictures: NDArray[Any],
    labels: NDArray[np.integer[Any]] | None = None,
    *,
    batch_size: int = 32,
    mirror: bool = False,
    seed: int = 0,
) -> Batches:
    """Make batches of an array, in a new order in each pass.

    Parameters
    ----------
    pictures : ndarray, shape (N, C, H, W)
        float32 or uint8, as the graph's input takes them.
    labels : ndarray of int, shape (N,), optional
    batch_size : int
    mirror : bool
        Show each picture mirrored every other time, by chance. Not for pictures of text or signs.
    seed : int
        The order and the mirroring depend on it, and on how many passes there have been.
    """
    if len(pictures) == 0:
        raise UserError("retraining: there is no picture to train on")
    if labels is not None and len(labels) != len(pictures):
        raise UserError(f"retraining: {len(pictures):,} pictures but {len(labels):,} labels")
    random = np.random.default_rng(seed)

    def one_pass() -> Iterator[Tensor | tuple[Tensor, Tensor]]:
        import torch

        order = random.permutation(len(pictures))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = pictures[rows]
            if mirror:
                turned = random.random(len(rows)) < 0.5
                batch[turned] = batch[turned][..., ::-1]
            x = torch.from_numpy(np.ascontiguousarray(batch))
            yield x if labels is None else (x, torch.from_numpy(labels[rows].astype(np.int64)))

    return one_pass


def retrain(
    graph: Graph,
    pictures: Pictures,
    labels: NDArray[np.integer[Any]] | None = None,
    *,
    teacher: Graph | None = None,
    steps: int = 200,
    rate: float = 2e-3,
    batch_size: int = 32,
    temperature: float = 2.0,
    mirror: bool = False,
    seed: int = 0,
    advance: Callable[[int, int], None] | None = None,
) -> Graph:
    """Train the weights and biases of the convolutions and linear layers further.

    The network is in evaluation mode (no dropout, batch norm as it stands). The optimiser is Adam, and the
    rate falls to 0 along half a cosine.

    Parameters
    ----------
    graph : Graph
        float32. Its zeros stay zero, and a `Codebook`'s weights share what they share.
    pictures : ndarray or Batches
        Prepared pictures, or a function that gives batches of them.
    labels : ndarray of int, shape (N,), optional
        Of an array of pictures; batches bring their own.
    teacher : Graph, optional
        Learn its answers in place of labels: those of the network before it was compressed.
    steps : int
        Batches to train on.
    rate : float
        How far a step may move a weight, as a share of the root mean square of its layer's weights: the same
        number suits every network.
    batch_size : int
        For an array of pictures.
    temperature : float
        That softens both networks' answers in distillation.
    mirror : bool
        See :func:`array_batches`.
    seed : int
        The same seed gives the same weights on the same machine and as many threads.
    advance : callable, optional
        Called with (steps done, steps in all).

    Returns
    -------
    Graph
        Equal but for the values. The one given is not changed, so nothing is left of an interrupted training.

    Raises
    ------
    UserError
        There are neither labels nor a teacher, no pictures, or the training diverged.
    """
    import torch
    from torch.func import functional_call
    from torch.nn import functional as F

    found = layers(graph)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    student = _module(graph, device)
    master = None if teacher is None else _module(teacher, device)
    trained = [_Trained(node, device) for node in found]
    if isinstance(pictures, np.ndarray):
        pictures = array_batches(pictures, labels, batch_size=batch_size, mirror=mirror, seed=seed)
    groups = [group for each in trained for group in each.groups(rate)]
    optimiser = torch.optim.Adam(groups, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: 0.5 * (1 + math.cos(math.pi * step / max(1, steps)))
    )
    for done, (x, truth) in enumerate(_first(steps, pictures), 1):
        x = x.to(device, torch.float32)
        logits = functional_call(
            student, {k: v for t in trained for k, v in t.arrays().items()}, (x,)
        ).flatten(1)
        if master is not None:
            with torch.no_grad():
                answers = F.log_softmax(master(x).flatten(1) / temperature, dim=1)
            softened = F.log_softmax(logits / temperature, dim=1)
            loss = temperature**2 * F.kl_div(softened, answers, log_target=True, reduction="batchmean")
        elif truth is not None:
            loss = F.cross_entropy(logits, truth.to(device))
        else:
            raise UserError("retraining: neither labels nor a teacher to learn from")
        if not torch.isfinite(loss):
            raise UserError(
                f"retraining: diverged in step {done} of {steps} (try a lower rate than {rate:g})"
            )
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        if advance is not None:
            advance(done, steps)
    return with_weights(graph, {each.name: each.result() for each in trained})


def _module(graph: Graph, device: Any) -> nn.Module:
    from squeezekit.graph.to_torch import to_torch

    module: nn.Module = to_torch(graph)
    return module.eval().requires_grad_(False).to(device)


def _first(steps: int, batches: Batches) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Give so many batches, in as many passes as that takes."""
    done = 0
    while done < steps:
        before = done
        for batch in batches():
            if done == steps:
                return
            yield batch if isinstance(batch, tuple) else (batch, None)
            done += 1
        if done == before:
            raise UserError("retraining: there is no picture to train on")


class _Trained:
    """One layer: what is learned of it, and the arrays that the network takes."""

    def __init__(self, node: Node, device: Any) -> None:
        import torch

        self.name, weight = node.name, node.weights["weight"]
        dense = node.dense("weight")
        self.indices: Tensor | None = None
        values = dense
        if isinstance(weight, Codebook):
            self.indices = torch.from_numpy(weight.indices.astype(np.int64)).to(device)
            values = weight.values
        self.values = torch.from_numpy(values.copy()).to(device).requires_grad_()
        self.mask = (self.values != 0).float()
        self.bias: Tensor | None = None
        self.weight_size = _root_mean_square(dense)
        self.bias_size = 0.0
        if "bias" in node.weights:
            bias = node.dense("bias")
            self.bias = torch.from_numpy(bias.copy()).to(device).requires_grad_()
            # A bias of zeros has no size of its own to go by.
            self.bias_size = _root_mean_square(bias) or self.weight_size

    def groups(self, rate: float) -> list[dict[str, Any]]:
        """What Adam shall train, each with its own rate."""
        found = [{"params": [self.values], "lr": rate * self.weight_size}]
        if self.bias is not None:
            found.append({"params": [self.bias], "lr": rate * self.bias_size})
        return found

    def arrays(self) -> dict[str, Tensor]:
        """Return weight and bias by the names they have in the network."""
        weight = self.values * self.mask
        if self.indices is not None:
            # Backwards, index_select adds up the gradients of the weights that share a value: equation 3.
            weight = weight.index_select(0, self.indices.flatten()).view(self.indices.shape)
        named = {f"{self.name}.weight": weight}
        return named if self.bias is None else {**named, f"{self.name}.bias": self.bias}

    def result(self) -> dict[str, NDArray[np.float32] | Codebook]:
        """Return what has been learned, as a node holds it."""
        weight = self.arrays()[f"{self.name}.weight"].detach().cpu().numpy() + np.float32(0)  # no −0
        shared: NDArray[np.float32] | Codebook = weight if self.indices is None else exact(weight)
        if self.bias is None:
            return {"weight": shared}
        return {"weight": shared, "bias": self.bias.detach().cpu().numpy()}


def _root_mean_square(array: NDArray[Any]) -> float:
    """Return it of what is not zero; 0 where nothing is."""
    values = array[array != 0].astype(np.float64)
    return float(np.sqrt(np.square(values).mean())) if values.size else 0.0
