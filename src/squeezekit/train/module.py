"""The training step: augmentation, forward pass, loss, optimiser. Lightning does the loop around it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from squeezekit.data.augment import Augmentation
from squeezekit.data.preparation import Preparation
from squeezekit.errors import UserError
from squeezekit.train.muon import Muon
from squeezekit.train.precision import bf16_pays
from squeezekit.train.recipes import Recipe, learning_rate_factor

__all__ = ["ClassifierModule", "Normalise", "channels_last", "has_norm"]


def has_norm(network: nn.Module) -> bool:
    """Return whether the network normalises its batches."""
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.modules())


def channels_last(network: nn.Module) -> nn.Module:
    """Lay the filters out as CPUs and tensor cores read them fastest, in place."""
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network


class Normalise(nn.Module):
    """A preparation's arithmetic, on batches.

    ``x' = (x - mean) * scale`` for x in 0…255, after the channels are put into the order that the network
    expects.

    Parameters
    ----------
    preparation : Preparation

    Notes
    -----
    Takes (N, C, H, W) pictures, uint8 or float in 0…255, RGB or grey; returns float32 of the same shape in
    the channels-last memory format.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, preparation: Preparation) -> None:
        super().__init__()
        self.reverse = preparation.channel_order == "BGR"
        self.register_buffer("mean", torch.tensor(preparation.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(preparation.scale).view(1, -1, 1, 1), persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        x = pictures.float()
        if self.reverse:
            x = x.flip(1)
        return ((x - self.mean) * self.scale).contiguous(memory_format=torch.channels_last)


class ClassifierModule(LightningModule):
    """A network, its recipe and the exponential moving average of its weights.

    Parameters
    ----------
    network : nn.Module
        With ``features`` and ``classifier``, as :func:`squeezekit.create_model` returns.
    preparation : Preparation
    augmentation : Augmentation
        Runs on the training device, on whole batches.
    recipe : Recipe
    lr : float
        Peak learning rate, final: scaled to the batch already.
    steps : int
        Optimiser steps of the whole run.
    epochs : int
    early_size : int, optional
        Side of the pictures in the recipe's first, cheaper epochs; None: full size in all.
    seed : int
        Every step draws its random numbers from (seed, step, rank), so that a run that was killed and
        resumed draws the same ones as a run that was not.
    class_weights : Tensor, optional
        (classes,) factors of the loss.
    """

    def __init__(
        self,
        network: nn.Module,
        preparation: Preparation,
        augmentation: Augmentation,
        recipe: Recipe,
        *,
        lr: float,
        steps: int,
        epochs: int,
        seed: int,
        early_size: int | None = None,
        class_weights: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.network = channels_last(network)
        self.normalise = Normalise(preparation)
        self.augmentation = augmentation
        self.plain = Augmentation(
            augmentation.policy.plain, augmentation.size, augmentation.num_classes, augmentation.channels
        )
        self.recipe, self.lr, self.steps, self.epochs, self.seed = recipe, lr, steps, epochs, seed
        self.early_size = early_size
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.averaged: AveragedModel | None = None
        if recipe.ema or recipe.lookahead:
            # The horizon in steps; short runs keep at least ten.
            decay = 1 - 1 / max(10.0, recipe.ema * steps)
            average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
            self.averaged = AveragedModel(self.network, multi_avg_fn=average, use_buffers=True)
            self.averaged.requires_grad_(False)
        #: Of this epoch so far: loss, right answers, pictures.
        self.train_sums = torch.zeros(3)
        self._val_sums = torch.zeros(4)  # loss, right, right among the first five, pictures
        #: The numbers of the last epoch that ended.
        self.epoch_metrics: dict[str, float] = {}

    @property
    def best_network(self) -> nn.Module:
        """The network that is evaluated and kept: the averaged one where there is one."""
        return self.averaged.module if self.averaged is not None else self.network

    @property
    def frozen_epochs(self) -> int:
        return round(self.recipe.frozen * self.epochs)

    @property
    def training_size(self) -> int | None:
        """Side of this epoch's pictures, where it is not the network's own."""
        early = self.current_epoch < round(self.recipe.low_resolution * self.epochs)
        return self.early_size if early else None

    @property
    def augmented(self) -> Augmentation:
        """What is done to this epoch's pictures."""
        plain = self.current_epoch >= self.epochs - round(self.recipe.plain_end * self.epochs)
        return self.plain if plain else self.augmentation

    # -- the steps

    def on_train_epoch_start(self) -> None:
        if self.recipe.frozen:
            self.network.get_submodule("features").requires_grad_(self.current_epoch >= self.frozen_epochs)
        # On the device, so that no step waits for a number to come back.
        self.train_sums = torch.zeros(3, device=self.device)

    def training_step(self, batch: dict[str, Any], batch_index: int) -> Tensor:
        # Not once an epoch: whoever draws between two steps (loaders do, when they start) would shift all
        # that follows.
        torch.manual_seed((self.seed * 1_000_003 + self.global_step) * 1_009 + self.global_rank)
        labels: Tensor = batch["labels"]
        pictures, targets = self.augmented(
            batch["pictures"].permute(0, 3, 1, 2), labels, self.training_size, self._turns(batch["index"])
        )
        logits = self.network(self.normalise(pictures)).float()
        loss = F.cross_entropy(
            logits, targets, weight=self.class_weights, label_smoothing=self.recipe.label_smoothing
        )
        with torch.no_grad():
            hard = targets if targets.ndim == 1 else targets.argmax(1)
            right = (logits.argmax(1) == hard).sum()
            self.train_sums += torch.stack((loss * len(labels), right, right.new_tensor(len(labels))))
        return loss

    def _turns(self, index: Tensor) -> Tensor:
        """Return which turn it is of pictures: this epoch, from 0 or 1 on as chance (the seed) has it."""
        start = (index + self.seed) * 2_654_435_761 >> 16 & 1
        return start + self.current_epoch

    def on_train_batch_end(self, *_: Any) -> None:
        if self.recipe.lookahead:
            if self.global_step % self.recipe.lookahead == 0:
                self._look_ahead()
        elif self.averaged is not None:
            self.averaged.update_parameters(self.network)

    @torch.no_grad()
    def _look_ahead(self) -> None:
        """Take a part of the weights into their slow average, and go on from there."""
        assert self.averaged is not None
        keep = 0.95**self.recipe.lookahead * (self.global_step / self.steps) ** 3
        fast, slow = self.network.state_dict(), self.averaged.module.state_dict()
        for name, weight in fast.items():
            if weight.is_floating_point():
                weight.copy_(slow[name].lerp_(weight, 1 - keep))

    def on_validation_epoch_start(self) -> None:
        self._val_sums = torch.zeros(4, device=self.device)

    def validation_step(self, batch: dict[str, Any], batch_index: int) -> None:
        x, labels = self.normalise(batch["pictures"].permute(0, 3, 1, 2)), batch["labels"]
        logits = self.best_network(x).float()
        loss = F.cross_entropy(logits, labels, reduction="sum")
        top5 = (logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]).any(1).sum()
        top1 = (logits.argmax(1) == labels).sum()
        self._val_sums += torch.stack((loss, top1, top5, top1.new_tensor(len(labels))))

    def on_validation_epoch_end(self) -> None:
        # With several processes, the sums of all of them.
        train = self._summed(self.train_sums)
        if not math.isfinite(train[0]):
            raise UserError(
                f"--lr {self.lr:g}: training diverged in epoch {self.current_epoch + 1} (take a smaller rate)"
            )
        val = self._summed(self._val_sums)
        self.epoch_metrics = {
            "epoch": self.current_epoch + 1,
            "learning_rate": self.lr * self._factor(max(0, self.global_step - 1)),
            "train_loss": _mean(train[0], train[2]),
            "train_accuracy": _mean(train[1], train[2]),
            "val_loss": _mean(val[0], val[3]),
            "val_accuracy": _mean(val[1], val[3]),
            "val_top5": _mean(val[2], val[3]),
        }
        for logger in self.loggers:
            logger.log_metrics(
                {k: v for k, v in self.epoch_metrics.items() if k != "epoch"}, step=self.current_epoch + 1
            )

    def _summed(self, sums: Tensor) -> list[float]:
        if self.trainer.world_size > 1:
            sums = self.trainer.strategy.reduce(sums.clone().to(self.device), reduce_op="sum")
        return [float(x) for x in sums]

    # -- the optimiser

    def _factor(self, step: int) -> float:
        return learning_rate_factor(step, self.steps, self.recipe.warmup, self.recipe.schedule)

    def configure_optimizers(self) -> Any:
        recipe = self.recipe
        free = self._without_scale() if recipe.orthogonal else set()
        groups: list[dict[str, Any]] = []
        for depth, rate in self._groups():
            named = list(depth)
            weights = [p for p in named if p.ndim > 1 and id(p) not in free]
            biases = [p for p in named if p.ndim == 1]
            groups.append({"params": weights, "weight_decay": recipe.weight_decay, "lr": self.lr * rate})
            # At its own rate a bias still decays as fast as a weight.
            decay = recipe.weight_decay / recipe.bias_rate if recipe.decay_all else 0.0
            groups.append({"params": biases, "weight_decay": decay, "lr": self.lr * rate * recipe.bias_rate})
            turned = {"orthogonal": recipe.orthogonal_momentum, "lr": self.lr * rate * recipe.orthogonal}
            groups.append({"params": [p for p in named if id(p) in free], **turned})
        groups = [g for g in groups if g["params"]]
        optimizer = Muon(
            groups,
            dtype=torch.bfloat16 if bf16_pays(self.device.type) else torch.float32,
            lr=self.lr,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
        )
        factors: list[Callable[[int], float]] = [
            self._line if "orthogonal" in group else self._factor for group in groups
        ]
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factors)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _line(self, step: int) -> float:
        return max(0.0, 1 - step / self.steps)

    def _without_scale(self) -> set[int]:
        """Identities of the filters whose scale says nothing, since a normalisation follows.

        Networks here give a convolution no bias of its own then.
        """
        features = self.network.get_submodule("features")
        convs = [m for m in features.modules() if isinstance(m, nn.Conv2d) and m.bias is None]
        return {id(m.weight) for m in convs if m.weight.requires_grad}

    def _groups(self) -> Iterator[tuple[Iterator[nn.Parameter], float]]:
        """Parameters with their rate: the features in thirds, the first the slowest, and the classifier."""
        network, recipe = self.network, self.recipe
        if recipe.feature_rate == recipe.depth_decay == recipe.classifier_rate == 1:
            yield network.parameters(), 1.0
            return
        features = network.get_submodule("features")
        layers = [m for m in features.modules() if list(m.parameters(recurse=False))]
        third = -(-len(layers) // 3)
        for i in range(0, len(layers), third):
            rate = recipe.feature_rate * recipe.depth_decay ** (2 - i // third)
            yield (p for layer in layers[i : i + third] for p in layer.parameters(recurse=False)), rate
        inside = {id(p) for p in features.parameters()}
        yield (p for p in network.parameters() if id(p) not in inside), recipe.classifier_rate


def _mean(total: float, count: float) -> float:
    return total / count if count else float("nan")
