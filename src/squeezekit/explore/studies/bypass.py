"""SqueezeNet, section 6: bypass connections around Fire modules (figure 2, table 3)."""

from __future__ import annotations

from squeezekit.explore.studies.baseline import squeezenet_baseline
from squeezekit.explore.studies.study import Claim, Plan, Setting, Study, Variant

__all__ = ["BYPASS"]

_TABLE_3 = {
    "none": "57.5 % top-1, 4.8 MB",
    "simple": "60.4 % top-1, 4.8 MB",
    "complex": "58.8 % top-1, 7.7 MB",
}


def _bypass(setting: Setting) -> Plan:
    variants = tuple(
        Variant.of(_name(kind), squeezenet_baseline(setting, bypass=kind), paper=paper)
        for kind, paper in _TABLE_3.items()
    )
    claims = (
        Claim("a simple bypass is worth 2.9 points of top-1", "simple bypass", "no bypass", "more"),
        Claim("a complex one is worth 1.3", "complex bypass", "no bypass", "more"),
        Claim("the simple one is the better of the two", "simple bypass", "complex bypass", "more"),
    )
    return Plan(variants, claims)


def _name(kind: str) -> str:
    return "no bypass" if kind == "none" else f"{kind} bypass"


BYPASS = Study(
    name="bypass",
    title="Bypass connections",
    source="SqueezeNet (arXiv:1602.07360), section 6, table 3",
    found="Both kinds of bypass buy accuracy, the simple one more, and that for no parameter.",
    figure="size",
    plan=_bypass,
)
