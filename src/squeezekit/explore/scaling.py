"""Compound scaling: depth, width and resolution together, so that every step of φ doubles the work.

"EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (Tan & Le, arXiv:1905.11946),
equation 3: depth α^φ, width β^φ, resolution γ^φ with α · β² · γ² ≈ 2. For any network, and downwards too.

Whole layers, whole channels and whole pixels make a network's work depart from 2^φ, and so do the layers that
no coefficient doubles. :func:`compound` counts how far, says where, and mends it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from squeezekit.errors import UserError
from squeezekit.explore.design import Design
from squeezekit.explore.stages import Stage, Work, work
from squeezekit.models.checks import real
from squeezekit.models.efficientnet import PUBLISHED, compound_scaling, stage_layers
from squeezekit.models.registry import model_spec

__all__ = ["TOLERANCE", "Bases", "Compound", "Step", "compound", "scaled"]

#: How far the work may be from 2^φ, as a share of it.
TOLERANCE = 0.1


@dataclass(frozen=True)
class Bases:
    """The constants of equation 3; by default those that the authors found for EfficientNet (section 4).

    Attributes
    ----------
    alpha, beta, gamma : float
        Of depth, width and resolution, from 1 up.

    Examples
    --------
    >>> round(Bases().growth, 2)
    1.92
    """

    alpha: float = 1.2
    beta: float = 1.1
    gamma: float = 1.15

    def __post_init__(self) -> None:
        for name in ("alpha", "beta", "gamma"):
            real(name, getattr(self, name), 1, 4)
        if abs(self.growth / 2 - 1) > TOLERANCE:
            raise UserError(
                f"alpha={self.alpha:g}, beta={self.beta:g}, gamma={self.gamma:g}: alpha·beta²·gamma² is "
                f"{self.growth:.3g}, and must be about 2, so that every phi doubles the work"
            )

    @property
    def growth(self) -> float:
        """Work for each step of φ, if there were no rounding: α · β² · γ²."""
        return self.alpha * self.beta**2 * self.gamma**2


@dataclass(frozen=True)
class Step:
    """One direction of the scaling, taken after those before it.

    Attributes
    ----------
    name : str
        ``"depth"``, ``"width"`` or ``"resolution"``.
    wanted : float
        Factor of the work by equation 3: α^φ, β^2φ, γ^2φ.
    got : float
        Factor of the work of the networks before and after this step.
    why : str
        What was rounded, and what does not grow with it.
    """

    name: str
    wanted: float
    got: float
    why: str


@dataclass(frozen=True)
class Compound:
    """A network scaled by equation 3.

    Attributes
    ----------
    baseline, design : Design
        Before and after.
    phi : float
    bases : Bases
    before, after : Work
        Of the two, counted exactly.
    steps : tuple of Step
        Their factors multiply to :attr:`ratio`.
    width : float
        Factor of the channels: β^φ, unless it was mended.
    size_by_equation : int
        Side of the pictures before it was mended.
    """

    baseline: Design
    design: Design
    phi: float
    bases: Bases
    before: Work
    after: Work
    steps: tuple[Step, ...]
    width: float
    size_by_equation: int

    @property
    def ratio(self) -> float:
        """Work of the scaled network over that of the baseline."""
        return self.after.macs / self.before.macs

    @property
    def target(self) -> float:
        """What it should be: 2^φ."""
        return float(2**self.phi)

    @property
    def departure(self) -> float:
        """How much more than the target, as a share of it; negative: less."""
        return self.ratio / self.target - 1

    @property
    def holds(self) -> bool:
        """Whether the work is within :data:`TOLERANCE` of the target."""
        return abs(self.departure) <= TOLERANCE

    @property
    def mended(self) -> tuple[str, ...]:
        """What was moved from where equation 3 puts it: ``"resolution"``, and then ``"width"``."""
        resolution = ("resolution",) if self.design.size != self.size_by_equation else ()
        return resolution + (("width",) if self.width != self.bases.beta**self.phi else ())

    @property
    def stages(self) -> list[tuple[Stage, Stage]]:
        """Each stage before and after."""
        return list(zip(self.before.stages, self.after.stages, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for ``--json`` and the tables."""
        alpha, beta, gamma = self.bases.alpha, self.bases.beta, self.bases.gamma
        depth, width = alpha**self.phi, beta**self.phi
        return {
            "phi": self.phi,
            "alpha": alpha,
            "beta": beta,
            "gamma": gamma,
            "depth": depth,
            "width": width,
            "resolution": gamma**self.phi,
            "baseline": {**_plain(self.baseline, self.before), "metaparameters": self._own()},
            "scaled": _plain(self.design, self.after),
            "flops_ratio": self.ratio,
            "target": self.target,
            "departure": self.departure,
            "within_tolerance": self.holds,
            "tolerance": TOLERANCE,
            "size_by_equation": self.size_by_equation,
            "mended": self.mended,
            "steps": [vars(step) for step in self.steps],
            "stages": [
                {
                    "name": old.name,
                    "layers": [old.layers, old.layers * (depth if old.repeats else 1), new.layers],
                    "channels": [
                        old.channels,
                        old.channels * (1 if old.name == "classifier" else width),
                        new.channels,
                    ],
                    "side": [old.side, new.side],
                    "flops": [old.macs, new.macs],
                    "ratio": new.macs / old.macs,
                }
                for old, new in self.stages
            ],
        }

    def _own(self) -> dict[str, Any]:
        """The baseline's metaparameters, also those that it leaves as they are and scaling changes."""
        known = dict(model_spec(self.design.model).metaparameters)
        own = {**known, **PUBLISHED.get(self.baseline.model, {}), **dict(self.baseline.metaparameters)}
        shown = {**dict(self.baseline.metaparameters), **dict(self.design.metaparameters)}
        return {key: list(own[key]) if isinstance(own[key], tuple) else own[key] for key in shown}


def _plain(design: Design, counted: Work) -> dict[str, Any]:
    return {**design.to_dict(), "flops": counted.macs, "parameters": counted.parameters}


def scaled(
    design: Design,
    *,
    depth: float = 1.0,
    width: float = 1.0,
    size: int | None = None,
    rounding: str = "nearest",
) -> Design:
    """Make a design deeper, wider, or for larger pictures; or less so.

    Parameters
    ----------
    design
        Of any network of ``models``. Its stem stays, whatever the pictures.
    depth
        Factor of the layers of each stage: Fire modules, blocks, AlexNet's conv2 to conv5.
    width
        Factor of all channels.
    size
        Side of the new pictures in pixels; by default the design's own.
    rounding
        Of EfficientNet's layers: ``"nearest"`` in all stages together, as all other networks here, or
        ``"up"`` in each, as its authors.

    Returns
    -------
    Design
        Of the same network; EfficientNet-B0 to B7 become ``efficientnet``.

    Raises
    ------
    UserError
        A factor is out of range.

    Examples
    --------
    >>> dict(scaled(Design.of("mobilenet_v2", 64), width=0.5, depth=2).metaparameters)["width_mult"]
    0.5
    """
    size = size or design.size
    model, meta = design.model, dict(design.metaparameters)
    if model in PUBLISHED:
        model, meta = "efficientnet", {**PUBLISHED[model], **meta}
    known = model_spec(model).metaparameters
    if model == "efficientnet":
        meta = _coefficients({**known, **meta}, rounding if depth != 1 else None)
    if "depth_coefficient" in known:
        meta["depth_coefficient"] = _times(meta.get("depth_coefficient", 1.0), depth)
    if "widths" in known:  # vgg's
        meta["widths"] = tuple(max(1, round(width * each)) for each in meta.get("widths", known["widths"]))
    else:
        name = "width_mult" if "width_mult" in known else "width_coefficient"
        meta[name] = _times(meta.get(name, 1.0), width)
    if model == "alexnet" and meta.get("stem") != "small":
        meta["resolution"] = size  # its fully connected layers are made for one
    return Design.of(model, size, **meta)


def _times(coefficient: float, factor: float) -> float:
    return round(coefficient * factor, 6)  # six digits are enough to type


def _coefficients(meta: dict[str, Any], rounding: str | None) -> dict[str, Any]:
    """Write EfficientNet's scaling as coefficients alone, and leave out what is by default.

    None keeps the rounding as it is.
    """
    if meta["phi"] is not None:
        bases = {name: meta[name] for name in ("alpha", "beta", "gamma")}
        meta["width_coefficient"], meta["depth_coefficient"], _ = compound_scaling(meta["phi"], **bases)
    if rounding == "nearest" != meta["depth_rounding"]:  # first, as deep as it was
        layers = stage_layers(meta["depth_coefficient"], meta["depth_rounding"])
        meta["depth_coefficient"] = sum(layers) / sum(stage_layers(1.0))
    meta["depth_rounding"] = rounding or meta["depth_rounding"]
    default = model_spec("efficientnet").metaparameters
    by_recipe = ("stem", "dropout")  # what `train` would choose otherwise
    gone = ("phi", "alpha", "beta", "gamma", "resolution")  # the size of the pictures is the design's
    return {
        key: value
        for key, value in meta.items()
        if key not in gone and (key in by_recipe or value != default[key])
    }


def compound(
    baseline: Design,
    phi: float,
    bases: Bases | None = None,
    *,
    classes: int,
    channels: int = 3,
    as_published: bool = False,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Compound:
    """Scale a network by equation 3, count its work, and mend it where it is not 2^φ times the baseline's.

    Layers are rounded to the nearest number over all stages together. Where the work is further than
    :data:`TOLERANCE` from the target then, pictures take the side that brings it nearest: that changes no
    weight. Small pictures have coarse steps (at 32 pixels the last maps are 4 × 4); where no side will do,
    the channels make good for the rest.

    Parameters
    ----------
    baseline
    phi
        φ: 0 is the baseline, each step more doubles its work; negative ones make it smaller.
    bases
        α, β and γ; the authors' by default.
    classes, channels
        Of the logits and of the pictures.
    as_published
        Mend nothing, and round EfficientNet's layers up in each stage, as the authors did.
    progress
        Called with (networks counted, about how many there are).

    Raises
    ------
    UserError
        φ is out of range, or so small that nothing is left of the pictures.
    """
    real("phi", phi, -20, 20)
    bases = bases or Bases()
    depth, width, resolution = (base**phi for base in (bases.alpha, bases.beta, bases.gamma))
    rounding = "up" if as_published else "nearest"

    def at(size: int, width: float = width) -> Design:
        return scaled(baseline, depth=depth, width=width, size=size, rounding=rounding)

    done = 0

    def counted(design: Design) -> Work:
        nonlocal done
        done += 1
        progress(done, max(done, 4 if as_published else 12))
        return work(design, classes, channels)

    before = counted(baseline)
    size = by_equation = max(1, round(baseline.size * resolution))
    try:
        deeper = counted(at(baseline.size, width=1.0))
        wider = counted(at(baseline.size))
        after = counted(at(size))
    except UserError as error:
        raise UserError(f"phi={phi:g}: {error}") from None
    target = 2**phi * before.macs
    if not as_published and abs(after.macs / target - 1) > TOLERANCE:
        size = _side(lambda side: counted(at(side)).macs, target, size)
        after = counted(at(size))
    exact = width
    if not as_published and abs(after.macs / target - 1) > TOLERANCE:
        width = _width(lambda factor: counted(at(size, width=factor)).macs, target, exact)
        wider, after = counted(at(baseline.size, width=width)), counted(at(size, width=width))
    steps = (
        Step(
            "depth",
            depth,
            deeper.macs / before.macs,
            _why_depth(before.layers, deeper.layers, depth, at(size)),
        ),
        Step("width", exact**2, wider.macs / deeper.macs, _why_width(deeper, wider, width, exact)),
        Step(
            "resolution",
            resolution**2,
            after.macs / wider.macs,
            _why_resolution(baseline.size * resolution, by_equation, size),
        ),
    )
    design = at(size, width=width)
    return Compound(baseline, design, phi, bases, before, after, steps, width, by_equation)


def _side(macs: Callable[[int], int], target: float, wanted: int) -> int:
    """Find the side whose work is nearest to the target; of equal ones the nearest to the one wanted."""

    @cache
    def known(side: int) -> int:
        try:
            return macs(side)
        except UserError:
            return 0  # too small for the network

    guess = max(2, round(wanted * math.sqrt(target / max(1, known(wanted)))))
    reach = max(1, guess // 50)
    low, high = guess - 1, guess  # to become: work at low < target <= work at high
    while low > 0 and known(low) >= target:
        low, high, reach = max(0, low - reach), low, 2 * reach
    while high < 2**14 and known(high) < target:
        low, high, reach = high, high + reach, 2 * reach
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if known(middle) < target else (low, middle)
    below = known(low) if low else 0
    best = low if below and target / below < known(high) / target else high
    step = 1 if wanted > best else -1
    while best != wanted and known(best + step) == known(best):  # an odd side is padded to the next
        best += step
    return best


def _width(macs: Callable[[float], int], target: float, wanted: float) -> float:
    """Find the factor of all channels whose work is nearest to the target, from half to twice `wanted`."""
    low, high = wanted / 2, wanted * 2
    tried = {wanted: macs(wanted)}
    for _ in range(12):
        middle = round((low + high) / 2, 4)
        tried[middle] = macs(middle)
        low, high = (middle, high) if tried[middle] < target else (low, middle)
    return min(tried, key=lambda factor: abs(math.log(tried[factor] / target)))


def _why_depth(before: int, after: int, depth: float, design: Design) -> str:
    if "depth_coefficient" not in dict(design.metaparameters):
        return f"{design.model} has no depth to scale"
    exact = before * depth
    rounded = "" if abs(exact - after) < 0.005 else f", not {exact:.2f}"
    return f"{before} layers become {after}{rounded}; the first and the last ones stay"


def _why_width(before: Work, after: Work, width: float, wanted: float) -> str:
    linear = before.linear / before.macs
    mended = (
        "" if width == wanted else f"channels × {width:.4g}, not {wanted:.4g}, to make good for the others; "
    )
    exact = linear * width + (1 - linear) * width**2
    rounding = after.macs / before.macs / exact
    return (
        f"{mended}×{exact:.3f} before rounding: {100 * linear:.0f} % of the work (depthwise, first and last "
        f"layer) grow with β alone; ×{rounding:.3f} by rounding channels"
    )


def _why_resolution(exact: float, by_equation: int, size: int) -> str:
    if size != by_equation:
        return f"{size} px: {exact:.2f} by the equation, and what the others went too far or fell short"
    return f"{by_equation} px" + ("" if abs(exact - by_equation) < 0.005 else f", not {exact:.2f}")
