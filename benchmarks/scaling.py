"""How far is a scaled network's work from 2^φ: rounded as EfficientNet's authors do, and mended?

    python benchmarks/scaling.py                     # every network, at its paper's size and at 32 pixels
    python benchmarks/scaling.py squeezenet1_1 vgg   # some

Counts only, no training: a few minutes, most of them for the larger EfficientNets.
"""

from __future__ import annotations

import argparse

from squeezekit.errors import UserError
from squeezekit.explore.design import Design
from squeezekit.explore.scaling import compound
from squeezekit.models import list_models, model_spec

PHIS = (-3, -2, -1, 1, 2, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("models", nargs="*", default=list_models())
    worst = {"as published": 0.0, "mended": 0.0}
    outside = 0
    for name in parser.parse_args().models:
        for size in (model_spec(name).input_size, 32):
            cells = []
            for phi in PHIS:
                try:
                    before = compound(Design.of(name, size), phi, classes=1000, as_published=True).departure
                    after = compound(Design.of(name, size), phi, classes=1000)
                except UserError as error:
                    cells.append(f"{phi:+d}: {error}")
                    continue
                worst["as published"] = max(worst["as published"], abs(before))
                worst["mended"] = max(worst["mended"], abs(after.departure))
                outside += abs(before) > 0.1
                moved = "".join(each[0] for each in after.mended)  # r and w
                cells.append(f"{phi:+d}: {100 * before:+.0f} → {100 * after.departure:+.1f} % {moved}")
            print(f"{name:30} {size:4} px   " + "   ".join(cells), flush=True)
    print(
        {key: f"{100 * value:.1f} %" for key, value in worst.items()}, f"{outside} outside 10 % as published"
    )


if __name__ == "__main__":
    main()
