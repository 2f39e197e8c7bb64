"""Writes the C library as one file, for those who would rather copy it than build it: sqz.c, beside sqz.h.

python scripts/amalgamate.py FOLDER

cc -std=c11 -O2 -ffp-contract=off -c FOLDER/sqz.c
"""

from __future__ import annotations

import argparse
import re
import shutil
from pathlib import Path

ENGINE = Path(__file__).resolve().parents[1] / "engine"
LOCAL = re.compile(r'^#include "(\w+\.h)"\n', re.MULTILINE)


def text_of(path: Path, seen: set[str]) -> str:
    """Return a file with its own headers in place of their includes, each the first time only."""

    def included(match: re.Match[str]) -> str:
        name = match[1]
        if name == "sqz.h" or name in seen:
            return ""
        seen.add(name)
        return text_of(ENGINE / "src" / name, seen)

    return LOCAL.sub(included, path.read_text())


def amalgamate() -> str:
    """Return the text of sqz.c."""
    # threads.c asks the system for more than C11 has, so it comes before anything is included.
    sources = sorted((ENGINE / "src").glob("*.c"), key=lambda path: (path.name != "threads.c", path.name))
    seen: set[str] = set()
    parts = [text_of(path, seen) for path in sources]
    head = "/* sqz.c: the C library of squeezekit in one file, made by scripts/amalgamate.py. */\n"
    define = "#if defined(SQZ_THREADS) && !defined(_GNU_SOURCE)\n#define _GNU_SOURCE\n#endif\n"
    return f'{head}{define}#include "sqz.h"\n\n' + "\n".join(parts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sqz.c").write_text(amalgamate())
    shutil.copy(ENGINE / "include" / "sqz.h", folder / "sqz.h")
