"""SqueezeNet, section 5: the squeeze ratio and the share of 3×3 filters (figure 3), size against accuracy."""

from __future__ import annotations

from squeezekit.explore.studies.baseline import squeezenet_baseline
from squeezekit.explore.studies.study import Claim, Plan, Setting, Study, Variant

__all__ = ["PCT_3X3", "SQUEEZE_RATIO"]

#: SR of figure 3(a), with what the paper prints beside the point: top-5 accuracy on ImageNet, float32 MB.
_RATIOS = {
    0.125: "80.3 % top-5, 4.8 MB",
    0.25: "",
    0.5: "85.6 % top-5, 13 MB",
    0.75: "86.0 % top-5, 19 MB",
    1.0: "86.0 % top-5",
}
#: Share of 3×3 filters of figure 3(b), at SR = 0.5.
_SHARES = {
    0.01: "76.3 % top-5, 5.7 MB",
    0.125: "",
    0.25: "",
    0.5: "85.6 % top-5, 13 MB",
    0.75: "",
    0.99: "85.3 % top-5, 21 MB",
}


def _squeeze_ratio(setting: Setting) -> Plan:
    """SR from 0.125 to 1, all else as v1.0 (section 5.2)."""
    variants = tuple(
        Variant.of(f"SR = {ratio:g}", squeezenet_baseline(setting, squeeze_ratio=ratio), "SqueezeNet", paper)
        for ratio, paper in _RATIOS.items()
    )
    claims = (
        Claim(
            "a larger squeeze ratio buys accuracy: SR = 0.75 is 5.7 points of top-5 above 0.125",
            *("SR = 0.75", "SR = 0.125"),
            "more",
        ),
        Claim("from SR = 0.75 to 1 nothing more is gained", "SR = 1", "SR = 0.75", "same"),
    )
    return Plan(variants, claims)


def _pct_3x3(setting: Setting) -> Plan:
    """From 1 % to 99 % of the expand filters are 3×3, at SR = 0.5 (section 5.3)."""
    variants = tuple(
        Variant.of(
            f"{100 * share:g} % 3×3",
            squeezenet_baseline(setting, squeeze_ratio=0.5, pct_3x3=share),
            "SqueezeNet",
            paper,
        )
        for share, paper in _SHARES.items()
    )
    claims = (
        Claim(
            "3×3 filters are needed: 50 % of them is 9 points of top-5 above 1 %",
            *("50 % 3×3", "1 % 3×3"),
            "more",
        ),
        Claim("beyond 50 % nothing more is gained, only bytes", "99 % 3×3", "50 % 3×3", "same"),
    )
    return Plan(variants, claims)


SQUEEZE_RATIO = Study(
    name="squeeze-ratio",
    title="Squeeze ratio, size and accuracy",
    source="SqueezeNet (arXiv:1602.07360), section 5.2, figure 3(a)",
    found="Accuracy rises with the squeeze ratio up to 0.75 and then stays, while the network still grows.",
    figure="size",
    plan=_squeeze_ratio,
)
PCT_3X3 = Study(
    name="pct-3x3",
    title="Share of 3×3 filters, size and accuracy",
    source="SqueezeNet (arXiv:1602.07360), section 5.3, figure 3(b)",
    found="Accuracy rises with the share of 3×3 filters up to one half and then stays.",
    figure="size",
    plan=_pct_3x3,
)
