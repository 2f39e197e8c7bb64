"""Accuracy against bytes, from float32 down to where a network breaks: a row for every size of a sweep.

    python benchmarks/rate_accuracy.py [--qp -40 -36 -32 -28 -24] [--peers .venv-peers] [--plot FILE] [--json]
    python benchmarks/rate_accuracy.py --run run/ --pictures cifar10.zip [--plot FILE] [--json]

Without --run it is SqueezeNet v1.0 with its authors' weights on imagenet-500: half of the pictures
calibrates, the figures are of the other half. squeezekit's rows are whole files that run in int8; NNCodec's
(ISO/IEC 15938-17, `make peers` installs it) are the weights alone, which then run in float32. With --run it
is a network that `squeezekit train` made, beside plain Deep Compression and PyTorch's own int8 (FX graph
mode, post-training, weights per channel, the same calibration pictures; the bytes are those of its saved
state, as it is and compressed by xz); the figures are of test pictures, which neither trained, chose nor
calibrated anything. Bits a weight are all bytes over the weights of convolutions and linear layers.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import lzma
import tempfile
import warnings
from pathlib import Path
from typing import Any

from command import squeezekit
from compression import peer

HERE = Path(__file__).resolve().parents[1]
COLUMNS = ("method", "bytes", "bits_per_weight", "agreement", "top1", "top5")
COLUMNS += ("original_top1", "original_top5", "judged")


def swept(words: list[str], folder: Path, effort: str) -> tuple[list[dict[str, Any]], float]:
    """The original and files at a row of prices, the largest first; and the number of weights."""
    words = ["compress", *words, "--sweep", "--out", str(folder / "sizes"), "--effort", effort]
    done = squeezekit(*words)
    files = [{"method": "squeezekit best", **row, "judged": done["judged"]} for row in done["attempts"][::-1]]
    original = {key: files[0].get(f"original_{key}") for key in ("top1", "top5")}
    float32 = {**files[0], "method": "float32", "bytes": done["original_bytes"], "agreement": 1.0, **original}
    return [float32, *files], 8 * done["bytes"] / done["bits_per_weight"]


def published(arguments: argparse.Namespace, folder: Path) -> tuple[list[dict[str, Any]], float]:
    """SqueezeNet v1.0 beside NNCodec."""
    shared, python = arguments.data, arguments.peers / "bin/python"
    words = [str(shared / "weights/compressed_SqueezeNet.net"), "--data", str(shared / "data/imagenet-500")]
    words += ["--classes", str(shared / "data/imagenet-classes.csv")]
    rows, weights = swept(words, folder, arguments.effort)
    for qp in arguments.qp:
        rows.append(peer(shared, qp, folder, python) | {"method": f"NNCodec, qp {qp}"})
    return rows, weights


def pytorch(run: str, data: str) -> list[dict[str, Any]]:
    """PyTorch's own static int8 quantization of a run."""
    import torch
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    from squeezekit.compress.material import gather
    from squeezekit.data.source import open_pictures
    from squeezekit.train.classifier import Classifier, load_classifier
    from squeezekit.train.evaluate import evaluate

    classifier, pictures = load_classifier(run), open_pictures(data)
    assert isinstance(classifier, Classifier)
    seen = gather(classifier, pictures, most=500, seed=0, advance=lambda *_: None).calibration
    calibration = torch.from_numpy(classifier.preparation.normalise(seen)).permute(0, 3, 1, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that another interface will take its place
        mapping = get_default_qconfig_mapping("x86")
        network = prepare_fx(copy.deepcopy(classifier.network).cpu(), mapping, (calibration[:1],))
        with torch.inference_mode():
            network(calibration)
        network = convert_fx(network)
        saved = io.BytesIO()
        torch.save(network.state_dict(), saved)
    with_it = Classifier(
        classifier.name, network, classifier.preparation, classifier.classes, classifier.training
    )
    done = evaluate(with_it, pictures, against=classifier).to_dict()
    row = {"method": "PyTorch int8", "bytes": len(saved.getvalue()), **done}
    return [
        row,
        {**row, "method": "PyTorch int8, xz", "bytes": len(lzma.compress(saved.getvalue(), preset=9))},
    ]


def trained(arguments: argparse.Namespace, folder: Path) -> tuple[list[dict[str, Any]], float]:
    """A run beside Deep Compression, on its test pictures."""
    run, data, effort = str(arguments.run), str(arguments.pictures), arguments.effort
    rows, weights = swept([run, "--data", data], folder, effort)
    # Retraining belongs to the method.
    deep = ["--method", "deep-compression", "--out", str(folder / "deep.sqz")]
    made = squeezekit("compress", run, "--data", data, *deep)
    rows.append({"method": "Deep Compression", "bytes": made["bytes"], "file": made["out"]})
    for row in rows:
        file = run if row["method"] == "float32" else row["file"]
        row |= squeezekit("evaluate", file, data, "--against", run)
    rows += pytorch(run, data)
    for row in rows:
        row |= {"original_top1": row["against_top1"], "judged": row["images"]}
        row["original_top5"] = rows[0]["top5"]
    return rows, weights


def draw(name: str, rows: list[dict[str, Any]], path: Path) -> None:
    """The rows as curves; NNCodec's are one."""
    from squeezekit.report.rate_accuracy import rate_accuracy_plot

    curves: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["method"] != "float32":
            curves.setdefault(row["method"].partition(",")[0], []).append(row)
    rate_accuracy_plot(name, curves).savefig(path, dpi=160)


def shown(row: dict[str, Any]) -> str:
    shares = (row["agreement"], row["top1"], row["top5"])
    text = "".join("       –" if share is None else f"  {share:6.1%}" for share in shares)
    return f"{row['method']:<18} {row['bytes']:>11,} {row['bits_per_weight']:>7.2f}   {text}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--qp", type=int, nargs="*", default=[-40, -36, -32, -28, -24], help="NNCodec's sizes"
    )
    parser.add_argument("--effort", default="default")
    parser.add_argument("--run", type=Path, help="a run folder, in place of the published SqueezeNet")
    parser.add_argument("--pictures", help="what the run was trained on")
    parser.add_argument("--data", type=Path, default=HERE.parent / "shared")
    parser.add_argument("--peers", type=Path, default=HERE / ".venv-peers", help="an environment")
    parser.add_argument("--plot", type=Path, help="draw the curves: .png, .svg or .pdf")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if (arguments.run is None) != (arguments.pictures is None):
        parser.error("--run and --pictures go together")
    network = "SqueezeNet v1.0, published weights" if arguments.run is None else str(arguments.run)
    with tempfile.TemporaryDirectory() as temporary:
        measure = published if arguments.run is None else trained
        rows, weights = measure(arguments, Path(temporary))
    for row in rows:
        row["bits_per_weight"] = 8 * row["bytes"] / weights
    rows = [{"network": network, **{key: row.get(key) for key in COLUMNS}} for row in rows]
    if arguments.plot is not None:
        draw(network, rows, arguments.plot)
    if arguments.json:
        print(json.dumps(rows, indent=2))
    else:
        print(f"{network}, {rows[0]['judged']:,} pictures")
        print(f"{'method':<18} {'bytes':>11} {'bits':>7}      same   top-1   top-5")
        print("\n".join(shown(row) for row in rows))
