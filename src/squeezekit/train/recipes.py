"""Training recipes: everything about a training run that is a choice rather than the data or the network.

``squeezenet`` is what the SqueezeNet authors used (arXiv:1602.07360, section 3.3 and their published solver),
``modern`` is the default for training from scratch, ``quick`` gets there in fewer epochs with networks made
for it, ``finetune`` starts from published weights.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from math import cos, pi
from typing import Any, Literal

from squeezekit.errors import UserError, suggest

__all__ = ["RECIPES", "Recipe", "learning_rate_factor", "recipe"]

Schedule = Literal["linear", "cosine"]


@dataclass(frozen=True)
class Recipe:
    """One way to train.

    Attributes
    ----------
    name, description : str
    lr : float
        Peak learning rate at a batch of 256 pictures; scaled linearly with the batch, up to 1024 pictures
        (Goyal et al., arXiv:1706.02677, section 2.1).
    lr_without_norm : float
        The same for networks without batch normalisation, which diverge at the rates that suit those with it.
    momentum, nesterov, weight_decay : float, bool, float
        Stochastic gradient descent. Biases and normalisation parameters are not decayed in recipes that set
        ``decay_all=False``.
    schedule : {"linear", "cosine"}
        From the peak to zero at the last step.
    warmup : float
        Share of all steps in which the rate rises linearly from zero.
    label_smoothing : float
        Probability mass moved from the true class to all classes (Szegedy et al., arXiv:1512.00567, section
        7).
    ema : float
        Horizon of the exponential moving average of the weights, as a share of all steps; 0 turns it off.
    lookahead : int
        Every so many steps the weights go on from a slow average of themselves (Zhang et al.,
        arXiv:1907.08610), which takes up less and less of them (Jordan, arXiv:2404.00498, section 3.4); that
        average is what is kept. 0 turns it off.
    augmentation : str
        Name of a policy of :mod:`squeezekit.data.augment`, or "auto": sized to the data.
    dropout : float or None
        Of the classifier; None keeps the network's own.
    norm : bool
        Whether SqueezeNets are built with batch normalisation.
    pictures_seen, min_epochs, max_epochs : int
        The default number of epochs shows the network about `pictures_seen` pictures, between these bounds.
    batch_size : int
        Default batch, made smaller for data sets that have few pictures.
    frozen : float
        Share of the epochs in which only the classifier trains.
    depth_decay : float
        Discriminative rates (Howard & Ruder, arXiv:1801.06146, section 3.2): each third of the network before
        the classifier learns at this factor of the rate of the third behind it.
    feature_rate : float
        Rate of the last third of the features, relative to the classifier's.
    bias_rate, classifier_rate : float
        Rates of all biases and of the classifier, relative to the others' (Jordan, section 3.4).
    orthogonal : float
        Rate of the filters that a normalisation follows, relative to `lr`: they move by orthogonal matrices
        (:class:`squeezekit.train.muon.Muon`), with momentum :attr:`orthogonal_momentum`, and on a line from
        this rate to zero without a warm-up. 0: like all others.
    low_resolution : float
        Share of the epochs, the first ones, that see the pictures at three quarters of the size, for half the
        work (progressive resizing: Tan & Le, arXiv:2104.00298, section 4.2). Networks that need a certain
        size see them in full.
    plain_end : float
        Share of the epochs, the last ones, that see the pictures only cropped and mirrored: as they will be
        in use (He et al., arXiv:1909.09148, section 4).
    gradient_clip : float
        Largest norm of the gradient; 0 turns clipping off.
    """

    name: str
    description: str
    lr: float
    lr_without_norm: float
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    decay_all: bool = False
    schedule: Schedule = "cosine"
    warmup: float = 0.0
    label_smoothing: float = 0.0
    ema: float = 0.0
    lookahead: int = 0
    augmentation: str = "auto"
    dropout: float | None = None
    norm: bool = True
    pictures_seen: int = 1_500_000
    min_epochs: int = 10
    max_epochs: int = 50
    batch_size: int = 256
    frozen: float = 0.0
    depth_decay: float = 1.0
    feature_rate: float = 1.0
    bias_rate: float = 1.0
    classifier_rate: float = 1.0
    orthogonal: float = 0.0
    orthogonal_momentum: float = 0.6
    low_resolution: float = 0.0
    plain_end: float = 0.0
    gradient_clip: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the run's configuration file."""
        return asdict(self)

    def epochs_for(self, pictures: int) -> int:
        """Return the default number of epochs for this many training pictures."""
        return max(self.min_epochs, min(self.max_epochs, round(self.pictures_seen / max(pictures, 1))))

    def batch_size_for(self, pictures: int) -> int:
        """Return the default batch: at least some twenty steps an epoch, never under 16 pictures."""
        batch = self.batch_size
        while batch > 16 and pictures < 20 * batch:
            batch //= 2
        return batch

    def lr_for(self, batch_size: int, norm: bool) -> float:
        """Return the peak learning rate for a batch, and for networks with batch normalisation or without."""
        return (self.lr if norm else self.lr_without_norm) * min(batch_size, 1024) / 256

    def augmentation_for(self, pictures: int) -> str:
        """Return the augmentation policy: the fewer pictures there are, the more they are varied."""
        if self.augmentation != "auto":
            return self.augmentation
        return "light" if pictures >= 20_000 else "medium"


RECIPES: dict[str, Recipe] = {
    "modern": Recipe(
        name="modern",
        description="from scratch: warm-up, cosine, label smoothing, EMA, augmentation sized to the data",
        lr=0.3,
        lr_without_norm=0.02,
        batch_size=128,
        warmup=0.15,
        label_smoothing=0.1,
        ema=0.02,
        dropout=0.0,
        low_resolution=0.65,
        gradient_clip=5.0,
    ),
    "quick": Recipe(
        name="quick",
        description="from scratch in few epochs, for vgg: high rates, fast biases, lookahead",
        # The paper's rates for sums of the loss over a batch, as rates for means.
        lr=0.3,
        lr_without_norm=0.02,
        momentum=0.85,
        weight_decay=1.7e-3,
        decay_all=True,
        schedule="linear",
        batch_size=512,
        warmup=0.23,
        label_smoothing=0.2,
        lookahead=5,
        bias_rate=64.0,
        orthogonal=2 / 15,
        classifier_rate=1 / 81,  # of logits a ninth as large, where the paper divides logits by nine
        dropout=0.0,
        low_resolution=0.4,
        plain_end=0.2,
    ),
    "squeezenet": Recipe(
        name="squeezenet",
        description="the authors': SGD 0.9, linear decay from 0.04, weight decay 2e-4, dropout 0.5",
        # The authors' solver: base_lr 0.04 at a batch of 512, polynomial decay of power 1.
        lr=0.02,
        lr_without_norm=0.02,
        nesterov=False,
        weight_decay=2e-4,
        decay_all=True,
        schedule="linear",
        augmentation="light",
        dropout=0.5,
        norm=False,
        pictures_seen=3_000_000,
        batch_size=512,
    ),
    "finetune": Recipe(
        name="finetune",
        description="from published weights: classifier first, then all, earlier layers slower",
        lr=0.08,
        lr_without_norm=0.08,
        weight_decay=1e-4,
        warmup=0.05,
        label_smoothing=0.05,
        ema=0.05,
        augmentation="medium",
        norm=False,
        pictures_seen=200_000,
        min_epochs=4,
        max_epochs=24,
        batch_size=32,
        frozen=0.25,
        depth_decay=0.4,
        feature_rate=0.15,
        gradient_clip=5.0,
    ),
}


def recipe(name: str, **overrides: Any) -> Recipe:
    """Return the named recipe, with fields replaced.

    Raises
    ------
    UserError
        For a name that is not in :data:`RECIPES`.
    """
    if name not in RECIPES:
        raise UserError(f"--recipe {name}: no such recipe{suggest(name, RECIPES)} ({', '.join(RECIPES)})")
    return replace(RECIPES[name], **{k: v for k, v in overrides.items() if v is not None})


def learning_rate_factor(step: int, steps: int, warmup: float, schedule: Schedule) -> float:
    """Return the learning rate at `step` of `steps`, relative to its peak.

    Linear from 0 to 1 over the first ``warmup * steps`` steps, then down to 0 at the last: on a line
    ("polynomial decay of power 1" in SqueezeNet's solver) or on half a cosine (arXiv:1608.03983, equation 5).
    """
    rising = warmup * steps
    if step < rising:
        return (step + 1) / (rising + 1)
    progress = min(1.0, (step - rising) / (steps - rising))
    return 1 - progress if schedule == "linear" else 0.5 * (1 + cos(pi * progress))
