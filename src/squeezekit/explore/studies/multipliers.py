"""MobileNet, sections 3.3 and 3.4: the multipliers of width, α, and resolution, ρ (tables 6 and 7)."""

from __future__ import annotations

from squeezekit.explore.design import Design
from squeezekit.explore.scaling import scaled
from squeezekit.explore.studies.study import Claim, Plan, Setting, Study, Variant

__all__ = ["MULTIPLIERS"]

_TABLE_6 = {1.0: "70.6 %, 569 M", 0.75: "68.4 %, 325 M", 0.5: "63.7 %, 149 M", 0.25: "50.6 %, 41 M"}
_TABLE_7 = {6 / 7: "69.1 %, 418 M", 5 / 7: "67.2 %, 290 M", 4 / 7: "64.4 %, 186 M"}
#: What the quick form takes for the whole network: a quarter of the width, two fifths of the blocks. All 13
#: blocks hardly learn in a few hundred steps.
_QUICK_ALPHA, _QUICK_DEPTH = 0.25, 0.4


def _multipliers(setting: Setting) -> Plan:
    whole, depth = (_QUICK_ALPHA, _QUICK_DEPTH) if setting.quick else (1.0, 1.0)
    base = Design.of("mobilenet_v1", setting.size, width_mult=whole, depth_coefficient=depth)

    def design(alpha: float, rho: float) -> Design:
        return scaled(base, width=alpha, size=round(setting.size * rho))

    alphas = {share: f"α = {share * whole:g}" for share in _TABLE_6}
    rhos = {share: f"ρ = {share:.2f}" for share in _TABLE_7}
    variants = [
        Variant.of(
            alphas[share], design(share, 1), "width α|resolution ρ" if share == 1 else "width α", paper
        )
        for share, paper in _TABLE_6.items()
    ]
    variants += [
        Variant.of(rhos[share], design(1, share), "resolution ρ", paper) for share, paper in _TABLE_7.items()
    ]
    last_alpha, last_rho = alphas[0.25], rhos[4 / 7]
    claims = (
        Claim("α = 0.75 of the width costs 2.2 points", alphas[0.75], alphas[1.0], "less"),
        Claim("… half of it 6.9", alphas[0.5], alphas[1.0], "less"),
        Claim("… and a quarter 20: accuracy falls off at last", last_alpha, alphas[0.5], "less"),
        Claim("ρ = 6/7 costs 1.5 points", rhos[6 / 7], alphas[1.0], "less"),
        Claim("… and 4/7 6.2", last_rho, alphas[1.0], "less"),
        Claim(
            "for about a third of the work, ρ = 4/7 loses as much as α = 0.5 (64.4 and 63.7 %)",
            *(last_rho, alphas[0.5], "same"),
        ),
    )
    return Plan(tuple(variants), claims)


MULTIPLIERS = Study(
    name="multipliers",
    title="Width and resolution multipliers",
    source="MobileNet (arXiv:1704.04861), sections 3.3 and 3.4, tables 6 and 7",
    found="Accuracy falls smoothly with width and resolution, and off a cliff only at α = 0.25.",
    figure="work",
    plan=_multipliers,
    pictures_seen=24_000,
)
