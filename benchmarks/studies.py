"""The tables and figures of docs/studies.md: every study in its quick form, written into the page.

    python benchmarks/studies.py ../shared/data/sign-digits [--only bypass scaling] [--seeds 3] [--out DIR]

A study that is there already, or was stopped, goes on; so the page can be written anew at no cost.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "studies.md"
STUDIES = ("squeeze-ratio", "pct-3x3", "bypass", "strategies", "scaling", "multipliers", "compression")


def put(name: str, study: Path) -> None:
    """Write a study's text between its marks in the page, and its figure beside it."""
    figure = f"study-{name}.svg"
    shutil.copyfile(study / "study.svg", PAGE.parent / figure)
    text = (study / "study.md").read_text(encoding="utf-8").replace("(study.svg)", f"({figure})")
    body = text.split("\n", 4)[4].strip("\n")  # without title and source, which the page has
    page = PAGE.read_text(encoding="utf-8")
    mark = re.compile(rf"(<!-- study {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    PAGE.write_text(mark.sub(lambda match: f"{match[1]}{body}\n{match[2]}", page), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("--only", nargs="+", choices=STUDIES, default=STUDIES)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "studies")
    arguments = parser.parse_args()
    for name in arguments.only:
        out = arguments.out / name
        words = ["study", name, arguments.data, "--quick", "--seeds", str(arguments.seeds), "--out", str(out)]
        subprocess.run([sys.executable, "-m", "squeezekit", *words], check=True)
        put(name, out)


if __name__ == "__main__":
    main()
