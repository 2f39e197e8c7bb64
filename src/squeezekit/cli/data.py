"""``squeezekit data``: make shards of pictures, and look after shards that there are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from squeezekit.cli._output import print_json, progress, results, warn
from squeezekit.errors import UserError

if TYPE_CHECKING:
    from squeezekit.data.shard_index import Index

SUBCOMMANDS = ("shard", "index", "check")

EXAMPLE = """\
squeezekit data shard photos/ --out shards/ --size 256MB
squeezekit data index 's3://bucket/train-{000000..000127}.tar' --out shards/
squeezekit data check shards/
"""

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def shard(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="Image folder, .zip or .tar of one, shards, or 'digits'.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder of shards; made here.")],
    size: Annotated[str, typer.Option(help="Of a shard, at most: 256MB, 1GB.")] = "256MB",
    seed: Annotated[int, typer.Option(min=0, help="Of the order of the pictures.")] = 0,
    as_json: Json = False,
) -> None:
    """Write the pictures of DATA into WebDataset shards, shuffled, with an index beside them.

    The files' bytes stay as they are; splits become folders of shards. Training streams them: each worker
    of each machine reads its own share.
    """
    from squeezekit.data.shard_write import write_shards
    from squeezekit.data.source import open_pictures
    from squeezekit.graph.cost import parse_size

    bytes_ = parse_size(size, f"--size {size}", "(expected a size such as 256MB or 1GB)")
    with progress("opening") as advance:
        pictures = open_pictures(data, min_classes=1, progress=advance)
    with progress("writing") as advance:
        index, broken = write_shards(pictures, out, size=bytes_, seed=seed, progress=advance)
    if broken:
        warn(f"{len(broken)} files could not be read and are left out: {', '.join(broken[:5])}")
    _tell(index, str(out), as_json, broken=broken)


def index(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="Shards: a folder, or a pattern of paths or URLs.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A folder for the index. Default: beside the shards.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Look once through shards that others made, and write down what they hold, so that they open quickly.

    Then the folder of the index is DATA. Samples are KEY.jpg (or any picture) with KEY.cls, a number or a
    name; without it their folder is their class.
    """
    from squeezekit.data import files_anywhere as files
    from squeezekit.data.shard_index import index_shards
    from squeezekit.data.shards import find_shards

    paths = find_shards(data)
    if out is None:
        if files.is_url(data):
            raise UserError("--out: shards behind a URL need a folder here for their index")
        out = Path(data) if Path(data).is_dir() else Path(paths[0]).parent
    out.mkdir(parents=True, exist_ok=True)
    with progress("looking through the shards") as advance:
        found = index_shards(paths, out, data, advance)
    _tell(found, str(out), as_json)


def check(
    data: Annotated[str, typer.Argument(metavar="DATA", help="Shards: a folder, a pattern or a URL.")],
    as_json: Json = False,
) -> None:
    """Read every shard whole and compare it with its index: lengths and checksums."""
    from squeezekit.data.shard_write import verify
    from squeezekit.data.shards import open_shards

    with progress("opening") as advance:
        pictures = open_shards(data, min_classes=1, progress=advance)
    with progress("reading") as advance:
        faults = list(verify(pictures.index, advance))
    if faults:
        more = f" (and {len(faults) - 1} more shards)" if len(faults) > 1 else ""
        raise UserError(f"{faults[0]}{more}")
    _tell(pictures.index, data, as_json)


def _tell(index: Index, where: str, as_json: bool, broken: list[str] | None = None) -> None:
    splits = {split or "all": sum(counts) for split, counts in index.counts.items()}
    if as_json:
        print_json(
            {
                "data": where,
                "shards": len(index.shards),
                "bytes": sum(shard.bytes for shard in index.shards),
                "classes": index.classes,
                "pictures": splits,
                "broken": broken or [],
            }
        )
        return
    from rich.table import Table

    table = Table()
    for name in ("split", "shards", "pictures", "MB"):
        table.add_column(name, justify="left" if name == "split" else "right")
    for split, pictures in splits.items():
        held = [s for s in index.shards if (s.split or "all") == split]
        table.add_row(split, str(len(held)), f"{pictures:,}", f"{sum(s.bytes for s in held) / 1e6:,.1f}")
    console = results()
    console.print(f"{where}: {len(index.classes)} classes", markup=False, highlight=False)
    console.print(table)
