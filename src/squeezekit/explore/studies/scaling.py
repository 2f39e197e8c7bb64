"""EfficientNet, sections 3.2 and 6: width, depth and resolution, alone and together (figures 3 and 8)."""

from __future__ import annotations

from typing import Any

from squeezekit.explore.design import Design
from squeezekit.explore.scaling import Bases, scaled
from squeezekit.explore.studies.study import Claim, Plan, Setting, Study, Variant

__all__ = ["SCALING"]

#: What each direction grows by where the work shall be about 2 and 4 times: d, w², r².
_TIMES = (2, 4)
#: Table 7: four times the work of B0.
_TABLE_7 = {
    "depth": "79.0 %, 1.8 B",
    "width": "78.9 %, 1.8 B",
    "resolution": "79.1 %, 1.9 B",
    "compound": "81.1 %, 1.8 B",
}
#: In the quick form a network that a CPU trains in seconds: SqueezeNet at a quarter of its width and half its
#: depth, with wider squeeze layers, and bypasses as EfficientNet has them.
_QUICK: dict[str, Any] = {
    "base_e": 32,
    "incr_e": 32,
    "fires": 4,
    "pools": (1, 3),
    "conv1_channels": 24,
    "squeeze_ratio": 0.5,
    "bypass": "simple",
}


def _scaling(setting: Setting) -> Plan:
    model, base = ("squeezenet", _QUICK) if setting.quick else ("efficientnet", {})
    whole = Design.of(model, setting.size, **base)
    bases = Bases()  # the authors' (section 4, step 1): α · β² · γ² = 1.92

    def at(depth: float, width: float, resolution: float) -> Design:
        size = round(setting.size * resolution)
        return scaled(whole, depth=depth, width=width, size=size, rounding="up")  # as the authors

    every = "depth|width|resolution|compound"
    baseline = "baseline"
    variants = [Variant.of(baseline, whole, every, "77.3 %, 0.4 B")]
    largest: dict[str, str] = {}
    for phi, times in enumerate(_TIMES, start=1):
        root = times**0.5
        for series, name, factors in (
            ("depth", f"d = {times}", (times, 1, 1)),
            ("width", f"w = {root:.2g}", (1, root, 1)),
            ("resolution", f"r = {root:.2g}", (1, 1, root)),
            ("compound", f"φ = {phi}", (bases.alpha**phi, bases.beta**phi, bases.gamma**phi)),
        ):
            paper = _TABLE_7[series] if times == 4 else ""
            variants.append(Variant.of(name, at(*factors), series, paper))
            largest[series] = name
    claims = [
        Claim(f"{series} alone buys accuracy", name, baseline, "more")
        for series, name in largest.items()
        if series != "compound"
    ]
    claims += [
        Claim(
            f"compound scaling is better than {series} alone for the same work",
            largest["compound"],
            name,
            "more",
        )
        for series, name in largest.items()
        if series != "compound"
    ]
    return Plan(tuple(variants), tuple(claims))


SCALING = Study(
    name="scaling",
    title="Width, depth and resolution, alone and together",
    source="EfficientNet (arXiv:1905.11946), sections 3.2 and 6, figures 3 and 8, table 7",
    found="Each direction alone buys accuracy but saturates; all three together, in proportion, buy up to "
    "2.5 points more for the same work.",
    figure="work",
    plan=_scaling,
)
