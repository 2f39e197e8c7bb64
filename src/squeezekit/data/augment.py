"""Augmentation of whole batches on the training device, with kornia.

The order is that of torchvision's reference recipes, with the mirror image first: crop, colour, RandAugment
(arXiv:1909.13719), random erasing (arXiv:1708.04896), and last mixup (arXiv:1710.09412) or CutMix
(arXiv:1905.04899).

All randomness comes from torch's global generator on the CPU (kornia draws from nothing else), so
``torch.manual_seed`` before an epoch fixes all of it, on every device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import kornia.augmentation as K
import torch
import torch.nn.functional as F
from kornia.augmentation.auto import RandAugment
from torch import Tensor, nn

from squeezekit.errors import UserError, suggest

__all__ = ["POLICIES", "Augmentation", "Policy", "named_policy"]

#: Where pictures are made smaller anyway, what "shift" cuts out is this much smaller or larger than the size.
ZOOM = (0.8, 1.125)

#: Numbers of a portion that is augmented at a time on a CPU: 16 pictures of 224 × 224.
PORTION = 16 * 3 * 224 * 224

_Step = Callable[[Tensor], Tensor]
_Mixing = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Policy:
    """What is done to the pictures of a batch, and how strongly. The defaults do nothing.

    Attributes
    ----------
    crop : {"none", "shift", "resized"}
        "shift": pad all around and cut the size out at random, as for CIFAR. "resized": cut a random part and
        scale it to the size, as for photographs.
    shift : float
        Padding on each side, as a share of the size (1/8: 4 of 32 pixels).
    padding : {"reflect", "zeros"}
    scale, ratio : (float, float)
        Range of the area and the aspect ratio of the parts that "resized" cuts.
    flip : float
        Probability of a mirror image. With 0.5 a picture and its mirror image may come in turns
        (:meth:`Augmentation.forward`).
    color : float
        Brightness, contrast and saturation each change by up to this factor.
    hue : float
        Largest turn of the colour circle, 0 to 0.5, for one picture in five.
    randaugment : int
        How many operations of RandAugment, 0 to 13.
    magnitude : int
        Their strength, 1 to 29.
    erase : float
        Probability that a rectangle is blotted out.
    erased : (float, float)
        Range of the rectangle's share of the picture.
    erased_ratio : (float, float)
        Range of its aspect ratio.
    mixup, cutmix : float
        Alpha of the Beta distribution; 0 turns it off. With both, each batch draws one.
    mix : float
        Probability that a batch is mixed at all.
    """

    crop: Literal["none", "shift", "resized"] = "none"
    shift: float = 0.125
    padding: Literal["reflect", "zeros"] = "reflect"
    scale: tuple[float, float] = (0.35, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.0
    color: float = 0.0
    hue: float = 0.0
    randaugment: int = 0
    magnitude: int = 9
    erase: float = 0.0
    erased: tuple[float, float] = (0.02, 0.33)
    erased_ratio: tuple[float, float] = (0.3, 3.3)
    mixup: float = 0.0
    cutmix: float = 0.0
    mix: float = 1.0

    @property
    def mixes(self) -> bool:
        """Whether labels become soft."""
        return self.mix > 0 and (self.mixup > 0 or self.cutmix > 0)

    @property
    def plain(self) -> Policy:
        """The same crop and mirror images, and nothing else."""
        return Policy(self.crop, self.shift, self.padding, self.scale, self.ratio, self.flip)

    def canvas(self, size: int) -> int:
        """Return the side that the loader's pictures should have for this input size, in pixels."""
        return round(size * 8 / 7) if self.crop == "resized" else size


#: By name, for small pictures (up to 96 px); :func:`named_policy` adapts them to larger ones.
POLICIES = {
    "none": Policy(),
    "shift": Policy(crop="shift"),
    "light": Policy(crop="shift", flip=0.5),
    # As light, and the network may not rest on one part of the picture: squares of a quarter to three eighths
    # of its side are missing (arXiv:1708.04552, section 4.3, has half; that suits larger networks).
    "cutout": Policy(crop="shift", flip=0.5, erase=1.0, erased=(1 / 16, 9 / 64), erased_ratio=(1, 1)),
    "medium": Policy(crop="shift", flip=0.5, color=0.2, erase=0.25),
    "strong": Policy(
        crop="shift", flip=0.5, color=0.2, randaugment=1, erase=0.25, mixup=0.2, cutmix=1.0, mix=0.5
    ),
}


def named_policy(name: str, size: int) -> Policy:
    """Return the named policy for an input size.

    Up to 96 pixels the crop is pad-and-shift; above, pictures are photographs of things at any scale, and it
    is the random resized crop.

    Raises
    ------
    UserError
        For a name that is not in :data:`POLICIES`.
    """
    if name not in POLICIES:
        raise UserError(f"--augmentation {name}: unknown{suggest(name, POLICIES)} ({', '.join(POLICIES)})")
    found = POLICIES[name]
    return replace(found, crop="resized") if found.crop == "shift" and size > 96 else found


class Augmentation(nn.Module):
    """A policy, ready to run on batches.

    Parameters
    ----------
    policy : Policy or str
        Or the name of one, adapted to the size by :func:`named_policy`.
    size : int
        Side of the pictures that come out, in pixels.
    num_classes : int
        For soft labels.
    channels : int
        3, or 1 for greyscale (then without saturation and hue).

    Examples
    --------
    >>> augment = Augmentation("strong", size=32, num_classes=10)
    >>> pictures, targets = augment(torch.zeros(8, 3, 32, 32, dtype=torch.uint8), torch.arange(8))
    >>> pictures.shape, pictures.dtype
    (torch.Size([8, 3, 32, 32]), torch.float32)
    """

    def __init__(self, policy: Policy | str, size: int, num_classes: int, channels: int = 3) -> None:
        super().__init__()
        policy = named_policy(policy, size) if isinstance(policy, str) else policy
        self.policy, self.size, self.num_classes, self.channels = policy, size, num_classes, channels
        # In plain lists: kornia's modules carry parameters of no use here, which are not to end in a
        # checkpoint or in data-parallel training's exchange.
        self._steps = _steps(policy, channels)
        self._mixing: list[_Mixing] = []
        if policy.mix and policy.mixup:
            self._mixing.append(_MixUp(policy.mixup))
        if policy.mix and policy.cutmix:
            self._mixing.append(_CutMix(policy.cutmix))

    @torch.no_grad()
    def forward(
        self, pictures: Tensor, labels: Tensor, size: int | None = None, turns: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Augment a batch.

        Parameters
        ----------
        pictures : Tensor, (N, C, H, W)
            uint8, or float in 0…255. H and W at least ``size`` (:meth:`Policy.canvas`).
        labels : Tensor of int64, (N,)
        size : int, optional
            A smaller side than the policy's, for progressive resizing. Since all pixels are resampled then,
            "shift" varies the scale as well, at no cost.
        turns : Tensor of int64, (N,), optional
            How often each picture has come before, from 0 or 1 on, at random. Where half of the pictures are
            mirrored, those in an odd turn are: so that of two epochs one shows the picture and one its mirror
            image (Jordan, arXiv:2404.00498, section 3.6). Without it each is mirrored by chance.

        Returns
        -------
        pictures : Tensor of float32, (N, C, size, size)
            In 0…255 still, not normalised.
        targets : Tensor
            `labels`, or where the batch was mixed float32 (N, num_classes), each row adding up to 1.
        """
        if self.policy.flip:
            chance = torch.rand(len(labels)) < self.policy.flip
            mirrored = chance if turns is None or self.policy.flip != 0.5 else turns.cpu() % 2 == 1
            pictures = torch.where(mirrored.view(-1, 1, 1, 1).to(pictures.device), pictures.flip(3), pictures)
        # On a CPU in portions: tensors of some megabytes stay in the cache, and the allocator hands the same
        # pages out again instead of fetching new ones from the system, which costs more than the arithmetic.
        portions = 1 if pictures.is_cuda else max(1, round(pictures.numel() / PORTION))
        x = torch.cat(
            [self._augment(portion, portions, size or self.size) for portion in pictures.chunk(portions)]
        )
        targets = labels
        if self._mixing and len(labels) > 1 and torch.rand(()).item() < self.policy.mix:
            chosen = int(torch.randint(len(self._mixing), ()).item())
            x, targets = self._mixing[chosen](x, labels, self.num_classes)
        return x, targets

    def _augment(self, pictures: Tensor, portions: int, size: int) -> Tensor:
        x = pictures.to(torch.float32, memory_format=torch.contiguous_format).div(255)
        if self.policy.crop != "none":
            side = self.size
            if self.policy.crop == "shift" and size < side:
                side = int(side * (ZOOM[0] + (ZOOM[1] - ZOOM[0]) * torch.rand(()).item()))
            x = _crop(self.policy, self.size, side)(x)
        if x.shape[-2:] != (size, size):
            x = F.interpolate(x, (size, size), mode="bilinear", antialias=True, align_corners=False)
        for step, is_same_for_all in self._steps:
            # Some of kornia's draw once a call for every picture; a batch shall see at least four draws.
            parts = -(-4 // portions) if is_same_for_all else 1
            x = torch.cat([step(part) for part in x.chunk(parts)]) if parts > 1 else step(x)
        return x * 255


def _steps(policy: Policy, channels: int) -> list[tuple[_Step, bool]]:
    """Return what is done to single pictures, in order, and whether it draws once a call for all of them."""
    steps: list[tuple[_Step, bool]] = []
    if policy.color:
        # Not ColorJiggle: slower, and it adds to brightness where this multiplies. A fixed order is slower
        # too.
        saturation = policy.color if channels == 3 else 0.0
        steps.append((K.ColorJitter(policy.color, policy.color, saturation, 0.0), False))
    if policy.hue and channels == 3:
        # Through HSV, at six times the cost of the three above together; so few pictures get it.
        steps.append((K.RandomHue((-policy.hue, policy.hue), p=0.2), False))
    if policy.randaugment:
        steps.append((_randaugment(policy, channels), True))
    if policy.erase:
        erasing = K.RandomErasing(policy.erased, policy.erased_ratio, value=0.5, p=policy.erase)
        steps.append((erasing, False))
    return steps


@cache
def _crop(policy: Policy, size: int, side: int) -> _Step:
    """Return what cuts pictures of `side` pixels out of those made for `size`."""
    # cropping_mode="slice" cuts with indices; the other mode warps every pixel of the picture.
    crop: _Step
    if policy.crop == "shift":
        mode = "reflect" if policy.padding == "reflect" else "constant"
        padding = max(1, round(size * policy.shift))
        crop = K.RandomCrop((side, side), padding=padding, padding_mode=mode, cropping_mode="slice")
    else:
        crop = K.RandomResizedCrop(
            (side, side), scale=policy.scale, ratio=policy.ratio, cropping_mode="slice", align_corners=False
        )
    return crop


def _randaugment(policy: Policy, channels: int) -> _Step:
    # The paper's operations (section 3.2) with kornia's ranges, but sharpness, whose convolution costs as
    # much as all the others together.
    operations: list[tuple[str, float, float | None]] = [
        ("auto_contrast", 0, 1),
        ("equalize", 0, 1),
        ("rotate", -30.0, 30.0),
        ("posterize", 4.0, 8.0),
        ("solarize", 0.0, 1.0),
        ("color", 0.1, 1.9),
        ("contrast", 0.1, 1.9),
        ("brightness", 0.1, 1.9),
        ("shear_x", -0.3, 0.3),
        ("shear_y", -0.3, 0.3),
        ("translate_x", -0.1, 0.1),
        ("translate_y", -0.1, 0.1),
    ]
    if channels == 1:
        operations = [o for o in operations if o[0] != "color"]
    chosen: _Step = RandAugment(n=policy.randaugment, m=policy.magnitude, policy=[[o] for o in operations])
    return chosen


class _MixUp:
    """Mixup, each picture with its own lambda ~ Beta(alpha, alpha).

    Written out, since kornia's RandomMixUpV2 draws lambda uniformly; the blend is one ``lerp``.
    """

    def __init__(self, alpha: float) -> None:
        self.beta = torch.distributions.Beta(torch.tensor(alpha), torch.tensor(alpha))

    def __call__(self, x: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
        share = self.beta.sample((len(x),)).to(x.device)  # of the other picture
        other = torch.randperm(len(x)).to(x.device)
        mixed = x.lerp(x[other], share.view(-1, 1, 1, 1))
        return mixed, _soft(labels, labels[other], share, num_classes)


class _CutMix:
    """CutMix with kornia's rectangles and partners.

    kornia's own application builds boolean masks of the batch's full size, 124 ms for 32 pictures at 224 px
    on one core. Copying the rectangles takes 3 ms and gives the same.
    """

    def __init__(self, alpha: float) -> None:
        self.draw = K.RandomCutMixV2(beta=alpha, use_correct_lambda=True)

    def __call__(self, x: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
        drawn = self.draw.forward_parameters(x.shape)
        other, corners = (
            drawn["mix_pairs"][0],
            drawn["crop_src"][0].long(),
        )  # (N,), (N, 4, 2) as x, y, inclusive
        mixed = x.clone()
        height, width = x.shape[-2:]
        share = torch.zeros(len(x))
        boxes = torch.cat([corners[:, 0], corners[:, 2] + 1], 1).tolist()
        for i, (j, (left, top, right, bottom)) in enumerate(zip(other.tolist(), boxes, strict=True)):
            mixed[i, :, top:bottom, left:right] = x[j, :, top:bottom, left:right]
            share[i] = (right - left) * (bottom - top) / (height * width)
        return mixed, _soft(labels, labels[other.to(labels.device)], share.to(x.device), num_classes)


def _soft(labels: Tensor, others: Tensor, share: Tensor, num_classes: int) -> Tensor:
    """Return the targets of pictures that are `share` of another class."""
    one = F.one_hot(labels, num_classes).to(torch.float32)
    two = F.one_hot(others, num_classes).to(torch.float32)
    return torch.lerp(one, two, share.view(-1, 1))
