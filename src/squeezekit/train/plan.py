"""What a training run will do, decided before it starts: a user's options, and the plan made of them.

The plan is written into the run folder. A run that is resumed, and an evaluation that must know which
pictures were used for training, read it from there.
"""

from __future__ import annotations

import io
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import torch
from PIL import Image

from squeezekit.data.augment import named_policy
from squeezekit.data.check import BrokenReport
from squeezekit.data.preparation import Preparation
from squeezekit.data.shards import Rows, ShardPart
from squeezekit.data.source import PictureSet
from squeezekit.data.split import deal
from squeezekit.errors import UserError, suggest
from squeezekit.models import check_picture_size, create_model
from squeezekit.models.registry import model_spec
from squeezekit.train.distributed import COMPRESSIONS
from squeezekit.train.module import has_norm
from squeezekit.train.origin import origin
from squeezekit.train.recipes import Recipe, recipe
from squeezekit.train.run_folder import fingerprint

__all__ = ["DEFAULT_METAPARAMETERS", "DEFAULT_MODEL", "Options", "Plan", "defaults_for", "make_plan"]

#: The network where none is named: a SqueezeNet with simple bypass (section 6) that has squeezed less and
#: has more 3x3 filters than v1.0 (section 5: both buy accuracy), and fewer, narrower modules: fewer than
#: 500,000 parameters for ten classes, so that at a byte each it fits half a megabyte.
DEFAULT_MODEL = "squeezenet"
DEFAULT_METAPARAMETERS: dict[str, Any] = {
    "base_e": 96,
    "incr_e": 40,
    "freq": 2,
    "pct_3x3": 0.75,
    "squeeze_ratio": 0.5,
    "bypass": "simple",
    "fires": 6,
    "pools": (1, 3, 5),
    "conv1_channels": 32,
    "conv1_kernel": 3,
}

#: Up to this many pixels a side, the first layers keep the resolution (SqueezeNet's strategy 3).
SMALL = 64
#: Sides that are chosen by themselves; a picture is never made larger than it is.
SIZES = (32, 48, 64, 96, 128, 160, 192, 224)

ClassWeights = Literal["auto", "none", "balanced"]
Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "bf16", "float32"]


@dataclass(frozen=True)
class Options:
    """What a user may ask of a training run. None leaves the choice to the recipe, the data or the machine.

    Attributes
    ----------
    model : str, optional
        An architecture's name. From scratch :data:`DEFAULT_MODEL`; with weights the network that they belong
        to.
    metaparameters : dict
        Handed to :func:`squeezekit.create_model`.
    recipe : str, optional
        "modern" from scratch, "finetune" with weights, or "squeezenet".
    weights : str, optional
        A file to start from, or "imagenet"; the classifier is new where the classes differ.
    epochs, batch_size : int, optional
        The batch is that of all processes together.
    lr : float, optional
        Peak learning rate as it is, not scaled to the batch.
    seed : int
        Of the split, the initial weights, the order and the augmentation.
    size : int, optional
        Side of the network's input, pixels.
    augmentation : str, optional
        Name of a policy of :mod:`squeezekit.data.augment`.
    val_fraction, test_fraction : float
        Shares held out for choosing the best epoch (default: a tenth, at most 2,000 pictures) and for the
        final figures, where DATA has no such splits.
    class_weights : {"auto", "none", "balanced"}
        Weigh the loss by the inverse frequency of the classes; "auto" does so where one class is more than
        twice as frequent as another.
    device : {"auto", "cpu", "cuda", "mps"}
    precision : {"auto", "bf16", "float32"}
        "auto": bfloat16 where the device computes it faster.
    devices, nodes : int
        Processes on each machine, and machines.
    gradient_compression : {"none", "fp16", "powersgd"}
    workers : int, optional
        Processes that read pictures.
    """

    model: str | None = None
    metaparameters: dict[str, Any] = field(default_factory=dict)
    recipe: str | None = None
    weights: str | None = None
    epochs: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    seed: int = 0
    size: int | None = None
    augmentation: str | None = None
    val_fraction: float | None = None
    test_fraction: float = 0.2
    class_weights: ClassWeights = "auto"
    device: Device = "auto"
    precision: Precision = "auto"
    devices: int = 1
    nodes: int = 1
    gradient_compression: str = "none"
    workers: int | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "size", "devices", "nodes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{_flag(name)} {value}: must be at least 1")
        if self.lr is not None and not 0 < self.lr < float("inf"):
            raise UserError(f"--lr {self.lr}: must be a positive number")
        if self.workers is not None and self.workers < 0:
            raise UserError(f"--workers {self.workers}: must be 0 or more")
        if not 0 <= self.seed < 2**31:
            raise UserError(f"--seed {self.seed}: must be from 0 to 2147483647")
        for name in ("val_fraction", "test_fraction"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 0.9:
                raise UserError(f"{_flag(name)} {value}: must be between 0 and 0.9")
        if self.augmentation is not None:
            named_policy(self.augmentation, 32)  # complains of an unknown one
        for name, known in (
            ("class_weights", get_args(ClassWeights)),
            ("device", get_args(Device)),
            ("precision", get_args(Precision)),
            ("gradient_compression", COMPRESSIONS),
        ):
            value = getattr(self, name)
            if value not in known:
                raise UserError(
                    f"{_flag(name)} {value}: unknown{suggest(str(value), known)} ({', '.join(known)})"
                )
        there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        if not there.get(self.device, True):
            raise UserError(
                f"--device {self.device}: PyTorch finds none on this machine (leave it out, or cpu)"
            )


@dataclass(frozen=True)
class Plan:
    """A training run with nothing left to choose. Attributes as in :class:`Options`, resolved.

    ``early_size`` is the side of the pictures in the first epochs, where the recipe begins with smaller ones.
    """

    data: str
    fingerprint: str
    classes: tuple[str, ...]
    pictures: dict[str, int]
    broken: tuple[str, ...]
    model: str
    metaparameters: dict[str, Any]
    parameters: int
    weights: str | None
    preparation: dict[str, Any]
    recipe: dict[str, Any]
    augmentation: str
    early_size: int | None
    epochs: int
    batch_size: int
    lr: float
    seed: int
    val_fraction: float
    test_fraction: float
    class_weights: tuple[float, ...] | None
    asked: dict[str, Any]

    @property
    def prepared(self) -> Preparation:
        """The preparation as an object."""
        return Preparation.from_dict(self.preparation)

    def splits(self, pictures: PictureSet) -> dict[str, Rows]:
        """Return the pictures that train, choose and judge, without the broken ones."""
        return deal(pictures, self.seed, self.val_fraction, self.test_fraction, without=self.broken)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the run folder."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str) -> Plan:
        """Read what :meth:`to_dict` wrote.

        Raises
        ------
        UserError
            Something is missing or of no use.
        """
        try:
            tuples = {k: tuple(values[k]) for k in ("classes", "broken")}
            weights = values["class_weights"]
            return cls(**{**values, **tuples, "class_weights": None if weights is None else tuple(weights)})
        except (KeyError, TypeError) as error:
            raise UserError(f"{where}: damaged, or written by another version ({error})") from error


def make_plan(options: Options, pictures: PictureSet, broken: BrokenReport, mark: str | None = None) -> Plan:
    """Resolve every choice.

    Parameters
    ----------
    options : Options
    pictures : PictureSet
    broken : BrokenReport
        Pictures that cannot be read, to be left out.
    mark : str, optional
        The pictures' fingerprint, where it is known or not wanted.

    Raises
    ------
    UserError
        For what does not exist or does not fit together.
    """
    # A tenth chooses the epoch; two thousand pictures tell epochs apart well enough.
    val_fraction = options.val_fraction or min(0.1, 2000 / len(pictures))
    splits = deal(pictures, options.seed, val_fraction, options.test_fraction, without=broken.names)
    count = len(splits["train"])
    metaparameters = dict(options.metaparameters)
    if options.weights is not None:
        known = origin(options.weights, options.model)
        name = options.model or known.name
        chosen = recipe(options.recipe or "finetune")
        preparation = known.preparation.at(options.size) if options.size else known.preparation
        metaparameters = {**known.metaparameters, **metaparameters}
    else:
        name = options.model or DEFAULT_MODEL
        chosen = recipe(options.recipe or "modern")
        preparation = Preparation(options.size or size_for(pictures, splits["train"]))
        if options.model is None:
            metaparameters = {**DEFAULT_METAPARAMETERS, **metaparameters}
        metaparameters = {**defaults_for(name, preparation.size, chosen), **metaparameters}

    with torch.device("meta"):  # nothing is allocated: only to see that it can be built
        network = create_model(name, len(pictures.classes), preparation.channels, **metaparameters)
    check_picture_size(network.config, preparation.size)
    batch_size = min(options.batch_size or chosen.batch_size_for(count), count)
    return Plan(
        data=pictures.name,
        fingerprint=fingerprint(pictures) if mark is None else mark,
        classes=pictures.classes,
        pictures={k: len(v) for k, v in splits.items()},
        broken=broken.names,
        model=name,
        metaparameters=network.config["metaparameters"],
        parameters=sum(p.numel() for p in network.parameters()),
        weights=options.weights,
        preparation=preparation.to_dict(),
        recipe=chosen.to_dict(),
        augmentation=options.augmentation or chosen.augmentation_for(count),
        early_size=_early_size(network.config, preparation.size) if chosen.low_resolution else None,
        epochs=options.epochs or chosen.epochs_for(count),
        batch_size=batch_size,
        lr=options.lr or chosen.lr_for(batch_size, has_norm(network)),
        seed=options.seed,
        val_fraction=val_fraction,
        test_fraction=options.test_fraction,
        class_weights=balance(pictures, splits["train"], options.class_weights),
        asked=asdict(options),
    )


def defaults_for(name: str, size: int, chosen: Recipe) -> dict[str, Any]:
    """Return the metaparameters that a network trained from scratch gets where nobody says otherwise.

    Parameters
    ----------
    name : str
        The network's.
    size : int
        Side of its pictures, pixels.
    chosen : Recipe
    """
    defaults: dict[str, Any] = {"stem": "small" if size <= SMALL else "standard", "norm": chosen.norm}
    if chosen.dropout is not None:
        defaults["dropout"] = chosen.dropout
    accepted = model_spec(name).metaparameters
    return {key: value for key, value in defaults.items() if key in accepted}


def _early_size(config: Mapping[str, Any], size: int) -> int | None:
    """Return three quarters of the size, if the network takes such pictures."""
    early = round(size * 0.75)
    try:
        check_picture_size(config, early)
    except UserError:
        return None
    return early


def size_for(pictures: PictureSet, indices: Rows) -> int:
    """Return the input size for pictures: the median of their short sides, down to one of :data:`SIZES`."""
    sides = []
    for i in indices[:: max(1, len(indices) // 64)]:
        with Image.open(io.BytesIO(pictures.read(int(i)))) as image:
            sides.append(min(image.size))
    typical = statistics.median(sides)
    return max((s for s in SIZES if s <= typical), default=SIZES[0])


def balance(pictures: PictureSet, indices: Rows, wish: ClassWeights) -> tuple[float, ...] | None:
    """Return weights of the classes in the loss: inversely proportional to their pictures, 1 on average."""
    counts = (
        indices.class_counts
        if isinstance(indices, ShardPart)
        else np.bincount(pictures.labels[indices], minlength=len(pictures.classes))
    )
    if wish == "none" or (wish == "auto" and counts.max() <= 2 * counts.min()):
        return None
    weights = counts.sum() / (len(counts) * np.maximum(counts, 1))
    return tuple(float(w) for w in weights)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
